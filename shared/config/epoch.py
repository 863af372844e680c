"""The configuration a running cluster has agreed on, kept beside its sockets under a number, the epoch.

`<run_dir>/config.epoch` holds the number, `config-<n>.yaml` the user's file as it was when it was checked. Every
process of the cluster reads that copy, so that one that is restarted does not pick up what somebody is still typing.
The copy may hold upstream keys: it is readable by this user only, and goes with the run directory's other files.
"""

from __future__ import annotations

import os
from pathlib import Path

POINTER = "config.epoch"
VARIABLE = "XZ_EPOCH_DIR"
"""Where a process finds its cluster's epoch. Without it the user's own file is read."""
FIRST_EPOCH = 1
KEPT_EPOCHS = 50


def current_epoch(run_dir: Path) -> int | None:
    """None if no cluster has stored one."""
    try:
        return int((run_dir / POINTER).read_text())
    except FileNotFoundError:
        return None


def file_of(run_dir: Path, epoch: int) -> Path:
    return run_dir / f"config-{epoch}.yaml"


def store_epoch(run_dir: Path, user_file: bytes) -> int:
    """The new epoch. Older files stay for a while: they tell what a process that runs an older epoch has missed."""
    epoch = (current_epoch(run_dir) or FIRST_EPOCH - 1) + 1
    _write(file_of(run_dir, epoch), user_file)
    _write(run_dir / POINTER, str(epoch).encode())
    file_of(run_dir, epoch - KEPT_EPOCHS).unlink(missing_ok=True)
    return epoch


def _write(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
    draft.replace(path)
