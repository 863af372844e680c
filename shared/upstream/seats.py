"""Who has one of an upstream's seats, and who is next when all are taken. Pure.

Rules
- At most `sessions` at once; 0 = any number.
- Owners (people's sessions) take turns, one request each, in the order in which they began to wait: somebody with
  twenty segments does not keep the others waiting. An owner's own requests keep their order.
- Whoever leaves frees a seat or a place in the queue at once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


def share_of(total: int, processes: int) -> int:
    """One process's part of what a provider allows to all of them together, at least 1; 0 stays "any number".

    The parts are equal and rounded down, so that a provider's limit holds without the processes knowing of each other.
    """
    return max(1, total // max(1, processes)) if total else 0


class Seats(Generic[T]):
    """A ticket is anything that is told apart from all others."""

    __slots__ = ("_owners", "_seated", "_sessions", "_waiting")

    def __init__(self, sessions: int) -> None:
        self._sessions = sessions
        self._seated: set[T] = set()
        self._owners: dict[T, str] = {}
        """Of those who wait."""
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        """Owner → tickets; the first owner is next."""

    def __repr__(self) -> str:
        return f"Seats({self.in_use} of {self._sessions} in use, {self.waiting} waiting)"

    @property
    def in_use(self) -> int:
        return len(self._seated)

    @property
    def waiting(self) -> int:
        return len(self._owners)

    def enter(self, ticket: T, owner: str) -> bool:
        """True: it has a seat. False: it waits until a `leave` names it."""
        if self._is_free:
            self._seated.add(ticket)
            return True
        self._owners[ticket] = owner
        self._waiting.setdefault(owner, deque()).append(ticket)
        return False

    def leave(self, ticket: T) -> T | None:
        """Give back a seat or a place in the queue. Returns who has the seat now, if somebody waited for it."""
        if ticket in self._owners:
            self._forget(ticket)
            return None
        self._seated.discard(ticket)
        return self._seat_next() if self._is_free and self._waiting else None

    @property
    def _is_free(self) -> bool:
        return not self._sessions or len(self._seated) < self._sessions

    def _seat_next(self) -> T:
        owner, tickets = self._waiting.popitem(last=False)
        ticket = tickets.popleft()
        if tickets:
            self._waiting[owner] = tickets
        del self._owners[ticket]
        self._seated.add(ticket)
        return ticket

    def _forget(self, ticket: T) -> None:
        owner = self._owners.pop(ticket)
        tickets = self._waiting[owner]
        tickets.remove(ticket)
        if not tickets:
            del self._waiting[owner]
