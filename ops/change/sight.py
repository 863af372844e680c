"""What is seen of each process: its row in supervisord's table, and what its present life says of itself. Pure.

A process has joined when the life that supervisord started is heard in the cluster: a worker's BEAT has reached every
router that answers, a router has every worker its siblings have, a web process answers on its admin socket. Lives are
told apart by their process id, so a beat of the life before is never taken for one of the life after.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ops.process import ProcessInfo, ProcessName


@dataclass(frozen=True, slots=True)
class Told:
    """What one life says of itself."""

    pid: int
    epoch: int = 0
    """Of the configuration it runs with."""
    is_draining: bool = False
    is_everywhere: bool = True
    active: int | None = None
    """Streams of a worker, connections of a router."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One slot."""

    info: ProcessInfo
    told: Told | None = None
    """None if its present life has not been heard."""

    def has_joined(self, epoch: int = 0) -> bool:
        """Does it run, is it known everywhere, and with a configuration at least as new as `epoch`?"""
        told = self.told
        if told is None or self.info.state not in ("STARTING", "RUNNING"):
            return False
        return told.is_everywhere and not told.is_draining and told.epoch >= epoch


Sight = Mapping[ProcessName, Seen]


def sight_of(infos: Iterable[ProcessInfo], cluster: Any, webs: Sequence[Mapping[str, Any]], own_host: str) -> Sight:
    """From supervisord's table, the body of /api/cluster (None: the web process does not answer), and what each web
    process says of itself."""
    told = _workers(cluster, own_host) | _routers(cluster) | _webs(webs)
    return {info.name: Seen(info, told.get((info.name, info.pid))) for info in infos}


def hosts_with(cluster: Any, role: str) -> set[str]:
    """Machines whose workers of `role` are seen."""
    workers = [worker for worker in _list(cluster, "workers") if worker["role"] == role]
    return {worker["host"] for worker in workers if worker.get("host")}


_Lives = dict[tuple[ProcessName, int], Told]


def _workers(cluster: Any, own_host: str) -> _Lives:
    answering = {router["slot"] for router in _list(cluster, "routers") if not router["draining"]}
    return {
        (ProcessName(worker["role"], worker["slot"]), worker["pid"]): Told(
            worker["pid"],
            worker.get("epoch", 0),
            worker["draining"],
            bool(answering) and answering <= set(worker.get("routers", answering)),
            worker["active"],
        )
        for worker in _list(cluster, "workers")
        if worker.get("host", own_host) == own_host
    }


def _routers(cluster: Any) -> _Lives:
    lonely = {
        router["slot"]
        for router in _list(cluster, "routers")
        for worker in _list(cluster, "workers")
        if not worker["draining"] and router["slot"] not in worker.get("routers", (router["slot"],))
    }
    return {
        (ProcessName("router", router["slot"]), router["pid"]): Told(
            router["pid"],
            router.get("epoch", 0),
            router["draining"],
            router.get("ready", True) and router["slot"] not in lonely,
            router["connections"],
        )
        for router in _list(cluster, "routers")
    }


def _webs(webs: Sequence[Mapping[str, Any]]) -> _Lives:
    return {(ProcessName("web", web["slot"]), web["pid"]): Told(web["pid"], web.get("epoch", 0)) for web in webs}


def _list(cluster: Any, key: str) -> Sequence[Any]:
    found = cluster.get(key, ()) if isinstance(cluster, dict) else ()
    return found if isinstance(found, Sequence) else ()
