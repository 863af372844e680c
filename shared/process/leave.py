"""The last step of a process: out, also when a compute thread is still inside native code.

Python ends a daemon thread when that next asks for the GIL, by unwinding its stack; C++ frames on it, such as a model
that is being loaded, take that for an exception out of nowhere and abort the whole process.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from shared.log.setup import close_current
from shared.log.writer import THREAD_NAME


def left_over() -> list[str]:
    """Names of the threads that still run, besides the main one and the log's."""
    own = threading.main_thread()
    return [thread.name for thread in threading.enumerate() if thread is not own and thread.name != THREAD_NAME]


def leave(code: int, end: Callable[[int], object] = os._exit) -> int:
    """`code` for the caller to return, unless threads are left: then the log is written and the process ends here."""
    if left_over():
        close_current()
        sys.stdout.flush()
        sys.stderr.flush()
        end(code)
    return code
