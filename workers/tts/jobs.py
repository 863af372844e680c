"""Which segment is computed next. Pure.

Every segment has a due time: when its device runs out of sound, later by the length of what was already made. The
earliest due is next, so a device about to fall silent overtakes one with seconds in hand, and since due times are
absolute nobody waits for ever. Segments wait in one lane an engine; a lane may be closed while a call of its engine
is stuck.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Hashable
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


@dataclass(order=True, slots=True, frozen=True)
class _Ticket:
    due_s: float
    number: int


class DueQueue(Generic[Item]):
    """Items by due time, first come first served among equals; an item is in it at most once."""

    def __init__(self) -> None:
        self._numbers = count()
        self._lanes: dict[str, list[tuple[_Ticket, Item]]] = {}
        self._tickets: dict[Item, _Ticket] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    def __contains__(self, item: Item) -> bool:
        return item in self._tickets

    def put(self, lane: str, item: Item, due_s: float) -> None:
        """Add the item, or move it if it waits already."""
        ticket = _Ticket(due_s, next(self._numbers))
        self._tickets[item] = ticket
        heapq.heappush(self._lanes.setdefault(lane, []), (ticket, item))

    def discard(self, item: Item) -> None:
        self._tickets.pop(item, None)

    def take(self, closed: Container[str] = ()) -> Item | None:
        """Remove and return the item due first among the open lanes; None if there is none."""
        open_lanes = [lane for name, lane in self._lanes.items() if name not in closed and self._settle(lane)]
        if not open_lanes:
            return None
        _, item = heapq.heappop(min(open_lanes, key=lambda lane: lane[0][0]))
        del self._tickets[item]
        return item

    def _settle(self, lane: list[tuple[_Ticket, Item]]) -> bool:
        """Drop entries that were moved or discarded from the lane's head; False if nothing is left."""
        while lane and self._tickets.get(lane[0][1]) != lane[0][0]:
            heapq.heappop(lane)
        return bool(lane)
