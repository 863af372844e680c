"""The right to change a running cluster: a lock in its run directory, and what its holder is doing.

The lock is the kernel's (flock), so that it ends with its holder however that dies; the text only says what is done.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import XiaozhiError

FILE_NAME = "operate.lock"


class BusyError(XiaozhiError):
    """Somebody else is changing the cluster."""

    code = "busy"


class Right:
    """The right to change the cluster, held."""

    def __init__(self, descriptor: int, what: str) -> None:
        self._descriptor = descriptor
        self._what = what
        self.note("")

    def note(self, step: str) -> None:
        """What is being done now, for `xiaozhi status`."""
        text = json.dumps({"pid": os.getpid(), "what": self._what, "step": step}).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)

    def end(self) -> None:
        """The right goes to whoever asks next."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def take(run_dir: Path, what: str) -> Right | None:
    """None if somebody else has it."""
    descriptor = os.open(run_dir / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _is_taken(descriptor):
        os.close(descriptor)
        return None
    return Right(descriptor, what)


@contextmanager
def held(run_dir: Path, what: str, wait_s: float, on_wait: Callable[[str], None]) -> Iterator[Right]:
    """Wait for the right; `on_wait` is told who has it, and called every moment. Raises BusyError."""
    deadline_s = time.monotonic() + wait_s
    while (right := take(run_dir, what)) is None:
        busy = doing(run_dir) or "another command"
        if time.monotonic() >= deadline_s:
            raise BusyError(f"{busy} is still at work after {wait_s:g} s; nothing was changed")
        on_wait(f"waiting for {busy}")
    try:
        yield right
    finally:
        right.end()


@contextmanager
def undisturbed(run_dir: Path) -> Iterator[bool]:
    """Whether nobody changes the cluster; nobody begins to in this block."""
    descriptor = os.open(run_dir / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _is_taken(descriptor)
    finally:
        os.close(descriptor)


def _is_taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def doing(run_dir: Path) -> str | None:
    """What somebody is doing to the cluster; None if nobody is."""
    try:
        told = json.loads((run_dir / FILE_NAME).read_text())
    except (OSError, ValueError):
        return None
    step = f": {told['step']}" if told.get("step") else ""
    return f"`{told['what']}` (process {told['pid']}){step}"
