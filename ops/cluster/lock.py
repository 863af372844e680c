"""One cluster per data directory and per run directory: the lock that `xiaozhi up` holds, and who holds it.

The lock is the kernel's (flock), so that it ends with its holder however that dies; the text only says who it is.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from shared.config.preflight import LOCK_NAME
from shared.errors import XiaozhiError


@dataclass(frozen=True, slots=True)
class Holder:
    """A running `xiaozhi up`."""

    pid: int
    run_dir: str


class DirectoryInUseError(XiaozhiError):
    """Another cluster uses this directory."""

    code = "locked"


@contextmanager
def locked(directory: Path, run_dir: Path) -> Iterator[None]:
    """Hold the directory's lock. Raises DirectoryInUseError."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _take(descriptor):
            raise DirectoryInUseError(f"{directory} is in use by another cluster ({_describe(read_holder(directory))})")
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(Holder(os.getpid(), str(run_dir)))).encode(), 0)
        yield
        os.truncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(data_dir: Path) -> Holder | None:
    """Who runs a cluster on this data directory; None if nobody does."""
    try:
        descriptor = os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if _take(descriptor) else read_holder(data_dir)
    finally:
        os.close(descriptor)


def read_holder(data_dir: Path) -> Holder | None:
    """What the lock file says, whether the lock is held or not."""
    try:
        return Holder(**json.loads((data_dir / LOCK_NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _describe(who: Holder | None) -> str:
    return f"process {who.pid}" if who else "it does not say which"
