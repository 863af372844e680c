"""Whether a cluster that is starting is ready, still coming, or has failed, and which process is to blame.

Failed is: a program that supervisord gave up on, one that has died twice, one that the person stopped, or the timeout.
Ready is: every slot runs and the web process says that every pool has its workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ops.cluster.crash_loop import CrashLoops
from ops.process import ProcessInfo, ProcessName

DEATHS_AT_START = 2
SHORT_LIFE_S = 120
"""Imports alone take many seconds on a busy machine."""


@dataclass(frozen=True, slots=True)
class Coming:
    """Not yet; `text` says what is waited for."""

    text: str


@dataclass(frozen=True, slots=True)
class Ready:
    """All of it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It will not come. `culprits` are the processes whose logs say why."""

    reason: str
    culprits: tuple[ProcessName, ...]


Verdict = Coming | Ready | Failed


class Startup:
    """One start of one cluster."""

    def __init__(self, now_s: float, timeout_s: float) -> None:
        self._started_s = now_s
        self._timeout_s = timeout_s
        self._crash_loops = CrashLoops(SHORT_LIFE_S)

    def __repr__(self) -> str:
        return f"Startup(timeout_s={self._timeout_s:g}, {self._crash_loops!r})"

    def judge(self, now_s: float, infos: Sequence[ProcessInfo], missing: str | None) -> Verdict:
        """`missing` is what the web process still waits for; None = nothing, it is ready."""
        given_up = tuple(info.name for info in infos if info.state == "FATAL")
        looping = tuple(self._crash_loops.observe(infos, DEATHS_AT_START))
        running = all(info.state == "RUNNING" for info in infos)
        if given_up:
            return Failed(f"{_list(given_up)} cannot be started", given_up)
        if looping:
            return Failed(f"{_list(looping)} keeps dying", looping)
        if running and missing is None:
            return Ready()
        if now_s - self._started_s >= self._timeout_s:
            return _timed_out(infos, missing, self._timeout_s)
        return Coming(f"waiting for {missing}" if running else f"starting: {_progress(infos)}")


def _timed_out(infos: Sequence[ProcessInfo], missing: str | None, timeout_s: float) -> Failed:
    late = tuple(info.name for info in infos if info.state != "RUNNING")
    what = _list(late) if late else missing or "the pools"
    return Failed(f"{what} not ready after {timeout_s:g} s", late or tuple(info.name for info in infos))


def _progress(infos: Sequence[ProcessInfo]) -> str:
    total = Counter(info.name.program for info in infos)
    running = Counter(info.name.program for info in infos if info.state == "RUNNING")
    return ", ".join(f"{program} {running[program]}/{count}" for program, count in total.items())


def _list(names: Sequence[ProcessName]) -> str:
    return ", ".join(str(name) for name in names)
