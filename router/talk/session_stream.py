"""A conversation's stream to its session worker: opened when needed, kept over worker deaths, moved when one drains.

Pure. What was said before a worker has the stream waits here, within a bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from router.talk.effects import Count, Effect, EndStream, OpenStream, StreamEvent, StreamKey
from shared.ids import Role, WorkerId
from shared.link.messages import Body, Input, OpenSession

MAX_PENDING_EVENTS = 64
MAX_DEATHS = 2
"""Streams lost in a row, without a profile in between, until the session is given up for now."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is on the line, as known from the request."""

    session: str
    device: str
    client: str = ""
    address: str = ""


@dataclass(slots=True)
class SessionStream:
    caller: Caller
    features: dict[str, Any] = field(default_factory=dict)
    key: StreamKey | None = None
    """The present stream; None = there is none, the next need opens one."""
    is_leaving: bool = False
    """Its worker drains: another one takes over when the turn has ended."""
    deaths: int = 0
    _count: int = 0
    _placed: bool = False
    _pending: list[Body] = field(default_factory=list)

    def open(self, *, exclude: frozenset[WorkerId] = frozenset(), resume: Input | None = None) -> OpenStream:
        """A new stream. `resume` is a turn to be asked again; a copy that still waits would ask it twice."""
        self._count += 1
        self.key = StreamKey(Role.SESSION, self._count)
        self._placed = self.is_leaving = False
        if resume is not None:
            self._pending = [body for body in self._pending if body != resume]
        caller = self.caller
        body = OpenSession(caller.session, caller.device, caller.client, caller.address, self.features, resume)
        return OpenStream(self.key, body, exclude=exclude)

    def opened(self, key: StreamKey) -> list[Effect]:
        """A worker has it: what was waiting follows."""
        if key != self.key:
            return []
        self._placed = True
        out: list[Effect] = [StreamEvent(key, body) for body in self._pending]
        self._pending.clear()
        return out

    def tell(self, body: Body) -> list[Effect]:
        if self.key is None or (not self._placed and len(self._pending) >= MAX_PENDING_EVENTS):
            return [Count("session_events_dropped")]
        if self._placed:
            return [StreamEvent(self.key, body)]
        self._pending.append(body)
        return []

    def lose(self, cause: str, *, retryable: bool) -> bool:
        """The present stream is gone. True if it is worth opening another one now."""
        self.key = None
        self._placed = False
        if cause != "drained":
            self.deaths += 1
        if retryable and cause not in ("busy", "no_worker") and self.deaths <= MAX_DEATHS:
            return True
        self._pending.clear()
        return False

    def move(self) -> list[Effect]:
        """Go to another worker, if the present one is leaving. END commits; the next one takes over from there."""
        if not self.is_leaving or self.key is None:
            return []
        left = EndStream(self.key)
        return [left, Count("stream_moves", "session"), self.open()]

    def end(self) -> list[Effect]:
        """The connection is gone: the worker commits."""
        return [] if self.key is None else [EndStream(self.key)]
