"""Which routers a worker has joined and which it should: joins, leaves, what to forget. Pure.

Rules
- The list is looked at again and again; what is new on it is joined, what is gone from it for GONE_S is left (a router
  that binds its socket anew takes the file away for a moment). A router whose socket file somebody has swept away is
  kept as long as it is heard.
- Each entry has a stamp; a socket file's changes when a router binds it anew. An entry of a list has none.
- A socket file whose router has not been heard for STALE_S, while another router is heard, belonged to a router that
  was killed: it is left, and joined again when its stamp changes. Without a sibling it is kept: who knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GONE_S = 1.0
HEARD_S = 3.0
STALE_S = 60.0

Stamp = tuple[int, int] | None
"""Inode and time of a socket file."""


@dataclass(slots=True)
class Member:
    """A router on the list."""

    stamp: Stamp
    heard_s: float
    """When it was last heard, or joined."""
    missing_s: float | None = None
    """Since when it is not on the list."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do now, by endpoint."""

    join: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()


class Roster:
    """The routers of one worker."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._stale: dict[str, Stamp] = {}

    def __repr__(self) -> str:
        return f"Roster({sorted(self._members)}, stale {sorted(self._stale)})"

    def __contains__(self, endpoint: str) -> bool:
        return endpoint in self._members

    def look(self, listed: Mapping[str, Stamp], heard_s: Mapping[str, float], now: float) -> Changes:
        """`listed`: what the list says now. `heard_s`: when each joined router was last heard, if ever."""
        for endpoint, at_s in heard_s.items():
            if endpoint in self._members:
                self._members[endpoint].heard_s = max(self._members[endpoint].heard_s, at_s)
        leave = [endpoint for endpoint in self._members if self._is_gone(endpoint, listed, now)]
        leave += [endpoint for endpoint in self._dead_files(heard_s, now) if endpoint not in leave]
        for endpoint in leave:
            del self._members[endpoint]
        return Changes(tuple(self._joins(listed, now)), tuple(leave))

    def _joins(self, listed: Mapping[str, Stamp], now: float) -> list[str]:
        self._stale = {endpoint: stamp for endpoint, stamp in self._stale.items() if listed.get(endpoint) == stamp}
        joins = [endpoint for endpoint in listed if endpoint not in self._members and endpoint not in self._stale]
        for endpoint in joins:
            self._members[endpoint] = Member(listed[endpoint], now)
        return joins

    def _is_gone(self, endpoint: str, listed: Mapping[str, Stamp], now: float) -> bool:
        member = self._members[endpoint]
        if endpoint in listed:
            self._on_listed(member, listed[endpoint], now)
            return False
        if member.missing_s is None:
            member.missing_s = now
        is_swept = member.stamp is not None and now - member.heard_s < HEARD_S
        return now - member.missing_s >= GONE_S and not is_swept

    def _dead_files(self, heard_s: Mapping[str, float], now: float) -> list[str]:
        has_sibling = any(now - at_s < STALE_S for at_s in heard_s.values())
        dead = [
            endpoint
            for endpoint, member in self._members.items()
            if has_sibling and member.stamp is not None and now - member.heard_s >= STALE_S
        ]
        for endpoint in dead:
            self._stale[endpoint] = self._members[endpoint].stamp
        return dead

    @staticmethod
    def _on_listed(member: Member, stamp: Stamp, now: float) -> None:
        member.missing_s = None
        if stamp != member.stamp:
            member.stamp = stamp
            member.heard_s = now  # another router has bound it: it has its own time to be heard
