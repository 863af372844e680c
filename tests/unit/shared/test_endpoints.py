"""Where routers and workers meet."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import ConfigError
from shared.ids import Role
from shared.link.endpoints import (
    MAX_IPC_PATH_BYTES,
    Binding,
    binding_of,
    check_endpoint,
    endpoint_for,
    is_socket_name,
    leaves_the_machine,
    prepare_directory,
    sources_of,
)
from shared.link.tcp_address import LAST_LINK_PORT, is_tcp_address, is_tcp_peer, parse_tcp_address
from shared.settings import ClusterSettings

pytestmark = pytest.mark.unit


def test_by_default_each_router_slot_has_a_socket_per_pool() -> None:
    """In the run directory, where workers look for them."""
    cluster = ClusterSettings(run_dir=Path("/run/xz"))
    assert binding_of(cluster, 1, Role.ASR) == Binding("ipc:///run/xz/r1-asr")
    assert sources_of(cluster) == ("local",)
    assert is_socket_name("r1-asr", Role.ASR)
    assert not any(is_socket_name(name, Role.ASR) for name in ("r1-tts", "r1-asr.tmp", "router", "r-asr"))


def test_configured_sockets_win_and_both_ends_agree() -> None:
    """What router 1 binds is what the workers connect to."""
    cluster = ClusterSettings(router_endpoints=("ipc:///a/r0", "ipc:///b/{role}.sock"))
    assert [endpoint_for(entry, Role.TTS) for entry in sources_of(cluster)] == ["ipc:///a/r0-tts", "ipc:///b/tts.sock"]
    assert binding_of(cluster, 1, Role.TTS).local == "ipc:///b/tts.sock"


def test_routers_of_one_machine_are_ten_ports_apart_and_their_pools_one() -> None:
    """A worker's list names one port a router; the pools follow from it."""
    cluster = ClusterSettings(run_dir=Path("/run/xz"), link_bind="tcp://0.0.0.0:5600")
    bound = [binding_of(cluster, slot, role).remote for slot in (0, 2) for role in Role]
    assert bound == [f"tcp://0.0.0.0:{port}" for port in (5600, 5601, 5602, 5620, 5621, 5622)]
    assert endpoint_for("tcp://[fd00::1]:5620", Role.SESSION) == "tcp://[fd00::1]:5622"
    assert binding_of(cluster, 0, Role.ASR).local == "ipc:///run/xz/r0-asr", "workers of this machine need no key"


def test_only_lists_and_addresses_leave_the_machine() -> None:
    """They need keys, and threads that resolve names."""
    assert not leaves_the_machine(ClusterSettings(router_endpoints=("local", "ipc:///a")))
    assert leaves_the_machine(ClusterSettings(router_endpoints=("local", "tcp://a:5600")))
    assert leaves_the_machine(ClusterSettings(router_endpoints=("file:///etc/routers",)))


@pytest.mark.parametrize(
    "text",
    ["tcp://a", "tcp://a:0", "tcp://a:70000", "tcp://::1:5600", "tcp://a b:5600", "tcp://a:5600/x", "a:5600", ""],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """An IPv6 address without brackets is ambiguous."""
    assert not is_tcp_address(text)
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_tcp_address(text)


def test_addresses_are_told_from_names() -> None:
    """Names have to be resolved; `*` can be bound and not called."""
    assert parse_tcp_address("tcp://routers.example:5600").is_name
    assert not parse_tcp_address("tcp://10.0.0.1:5600").is_name
    assert not parse_tcp_address("tcp://[fe80::1%eth0]:5600").is_name
    assert str(parse_tcp_address("tcp://router:5600").at("fd00::1")) == "tcp://[fd00::1]:5600"
    assert is_tcp_address("tcp://*:5600")
    assert not is_tcp_peer("tcp://*:5600")
    assert is_tcp_peer(f"tcp://[::1]:{LAST_LINK_PORT}")
    assert not is_tcp_address(f"tcp://[::1]:{LAST_LINK_PORT + 1}")


@pytest.mark.parametrize("endpoint", ["tcp://10.0.0.1", "inproc://x", "/run/xz/r0", "ipc://"])
def test_unusable_endpoints_are_refused(endpoint: str) -> None:
    """Named before anything connects."""
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
    """Mode 0700 is the access control of ipc:// sockets."""
    prepare_directory(f"ipc://{tmp_path}/run/r0-asr")
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    """An existing directory is not changed behind its owner's back."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o755)
    with pytest.raises(ConfigError, match="0700"):
        prepare_directory(f"ipc://{tmp_path}/run/r0-asr")
