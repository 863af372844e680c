"""What an earlier cluster of these directories has left behind: processes that outlived `xiaozhi up` and supervisord.

Killed without a chance to stop anything, both leave processes that drain by themselves and still hold their ports. The
next start need not wait until they have finished: they are told to hurry, and killed if they do not.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ops.cluster.lock import holder
from shared.process.parent import SUPERVISOR_VARIABLE
from shared.settings import ClusterSettings

HURRY_AGAIN_S = 0.3
"""Two SIGTERMs closer together may arrive as one."""
KILL_AFTER_S = 3.0
POLL_S = 0.05
SUPERVISORD_MODULE = b"ops.cluster.supervisord"


def end_orphans(settings: ClusterSettings, tell: Callable[[str], None]) -> list[int]:
    """End what is left of a cluster that nobody holds any more; returns the processes that were found."""
    data_dir, run_dir = settings.data_dir.resolve(), settings.run_dir.resolve()
    if holder(data_dir) is not None or holder(run_dir) is not None:
        return []
    found = orphans_of(run_dir)
    if found:
        tell(f"ending {len(found)} processes of a cluster whose supervisor has died")
        _end(run_dir)
    return found


def orphans_of(run_dir: Path) -> list[int]:
    """Running processes that supervisord, or a child of it, started for this run directory; and supervisord itself."""
    wanted = b"XZ_RUN_DIR=" + os.fsencode(run_dir)
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _belongs(entry, wanted)]


def _belongs(entry: Path, wanted: bytes) -> bool:
    """A zombie's environment is empty, another user's cannot be read."""
    try:
        variables = (entry / "environ").read_bytes().split(b"\0")
        command = (entry / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    is_supervised = any(each.startswith(SUPERVISOR_VARIABLE.encode() + b"=") for each in variables)
    return wanted in variables and (is_supervised or SUPERVISORD_MODULE in command)


def _end(run_dir: Path) -> None:
    for number, patience_s in (
        (signal.SIGTERM, HURRY_AGAIN_S),
        (signal.SIGTERM, KILL_AFTER_S),
        (signal.SIGKILL, KILL_AFTER_S),
    ):
        for pid in orphans_of(run_dir):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if _is_empty_within(run_dir, patience_s):
            return


def _is_empty_within(run_dir: Path, patience_s: float) -> bool:
    deadline_s = time.monotonic() + patience_s
    while time.monotonic() < deadline_s:
        if not orphans_of(run_dir):
            return True
        time.sleep(POLL_S)
    return False
