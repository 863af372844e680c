"""Where the two ends of a link meet: what a router binds, what a worker is told to connect to, and what may be used.

ipc:// sockets lie in a directory that only this user can enter (mode 0700): that is their whole access control.
tcp:// needs CURVE keys on both ends, because anyone who reaches the port could join a pool: without keys the process
refuses to start.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ConfigError
from shared.ids import Role
from shared.link.tcp_address import TCP, is_tcp_address, parse_tcp_address
from shared.settings import ClusterSettings, router_endpoint

IPC = "ipc://"
FILE = "file://"
LOCAL = "local"
"""Whatever routers have their sockets in this machine's run directory."""

MAX_IPC_PATH_BYTES = 107
"""sun_path of a unix socket holds 108 bytes with the closing NUL."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What a router binds for one pool."""

    local: str
    remote: str | None = None
    """tcp:// for workers of other machines."""


def binding_of(cluster: ClusterSettings, slot: int, role: Role) -> Binding:
    """What router `slot` binds for the pool `role`."""
    if not cluster.link_bind:
        return Binding(local_endpoint(cluster, slot, role))
    remote = parse_tcp_address(cluster.link_bind).of_slot(slot).of_role(role)
    return Binding(local_endpoint(cluster, slot, role), str(remote))


def local_endpoint(cluster: ClusterSettings, slot: int, role: Role) -> str:
    """The ipc:// socket of router `slot`: the one configured for it, else the one in the run directory."""
    if slot < len(cluster.router_endpoints) and cluster.router_endpoints[slot].startswith(IPC):
        return endpoint_for(cluster.router_endpoints[slot], role)
    return router_endpoint(cluster.run_dir, slot, role)


def endpoint_for(entry: str, role: Role) -> str:
    """The endpoint of the pool `role` at the router that `entry` (ipc:// or tcp://) names."""
    if entry.startswith(TCP):
        return str(parse_tcp_address(entry).of_role(role))
    return entry.replace("{role}", role) if "{role}" in entry else f"{entry}-{role}"


def sources_of(cluster: ClusterSettings) -> tuple[str, ...]:
    """Where a worker looks for routers: `local`, ipc://, tcp:// and file:// entries."""
    return cluster.router_endpoints or (LOCAL,)


def leaves_the_machine(cluster: ClusterSettings) -> bool:
    """Whether workers may have to connect over tcp://, and so to resolve names."""
    return any(entry.startswith((TCP, FILE)) for entry in cluster.router_endpoints)


def is_socket_name(name: str, role: Role) -> bool:
    """Whether a file of the run directory is some router's socket for the pool `role`."""
    return re.fullmatch(rf"r\d{{1,2}}-{role}", name) is not None


def check_endpoint(endpoint: str) -> str:
    """The endpoint, if its form is one that the link may use. Raises ConfigError."""
    if endpoint.startswith(TCP):
        if not is_tcp_address(endpoint):
            raise ConfigError("XZ_ROUTER_ENDPOINTS", endpoint, "tcp://HOST:PORT")
        return endpoint
    if not endpoint.startswith(IPC):
        raise ConfigError("XZ_ROUTER_ENDPOINTS", endpoint, "an ipc:// or tcp:// endpoint")
    length = len(endpoint.removeprefix(IPC).encode())
    if not 0 < length <= MAX_IPC_PATH_BYTES:
        expected = f"a socket path of 1 to {MAX_IPC_PATH_BYTES} bytes, not {length}: choose a shorter directory"
        raise ConfigError("XZ_RUN_DIR", endpoint, expected)
    return endpoint


class SocketFile:
    """The file of a socket that has been bound. libzmq leaves it behind; its going tells the workers."""

    def __init__(self, endpoint: str) -> None:
        self._path = Path(endpoint.removeprefix(IPC))
        self._inode = self._path.stat().st_ino

    def remove(self) -> None:
        """Unless another router has bound its own by now."""
        with suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


def prepare_directory(endpoint: str) -> None:
    """Make the socket's directory with mode 0700. Raises ConfigError if others can enter an existing one."""
    directory = Path(endpoint.removeprefix(IPC)).parent
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = directory.stat().st_mode & 0o777
    except OSError as error:
        raise ConfigError("XZ_RUN_DIR", str(directory), f"a directory we can make ({error.strerror})") from error
    if mode & 0o077:
        raise ConfigError("XZ_RUN_DIR", str(directory), f"a directory of mode 0700, not {mode:04o}")
