"""Where the two ends of a link meet: the endpoint of one router for one pool, and whether it may be used at all.

ipc:// sockets lie in a directory that only this user can enter (mode 0700): that is the link's whole access control.
tcp:// needs CURVE keys, because anyone who reaches the port could join a pool: without keys the process refuses to
start.
"""

from __future__ import annotations

from pathlib import Path

from shared.errors import ConfigError
from shared.ids import Role
from shared.settings import ClusterSettings, router_endpoint

IPC = "ipc://"

MAX_IPC_PATH_BYTES = 107
"""sun_path of a unix socket holds 108 bytes with the closing NUL."""


def endpoint_of(cluster: ClusterSettings, slot: int, role: Role) -> str:
    """Endpoint that router `slot` binds for the pool `role`, and that its workers connect to."""
    if slot < len(cluster.router_endpoints):
        return _for_role(cluster.router_endpoints[slot], role)
    return router_endpoint(cluster.run_dir, slot, role)


def router_endpoints_for(cluster: ClusterSettings, role: Role) -> list[str]:
    """All routers that a worker of `role` joins."""
    count = len(cluster.router_endpoints) or cluster.counts.routers
    return [endpoint_of(cluster, slot, role) for slot in range(count)]


def check_endpoint(endpoint: str) -> str:
    """The endpoint, if the link may use it. Raises ConfigError."""
    if endpoint.startswith("tcp://"):
        raise ConfigError("XZ_ROUTER_ENDPOINTS", endpoint, "ipc:// (tcp:// needs CURVE keys, and none are configured)")
    if not endpoint.startswith(IPC):
        raise ConfigError("XZ_ROUTER_ENDPOINTS", endpoint, "an ipc:// endpoint")
    length = len(endpoint.removeprefix(IPC).encode())
    if not 0 < length <= MAX_IPC_PATH_BYTES:
        expected = f"a socket path of 1 to {MAX_IPC_PATH_BYTES} bytes, not {length}: choose a shorter directory"
        raise ConfigError("XZ_RUN_DIR", endpoint, expected)
    return endpoint


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


def _for_role(endpoint: str, role: Role) -> str:
    return endpoint.replace("{role}", role) if "{role}" in endpoint else f"{endpoint}-{role}"
