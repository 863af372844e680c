"""One cluster per directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ops.cluster.lock import DirectoryInUseError, Holder, holder, locked
from shared.config.preflight import check_data_dir
from shared.settings import ClusterSettings, Settings

pytestmark = pytest.mark.unit


def test_a_second_cluster_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    """Two clusters on one data directory would write over each other."""
    second = locked(tmp_path, tmp_path / "run")
    with locked(tmp_path, tmp_path / "run"), pytest.raises(DirectoryInUseError, match=str(os.getpid())):
        second.__enter__()


def test_the_holder_is_known_while_it_holds_and_no_longer(tmp_path: Path) -> None:
    """`xiaozhi down` sends its signal to this process and to no other."""
    assert holder(tmp_path) is None
    with locked(tmp_path, tmp_path / "run"):
        assert holder(tmp_path) == Holder(os.getpid(), str(tmp_path / "run"))
    assert holder(tmp_path) is None


def test_a_lock_file_left_by_a_crash_holds_nothing(tmp_path: Path) -> None:
    """The kernel's lock counts, not the file."""
    (tmp_path / ".lock").write_text('{"pid": 1, "run_dir": "/"}')
    assert holder(tmp_path) is None
    with locked(tmp_path, tmp_path):
        pass


def test_the_check_before_the_start_sees_the_same_lock(tmp_path: Path) -> None:
    """What `xiaozhi up` holds is what the check looks at."""
    settings = Settings(cluster=ClusterSettings(data_dir=tmp_path))
    assert list(check_data_dir(settings)) == []
    with locked(tmp_path, tmp_path):
        (problem,) = check_data_dir(settings)
    assert str(os.getpid()) in problem.why
