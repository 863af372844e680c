"""`python -m ops.supervisord PARENT_PID OPTION...`: supervisord, tied to the process that started it.

The kernel sends it SIGTERM when that process dies, and it leaves at once if it has died already.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from supervisor import supervisord

from ops import signals

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(arguments[0]):
        return 1
    signals.unblock()
    supervisord.main(arguments[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
