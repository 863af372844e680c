"""The directories of a cluster: made before it starts, and left without a socket or temporary file.

Only files with our own names are ever removed: somebody may have pointed XZ_RUN_DIR at a directory of other things.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from ops.cluster.lock import locked
from shared.config.preflight import LOCK_NAME
from shared.config.run_dir import default_run_dir, prepare_run_dir

OUR_NAMES = (
    LOCK_NAME,
    "admin.sock",
    "admin-*.sock",
    ".a[0-9]*",
    "config.epoch",
    "config-*.yaml",
    "config*.new",
    "desired.json",
    "desired.new",
    "fatal.json",
    "fatal.new",
    "operate.lock",
    "recycled.json",
    "recycled.new",
    "router-shares",
    "variables.json",
    "supervisor.sock",
    "supervisor.sock.*",
    "supervisord.pid",
    "r*-asr",
    "r*-tts",
    "r*-session",
)


@contextmanager
def prepared(data_dir: Path, run_dir: Path, log_dir: Path) -> Iterator[None]:
    """Both directories exist and are ours; afterwards nothing of ours is left in the run directory.

    A run directory that somebody else made stays: they may not be able to make it again (systemd's RuntimeDirectory).
    Raises ConfigError, DirectoryInUseError.
    """
    is_ours = not run_dir.exists() or run_dir == default_run_dir(data_dir, os.geteuid())
    prepare_run_dir(run_dir)
    log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(run_dir, run_dir):
        _remove_ours(run_dir, keep=LOCK_NAME)
        try:
            yield
        finally:
            _remove_ours(run_dir)
    if is_ours:
        with suppress(OSError):
            run_dir.rmdir()


def _remove_ours(run_dir: Path, keep: str = "") -> None:
    for entry in run_dir.iterdir():
        if _is_ours(entry) and entry.name != keep:
            entry.unlink(missing_ok=True)


def _is_ours(entry: Path) -> bool:
    return any(fnmatch(entry.name, pattern) for pattern in OUR_NAMES)
