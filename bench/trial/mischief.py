"""Does to a cluster what a plan of faults says, and puts everything right again at the end."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from bench.trial.cluster import POOLS, TrialCluster
from bench.trial.faults import Act, Fault
from bench.trial.forwarder import Forwarder, Treatment
from bench.trial.wire_book import WireBook

LOOK_S = 0.1
DELAY_S = 0.25
_ORDERS = {Act.WEDGE: "hold_gil", Act.HANG: "hang"}


class Mischief:
    """Runs one plan against one cluster. `done` counts what was really done."""

    def __init__(self, cluster: TrialCluster, forwarders: Mapping[str, Forwarder]) -> None:
        self.done: Counter[str] = Counter()
        self._cluster = cluster
        self._forwarders = forwarders
        self._obeyed: set[str] = set()

    async def run(self, faults: Sequence[Fault]) -> None:
        """Each at its time from now; returns when the last one has ended."""
        began_s = time.monotonic()
        watching = asyncio.create_task(self._watch_stage(), name="mischief-stage")
        try:
            async with asyncio.TaskGroup() as group:
                for fault in faults:
                    group.create_task(self._do(fault, began_s), name=f"mischief-{fault.act}-{fault.at_s}")
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            self._make_good()

    async def _do(self, fault: Fault, began_s: float) -> None:
        await asyncio.sleep(max(0.0, began_s + fault.at_s - time.monotonic()))
        name, cluster = f"{fault.pool}-{fault.slot}", self._cluster
        self.done[fault.act] += 1
        match fault.act:
            case Act.KILL:
                self._kill(name)
            case Act.KILL_POOL:
                for other in cluster.slots.values():
                    if other.program == fault.pool:
                        self._kill(other.name)
            case Act.PAUSE | Act.STOP:
                await self._stop(name, fault.held_s)
            case Act.DRAIN:
                cluster.expect_end(name)
                cluster.send(name, signal.SIGTERM)
            case Act.WEDGE | Act.HANG:
                # No name: the next request of anybody.
                (cluster.stage / f"{fault.point}~").write_text(_ORDERS[fault.act])
            case _:
                await self._disturb(name, fault)

    def _kill(self, name: str) -> None:
        self._cluster.expect_end(name)
        self._cluster.send(name, signal.SIGKILL)

    async def _stop(self, name: str, held_s: float) -> None:
        self._cluster.send(name, signal.SIGSTOP)
        await asyncio.sleep(held_s)
        self._cluster.send(name, signal.SIGCONT)

    async def _disturb(self, name: str, fault: Fault) -> None:
        forwarder = self._forwarders[name]
        if fault.act is Act.CUT:
            forwarder.cut()
            return
        forwarder.treatment = Treatment(
            delay_s=DELAY_S if fault.act is Act.DELAY else 0.0,
            repeat_every=fault.every if fault.act is Act.DUPLICATE else 0,
            lose_every=fault.every if fault.act is Act.DROP else 0,
        )
        await asyncio.sleep(fault.held_s)
        forwarder.treatment = Treatment()

    async def _watch_stage(self) -> None:
        """Who obeyed an order is known by the note that the engine left: its end is expected then."""
        while True:
            for note in self._cluster.stage.glob("*~@*"):
                if note.name not in self._obeyed:
                    self._obeyed.add(note.name)
                    self._expect(int(note.name.rpartition("@")[2]))
            await asyncio.sleep(LOOK_S)

    def _expect(self, pid: int) -> None:
        for slot in self._cluster.slots.values():
            if slot.pid == pid:
                self.done["obeyed"] += 1
                self._cluster.expect_end(slot.name)

    def _make_good(self) -> None:
        """Nothing stays stopped, and no cue stays on the stage."""
        for slot in self._cluster.slots.values():
            if slot.program in POOLS and slot.is_stopped:
                self._cluster.send(slot.name, signal.SIGCONT)
        for cue in self._cluster.stage.iterdir():
            cue.unlink(missing_ok=True)
        for forwarder in self._forwarders.values():
            forwarder.treatment = Treatment()


def forwarded_environment(cluster: TrialCluster, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """What these workers must be told so that they connect to their forwarders."""
    return {name: {"XZ_ROUTER_ENDPOINTS": f"ipc://{cluster.run_dir}/via-{name}"} for name in names}


def make_forwarders(
    cluster: TrialCluster, names: Sequence[str], book: WireBook, now: Callable[[], float]
) -> dict[str, Forwarder]:
    """By worker. A worker adds its pool to the endpoint it is told."""
    run_dir = cluster.run_dir
    return {
        name: Forwarder(
            run_dir / f"via-{name}-{name.partition('-')[0]}",
            run_dir / f"r0-{name.partition('-')[0]}",
            book,
            now,
        )
        for name in names
    }
