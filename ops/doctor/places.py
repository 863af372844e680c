"""The data directory and the run directory: there, ours, writable, with room, and used by one cluster. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ops.doctor.finding import Finding, fail, ok, warn

DATA = "data directory"
RUN = "run directory"
LOW_BYTES = 200 * 1024 * 1024
"""Logs alone may take 40 MB a process."""
EMPTY_BYTES = 10 * 1024 * 1024
NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "glusterfs", "ceph", "vboxsf"})
"""SQLite's WAL needs shared memory between processes, which these do not give."""


@dataclass(frozen=True, slots=True)
class PlaceFact:
    """A directory as it was found."""

    path: str
    exists: bool
    is_directory: bool = True
    owner: int = 0
    mode: int = 0o700
    is_writable: bool = True
    free_bytes: int = 1 << 40
    file_system: str = ""
    has_locks: bool = True
    """flock works there."""


@dataclass(frozen=True, slots=True)
class HolderFact:
    """Who holds the data directory, and which clusters' supervisors use it."""

    pid: int | None = None
    run_dir: str | None = None
    supervisors: tuple[int, ...] = ()


def judge_data_dir(place: PlaceFact, holder: HolderFact, run_dir: str) -> Iterator[Finding]:
    found = [*_data_faults(place), *_holder_faults(place, holder, run_dir)]
    if found:
        yield from found
    elif not place.exists:
        yield ok(DATA, f"{place.path} will be made at the first start")
    else:
        yield ok(DATA, f"{place.path}, {place.free_bytes // (1024 * 1024)} MB free")


def _data_faults(place: PlaceFact) -> Iterator[Finding]:
    if not place.exists:
        return
    if not place.is_directory:
        yield fail(DATA, f"{place.path} is no directory", "move that file away, or set XZ_DATA_DIR")
        return
    if not place.is_writable:
        what = f"{place.path} cannot be written by this user (it belongs to user {place.owner})"
        yield fail(DATA, what, "change its owner, or set XZ_DATA_DIR to another")
    if place.free_bytes < EMPTY_BYTES:
        yield fail(DATA, f"{place.path}: the disk is full", "free some space")
    elif place.free_bytes < LOW_BYTES:
        what = f"{place.path}: {place.free_bytes // (1024 * 1024)} MB are free"
        yield warn(DATA, what, "free some space: logs and firmware lie there")
    if not place.has_locks:
        what = f"{place.path} is on a file system without locks ({place.file_system or 'unknown'})"
        yield fail(DATA, what, "set XZ_DATA_DIR to a directory on a local disk")
    elif place.file_system in NETWORK_FILE_SYSTEMS:
        what = f"{place.path} is on a network file system ({place.file_system}): its databases need a local disk"
        yield fail(DATA, what, "set XZ_DATA_DIR to a directory on a local disk")
    if place.mode & 0o002:
        yield warn(DATA, f"{place.path} can be written by everybody (mode {place.mode:04o})", f"chmod o-w {place.path}")


def _holder_faults(place: PlaceFact, holder: HolderFact, run_dir: str) -> Iterator[Finding]:
    if len(holder.supervisors) > 1:
        pids = ", ".join(map(str, holder.supervisors))
        what = f"{place.path} is used by {len(holder.supervisors)} clusters at once (supervisors {pids})"
        yield fail(DATA, what, "end all but one, and give each cluster its own XZ_DATA_DIR and ports")
    if holder.run_dir is not None and holder.run_dir != run_dir:
        what = f"its cluster (process {holder.pid}) has another run directory, {holder.run_dir}, than this command"
        yield warn(DATA, what, f"set XZ_RUN_DIR={holder.run_dir} for your commands")


def judge_run_dir(place: PlaceFact, user: int, longest_path_bytes: int, allowed_bytes: int) -> Iterator[Finding]:
    found = list(_run_faults(place, user))
    if longest_path_bytes > allowed_bytes:
        what = f"{place.path}: the path of a socket in it has {longest_path_bytes} bytes, {allowed_bytes} are possible"
        found.append(fail(RUN, what, "set XZ_RUN_DIR to a shorter path"))
    yield from found or [ok(RUN, place.path if place.exists else f"{place.path} will be made at the start")]


def _run_faults(place: PlaceFact, user: int) -> Iterator[Finding]:
    if not place.exists:
        return
    if not place.is_directory:
        yield fail(RUN, f"{place.path} is a link or a file", "remove it, or set XZ_RUN_DIR")
    elif place.owner != user:
        what = f"{place.path} belongs to user {place.owner}, this is user {user}"
        yield fail(RUN, what, "run the command as the user who runs the cluster, or set XZ_RUN_DIR")
    elif place.mode & 0o077:
        yield fail(RUN, f"{place.path} is open to others (mode {place.mode:04o})", f"chmod 700 {place.path}")
