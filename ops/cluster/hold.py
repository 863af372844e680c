"""A running cluster as `xiaozhi up` holds it: start, wait until ready, watch, stop.

Thin: what to do is decided by Startup, Failures and Stopping; this asks supervisord, waits for signals and tells the
terminal. It never reads standard input.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ops.change.acts import Act
from ops.change.agreed import agree
from ops.change.running import wanted_in, write_wanted
from ops.cluster import signals
from ops.cluster.caretaker import Caretaker
from ops.cluster.daemon import Daemon
from ops.cluster.directories import prepared
from ops.cluster.failures import Changes, Failures, write_fatal
from ops.cluster.lock import locked
from ops.cluster.logs import Logs
from ops.cluster.plan import HURRIED_DRAIN_S, Plan
from ops.cluster.startup import Coming, Failed, Ready, Startup
from ops.cluster.stopping import Stopping
from ops.process import GONE, ProcessName
from ops.supervisor import Supervisor, SupervisorError, execute
from ops.terminal import Terminal

EXIT_OK = 0
EXIT_FAILED = 1
SUPERVISORD_START_S = 15.0
POLL_STARTING_S = 0.25
POLL_RUNNING_S = 1.0
POLL_STOPPING_S = 0.1


def hold(plan: Plan, terminal: Terminal, missing: Callable[[], str | None], on_ready: Callable[[float], None]) -> int:
    """Run this plan while holding its directories. Raises ConfigError, DirectoryInUseError."""
    with locked(plan.data_dir, plan.run_dir), prepared(plan.data_dir, plan.run_dir, plan.log_dir):
        return Cluster(plan, terminal, missing).run(on_ready)


class Cluster:
    """One cluster, from supervisord's start to its end."""

    def __init__(self, plan: Plan, terminal: Terminal, missing: Callable[[], str | None]) -> None:
        self._plan = plan
        self._terminal = terminal
        self._missing = missing
        self._supervisor = Supervisor(plan.run_dir)
        write_wanted(plan.run_dir, frozenset(plan.names))
        agree(plan.data_dir, plan.run_dir, plan.variables)
        self._caretaker = Caretaker(plan.run_dir, self._supervisor, terminal)
        self._logs = Logs(plan.log_dir, plan.names)
        self._daemon = Daemon(plan, self._logs.output)

    def run(self, on_ready: Callable[[float], None]) -> int:
        """Until somebody asks it to end; returns the exit code. `on_ready` is told how many seconds it took."""
        try:
            return self._run(on_ready)
        finally:
            self._terminal.end_progress()
            left = self._daemon.end()
            self._terminal.line(f"stopped; {len(left)} processes had to be killed" if left else "stopped")

    def _run(self, on_ready: Callable[[float], None]) -> int:
        started_s = time.monotonic()
        code = self._start(started_s)
        if code is None:
            self._terminal.end_progress()
            on_ready(time.monotonic() - started_s)
            code = self._watch()
        self._caretaker.end()
        if self._daemon.has_exited:
            return code
        self._stop(self._plan.drain_s if code == EXIT_OK else HURRIED_DRAIN_S)
        return code

    def _start(self, started_s: float) -> int | None:
        """None = ready; an exit code = it has to be stopped now."""
        self._terminal.progress("starting: supervisord")
        while not self._supervisor.is_up():
            if signals.wait(POLL_STARTING_S):
                return EXIT_OK
            if self._daemon.has_exited or time.monotonic() - started_s > SUPERVISORD_START_S:
                return self._report("supervisord cannot be started", [self._logs.output])
        for name in self._plan.names:
            self._supervisor.start(name)
        return self._wait_until_ready(Startup(started_s, self._plan.start_timeout_s))

    def _wait_until_ready(self, startup: Startup) -> int | None:
        while True:
            if signals.wait(POLL_STARTING_S):
                return EXIT_OK
            if self._daemon.has_exited:
                return self._report_death()
            try:
                infos = self._supervisor.infos(self._plan.names)
            except SupervisorError:
                continue
            match startup.judge(time.monotonic(), infos, self._missing()):
                case Coming(text):
                    self._terminal.progress(text)
                case Failed(reason, culprits):
                    return self._report(reason, map(self._logs.of, culprits))
                case Ready():
                    return None

    def _watch(self) -> int:
        failures = Failures()
        while signals.wait(POLL_RUNNING_S) is None:
            if self._daemon.has_exited:
                return self._report_death()
            with suppress(SupervisorError):
                infos = self._supervisor.infos(sorted(self._wanted(), key=str))
                self._handle(failures, failures.observe(time.time(), infos))
                self._caretaker.tick(infos, failures.current.keys())
        return EXIT_OK

    def _wanted(self) -> frozenset[ProcessName]:
        return wanted_in(self._plan.run_dir)

    def _handle(self, failures: Failures, changes: Changes) -> None:
        if changes.failed or changes.recovered or changes.forgotten:
            write_fatal(self._plan.run_dir, failures.current)
        for name in changes.failed:
            self._report(f"{name} is down: {failures.current[name].reason}", [self._logs.of(name)])
        for name in changes.recovered:
            self._terminal.line(f"{name} is back")
        for name in changes.stop:
            self._supervisor.stop(name)
        for name in changes.retry:
            self._supervisor.start(name)

    def _stop(self, drain_s: float) -> None:
        stopping = Stopping(time.monotonic(), drain_s)
        self._terminal.progress(f"stopping: conversations have {drain_s:g} s to end (Ctrl-C again: 1 s)")
        names = self._running()
        give_up_s = time.monotonic() + drain_s + 10.0
        while not stopping.is_done and not self._daemon.has_exited and time.monotonic() < give_up_s:
            with suppress(SupervisorError):
                self._execute(stopping.step(time.monotonic(), self._supervisor.infos(names)))
            if not stopping.is_done and signals.wait(POLL_STOPPING_S):
                stopping.hurry(time.monotonic())
        with suppress(SupervisorError):
            self._supervisor.shutdown()
        self._daemon.wait(3.0)
        self._terminal.end_progress()

    def _running(self) -> list[ProcessName]:
        """Also what is not wanted any more and still drains."""
        try:
            return [info.name for info in self._supervisor.all_infos() if info.state not in GONE]
        except SupervisorError:
            return list(self._wanted())

    def _execute(self, acts: Sequence[Act]) -> None:
        for act in acts:
            execute(self._supervisor, act)

    def _report_death(self) -> int:
        reason = f"supervisord has died (exit code {self._daemon.exit_code}); the cluster ends with it"
        return self._report(reason, [self._logs.output, self._logs.supervisord])

    def _report(self, reason: str, logs: Iterable[Path]) -> int:
        self._terminal.end_progress()
        self._terminal.line(reason)
        for log in logs:
            self._terminal.line(f"--- {log}")
            for line in self._logs.tail(log):
                self._terminal.line(f"    {line}")
        return EXIT_FAILED
