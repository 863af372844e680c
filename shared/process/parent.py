"""Children die with their parent: a worker whose supervisor is gone drains as if it had been told to stop."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


class Parent:
    """The process that started this one."""

    def __init__(self) -> None:
        self._pid = os.getppid()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")

    @property
    def is_gone(self) -> bool:
        # The signal is lost if the parent dies before prctl, or is sent when only its starting *thread* ends.
        return os.getppid() != self._pid
