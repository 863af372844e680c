"""Whether what processes hold stays flat: a straight line through the last half of a run. Pure.

The first half is for what every process takes once: imports, caches, pools of connections. A line that rises over the
second half by more than the named limits is a leak.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.trial.books import Holding
from bench.trial.judge import Complaint

GROWN_MEMORY_KIB = 2 * 1024
GROWN_MEMORY_SHARE = 0.02
"""Of what the process holds on average."""
GROWN_DESCRIPTORS = 2.0
GROWN_TASKS = 4.0
"""Turns come and go; a task that stays behind each hundred turns is found in a few minutes."""
GROWN_THREADS = 0.5
LEAST_SAMPLES = 6

Samples = Sequence[tuple[float, Sequence[Holding]]]
"""(time in s, what each process held then)."""


@dataclass(frozen=True, slots=True)
class Growth:
    """By how much the fitted line of one number rises over the last half of a run."""

    name: str
    what: str
    mean: float
    grown: float
    limit: float

    @property
    def is_flat(self) -> bool:
        return self.grown <= self.limit


def line_of(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(mean, slope a second) of the least-squares line."""
    count = len(points)
    mean_at = sum(at_s for at_s, _ in points) / count
    mean = sum(value for _, value in points) / count
    spread = sum((at_s - mean_at) ** 2 for at_s, _ in points)
    if not spread:
        return mean, 0.0
    return mean, sum((at_s - mean_at) * (value - mean) for at_s, value in points) / spread


def growths(samples: Samples) -> list[Growth]:
    """Of each process that lived through the last half under one pid. Nothing from fewer than LEAST_SAMPLES samples."""
    half = samples[len(samples) // 2 :]
    if len(half) < LEAST_SAMPLES:
        return []
    found: list[Growth] = []
    for name, pid in sorted({(one.name, one.pid) for _, holdings in half for one in holdings}):
        own = [(at_s, one) for at_s, holdings in half for one in holdings if (one.name, one.pid) == (name, pid)]
        if len(own) >= len(half) * 0.9:
            found += _growths(name, own)
    return found


def complaints_of(samples: Samples) -> list[Complaint]:
    at_s = round(samples[-1][0], 3) if samples else 0.0
    return [
        Complaint(f"{one.what}_grow", one.name, at_s, f"by {one.grown:.1f} on {one.mean:.0f}, at most {one.limit:.1f}")
        for one in growths(samples)
        if not one.is_flat
    ]


def _growths(name: str, own: Sequence[tuple[float, Holding]]) -> list[Growth]:
    length_s = own[-1][0] - own[0][0]

    def growth(what: str, values: Sequence[float], limit: float, share: float = 0.0) -> Growth:
        mean, slope = line_of([(at_s, value) for (at_s, _), value in zip(own, values, strict=True)])
        return Growth(name, what, mean, slope * length_s, limit + share * mean)

    holdings = [holding for _, holding in own]
    return [
        growth("memory_kib", [one.memory_kib for one in holdings], GROWN_MEMORY_KIB, GROWN_MEMORY_SHARE),
        growth("descriptors", [one.descriptors for one in holdings], GROWN_DESCRIPTORS),
        growth("tasks", [one.tasks for one in holdings], GROWN_TASKS),
        growth("threads", [one.threads for one in holdings], GROWN_THREADS),
    ]
