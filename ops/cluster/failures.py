"""Processes that are given up while the cluster runs: noted for `/readyz`, tried again every minute.

`<run_dir>/fatal.json` holds {"asr_00": {"reason": "...", "since_s": unix time}, ...}; there is none while all is well.
The core decides, `write_fatal` writes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ops.cluster.crash_loop import SHORT_LIFE_S, CrashLoops
from ops.process import ProcessInfo, ProcessName

FATAL_NAME = "fatal.json"
DEATHS_IN_A_ROW = 4
RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a process is not running."""

    reason: str
    since_s: float


@dataclass(frozen=True, slots=True)
class Changes:
    """What an observation calls for."""

    failed: tuple[ProcessName, ...] = ()
    recovered: tuple[ProcessName, ...] = ()
    stop: tuple[ProcessName, ...] = ()
    """Dies again and again without ever becoming FATAL: to be stopped by us."""
    retry: tuple[ProcessName, ...] = ()
    forgotten: tuple[ProcessName, ...] = ()
    """Broken before, and not wanted any more."""


class Failures:
    """What is broken in a running cluster."""

    def __init__(self) -> None:
        self.current: dict[ProcessName, Failure] = {}
        self._crash_loops = CrashLoops()
        self._tried_s: dict[ProcessName, float] = {}

    def __repr__(self) -> str:
        return f"Failures({[str(name) for name in self.current]})"

    def observe(self, now_s: float, infos: Sequence[ProcessInfo]) -> Changes:
        """`now_s` is unix time: people read it."""
        unwanted = self.current.keys() - {info.name for info in infos}
        for name in unwanted:
            del self.current[name]
        looping = tuple(self._crash_loops.observe(infos, DEATHS_IN_A_ROW))
        fatal = tuple(i.name for i in infos if i.state == "FATAL")
        failed = tuple(name for name in (*fatal, *looping) if name not in self.current)
        for info in infos:
            if info.name in failed:
                reason = "dies soon after each start" if info.name in looping else info.message
                self.current[info.name] = Failure(reason or "cannot be started", now_s)
                self._tried_s[info.name] = now_s
        recovered = tuple(i.name for i in infos if i.name in self.current and _is_well(i))
        for name in recovered:
            del self.current[name]
        return Changes(failed, recovered, looping, self._due(now_s, infos), tuple(unwanted))

    def _due(self, now_s: float, infos: Sequence[ProcessInfo]) -> tuple[ProcessName, ...]:
        due = tuple(
            info.name
            for info in infos
            if info.name in self.current and info.has_ended and now_s - self._tried_s[info.name] >= RETRY_S
        )
        for name in due:
            self._tried_s[name] = now_s
            self._crash_loops.forget(name)
        return due


def write_fatal(run_dir: Path, current: dict[ProcessName, Failure]) -> None:
    """Replace the file in one step; no failures, no file."""
    path = run_dir / FATAL_NAME
    if not current:
        path.unlink(missing_ok=True)
        return
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps({str(name): asdict(failure) for name, failure in current.items()}))
    draft.replace(path)


def _is_well(info: ProcessInfo) -> bool:
    return info.state == "RUNNING" and info.uptime_s >= SHORT_LIFE_S
