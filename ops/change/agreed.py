"""What a running cluster has agreed on about its configuration: the file of this epoch, and the variables above it.

Both lie in the run directory, so that `xiaozhi reload` in another terminal reads a new file as the cluster's processes
will: with the variables of the person who started it, not of the one who types.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from shared.config import epoch
from shared.config.findings import ConfigWarning
from shared.config.load import USER_FILE, load, load_with_warnings
from shared.errors import ConfigError
from shared.settings import Settings

VARIABLES_NAME = "variables.json"


def agree(data_dir: Path, run_dir: Path, variables: Mapping[str, str]) -> int:
    """Store the user's file as it is, and the variables; returns the epoch."""
    (run_dir / VARIABLES_NAME).write_text(json.dumps(dict(variables)))
    return epoch.store_epoch(run_dir, user_file(data_dir))


def user_file(data_dir: Path) -> bytes:
    try:
        return (data_dir / USER_FILE).read_bytes()
    except FileNotFoundError:
        return b""


def settings_now(run_dir: Path) -> Settings:
    """What the cluster runs with. Raises ConfigError."""
    return load({**_variables(run_dir), epoch.VARIABLE: str(run_dir)})


def settings_of(run_dir: Path, number: int) -> Settings | None:
    """What a process that runs epoch `number` has read; None if that is too long ago."""
    file = epoch.file_of(run_dir, number)
    try:
        return load_with_warnings(_variables(run_dir), file)[0] if file.exists() else None
    except ConfigError:
        return None


def settings_written(run_dir: Path) -> tuple[Settings, list[ConfigWarning]]:
    """What the user's file says now. Raises ConfigError."""
    return load_with_warnings(_variables(run_dir))


def _variables(run_dir: Path) -> dict[str, str]:
    return dict(json.loads((run_dir / VARIABLES_NAME).read_text()))
