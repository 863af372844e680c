"""The run directory before and after a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.cluster.directories import OUR_NAMES, prepared
from ops.cluster.lock import DirectoryInUseError
from ops.cluster.readiness import ADMIN_SOCKET_NAME
from ops.supervisor import SOCKET_NAME
from shared.errors import ConfigError
from shared.ids import Role
from shared.settings import router_endpoint

pytestmark = pytest.mark.unit


def test_nothing_is_left_of_a_directory_that_was_made_for_the_cluster(tmp_path: Path) -> None:
    """Also what a killed process left behind goes."""
    run = tmp_path / "run"
    with prepared(tmp_path, run, tmp_path / "logs"):
        for name in ("supervisor.sock", "supervisord.pid", "admin.sock", "fatal.json", "r0-asr", "r9-session"):
            (run / name).touch()
    assert not run.exists()
    assert (tmp_path / "logs").is_dir()


def test_files_of_others_are_never_removed(run_dir: Path) -> None:
    """XZ_RUN_DIR may point anywhere."""
    (run_dir / "thesis.txt").touch()
    with prepared(run_dir, run_dir, run_dir / "logs"):
        (run_dir / "supervisor.sock").touch()
    assert {entry.name for entry in run_dir.iterdir()} == {"thesis.txt", "logs"}


def test_a_directory_made_by_somebody_else_stays(run_dir: Path, tmp_path: Path) -> None:
    """systemd's RuntimeDirectory cannot be made again by the service's user."""
    with prepared(tmp_path, run_dir, tmp_path / "logs"):
        pass
    assert run_dir.is_dir()


def test_sockets_of_a_crash_are_removed_before_the_start(run_dir: Path, tmp_path: Path) -> None:
    """A stale admin socket would be asked for the new cluster's state."""
    (run_dir / "admin.sock").touch()
    with prepared(tmp_path, run_dir, tmp_path / "logs"):
        assert not (run_dir / "admin.sock").exists()


def test_a_directory_open_to_others_is_refused(run_dir: Path, tmp_path: Path) -> None:
    """Whoever reaches the sockets rules the cluster."""
    run_dir.chmod(0o755)
    with pytest.raises(ConfigError, match="0700"), prepared(tmp_path, run_dir, tmp_path / "logs"):
        pytest.fail("started")


def test_one_run_directory_serves_one_cluster(run_dir: Path, tmp_path: Path) -> None:
    """Even with two data directories, and without touching the first one's sockets."""
    with prepared(tmp_path, run_dir, tmp_path / "logs"):
        (run_dir / "supervisor.sock").touch()
        with pytest.raises(DirectoryInUseError), prepared(tmp_path, run_dir, tmp_path / "logs"):
            pytest.fail("started")
        assert (run_dir / "supervisor.sock").exists()


def test_every_socket_of_the_cluster_is_among_our_names() -> None:
    """A new socket must be added to the list, or it is left behind."""
    router_names = {router_endpoint(Path("x"), 0, role).rpartition("/")[2].replace("r0", "r*") for role in Role}
    assert router_names | {SOCKET_NAME, ADMIN_SOCKET_NAME} <= set(OUR_NAMES)
