"""supervisord as a child of `xiaozhi up`, and the end of everything it started.

It leads a session of its own: Ctrl-C in the terminal reaches only `xiaozhi up`, and every process of the cluster,
children of children too, carries its session id, so that none can be left over unseen.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from ops.cluster.plan import Plan

_SESSION_FIELD = 3
"""Of /proc/PID/stat, counted after the command's closing parenthesis: state, ppid, pgrp, session (proc(5))."""


class Daemon:
    """The running supervisord."""

    def __init__(self, plan: Plan, output_path: Path) -> None:
        arguments = [
            sys.executable,
            "-m",
            "ops.cluster.supervisord",
            str(os.getpid()),
            "--configuration",
            str(plan.conf),
        ]
        if os.geteuid() == 0:
            arguments += ["--user", "root"]
        with output_path.open("wb") as output:
            self._process = subprocess.Popen(
                arguments,
                env=dict(plan.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def session(self) -> int:
        return self._process.pid

    @property
    def has_exited(self) -> bool:
        return self._process.poll() is not None

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    def wait(self, timeout_s: float) -> bool:
        """True once it has exited."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self.has_exited

    def end(self, grace_s: float = 2.0) -> list[int]:
        """Leave nothing of the session behind; returns the processes that needed SIGKILL."""
        _signal_all(session_members(self.session), signal.SIGTERM)
        self._wait_for_empty(grace_s)
        left = session_members(self.session)
        _signal_all(left, signal.SIGKILL)
        self._wait_for_empty(grace_s)
        self.wait(grace_s)
        return left

    def _wait_for_empty(self, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while session_members(self.session) and time.monotonic() < deadline_s:
            self._process.poll()
            time.sleep(0.02)


def session_members(session: int) -> list[int]:
    """Processes of this session that still run; zombies do not count."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _is_in(entry, session)]


def _is_in(entry: Path, session: int) -> bool:
    try:
        fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    return int(fields[_SESSION_FIELD]) == session and fields[0] not in (b"Z", b"X")


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
