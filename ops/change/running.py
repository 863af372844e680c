"""The cluster that runs on this data directory, found by whoever holds its lock.

Not by the configuration: somebody may be editing that, and a command must find what runs, not what is written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ops.cluster.lock import holder
from ops.process import ProcessName
from shared.desired import read_desired, write_desired
from shared.errors import XiaozhiError

EXIT_DOWN = 3
"""As an init script's `status` says it (LSB 3.2, chapter 22.2): the program is not running."""


class NotRunningError(XiaozhiError):
    """There is no cluster to talk to."""

    code = "not_running"


@dataclass(frozen=True, slots=True)
class Running:
    """One running `xiaozhi up`."""

    pid: int
    data_dir: Path
    run_dir: Path

    def wanted(self) -> frozenset[ProcessName]:
        """The slots that should run. Raises NotRunningError."""
        return wanted_in(self.run_dir)


def running(environ: Mapping[str, str] = os.environ) -> Running:
    """Raises NotRunningError."""
    data_dir = data_dir_of(environ)
    who = holder(data_dir)
    if who is None:
        raise NotRunningError(f"no cluster runs on {data_dir}")
    return Running(who.pid, data_dir, Path(who.run_dir))


def data_dir_of(environ: Mapping[str, str] = os.environ) -> Path:
    return Path(environ.get("XZ_DATA_DIR") or "data").expanduser().resolve()


def wanted_in(run_dir: Path) -> frozenset[ProcessName]:
    desired = read_desired(run_dir)
    if desired is None:
        raise NotRunningError(f"no cluster runs in {run_dir}")
    return frozenset(ProcessName(program, slot) for program, slots in desired.items() for slot in slots)


def write_wanted(run_dir: Path, wanted: frozenset[ProcessName]) -> None:
    programs = sorted({name.program for name in wanted})
    write_desired(run_dir, {program: [name.slot for name in wanted if name.program == program] for program in programs})
