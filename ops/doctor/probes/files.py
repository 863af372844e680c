"""Directories: what they are, whether they can be written and locked, and on which file system they lie."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path

from ops.cluster.lock import holder
from ops.doctor.places import HolderFact, PlaceFact
from ops.doctor.probes import proc

_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


def look_at_place(path: Path, *, is_tried: bool) -> PlaceFact:
    """`is_tried`: a file is written, locked and removed there."""
    try:
        found = path.lstat() if path.is_symlink() and not is_tried else path.stat()
    except OSError:
        return PlaceFact(str(path), exists=False)
    is_directory = stat.S_ISDIR(found.st_mode)
    is_writable, has_locks = _try(path) if is_tried and is_directory else (True, True)
    return PlaceFact(
        path=str(path),
        exists=True,
        is_directory=is_directory,
        owner=found.st_uid,
        mode=stat.S_IMODE(found.st_mode),
        is_writable=is_writable,
        free_bytes=shutil.disk_usage(path).free,
        file_system=file_system_of(path),
        has_locks=has_locks,
    )


def _try(path: Path) -> tuple[bool, bool]:
    """Whether it can be written, and locked."""
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return (True, False) if error.errno in _NO_LOCKS else (False, True)
    return True, True


def file_system_of(path: Path) -> str:
    """Type of the innermost mount that holds it; "" where that is not told."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    inside = [line.split() for line in lines if _is_below(path.resolve(), line.split()[1])]
    return max(inside, key=lambda fields: len(fields[1]))[2] if inside else ""


def _is_below(path: Path, mount: str) -> bool:
    return path.is_relative_to(mount.replace("\\040", " "))


def look_at_holder(data_dir: Path) -> HolderFact:
    who = holder(data_dir)
    supervisors = tuple(proc.supervisors_of(data_dir.resolve()))
    return HolderFact(who.pid if who else None, who.run_dir if who else None, supervisors)


def longest_socket_path_bytes(run_dir: Path, longest_name: str) -> int:
    return len(os.fsencode(run_dir / longest_name))
