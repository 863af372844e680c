"""Which models are loaded, and which one makes room for another. Pure.

Rules: a model is loaded once, however many use it; at most `room` are held at a time, those still loading included. One
that is wanted and finds no room takes the place of the idle one that was used longest ago; one in use is never closed.
If all are in use the wanted one waits, first come first served.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from shared.errors import TransitionError


@dataclass(frozen=True, slots=True)
class Load:
    key: str


@dataclass(frozen=True, slots=True)
class Close:
    key: str


Effect = Load | Close


@dataclass(slots=True)
class Place:
    """A model that is held."""

    users: int
    used: int
    """When it was last taken or given back, on the shelf's own clock."""
    is_loaded: bool = False


@dataclass(slots=True, eq=False)
class Lease:
    """One user's right to a model, from `take` to `give_back`."""

    key: str
    place: Place | None = None
    """None while it waits for room."""
    is_over: bool = False


class Shelf:
    """Each call returns what has to be done, in this order."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._places: dict[str, Place] = {}
        self._waiting: dict[str, list[Lease]] = {}
        self._clock = itertools.count()

    @property
    def held(self) -> frozenset[str]:
        return frozenset(self._places)

    def users(self, key: str) -> int:
        place = self._places.get(key)
        return place.users if place else 0

    def has_room(self, key: str) -> bool:
        """Whether it is held, or would be without another one's leaving."""
        return key in self._places or len(self._places) < self._room

    def take(self, key: str) -> tuple[Lease, list[Effect]]:
        """One more user of a model."""
        lease = Lease(key)
        place = self._places.get(key)
        if place is not None:
            self._seat(lease, place)
            return lease, []
        self._waiting.setdefault(key, []).append(lease)
        return lease, self._fill()

    def give_back(self, lease: Lease) -> list[Effect]:
        """The user has done with it, whether it ever got it or not. Another call for the same lease does nothing."""
        if lease.is_over:
            return []
        lease.is_over = True
        if lease.place is None:
            self._forget(lease)
        else:
            lease.place.users -= 1
            lease.place.used = next(self._clock)
        return self._fill()

    def loaded(self, key: str) -> list[Effect]:
        """Loading has succeeded."""
        place = self._places.get(key)
        if place is None or place.is_loaded:
            raise TransitionError(f"{key} was not being loaded")
        place.is_loaded = True
        return self._fill()

    def lost(self, key: str) -> list[Effect]:
        """It could not be loaded, or died: whoever had it has to take it anew."""
        if self._places.pop(key, None) is None:
            raise TransitionError(f"{key} is not held")
        return self._fill()

    def _fill(self) -> list[Effect]:
        effects: list[Effect] = []
        while self._waiting and (victim := self._victim()) is not None:
            if victim:
                del self._places[victim]
                effects.append(Close(victim))
            effects.append(self._load(next(iter(self._waiting))))
        return effects

    def _victim(self) -> str | None:
        """Who has to leave for one more; "" if nobody has to, None if nobody may."""
        if len(self._places) < self._room:
            return ""
        idle = [(place.used, key) for key, place in self._places.items() if place.is_loaded and not place.users]
        return min(idle)[1] if idle else None

    def _load(self, key: str) -> Load:
        place = self._places[key] = Place(0, next(self._clock))
        for lease in self._waiting.pop(key):
            self._seat(lease, place)
        return Load(key)

    def _seat(self, lease: Lease, place: Place) -> None:
        lease.place = place
        place.users += 1
        place.used = next(self._clock)

    def _forget(self, lease: Lease) -> None:
        waiting = self._waiting[lease.key]
        waiting.remove(lease)
        if not waiting:
            del self._waiting[lease.key]
