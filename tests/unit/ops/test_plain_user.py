"""What only a plain user can be refused: root may do everything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ops.cluster.lock import locked
from shared.config.run_dir import prepare_run_dir
from shared.errors import ConfigError

pytestmark = pytest.mark.unit


def test_a_data_directory_of_another_user_is_an_error(as_plain_user: Path) -> None:
    """The suite runs as root too; this test does not."""
    assert os.geteuid() != 0
    with pytest.raises(PermissionError), locked(Path("/usr"), as_plain_user):
        pytest.fail("locked")


def test_a_run_directory_of_another_user_is_refused(as_plain_user: Path) -> None:
    """Whoever owns the directory can replace the sockets in it."""
    with pytest.raises(ConfigError, match="owned by user 0"):
        prepare_run_dir(Path("/usr"))
    prepare_run_dir(as_plain_user / "run")
