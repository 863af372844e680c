"""The books of the processes: streams, pools, threads, and what a process holds. Pure: samples in, complaints out.

Rules
- Every OPEN ends in one DONE or ERROR, or with its worker: ended never passes opened, neither ever falls, nobody ends
  a stream a second time, and when all devices have gone nothing is open.
- active + reserved ≤ capacity, for each worker, at each look.
- threads ≤ budget, for each process. More at a single look is no complaint: libraries start some while they are loaded.
- What a process holds after the run is what it held before, within the named limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.trial.judge import Complaint

LEFT_TASKS = 3
LEFT_DESCRIPTORS = 8
"""Sockets of the other processes come and go with their restarts."""
LEFT_MEMORY_KIB = 24 * 1024
LEFT_MEMORY_SHARE = 0.25
"""Of what it held before: caches fill up to their bounds."""


@dataclass(frozen=True, slots=True)
class PoolCount:
    """One pool as a router counts it, since that router began."""

    opened: int
    ended: int
    second_ends: int


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """One worker as a router sees it."""

    worker: str
    capacity: int
    active: int
    reserved: int
    ours: int
    """Streams of this router that it has not ended yet."""


@dataclass(frozen=True, slots=True)
class Holding:
    """One process at one moment."""

    name: str
    pid: int
    threads: int
    thread_budget: int
    tasks: int
    descriptors: int
    memory_kib: int


@dataclass(slots=True)
class Books:
    """Of one run."""

    complaints: list[Complaint] = field(default_factory=list)
    looks: int = 0
    highest_threads: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By process: most threads seen, and its budget."""
    _over_budget: set[str] = field(default_factory=set)
    """At the last look."""
    _counts: dict[str, PoolCount] = field(default_factory=dict)
    _told_second_ends: int = 0

    def on_counts(self, router: str, pools: Mapping[str, PoolCount], now: float, *, repeated_ends: int = 0) -> None:
        """Of one page of one router; `router` names one life of it. So many ends were repeated on the way to it."""
        second_ends = sum(count.second_ends for count in pools.values())
        if second_ends > repeated_ends + self._told_second_ends:
            self._complain("ended_twice", router, now, f"{second_ends} ends, {repeated_ends} repeated on the way")
            self._told_second_ends = second_ends - repeated_ends
        for pool, count in pools.items():
            who = f"{router} {pool}"
            before = self._counts.get(who, PoolCount(0, 0, 0))
            if count.ended > count.opened:
                self._complain("ended_unopened", who, now, f"{count.ended} ended of {count.opened}")
            if count.opened < before.opened or count.ended < before.ended:
                self._complain("count_fell", who, now, f"{before} → {count}")
            self._counts[who] = count

    def on_loads(self, loads: list[WorkerLoad], now: float) -> None:
        for load in loads:
            if load.active + load.reserved > load.capacity:
                self._complain("over_capacity", load.worker, now, f"{load.active} + {load.reserved} > {load.capacity}")

    def on_holdings(self, holdings: list[Holding], now: float) -> None:
        self.looks += 1
        for holding in holdings:
            who = f"{holding.name} ({holding.pid})"
            self._judge_threads(who, holding, now)
            most, _ = self.highest_threads.get(holding.name, (0, 0))
            self.highest_threads[holding.name] = (max(most, holding.threads), holding.thread_budget)

    def _judge_threads(self, who: str, holding: Holding, now: float) -> None:
        if holding.threads <= holding.thread_budget:
            self._over_budget.discard(who)
        elif who not in self._over_budget:
            self._over_budget.add(who)
        else:
            words = f"{holding.threads} threads, budget {holding.thread_budget}"
            self._complain("threads_over_budget", who, now, words)

    def at_rest(self, loads: list[WorkerLoad], now: float) -> None:
        """All devices have hung up and were forgotten: nothing is open."""
        for load in loads:
            if load.ours or load.active or load.reserved:
                words = f"{load.ours} of ours, {load.active} active, {load.reserved} reserved"
                self._complain("stream_left_open", load.worker, now, words)
        for who, count in self._counts.items():
            if count.opened != count.ended:
                self._complain("stream_left_open", who, now, f"{count.opened} opened, {count.ended} ended")

    def compare(self, before: list[Holding], after: list[Holding], now: float) -> None:
        """Each process with itself; one that was restarted with the one that had its name."""
        by_name = {holding.name: holding for holding in before}
        for holding in after:
            earlier = by_name.get(holding.name)
            if earlier is not None:
                self._compare(earlier, holding, now)

    def _compare(self, before: Holding, after: Holding, now: float) -> None:
        allowed_kib = before.memory_kib * (1 + LEFT_MEMORY_SHARE) + LEFT_MEMORY_KIB
        for code, was, now_is, limit in (
            ("tasks_left", before.tasks, after.tasks, before.tasks + LEFT_TASKS),
            ("descriptors_left", before.descriptors, after.descriptors, before.descriptors + LEFT_DESCRIPTORS),
            ("memory_left", before.memory_kib, after.memory_kib, allowed_kib),
        ):
            if now_is > limit:
                self._complain(code, after.name, now, f"{was} before, {now_is} after, at most {limit:.0f}")

    def _complain(self, code: str, who: str, now: float, words: str) -> None:
        self.complaints.append(Complaint(code, who, round(now, 3), words))
