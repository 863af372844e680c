"""What `xiaozhi up` does for a cluster that runs well: keeps the wanted slots up, and replaces the old and the large.

It acts only while nobody else changes the cluster, and never blocks the loop that waits for Ctrl-C: a replacement goes
on by one step at each tick.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from ops.change.agreed import settings_now
from ops.change.changes import RefusedError, rolling, slots_of
from ops.change.course import Course, Done, GaveUp, Limits, Waiting
from ops.change.observing import observe
from ops.change.operating import take_step
from ops.change.right import Right, take, undisturbed
from ops.change.running import wanted_in
from ops.cluster.plan import LONGEST_DRAIN_S, START_TIMEOUT_S
from ops.cluster.recycling import Age, Due, Recycling
from ops.cluster.resident import resident_mib
from ops.process import STOPPABLE, ProcessInfo, ProcessName
from ops.supervisor import Supervisor
from ops.terminal import Terminal
from shared.config.epoch import current_epoch
from shared.errors import ConfigError

LOOK_S = 5.0
"""How often ages and sizes are looked at."""
TIDY_S = 5.0
PAUSE_S = 600.0
"""After a replacement that failed."""
RECYCLED_NAME = "recycled.json"
"""{"asr/age": 2, ...}: replacements since the start, for /metrics of the web process."""
LIMITS = Limits(START_TIMEOUT_S, LONGEST_DRAIN_S + 5.0)


class Caretaker:
    """Called once a second by the watch loop."""

    def __init__(self, run_dir: Path, supervisor: Supervisor, terminal: Terminal) -> None:
        self._run_dir = run_dir
        self._supervisor = supervisor
        self._terminal = terminal
        self._recycling = Recycling()
        self._epoch: int | None = None
        self._looked_s = 0.0
        self._tidied_s = 0.0
        self._course: Course | None = None
        self._due: Due | None = None
        self._right: Right | None = None
        self._recycled: Counter[str] = Counter()

    def tick(self, infos: Collection[ProcessInfo], broken: Collection[ProcessName]) -> None:
        """`infos` of the wanted slots; `broken` are the ones that are given up. Raises SupervisorError."""
        self._read_limits()
        if self._course is not None:
            self._go_on(self._course)
            return
        if time.monotonic() - self._tidied_s >= TIDY_S:
            self._tidied_s = time.monotonic()
            self._tidy(broken)
        if self._recycling.is_on and not broken and time.monotonic() - self._looked_s >= LOOK_S:
            self._looked_s = time.monotonic()
            self._look(infos)

    def end(self) -> None:
        """The cluster is being stopped."""
        if self._right is not None:
            self._right.end()
        self._course = self._right = None

    def _read_limits(self) -> None:
        epoch = current_epoch(self._run_dir)
        if epoch == self._epoch:
            return
        self._epoch = epoch
        with suppress(ConfigError):
            cluster = settings_now(self._run_dir).cluster
            self._recycling = Recycling(cluster.recycle_after_h, cluster.recycle_rss_mib)

    def _tidy(self, broken: Collection[ProcessName]) -> None:
        with undisturbed(self._run_dir) as is_free:
            if not is_free:
                return
            wanted = wanted_in(self._run_dir)
            for info in self._supervisor.all_infos():
                if info.name in wanted and info.state == "STOPPED" and info.name not in broken:
                    self._supervisor.start(info.name)
                elif info.name not in wanted and info.state in STOPPABLE:
                    self._supervisor.stop(info.name)

    def _look(self, infos: Iterable[ProcessInfo]) -> None:
        ages = [Age(info.name, info.pid, info.uptime_s, resident_mib(info.pid)) for info in infos if info.pid]
        due = self._recycling.due(ages, is_well=self._is_well)
        if due is not None:
            self._begin(due, slots_of(info.name for info in self._supervisor.all_infos()))

    def _is_well(self) -> bool:
        sight = observe(self._supervisor, self._run_dir)
        return all(sight[name].has_joined() for name in wanted_in(self._run_dir))

    def _begin(self, due: Due, slots: Mapping[str, int]) -> None:
        self._right = take(self._run_dir, f"recycling {due.name} ({due.reason})")
        if self._right is None:
            return
        wanted = wanted_in(self._run_dir)
        try:
            units = rolling((due.name,), wanted, slots) if due.name in wanted else []
        except RefusedError:
            units = []
        if not units:
            self.end()
            return
        self._due = due
        self._course = Course(units, wanted, LIMITS, time.monotonic())
        self._terminal.line(f"replacing {due.name}, for its {due.reason}")

    def _go_on(self, course: Course) -> None:
        assert self._due is not None
        assert self._right is not None
        take_step(course, self._supervisor, self._run_dir, observe(self._supervisor, self._run_dir))
        match course.verdict:
            case Waiting(text):
                self._right.note(text)
                return
            case GaveUp(reason):
                self._terminal.line(f"replacing {self._due.name} failed: {reason}")
                self._looked_s = time.monotonic() + PAUSE_S
            case Done():
                self._count(self._due)
                self._terminal.line(f"{self._due.name} was replaced")
        self.end()

    def _count(self, due: Due) -> None:
        self._recycled[f"{due.name.program}/{due.reason}"] += 1
        draft = self._run_dir / "recycled.new"
        draft.write_text(json.dumps(self._recycled))
        draft.replace(self._run_dir / RECYCLED_NAME)
