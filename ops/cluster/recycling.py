"""Which process is due for a new life because the old one is too old or too large. Pure.

Rules
- One process at a time, and only while all that should run has joined: never two of a role, never during trouble.
- The age at which a life ends differs by up to a fifth between slots and lives, so that processes that were started
  together are not due together.
- A process that is large right after its start is not helped by another one: it gets a while of rest first.
- Limits of 0 are off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from ops.process import ProcessName

JITTER = 0.2
REST_S = 600.0
Reason = Literal["age", "memory"]


@dataclass(frozen=True, slots=True)
class Age:
    """One running life."""

    name: ProcessName
    pid: int
    uptime_s: float
    rss_mib: float


@dataclass(frozen=True, slots=True)
class Due:
    name: ProcessName
    reason: Reason


class Recycling:
    """The limits, and which process is over them the most."""

    def __init__(self, after_h: float = 0.0, rss_mib: float = 0.0, rest_s: float = REST_S) -> None:
        self._after_s = after_h * 3600.0
        self._rss_mib = rss_mib
        self._rest_s = rest_s

    def __repr__(self) -> str:
        return f"Recycling(after_s={self._after_s:g}, rss_mib={self._rss_mib:g})"

    @property
    def is_on(self) -> bool:
        return bool(self._after_s or self._rss_mib)

    def due(self, ages: Iterable[Age], *, is_well: Callable[[], bool]) -> Due | None:
        """`is_well` says whether every process that should run has joined; asked only if something is due."""
        found = list(ages)
        due = self._largest(found) or self._oldest(found)
        return due if due is not None and is_well() else None

    def _largest(self, ages: Sequence[Age]) -> Due | None:
        if not self._rss_mib:
            return None
        over = [age for age in ages if age.rss_mib > self._rss_mib and age.uptime_s >= self._rest_s]
        return Due(max(over, key=lambda age: age.rss_mib).name, "memory") if over else None

    def _oldest(self, ages: Sequence[Age]) -> Due | None:
        if not self._after_s:
            return None
        over = [age for age in ages if age.uptime_s > self._after_s * (1.0 + JITTER * spread_of(age))]
        return Due(max(over, key=lambda age: age.uptime_s).name, "age") if over else None


def spread_of(age: Age) -> float:
    """A number from 0 to 1 that belongs to this life."""
    return int.from_bytes(blake2b(f"{age.name}/{age.pid}".encode(), digest_size=4).digest()) / 2**32
