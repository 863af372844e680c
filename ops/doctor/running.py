"""The running cluster: its supervisor, its processes, what its routers say of their workers. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ops.doctor.finding import Finding, fail, ok, warn

CLUSTER = "cluster"
PROCESSES = "processes"
WORKERS = "workers"
LOAD = "load"

FULL_SHARE = 0.9
HIGH_LAG_MS = 250.0
"""No new streams are given to a worker above it."""
YOUNG_S = 20
"""What has just been started may still be loading."""


@dataclass(frozen=True, slots=True)
class ProcessFact:
    """One process as supervisord has it; `tail` is the end of its log if it is not well."""

    name: str
    program: str
    state: str
    uptime_s: int
    message: str = ""
    log: str = ""
    tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterFact:
    """`holder`: the process of `xiaozhi up`, if any; `told`: the page of the web process, None if it is silent."""

    holder: int | None
    supervisor_answers: bool
    processes: Sequence[ProcessFact] = ()
    told: Mapping[str, Any] | None = None
    orphans: Sequence[int] = ()

    @property
    def is_up(self) -> bool:
        return self.supervisor_answers


def judge_cluster(fact: ClusterFact) -> Iterator[Finding]:
    if fact.holder is None and not fact.supervisor_answers:
        if fact.orphans:
            what = f"its supervisor has died, {len(fact.orphans)} of its processes still run"
            yield warn(CLUSTER, what, "xiaozhi up ends them and starts anew")
        else:
            yield ok(CLUSTER, "it is not running")
        return
    if not fact.supervisor_answers:
        what = f"xiaozhi up runs (process {fact.holder}), but its supervisord does not answer"
        yield fail(
            CLUSTER, what, "it may be starting or stopping; else: xiaozhi down, and look at logs/supervisord.log"
        )
        return
    if fact.holder is None:
        what = "supervisord runs without xiaozhi up: nobody watches it"
        yield warn(CLUSTER, what, "start it with xiaozhi up, which ends this one first")
    if not any(process.state in ("RUNNING", "STARTING") for process in fact.processes):
        yield fail(CLUSTER, "supervisord is up, but none of its processes runs", "xiaozhi down, then xiaozhi up")
        return
    yield from judge_processes(fact.processes)
    if fact.told is None:
        yield fail(CLUSTER, "the web process does not answer", "its log says why: logs/web_00.log")
    else:
        yield from judge_told(fact.told, fact.processes)


def judge_processes(processes: Sequence[ProcessFact]) -> Iterator[Finding]:
    broken = [process for process in processes if process.state in ("FATAL", "BACKOFF", "EXITED", "UNKNOWN")]
    for process in broken:
        lines = "".join(f"\n{line}" for line in process.tail)
        reason = f": {process.message}" if process.message else ""
        what = f"{process.name} is {process.state}{reason}{lines}"
        yield fail(PROCESSES, what, f"the lines are the end of {process.log}; it is tried again every minute")
    if not broken:
        states = Counter(process.state for process in processes)
        yield ok(PROCESSES, ", ".join(f"{count} {state}" for state, count in sorted(states.items())))


def judge_told(told: Mapping[str, Any], processes: Sequence[ProcessFact]) -> Iterator[Finding]:
    workers = told.get("workers", ())
    absent = list(_absent(workers, processes))
    yield from absent
    if not absent:
        yield ok(WORKERS, f"all {len(workers)} have joined a router")
    strained = [*_full(workers), *_late(workers)]
    yield from strained
    if not strained:
        devices = sum(router.get("connections", 0) for router in told.get("routers", ()))
        yield ok(LOAD, f"{devices} devices, no pool at its capacity, no loop behind")


def _absent(workers: Sequence[Mapping[str, Any]], processes: Sequence[ProcessFact]) -> Iterator[Finding]:
    joined = {(worker["role"], worker["slot"]) for worker in workers}
    for process in processes:
        slot = int(process.name.rpartition("_")[2])
        is_worker = process.program in ("asr", "tts", "session")
        if is_worker and process.state == "RUNNING" and (process.program, slot) not in joined:
            what = f"{process.name} runs, but has not joined a router"
            if process.uptime_s < YOUNG_S:
                yield warn(WORKERS, f"{what} yet", "it loads its models; ask again in a moment")
            else:
                remedy = f"look at {process.log}: is XZ_ROUTER_ENDPOINTS right, are its models still being loaded?"
                yield fail(WORKERS, what, remedy)


def _full(workers: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    for role in sorted({worker["role"] for worker in workers}):
        pool = [worker for worker in workers if worker["role"] == role]
        active, capacity = (sum(worker[key] for worker in pool) for key in ("active", "capacity"))
        if capacity and active >= FULL_SHARE * capacity:
            what = f"the {role} pool has {active} of {capacity} streams: new ones will be refused"
            yield warn(LOAD, what, f"start more workers (XZ_{role.upper()}), or raise its capacity")


def _late(workers: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    for worker in workers:
        if worker["lag_ms"] > HIGH_LAG_MS:
            what = f"{worker['role']}_{worker['slot']:02d} runs {worker['lag_ms']:.0f} ms late: no new streams go there"
            yield warn(LOAD, what, "the machine is too busy, or something blocks that process: look at its log")
