"""Where a worker finds its routers, looked at twice a second: the run directory's sockets, and lists.

A list in a file has one router a line, `#` begins a comment. A file that cannot be read, is empty or has a line that is
no router keeps the last good list and is complained of: half a file must not send every worker away.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from shared.ids import Role
from shared.link.endpoints import FILE, IPC, LOCAL, check_endpoint, endpoint_for, is_socket_name, sources_of
from shared.link.roster import Stamp
from shared.link.tcp_address import TCP, is_tcp_peer
from shared.settings import ClusterSettings

log = structlog.get_logger(__name__)

MAX_FILE_BYTES = 256 * 1024


class RouterSource(Protocol):
    """Says which routers there are now."""

    def look(self) -> Mapping[str, Stamp]: ...

    def reload(self) -> None:
        """Trust nothing remembered."""


class FixedRouters:
    """A list that never changes."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        self._listed: dict[str, Stamp] = dict.fromkeys(endpoints)

    def look(self) -> Mapping[str, Stamp]:
        return self._listed

    def reload(self) -> None:
        pass


class RouterSources:
    """All sources that are configured, together."""

    def __init__(self, cluster: ClusterSettings, role: Role) -> None:
        entries = sources_of(cluster)
        self._role = role
        self._run_dir = cluster.run_dir if LOCAL in entries else None
        self._fixed: dict[str, Stamp] = {
            check_endpoint(endpoint_for(check_endpoint(entry), role)): None
            for entry in entries
            if entry.startswith((IPC, TCP))
        }
        self._files = [RouterFile(Path(entry.removeprefix(FILE)), role) for entry in entries if entry.startswith(FILE)]

    def look(self) -> Mapping[str, Stamp]:
        listed = dict(self._fixed)
        for file in self._files:
            listed.update(dict.fromkeys(file.look()))
        if self._run_dir is not None:
            listed.update(sockets_in(self._run_dir, self._role))
        return listed

    def reload(self) -> None:
        for file in self._files:
            file.forget()


class RouterFile:
    """The routers that one file lists."""

    def __init__(self, path: Path, role: Role) -> None:
        self._path = path
        self._role = role
        self._signature: tuple[int, int, int] | None = None
        self._listed: tuple[str, ...] = ()

    def look(self) -> tuple[str, ...]:
        """The last good list."""
        try:
            found = self._path.stat()
            signature = (found.st_mtime_ns, found.st_ino, found.st_size)
        except OSError:
            signature = (0, 0, 0)
        if signature != self._signature:
            self._signature = signature
            self._read()
        return self._listed

    def forget(self) -> None:
        self._signature = None

    def _read(self) -> None:
        entries = read_list(self._path)
        if isinstance(entries, str):
            log.error("router_list_refused", file=str(self._path), reason=entries, kept=len(self._listed))
            return
        self._listed = tuple(endpoint_for(entry, self._role) for entry in entries)
        log.info("router_list", file=str(self._path), routers=len(self._listed))


def read_list(path: Path) -> list[str] | str:
    """The entries of a file, or what is wrong with it."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES).decode("utf-8")
    except OSError as error:
        return error.strerror or type(error).__name__
    except UnicodeDecodeError:
        return "no text"
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    entries = [line for line in lines if line]
    wrong = next((entry for entry in entries if not (is_tcp_peer(entry) or entry.startswith(IPC))), None)
    if wrong is not None:
        return f"{wrong!r} is no tcp://HOST:PORT"
    return entries or "no router in it"


def sockets_in(run_dir: Path, role: Role) -> dict[str, Stamp]:
    """The routers whose sockets are in this directory."""
    found: dict[str, Stamp] = {}
    try:
        with os.scandir(run_dir) as entries:
            for entry in entries:
                if is_socket_name(entry.name, role):
                    stat = entry.stat()
                    found[f"{IPC}{entry.path}"] = (stat.st_ino, stat.st_mtime_ns)
    except OSError:
        pass  # not there yet, or a file that went between the look and the question
    return found
