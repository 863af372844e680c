"""Where routers and workers meet."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import ConfigError
from shared.ids import Role
from shared.link.endpoints import (
    MAX_IPC_PATH_BYTES,
    check_endpoint,
    endpoint_of,
    prepare_directory,
    router_endpoints_for,
)
from shared.settings import ClusterSettings, Counts

pytestmark = pytest.mark.unit


def test_by_default_each_router_slot_has_a_socket_per_pool() -> None:
    """Workers join as many routers as are configured."""
    cluster = ClusterSettings(run_dir=Path("/run/xz"), counts=Counts(routers=2))
    assert router_endpoints_for(cluster, Role.ASR) == ["ipc:///run/xz/r0-asr", "ipc:///run/xz/r1-asr"]


def test_configured_endpoints_win_and_both_ends_agree() -> None:
    """What router 1 binds is what the workers connect to."""
    cluster = ClusterSettings(router_endpoints=("ipc:///a/r0", "ipc:///b/{role}.sock"))
    assert router_endpoints_for(cluster, Role.TTS) == ["ipc:///a/r0-tts", "ipc:///b/tts.sock"]
    assert endpoint_of(cluster, 1, Role.TTS) == "ipc:///b/tts.sock"


@pytest.mark.parametrize("endpoint", ["tcp://10.0.0.1:5600", "inproc://x", "/run/xz/r0", "ipc://"])
def test_unsafe_endpoints_are_refused(endpoint: str) -> None:
    """tcp:// without CURVE would let anybody join a pool."""
    with pytest.raises(ConfigError) as refused:
        check_endpoint(endpoint)
    assert endpoint in str(refused.value)


def test_a_socket_path_may_have_107_bytes() -> None:
    """Bytes, not characters: sun_path is 108 bytes with its NUL."""
    assert check_endpoint("ipc://" + "x" * MAX_IPC_PATH_BYTES)
    for path in ("x" * (MAX_IPC_PATH_BYTES + 1), "路" * 36):
        with pytest.raises(ConfigError, match="107"):
            check_endpoint("ipc://" + path)


def test_the_directory_is_made_private(tmp_path: Path) -> None:
    """Mode 0700 is the link's whole access control."""
    prepare_directory(f"ipc://{tmp_path}/run/r0-asr")
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    """An existing directory is not changed behind its owner's back."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o755)
    with pytest.raises(ConfigError, match="0700"):
        prepare_directory(f"ipc://{tmp_path}/run/r0-asr")
