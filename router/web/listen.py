"""The sockets that the web process serves on: the supervisor's, its own, and the command's unix socket."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from shared.config.run_dir import MAX_SOCKET_PATH_BYTES, prepare_run_dir
from shared.errors import ConfigError

BACKLOG = 128


def inherited_socket(fd: int) -> socket.socket:
    """The listening socket that the supervisor passed on; shared with the other slots, it outlives this process."""
    try:
        listener = socket.socket(fileno=os.dup(fd))
        is_listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ConfigError("--listen-fd", fd, f"a listening socket ({error.strerror})") from error
    if not is_listening:
        raise ConfigError("--listen-fd", fd, "a listening socket")
    listener.setblocking(False)
    return listener


def bound_socket(host: str, port: int) -> socket.socket:
    """Raises ConfigError if the port is taken. `host` is an address: names are not resolved."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setblocking(False)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError("XZ_HTTP_PORT", port, f"a free port on {host} ({error.strerror})") from error
    return listener


class AdminSocket:
    """`<run_dir>/admin.sock`, for this user only. A successor takes the name over without a moment's gap."""

    def __init__(self, run_dir: Path, slot: int) -> None:
        self.path = admin_socket_path(run_dir, slot)
        self._inode = 0

    def bind(self) -> socket.socket:
        prepare_run_dir(self.path.parent)
        draft = self.path.with_name(f".a{os.getpid()}")
        if len(os.fsencode(max(self.path, draft, key=lambda path: len(os.fsencode(path))))) > MAX_SOCKET_PATH_BYTES:
            raise ConfigError("XZ_RUN_DIR", str(self.path.parent), "a shorter path: the sockets' must fit 107 bytes")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        draft.unlink(missing_ok=True)
        listener.bind(str(draft))
        draft.chmod(0o600)
        listener.listen(BACKLOG)
        draft.rename(self.path)
        self._inode = self.path.stat().st_ino
        return listener

    def remove(self) -> None:
        """Unless a successor has taken the name."""
        if self.path.exists() and self.path.stat().st_ino == self._inode:
            self.path.unlink()


def admin_socket_path(run_dir: Path, slot: int = 0) -> Path:
    """Where the `xiaozhi` command finds the web process; it asks slot 0."""
    return run_dir / ("admin.sock" if slot == 0 else f"admin-{slot}.sock")
