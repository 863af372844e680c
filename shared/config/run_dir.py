"""The directory of a cluster's unix sockets: where it is and that nobody else can get in.

A socket's path must stay under 107 bytes, and every process and command of one cluster has to come to the same path by
itself. So the default depends on the user and the data directory only: /tmp/xz-<user id>-<8 hex digits>. The data
directory itself may be too deep, or on a file system without sockets; XDG_RUNTIME_DIR is missing under sudo, cron and
in containers, and two shells need not agree on it, nor on TMPDIR. What anyone can guess in /tmp anyone can create
first: therefore the directory's owner and mode are verified, and a link is refused.
"""

from __future__ import annotations

import os
import stat
from hashlib import sha256
from pathlib import Path

from shared.errors import ConfigError

MAX_SOCKET_PATH_BYTES = 107
"""sun_path holds 108 bytes with the closing NUL."""


def default_run_dir(data_dir: Path, uid: int) -> Path:
    """The run directory of the cluster that owns `data_dir`, links resolved."""
    digest = sha256(os.fsencode(data_dir.resolve())).hexdigest()[:8]
    return Path(f"/tmp/xz-{uid}-{digest}")


def prepare_run_dir(path: Path) -> None:
    """Create the directory, private to this user, or verify that it is. Raises ConfigError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise ConfigError("XZ_RUN_DIR", str(path), f"a directory that can be made ({error.strerror})") from error
    fault = _fault(found)
    if fault:
        raise ConfigError("XZ_RUN_DIR", str(path), f"a directory of this user's with mode 0700; it is {fault}")


def _fault(found: os.stat_result) -> str | None:
    if not stat.S_ISDIR(found.st_mode):
        return "a link or a file"
    if found.st_uid != os.geteuid():
        return f"owned by user {found.st_uid}"
    if stat.S_IMODE(found.st_mode) & 0o077:
        return f"open to others (mode {stat.S_IMODE(found.st_mode):04o})"
    return None
