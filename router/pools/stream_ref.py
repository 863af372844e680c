"""A stream as the router's conversations hold it, and what they are told about it.

Rules
- Nothing is told from inside `Switchboard.open`, `send_*`, `end` or `abort`: every callback comes from the event loop.
- Each stream ends in exactly one `on_done` or `on_lost`, unless its owner called `abort`: then nothing more is told.
- Control sent before the stream has found a worker is kept and follows its OPEN; audio is refused until then.
"""

from __future__ import annotations

from asyncio import TimerHandle
from enum import Enum
from typing import Any, Protocol, runtime_checkable

from router.pools.pool import Wish
from router.pools.streams import Row
from shared.ids import Role, StreamId, WorkerId
from shared.link.envelope import MEMBERSHIP, Kind
from shared.link.messages import Body, Done


class StreamOwner(Protocol):
    """Who opened a stream."""

    def on_opened(self, ref: StreamRef) -> None:
        """It has found its first worker."""

    def on_audio(self, ref: StreamRef, packet: bytes) -> None: ...

    def on_event(self, ref: StreamRef, body: dict[str, Any]) -> None:
        """`body["name"]` says which."""

    def on_credit(self, ref: StreamRef, body: dict[str, Any]) -> None: ...

    def on_done(self, ref: StreamRef, done: Done) -> None: ...

    def on_lost(self, ref: StreamRef, cause: str, retryable: bool) -> None:
        """It will not end well. `ref.worker` is still the one that had it."""


@runtime_checkable
class DrainWatcher(Protocol):
    """An owner that wants to know when its stream's worker begins to drain."""

    def on_draining(self, ref: StreamRef) -> None: ...


class RefState(Enum):
    WAITING = "waiting"
    PLACED = "placed"
    ENDED = "ended"


class Exchange(Protocol):
    """What a StreamRef needs of the switchboard."""

    def send_audio(self, ref: StreamRef, packet: bytes) -> bool: ...

    def send_control(self, ref: StreamRef, kind: Kind, body: bytes | None) -> None: ...

    def abort(self, ref: StreamRef, reason: str) -> None: ...

    def is_draining(self, ref: StreamRef) -> bool: ...


class StreamRef:
    """One job for a worker, from the wish for it to its end."""

    __slots__ = (
        "_exchange",
        "early",
        "first_open_s",
        "is_silenced",
        "open_body",
        "opened_s",
        "owner",
        "refusals",
        "role",
        "row",
        "state",
        "timer",
        "wish",
    )

    def __init__(self, exchange: Exchange, owner: StreamOwner, role: Role, open_body: bytes, wish: Wish) -> None:
        self.owner = owner
        self.role = role
        self.open_body = open_body
        self.wish = wish
        self.state = RefState.WAITING
        self.row: Row[StreamRef] | None = None
        self.early: list[tuple[Kind, bytes | None]] = []
        """Control that waits for the OPEN."""
        self.refusals = 0
        self.first_open_s: float | None = None
        self.opened_s = 0.0
        """When the latest OPEN left."""
        self.is_silenced = False
        """Aborted by its owner: nothing more is told."""
        self.timer: TimerHandle | None = None
        self._exchange = exchange

    def __repr__(self) -> str:
        return f"StreamRef({self.id}, {self.role.value}, {self.state.value}, worker {self.worker})"

    @property
    def id(self) -> StreamId:
        """Of the latest OPEN; 0 as long as there was none."""
        return MEMBERSHIP if self.row is None else self.row.id

    @property
    def worker(self) -> WorkerId | None:
        """The present or the last one."""
        return None if self.row is None else self.row.worker

    @property
    def is_open(self) -> bool:
        """It waits or lives."""
        return self.state is not RefState.ENDED

    @property
    def is_placed(self) -> bool:
        return self.state is RefState.PLACED

    @property
    def is_draining(self) -> bool:
        """Its worker takes nothing new: open the next stream elsewhere."""
        return self._exchange.is_draining(self)

    def send_audio(self, packet: bytes) -> bool:
        """False if the packet was not sent; if the stream was placed, it is lost then and `on_lost` follows."""
        return self._exchange.send_audio(self, packet)

    def send_event(self, body: Body) -> None:
        self._exchange.send_control(self, Kind.EVENT, body.pack())

    def send_credit(self, body: Body) -> None:
        self._exchange.send_control(self, Kind.CREDIT, body.pack())

    def end(self) -> None:
        """No more input; the worker finishes and sends DONE."""
        self._exchange.send_control(self, Kind.END, None)

    def abort(self, reason: str) -> None:
        """The job is dead, at once and for good."""
        self._exchange.abort(self, reason)
