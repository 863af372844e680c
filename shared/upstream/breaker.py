"""Whether an upstream is asked at all, so that people need not wait for its deadline at every turn. Pure.

Rules
- Closed: everybody asks. Three counted failures in a row, or a single fatal one, open it.
- Open: nobody asks for a while: 15 s, twice as long after each failed probe, 2 min at most, and up to a quarter more
  that differs from process to process.
- Half open: one request at a time asks, the probe. Its success closes the breaker, its failure opens it again.
- What is at fault is asked by the failure's kind: RETRYABLE and QUOTA count, FATAL opens at once, INPUT says nothing of
  the upstream. A request that was cancelled says nothing either; of a probe, both let the next request be the probe.
- A request that was let in before the breaker opened says nothing when it ends: what it knew is old.

`now` is in seconds of any clock that only goes forward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from shared.errors import TransitionError
from shared.upstream.backoff import Backoff
from shared.upstream.faults import Kind

FAILURES: Final = 3
REST: Final = Backoff(first_s=15.0, most_s=120.0)


class State(Enum):
    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Pass(Enum):
    """How a request was let in; it is given back with the request's end."""

    ORDINARY = "ordinary"
    PROBE = "probe"


class End(Enum):
    """How a request ended, for the breaker."""

    SUCCESS = "success"
    FAILURE = "failure"
    FATAL = "fatal"
    NOTHING = "nothing"


END_OF: Final[Mapping[Kind, End]] = MappingProxyType(
    {
        Kind.RETRYABLE: End.FAILURE,
        Kind.QUOTA: End.FAILURE,
        Kind.FATAL: End.FATAL,
        Kind.INPUT: End.NOTHING,
    }
)


class Breaker:
    """One upstream's, in one process."""

    __slots__ = ("_chance", "_failures", "_has_probe", "_openings", "_rests_until", "_state")

    def __init__(self, chance: Callable[[], float] = lambda: 0.0) -> None:
        """`chance` draws a number from 0 up to 1."""
        self._chance = chance
        self._state = State.CLOSED
        self._failures = 0
        self._openings = 0
        self._rests_until = 0.0
        self._has_probe = False

    def __repr__(self) -> str:
        return f"Breaker({self._state.value}, {self._failures} failures)"

    @property
    def state(self) -> State:
        return self._state

    def refuses(self, now: float) -> bool:
        """Would `admit` say no? Changes nothing."""
        if self._state is State.OPEN:
            return now < self._rests_until
        return self._has_probe

    def admit(self, now: float) -> Pass | None:
        """Let a request in; None = do not ask. Each pass must come back by `ended`, once."""
        if self.refuses(now):
            return None
        if self._state is State.CLOSED:
            return Pass.ORDINARY
        self._state = State.HALF_OPEN
        self._has_probe = True
        return Pass.PROBE

    def ended(self, held: Pass, end: End, now: float) -> None:
        """The request with this pass has ended. Raises TransitionError for a probe that is none."""
        if held is Pass.PROBE and not self._has_probe:
            raise TransitionError(f"no probe is out: {self!r}")
        if held is Pass.PROBE:
            self._has_probe = False
        act = _ACTS.get((self._state, held, end))
        if act is not None:
            act(self, now)

    def _close(self, now: float) -> None:
        self._state = State.CLOSED
        self._failures = self._openings = 0

    def _count(self, now: float) -> None:
        self._failures += 1
        if self._failures >= FAILURES:
            self._open(now)

    def _open(self, now: float) -> None:
        self._state = State.OPEN
        self._openings += 1
        self._rests_until = now + REST.rest_s(self._openings, self._chance())


_ACTS: Final[Mapping[tuple[State, Pass, End], Callable[[Breaker, float], None]]] = MappingProxyType(
    {
        (State.CLOSED, Pass.ORDINARY, End.SUCCESS): Breaker._close,
        (State.CLOSED, Pass.ORDINARY, End.FAILURE): Breaker._count,
        (State.CLOSED, Pass.ORDINARY, End.FATAL): Breaker._open,
        (State.HALF_OPEN, Pass.PROBE, End.SUCCESS): Breaker._close,
        (State.HALF_OPEN, Pass.PROBE, End.FAILURE): Breaker._open,
        (State.HALF_OPEN, Pass.PROBE, End.FATAL): Breaker._open,
    }
)
"""What an end does; what is not listed changes nothing."""
