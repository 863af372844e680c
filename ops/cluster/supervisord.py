"""`python -m ops.cluster.supervisord PARENT_PID OPTION...`: supervisord, tied to the process that started it.

The kernel sends it SIGTERM when that process dies, and it leaves at once if it has died already. Its children find its
process id in their environment: one that is loaded while it dies can tell.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from supervisor import process, socket_manager, supervisord

from ops.cluster import signals
from shared.process.parent import SUPERVISOR_VARIABLE

_PR_SET_PDEATHSIG = 1


class HeldSocket(socket_manager.SocketManager):  # type: ignore[misc]
    """The listening socket of a group, open for as long as supervisord lives.

    supervisord closes it with the last process of the group. A lone one that dies would leave its port refused until
    its successor is there; so whoever connects meanwhile waits in the queue.
    """

    def _close(self) -> None:
        pass


def main(arguments: list[str]) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(arguments[0]):
        return 1
    os.environ[SUPERVISOR_VARIABLE] = str(os.getpid())
    process.SocketManager = HeldSocket
    signals.unblock()
    supervisord.main(arguments[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
