"""Signals as events: blocked for the whole life of the command and taken one at a time, between two steps of its loop.

No handler ever interrupts a step half way, whatever was pressed when; what arrives before the loop begins waits for it.
Children must not inherit the blocked set: see `unblock`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_WATCHED = STOP_SIGNALS | {signal.SIGCHLD}


@contextmanager
def blocked() -> Iterator[None]:
    """Take signals with `wait` in this block. Begin before any thread starts, so that all of them block too."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def wait(timeout_s: float) -> signal.Signals | None:
    """The next signal; None after `timeout_s`. SIGCHLD only wakes the caller early and is None too."""
    info = signal.sigtimedwait(_WATCHED, timeout_s)
    if info is None or info.si_signo == signal.SIGCHLD:
        return None
    return signal.Signals(info.si_signo)


def unblock() -> None:
    """In a child between fork and exec."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
