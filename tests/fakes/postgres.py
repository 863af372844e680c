"""A real PostgreSQL server in a directory of its own: a Unix socket, no port, an unprivileged user.

Root may not run it, so it runs as `nobody` then. Its data are not synced to disk unless asked for: a test that ends
takes them with it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

PROGRAMS = ("initdb", "postgres", "createdb")
PACKAGED = Path("/usr/lib/postgresql")
"""Where Debian puts them, out of the way of PATH."""
USER = "xiaozhi"
DATABASE = "postgres"
PLAIN_USER = "nobody"
DEADLINE_S = 60.0
LOOK_EVERY_S = 0.02
NO_POSTGRES = "no PostgreSQL on this machine (initdb, postgres): apt install postgresql"


@cache
def postgres_programs() -> Path | None:
    """The directory that holds them, None if this machine has none."""
    newest = sorted(PACKAGED.glob("*/bin"), key=lambda path: int("0" + "".join(filter(str.isdigit, path.parent.name))))
    on_path = [Path(found).parent for found in [shutil.which("postgres")] if found]
    return next((path for path in (*newest[::-1], *on_path) if all((path / name).exists() for name in PROGRAMS)), None)


class PostgresServer:
    """One server; `start` and `stop` as often as one likes, on the same data."""

    def __init__(self, directory: Path, *, syncs: bool = False) -> None:
        programs = postgres_programs()
        assert programs is not None, NO_POSTGRES
        self._programs = programs
        self._directory = directory
        self._data = directory / "data"
        self._log = directory / "log"
        self._syncs = syncs
        self._databases = 0
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql://{USER}@/{database}?host={self._directory}"

    def create(self) -> None:
        words = ["-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [self._programs / "initdb", *words], check=False, capture_output=True, cwd="/", **_plain_user()
        )
        assert made.returncode == 0, made.stderr.decode()

    def new_database(self) -> str:
        """The URL of an empty one."""
        self._databases += 1
        name = f"test_{self._databases}"
        words = ["-h", str(self._directory), "-U", USER, name]
        subprocess.run([self._programs / "createdb", *words], check=True, capture_output=True, cwd="/")
        return self.url(name)

    def start(self) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._directory),
            "max_connections": "60",
            "shared_buffers": "16MB",
            "dynamic_shared_memory_type": "mmap",
            **({} if self._syncs else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}),
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **_plain_user(),
            )
        self._wait_until_ready(self._process)

    def crash(self) -> None:
        """Without a last word: it recovers from its log at the next start."""
        self.stop(signal.SIGQUIT)

    def stop(self, signal_number: int = signal.SIGINT) -> None:
        """Open connections are cut."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal_number)
            process.wait(DEADLINE_S)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """The last line of its lock file says what state it is in."""
        lock, deadline = self._data / "postmaster.pid", time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            assert process.poll() is None, self._log.read_text(errors="replace")
            lines = lock.read_text().splitlines() if lock.exists() else []
            if lines[:1] == [str(process.pid)] and lines[-1].strip() == "ready":
                return
            time.sleep(LOOK_EVERY_S)
        raise AssertionError(self._log.read_text(errors="replace"))


def _plain_user() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(PLAIN_USER)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def postgres_server(*, syncs: bool = False) -> Iterator[PostgresServer]:
    """A running one. Its directory has a short path, for the socket's sake."""
    with tempfile.TemporaryDirectory(prefix="xz-pg-", dir="/tmp", ignore_cleanup_errors=True) as name:
        if os.geteuid() == 0:
            user = pwd.getpwnam(PLAIN_USER)
            os.chown(name, user.pw_uid, user.pw_gid)
        server = PostgresServer(Path(name), syncs=syncs)
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()
