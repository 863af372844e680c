"""Children die with their parent: a process whose supervisor is gone drains as if it had been told to stop."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Mapping
from pathlib import Path

SUPERVISOR_VARIABLE = "XZ_SUPERVISOR_PID"
"""Set by supervisord for everything it starts: a parent that dies while its child is being loaded is missed otherwise,
since the child then takes whoever inherits it for its parent."""

_PR_SET_PDEATHSIG = 1


class Parent:
    """The process that started this one."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._pid = os.getppid()
        self._was_gone = _has_ended(environ.get(SUPERVISOR_VARIABLE, ""))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")

    @property
    def is_gone(self) -> bool:
        # The signal is lost if the parent dies before prctl, or is sent when only its starting *thread* ends.
        return self._was_gone or os.getppid() != self._pid


def _has_ended(pid: str) -> bool:
    """Also of a process that waits to be collected: it supervises nobody any more."""
    if not pid.isdigit():
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:
        return True
    return state in (b"Z", b"X")
