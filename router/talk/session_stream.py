"""A conversation's stream to its session worker: opened when needed, kept over worker deaths, moved when one drains.

Rules
- What was said before a worker has the stream waits here, within a bound.
- A turn's end is told as TurnOver to the worker that was told its input, and as a whole record to any other.
- The record of a turn is kept until a worker says that it is committed; each new worker is told those that are left.
  So no turn is lost with a worker, whenever it dies; the store ignores what it knows already.
- Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from router.talk.effects import AbortStream, Count, Effect, EndStream, OpenStream, StreamEvent, StreamKey
from shared.ids import Role, WorkerId
from shared.link.messages import Adopt, Body, Input, OpenSession, TurnOver

MAX_PENDING_EVENTS = 64
MAX_DEATHS = 2
"""Streams lost in a row, without a profile in between, until the session is given up for now."""

MAX_SALVAGES = 2
"""Workers that are asked to commit what is left of a connection that is gone."""

MAX_UNCOMMITTED = 8
"""Records of turns that are kept for a store that does not answer; the oldest goes first."""


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
    epoch: int = 0
    """Under which a worker has claimed the device for this connection; 0 = none has yet."""
    _count: int = 0
    _placed: bool = False
    _ends: bool = False
    """The connection is gone: END follows what still has to be told."""
    _salvages: int = 0
    _told: int = -1
    """Generation of the latest input that the present stream was told, or will be."""
    _pending: list[Body] = field(default_factory=list)
    _uncommitted: dict[int, Adopt] = field(default_factory=dict)

    def open(
        self, *, exclude: frozenset[WorkerId] = frozenset(), resume: Input | None = None, is_repin: bool = False
    ) -> OpenStream:
        """A new stream. `resume` is a turn to be asked again; a copy that still waits would ask it twice."""
        self._count += 1
        self.key = StreamKey(Role.SESSION, self._count)
        self._placed = self.is_leaving = False
        waiting = [body for body in self._pending if body != resume and _generation(body) not in self._uncommitted]
        self._pending = [*self._uncommitted.values(), *waiting]
        self._told = max((body.gen for body in waiting if isinstance(body, Input)), default=-1)
        if resume is not None:
            self._told = resume.gen
        caller = self.caller
        body = OpenSession(
            session=caller.session,
            device=caller.device,
            client=caller.client,
            address=caller.address,
            features=self.features,
            resume=resume,
            epoch=self.epoch,
            life=self._count,
        )
        return OpenStream(self.key, body, exclude=exclude, is_repin=is_repin)

    def opened(self, key: StreamKey) -> list[Effect]:
        """A worker has it: what was waiting follows."""
        if key != self.key:
            return []
        self._placed = True
        out: list[Effect] = [StreamEvent(key, body) for body in self._pending]
        self._pending.clear()
        return [*out, EndStream(key)] if self._ends else out

    @property
    def has_waiting(self) -> bool:
        """Something has to be told to a worker."""
        return bool(self._pending)

    def tell(self, body: Body) -> list[Effect]:
        if self.key is None or (not self._placed and len(self._pending) >= MAX_PENDING_EVENTS):
            return [Count("session_events_dropped")]
        if isinstance(body, Input):
            self._told = body.gen
        if self._placed:
            return [StreamEvent(self.key, body)]
        self._pending.append(body)
        return []

    def turn_over(self, record: Adopt) -> list[Effect]:
        """A turn has ended that a worker was told of, or should have been."""
        gen = record.over.gen
        self._uncommitted[gen] = record
        lost: list[Effect] = []
        if len(self._uncommitted) > MAX_UNCOMMITTED:
            del self._uncommitted[next(iter(self._uncommitted))]
            lost.append(Count("turn_records_dropped"))
        if self.key is None:
            return lost
        return lost + self.tell(record.over if gen == self._told else record)

    def committed(self, gen: int) -> None:
        self._uncommitted.pop(gen, None)

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
        return [left, Count("stream_moves", "session"), self.open(is_repin=True)]

    def end(self) -> list[Effect]:
        """The connection is gone: the worker commits. Without one, another is sought for what is not committed."""
        self._ends = True
        if self.key is None:
            return self.salvage()
        if self._placed:
            return [EndStream(self.key)]
        if self.epoch:
            return []  # END follows the OPEN
        abort = AbortStream(self.key, "close")
        self.key = None
        return [abort, *self.surrender()]

    def salvage(self) -> list[Effect]:
        """Have another worker commit what a lost one did not.

        Only for a connection that has owned the device: a claim as a new one would take it from who is there now.
        """
        if not self._uncommitted:
            return []
        self._salvages += 1
        return [self.open(is_repin=True)] if self.epoch and self._salvages <= MAX_SALVAGES else self.surrender()

    def surrender(self) -> list[Effect]:
        """Nobody may commit for this connection any more."""
        lost: list[Effect] = [Count("turn_records_dropped") for _ in self._uncommitted]
        self._uncommitted.clear()
        return lost


def _generation(body: Body) -> int | None:
    """Of what one turn's worker is told."""
    match body:
        case Input() | TurnOver():
            return body.gen
        case Adopt():
            return body.over.gen
        case _:
            return None
