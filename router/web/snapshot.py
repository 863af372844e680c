"""What a router tells of the cluster on `GET /cluster` of its metrics port, and what all routers' answers come to.

```json
{"router": {"slot": 0, "pid": 1, "version": "0.1.0", "connections": 3, "sessions": {"idle": 2, "speaking": 1},
            "threads": 5, "draining": false, "epoch": 1},
 "pools": {"asr": [{"role": "asr", "slot": 0, "incarnation": "1f2e3d4c", "capacity": 400, "active": 3, "reserved": 0,
                    "draining": false, "lag_ms": 0.4, "pid": 2, "host": "box", "metrics_port": 9760,
                    "state": "ready", "epoch": 1}]},
 "ready": true, "missing": []}
```

`ready` is latched by the router: true once every pool has had a worker. `missing` names the roles that have none now.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

LOOPBACK = "127.0.0.1"


class Told(BaseModel):
    """From another process, maybe of another version: unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class RouterInfo(Told):
    slot: int
    pid: int
    version: str
    connections: int
    sessions: dict[str, int]
    """Conversations by phase."""
    threads: int
    draining: bool
    epoch: int = 0
    """Of the configuration it runs with."""


class WorkerInfo(Told):
    role: str
    slot: int
    incarnation: str
    capacity: int
    active: int
    reserved: int
    draining: bool
    lag_ms: float
    pid: int
    host: str
    metrics_port: int
    state: str
    epoch: int = 0
    routers: tuple[int, ...] = ()
    """Slots of the routers that know this incarnation; filled in here, where all of them are seen."""


class RouterSnapshot(Told):
    router: RouterInfo
    pools: dict[str, list[WorkerInfo]]
    ready: bool
    missing: list[str]


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """All configured routers' snapshots; None for one that did not answer."""

    routers: dict[int, RouterSnapshot | None]
    fatal: dict[str, str] = field(default_factory=dict)
    """Processes that the supervisor gave up on, with the reason."""

    @property
    def missing(self) -> list[str]:
        """What keeps the cluster from being ready, and the pools that have no worker at present, by name."""
        routers = [
            f"router {slot}{fault}" for slot, told in self.routers.items() if (fault := _fault(told)) is not None
        ]
        return routers + sorted({role for told in self._told() for role in told.missing})

    @property
    def reasons(self) -> list[str]:
        """Everything that is wrong, for people."""
        return self.missing + [f"{name}: {reason}" for name, reason in self.fatal.items()]

    @property
    def is_ready(self) -> bool:
        return not self.fatal and all(_fault(snapshot) is None for snapshot in self.routers.values())

    def workers(self) -> list[WorkerInfo]:
        """Each incarnation once, with the greatest load told: what a worker beats counts the streams of all routers."""
        found: dict[tuple[str, int, str], WorkerInfo] = {}
        knowing: dict[tuple[str, int, str], list[int]] = {}
        for told in self._told():
            for worker in (worker for pool in told.pools.values() for worker in pool):
                key = (worker.role, worker.slot, worker.incarnation)
                knowing.setdefault(key, []).append(told.router.slot)
                if key not in found or worker.active > found[key].active:
                    found[key] = worker
        return [found[key].model_copy(update={"routers": tuple(knowing[key])}) for key in sorted(found)]

    def _told(self) -> Sequence[RouterSnapshot]:
        return [snapshot for snapshot in self.routers.values() if snapshot is not None]


def _fault(snapshot: RouterSnapshot | None) -> str | None:
    """Why a router is not ready, as a suffix of its name; None if it is."""
    if snapshot is None:
        return " (no answer)"
    if snapshot.router.draining:
        return " (draining)"
    return None if snapshot.ready else " (waits for workers)"


@dataclass(frozen=True, slots=True)
class Target:
    """One process that Prometheus may scrape, with what its router said of it."""

    program: str
    slot: int
    host: str
    port: int
    load: dict[str, object] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def as_http_sd(self) -> dict[str, object]:
        return {"targets": [self.address], "labels": {"program": self.program, "slot": str(self.slot)}}


def router_target(slot: int, port: int, snapshot: RouterSnapshot | None) -> Target:
    load: dict[str, object] = {}
    if snapshot is not None:
        told = snapshot.router
        load = {"pid": told.pid, "active": told.connections, "draining": told.draining}
    return Target("router", slot, LOOPBACK, port, load)


def worker_targets(workers: Iterable[WorkerInfo], own_host: str) -> list[Target]:
    """One for each port: of two incarnations of a slot the one that does not drain. Processes of this machine serve
    their metrics on the loopback address."""
    found: dict[str, Target] = {}
    for worker in sorted(workers, key=lambda worker: not worker.draining):
        if worker.metrics_port:
            host = LOOPBACK if worker.host == own_host else worker.host
            target = Target(worker.role, worker.slot, host, worker.metrics_port, _load(worker))
            found[target.address] = target
    return sorted(found.values(), key=lambda target: (target.program, target.slot))


def _load(worker: WorkerInfo) -> dict[str, object]:
    shown = {"pid", "state", "active", "capacity", "reserved", "draining", "lag_ms", "epoch"}
    return worker.model_dump(include=shown)
