"""Carries a course out on the running cluster, and tells the terminal how it goes.

Ctrl-C ends the unit that has begun and leaves the rest alone, so that no slot is left stopped half way; a second one
leaves at once, and `xiaozhi up` then starts what is wanted and does not run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ops.change.changes import RefusedError
from ops.change.course import Course, Done, GaveUp, Limits, Unit, Waiting
from ops.change.observing import observe
from ops.change.right import BusyError, Right, held
from ops.change.running import EXIT_DOWN, NotRunningError, Running, running, write_wanted
from ops.change.sight import Sight
from ops.cluster import signals
from ops.cluster.logs import Logs
from ops.cluster.plan import LONGEST_DRAIN_S, START_TIMEOUT_S
from ops.supervisor import Supervisor, SupervisorError, execute
from ops.terminal import Terminal

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130
POLL_S = 0.5
LOST_S = 10.0
"""A supervisord that does not answer for so long has ended."""


@dataclass(frozen=True, slots=True)
class Site:
    """A running cluster that this command may change, and where it tells about it."""

    running: Running
    supervisor: Supervisor
    terminal: Terminal
    right: Right

    def slots(self) -> Mapping[str, int]:
        """How many slots supervisord has for each role."""
        found: dict[str, int] = {}
        for info in self.supervisor.all_infos():
            found[info.name.program] = found.get(info.name.program, 0) + 1
        return found


def add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--drain", type=float, default=LONGEST_DRAIN_S + 5.0, metavar="SECONDS",
        help="how long a process may drain before it is hurried (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--start", type=float, default=START_TIMEOUT_S, metavar="SECONDS",
        help="how long a new process may take to join (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--wait", type=float, default=600.0, metavar="SECONDS",
        help="how long to wait for another command to finish (default: %(default)g)",
    )  # fmt: skip


def limits_of(args: argparse.Namespace) -> Limits:
    return Limits(args.start, args.drain)


def operate(what: str, wait_s: float, work: Callable[[Site], int]) -> int:
    """Do `work` while holding the right to change the cluster; returns the exit code."""
    with signals.blocked(), Terminal() as terminal:
        try:
            cluster = running()
            with held(cluster.run_dir, what, wait_s, partial(_pause, terminal)) as right:
                terminal.end_progress()
                return work(Site(cluster, Supervisor(cluster.run_dir), terminal, right))
        except NotRunningError as error:
            return _tell(terminal, error, EXIT_DOWN)
        except SupervisorError as error:
            return _tell(terminal, error, EXIT_FAILED)
        except (RefusedError, BusyError) as error:
            return _tell(terminal, error, EXIT_REFUSED)


def _pause(terminal: Terminal, text: str) -> None:
    terminal.progress(text)
    if signals.wait(POLL_S) is not None:
        raise KeyboardInterrupt


def _tell(terminal: Terminal, error: Exception, code: int) -> int:
    terminal.end_progress()
    terminal.line(str(error))
    return code


def follow(site: Site, units: Sequence[Unit], limits: Limits, epoch: int = 0) -> Course:
    """From the first step to the end, or to where it is given up."""
    course = Course(units, site.running.wanted(), limits, time.monotonic(), epoch)
    logs = Logs(site.running.data_dir / "logs", site.running.wanted())
    lost_s: float | None = None
    while not course.is_over:
        try:
            take_step(course, site.supervisor, site.running.run_dir, observe(site.supervisor, site.running.run_dir))
            lost_s = None
        except SupervisorError:
            lost_s = lost_s or time.monotonic()
            if time.monotonic() - lost_s > LOST_S:
                raise
        _report(course, site, logs)
        if not course.is_over:
            _listen(course, site)
    return course


def take_step(course: Course, supervisor: Supervisor, run_dir: Path, sight: Sight) -> None:
    """One step: what is wanted is written down before anything is done. Raises SupervisorError."""
    before = course.wanted
    acts = course.step(time.monotonic(), sight)
    if course.wanted != before:
        write_wanted(run_dir, course.wanted)
    for act in acts:
        execute(supervisor, act)


def _report(course: Course, site: Site, logs: Logs) -> None:
    match course.verdict:
        case Waiting(text):
            site.right.note(text)
            site.terminal.progress(text)
        case Done():
            site.terminal.end_progress()
        case GaveUp(reason, culprit):
            site.terminal.end_progress()
            site.terminal.line(f"{reason}; the rest was left alone")
            site.terminal.line(f"--- {logs.of(culprit)}")
            for line in logs.tail(logs.of(culprit)):
                site.terminal.line(f"    {line}")


def _listen(course: Course, site: Site) -> None:
    """Ctrl-C. Raises KeyboardInterrupt at the second one."""
    if signals.wait(POLL_S) is None:
        return
    if course.is_cut_short:
        raise KeyboardInterrupt
    course.cut_short()
    site.terminal.line("ending what has begun and no more (Ctrl-C again: leave at once)")


def exit_code_of(course: Course) -> int:
    if isinstance(course.verdict, GaveUp):
        return EXIT_FAILED
    return EXIT_INTERRUPTED if course.is_cut_short else EXIT_OK


def seconds_since(began_s: float) -> str:
    return f"{time.monotonic() - began_s:.1f} s"
