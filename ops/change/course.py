"""A change to a running cluster, step by step: what is started and stopped when, and when it is given up. Pure.

Rules
- One step at a time. `Up` starts a slot and is over when its new life has joined; `Down` stops slots, which drain, and
  is over when they have left.
- Which slots are wanted changes with the steps, before the act: what watches over the cluster never works against us.
- A slot that was not wanted before and does not come up is stopped again. One that was wanted stays wanted: its failure
  is told and retried like any other. Either way the course ends there and leaves the rest alone.
- At the drain's deadline a second SIGTERM shortens it; what is still there after that is killed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ops.change.acts import Act, Signal, Start, Stop
from ops.change.sight import Seen, Sight
from ops.cluster.crash_loop import CrashLoops
from ops.process import ENDED, GONE, STOPPABLE, ProcessName

DEATHS = 2
SHORT_LIFE_S = 120
"""As at the start of a cluster: a slot that dies twice before it has joined will not come."""
SHOWN_S = 5.0
"""What is left of a drain is told in such steps: where it is logged, each change is a line."""
HURRIED_S = 3.0
"""Between the second SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class Up:
    """Start a slot and wait until it has joined."""

    name: ProcessName
    is_new: bool = False
    """It was not wanted before: without it the cluster is what it was."""


@dataclass(frozen=True, slots=True)
class Down:
    """Drain slots and wait until they have left."""

    names: tuple[ProcessName, ...]
    stays_out: bool = True


Step = Up | Down
Unit = tuple[Step, ...]
"""Steps that belong together: a course that is cut short still ends the unit it is in."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait."""

    start_s: float
    drain_s: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """`text` says for what."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """All of it."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The rest was left alone. `culprit`'s log says why."""

    reason: str
    culprit: ProcessName


Verdict = Waiting | Done | GaveUp


class Course:
    """One change, from its first step to its last."""

    def __init__(
        self, units: Sequence[Unit], wanted: Iterable[ProcessName], limits: Limits, now_s: float, epoch: int = 0
    ) -> None:
        """`epoch`: a life that runs with an older configuration does not count as new."""
        self.wanted = frozenset(wanted)
        """The slots that should run, as of the step that is being done."""
        self.verdict: Verdict = Waiting("")
        self.done: list[Step] = []
        self._units = list(units)
        self._steps: list[Step] = []
        self._limits = limits
        self._epoch = epoch
        self._total = sum(map(len, units))
        self._is_cut_short = False
        self._is_told = False
        self._lives = CrashLoops(SHORT_LIFE_S)
        self._enter(now_s)

    def __repr__(self) -> str:
        return f"Course({len(self.done)}/{self._total}, {self.verdict})"

    @property
    def is_over(self) -> bool:
        return not isinstance(self.verdict, Waiting)

    @property
    def is_cut_short(self) -> bool:
        return self._is_cut_short

    def cut_short(self) -> None:
        """Do what has begun to its end, and no more."""
        self._is_cut_short = True
        self._total -= sum(map(len, self._units))
        self._units = []

    def step(self, now_s: float, sight: Sight) -> list[Act]:
        """What to do now. Write `wanted` down first, then act, and call again after a moment until `is_over`."""
        if self.is_over:
            return []
        match self._steps[0]:
            case Up() as up:
                return self._up(up, now_s, sight[up.name])
            case Down() as down:
                return self._down(down, now_s, [sight[name] for name in down.names])

    def _up(self, up: Up, now_s: float, seen: Seen) -> list[Act]:
        self.wanted |= {up.name}
        if seen.has_joined(self._epoch):
            return self._advance(now_s)
        is_looping = bool(self._lives.observe([seen.info], DEATHS))
        if self._is_told and (is_looping or seen.info.state == "FATAL"):
            return self._give_up(up, f"{up.name} cannot be started")
        if now_s - self._began_s >= self._limits.start_s:
            return self._give_up(up, f"{up.name} has not joined within {self._limits.start_s:g} s")
        if seen.info.state in ENDED and not self._is_told:
            self._is_told = True
            self._wait(f"starting {up.name}")
            return [Start(up.name)]
        what = "waiting for its beat" if seen.info.state == "RUNNING" else seen.info.state.lower()
        self._wait(f"starting {up.name}: {what}")
        return []

    def _down(self, down: Down, now_s: float, seen: list[Seen]) -> list[Act]:
        if down.stays_out:
            self.wanted -= set(down.names)
        left = [each for each in seen if each.info.state not in GONE]
        if not left:
            return self._advance(now_s)
        self._wait(f"draining {', '.join(_words(each) for each in left)}; {self._time_left(now_s)}")
        stops = [each.info.name for each in left if each.info.state in STOPPABLE]
        return [*map(Stop, stops), *self._insist(now_s, [each for each in left if each.info.state == "STOPPING"])]

    def _insist(self, now_s: float, left: list[Seen]) -> list[Act]:
        late_s = now_s - self._began_s - self._limits.drain_s
        if late_s >= HURRIED_S:
            return [Signal(each.info.name, "KILL") for each in left]
        if late_s >= 0 and not self._is_told:
            self._is_told = True
            return [Signal(each.info.name, "TERM") for each in left]
        return []

    def _time_left(self, now_s: float) -> str:
        left_s = self._limits.drain_s - (now_s - self._began_s)
        rounded_s = math.ceil(left_s / SHOWN_S) * SHOWN_S
        return f"at most {rounded_s:g} s more" if left_s > 0 else "its time is over"

    def _wait(self, text: str) -> None:
        self.verdict = Waiting(text if self._total < 2 else f"{text} ({len(self.done) + 1} of {self._total})")

    def _give_up(self, up: Up, reason: str) -> list[Act]:
        self.verdict = GaveUp(reason, up.name)
        if not up.is_new:
            return []
        self.wanted -= {up.name}
        return [Stop(up.name)]

    def _advance(self, now_s: float) -> list[Act]:
        self.done.append(self._steps.pop(0))
        self._enter(now_s)
        return []

    def _enter(self, now_s: float) -> None:
        while not self._steps and self._units:
            self._steps = list(self._units.pop(0))
        self._began_s = now_s
        self._is_told = False
        self._lives = CrashLoops(SHORT_LIFE_S)
        if not self._steps:
            self.verdict = Done()


def _words(seen: Seen) -> str:
    told = seen.told
    what = "connections" if seen.info.name.program == "router" else "streams"
    return str(seen.info.name) if told is None or told.active is None else f"{seen.info.name} ({told.active} {what})"
