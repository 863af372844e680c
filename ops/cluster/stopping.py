"""How a cluster is stopped: in which order, with which deadlines.

1. `routers`: they stop first and drain while the workers still answer them; a second before the deadline they are told
   again, so that what they do last finds the workers there.
2. `rest`: workers and web, together, as soon as the last router is gone.
3. `hurried`: at the deadline, or when the person asks a second time: everything gets a second SIGTERM, which shortens a
   process's own deadline to a second.
4. `killed`: SIGKILL for what is left.
5. `done`.

The core takes supervisord's table and the time, and returns what to send.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ops.change.acts import Signal, Stop
from ops.cluster.plan import FIRST_TO_STOP, HURRIED_DRAIN_S
from ops.process import GONE, STOPPABLE, ProcessInfo, ProcessName

Phase = Literal["routers", "rest", "hurried", "killed", "done"]
GRACE_S = 1.0
"""Between the end of a hurried drain and SIGKILL: an interpreter needs a moment to leave."""
REAP_S = 3.0
COALESCE_S = 0.25
"""Two SIGTERMs closer together may arrive as one."""


class Stopping:
    """One stop of one cluster."""

    def __init__(self, now_s: float, drain_s: float) -> None:
        self.phase: Phase = "routers"
        self._deadline_s = now_s + drain_s
        self._told_s: dict[ProcessName, float] = {}
        self._hurried: set[ProcessName] = set()

    def __repr__(self) -> str:
        return f"Stopping({self.phase}, deadline_s={self._deadline_s:.1f})"

    @property
    def is_done(self) -> bool:
        return self.phase == "done"

    def hurry(self, now_s: float) -> None:
        """The person asked again."""
        if self.phase in ("routers", "rest"):
            self._enter_hurried(now_s)

    def step(self, now_s: float, infos: Sequence[ProcessInfo]) -> list[Stop | Signal]:
        """What to send now. Call again after a moment until `is_done`."""
        alive = [info for info in infos if info.state not in GONE]
        self._advance(now_s, alive)
        match self.phase:
            case "routers":
                return self._stop_routers(now_s, [info for info in alive if info.name.program == FIRST_TO_STOP])
            case "rest":
                return self._stop(now_s, alive)
            case "hurried":
                return [*self._stop(now_s, alive), *self._hurry(now_s, alive)]
            case "killed":
                return [*self._stop(now_s, alive), *(Signal(i.name, "KILL") for i in alive if i.state == "STOPPING")]
        return []

    def _stop_routers(self, now_s: float, routers: list[ProcessInfo]) -> list[Stop | Signal]:
        # Stopped alone, a process may drain for longer: routers are hurried in time to be gone at the deadline.
        is_late = now_s >= self._deadline_s - HURRIED_DRAIN_S
        return [*self._stop(now_s, routers), *(self._hurry(now_s, routers) if is_late else ())]

    def _advance(self, now_s: float, alive: list[ProcessInfo]) -> None:
        if not alive:
            self.phase = "done"
        elif self.phase == "routers" and not any(info.name.program == FIRST_TO_STOP for info in alive):
            self.phase = "rest"
        if now_s < self._deadline_s:
            return
        if self.phase in ("routers", "rest"):
            self._enter_hurried(now_s)
        elif self.phase == "hurried":
            self.phase, self._deadline_s = "killed", now_s + REAP_S
        elif self.phase == "killed":
            self.phase = "done"

    def _enter_hurried(self, now_s: float) -> None:
        self.phase, self._deadline_s = "hurried", now_s + HURRIED_DRAIN_S + GRACE_S

    def _stop(self, now_s: float, infos: list[ProcessInfo]) -> list[Stop | Signal]:
        names = [info.name for info in infos if info.state in STOPPABLE]
        self._told_s.update(dict.fromkeys(names, now_s))
        return [Stop(name) for name in names]

    def _hurry(self, now_s: float, infos: list[ProcessInfo]) -> list[Signal]:
        names = [info.name for info in infos if info.state == "STOPPING" and self._may_hurry(info.name, now_s)]
        self._hurried.update(names)
        return [Signal(name, "TERM") for name in names]

    def _may_hurry(self, name: ProcessName, now_s: float) -> bool:
        return name not in self._hurried and now_s - self._told_s.get(name, 0.0) >= COALESCE_S
