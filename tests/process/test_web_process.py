"""The web process as operators and the supervisor see it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shared.identity.devices import devices_path
from tests.fakes.web_server import ROUTER_OFFSET, WebServer, told_router, web_server

pytestmark = pytest.mark.process

TOKEN = "an admin token with ümlaut"
FIRMWARE_BYTES = 30_000_000
PATIENCE_S = 20.0
CONFIG = {"server": {"admin_token": TOKEN}}


def worker(role: str, slot: int, **changes: Any) -> dict[str, Any]:
    told = {"role": role, "slot": slot, "incarnation": "i0", "capacity": 4, "active": 1, "reserved": 0, "id": "x"}
    told |= {
        "draining": False,
        "lag_ms": 0.5,
        "pid": 7,
        "host": socket.gethostname(),
        "metrics_port": 1,
        "state": "ready",
    }
    return told | changes


def snapshot(*workers: dict[str, Any], missing: tuple[str, ...] = ()) -> dict[str, Any]:
    router = {"slot": 0, "pid": 5, "version": "1.2", "connections": 3, "sessions": {"idle": 3}, "threads": 5}
    pools: dict[str, list[Any]] = {"asr": [], "tts": [], "session": []}
    for told in workers:
        pools[told["role"]].append(told)
    return {"router": router | {"draining": False}, "pools": pools, "ready": not missing, "missing": list(missing)}


def _eventually(web: WebServer, path: str, is_right: Callable[[Any], bool]) -> Any:
    """The routers' answers are remembered for a second: ask until a fresh one is seen."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_right(body := web.ask_admin(path).json()):
        assert time.monotonic() < deadline_s, body
    return body


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with web_server(tmp_path_factory.mktemp("web"), CONFIG) as server:
        yield server


def auth(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}".encode().decode("latin-1")}


def test_healthz_says_that_the_loop_turns(web: WebServer) -> None:
    """For the load balancer, without a token."""
    assert web.ask("GET", "/healthz").json() == {"ok": True}


def test_readyz_is_about_the_whole_cluster(tmp_path: Path) -> None:
    """It names what is missing, and says 200 only when every configured router is ready."""
    with web_server(tmp_path) as server:
        port = server.metrics_port + ROUTER_OFFSET
        assert server.ask("GET", "/readyz").json()["missing"] == ["router 0 (no answer)"]
        with told_router(port, snapshot(missing=("asr", "tts"))):
            waiting = _eventually(server, "/readyz", lambda body: len(body["missing"]) > 1)
            assert server.ask("GET", "/readyz").status == 503
        assert waiting["missing"] == ["router 0 (waits for workers)", "asr", "tts"]
        with told_router(port, snapshot(worker("asr", 0))):
            assert _eventually(server, "/readyz", lambda body: body["ready"])["reasons"] == []
            assert server.ask("GET", "/readyz").status == 200


def test_readyz_names_what_the_supervisor_gave_up_on(tmp_path: Path) -> None:
    """`xiaozhi up` writes it into the run directory."""
    with web_server(tmp_path) as server, told_router(server.metrics_port + ROUTER_OFFSET, snapshot()):
        server.run_dir.joinpath("fatal.json").write_text(json.dumps({"asr_00": {"reason": "no model", "since_s": 1}}))
        reply = server.ask("GET", "/readyz")
        assert (reply.status, reply.json()["fatal"]) == (503, {"asr_00": "no model"})
        assert reply.json()["reasons"] == ["asr_00: no model"]


def test_malformed_snapshot_counts_as_no_answer(tmp_path: Path) -> None:
    """A router of another version must not take the page down."""
    with web_server(tmp_path) as server, told_router(server.metrics_port + ROUTER_OFFSET, {"router": 7}):
        assert server.ask("GET", "/readyz").json()["missing"] == ["router 0 (no answer)"]


@pytest.mark.parametrize("path", ["/sd", "/api/cluster"])
def test_operators_pages_need_the_admin_token_on_the_network(web: WebServer, path: str) -> None:
    """Nothing about the inside for anybody else."""
    for headers in ({}, auth("wrong"), auth(""), {"Authorization": TOKEN.encode().decode("latin-1")}):
        reply = web.ask("GET", path, headers)
        assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert web.ask("GET", path, auth(TOKEN)).status == 200
    assert web.ask_admin(path).status == 200


def test_operators_pages_are_closed_without_an_admin_token(tmp_path: Path) -> None:
    """An empty setting is no password."""
    with web_server(tmp_path) as server:
        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer"}):
            assert server.ask("GET", "/sd", headers).status == 401
        assert server.ask_admin("/sd").status == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/sd", "/api/cluster"])
def test_operators_pages_have_no_cors(web: WebServer, path: str) -> None:
    """A page in the operator's browser cannot read them."""
    reply = web.ask("GET", path, auth(TOKEN) | {"Origin": "http://x"})
    assert not [name for name in reply.headers if name.startswith("access-control")]
    assert web.ask("OPTIONS", path, {"Origin": "http://x", "Access-Control-Request-Method": "GET"}).status == 405


def test_admin_socket_is_for_this_user_only(web: WebServer) -> None:
    """The file's rights are the key."""
    path = web.run_dir / "admin.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(entry.name for entry in web.run_dir.iterdir()) == ["admin.sock"]


def test_scrape_targets_are_all_processes(web: WebServer) -> None:
    """http_sd: web, every configured router, every worker that a router knows."""
    told = snapshot(worker("asr", 0, metrics_port=4001), worker("tts", 1, metrics_port=4002, host="far"))
    with told_router(web.metrics_port + ROUTER_OFFSET, told):
        reply = _eventually(web, "/sd", lambda body: len(body) == 4)
    assert reply == [
        {"targets": [f"127.0.0.1:{web.metrics_port}"], "labels": {"program": "web", "slot": "0"}},
        {"targets": [f"127.0.0.1:{web.metrics_port + ROUTER_OFFSET}"], "labels": {"program": "router", "slot": "0"}},
        {"targets": ["127.0.0.1:4001"], "labels": {"program": "asr", "slot": "0"}},
        {"targets": ["far:4002"], "labels": {"program": "tts", "slot": "1"}},
    ]


def test_cluster_page_shows_processes_loads_versions_and_threads(tmp_path: Path) -> None:
    """As the routers and each process tell them."""
    with web_server(tmp_path) as server:
        port = server.metrics_port + ROUTER_OFFSET
        metrics = 'xz_build_info{python="3.11",version="1.2"} 1.0\nxz_process_threads 5.0\nxz_thread_budget 6.0\n'
        with told_router(port, snapshot(worker("asr", 0, metrics_port=1)), metrics):
            body = server.ask_admin("/api/cluster").json()
    web_row, router_row, asr_row = body["processes"]
    assert (web_row["program"], web_row["answers"]) == ("web", True)
    assert web_row["threads"] == web_row["thread_budget"] == 4
    assert router_row == {
        "program": "router",
        "slot": 0,
        "metrics": f"127.0.0.1:{port}",
        "pid": 5,
        "active": 3,
        "draining": False,
        "answers": True,
        "version": "1.2",
        "threads": 5,
        "thread_budget": 6,
    }
    assert (asr_row["program"], asr_row["capacity"], asr_row["active"], asr_row["answers"]) == ("asr", 4, 1, False)
    assert body["workers"][0]["lag_ms"] == 0.5


def test_threads_do_not_grow_with_requests(tmp_path: Path) -> None:
    """Four, after downloads and boots side by side as before."""
    with web_server(tmp_path, CONFIG) as server:
        (server.data_dir / "bin").mkdir()
        (server.data_dir / "bin" / "m_1.0.bin").write_bytes(os.urandom(2_000_000))

        def visit(n: int) -> int:
            ids = {"Device-Id": f"device-{n}", "Client-Id": "c"}
            server.ask("GET", "/xiaozhi/ota/download/m_1.0.bin")
            server.ask("GET", "/readyz")
            return server.ask("POST", "/xiaozhi/ota/", ids, b"{}").status

        with ThreadPoolExecutor(16) as visitors:
            assert set(visitors.map(visit, range(64))) == {200}
        page = server.ask("GET", "/metrics", port=server.metrics_port).body.decode()
    assert "\nxz_process_threads 4.0\n" in page
    assert "\nxz_thread_budget 4.0\n" in page
    assert 'xz_ota_requests_total{outcome="granted"} 64.0' in page


def download(server: WebServer) -> socket.socket:
    """A device that has read the beginning of a firmware file too large for any buffer on the way."""
    bin_dir = server.data_dir / "bin"
    bin_dir.mkdir(exist_ok=True)
    bin_dir.joinpath("m_1.0.bin").write_bytes(bytes(FIRMWARE_BYTES))
    device = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    device.sendall(b"GET /xiaozhi/ota/download/m_1.0.bin HTTP/1.0\r\n\r\n")
    assert device.recv(1000).startswith(b"HTTP/1.0 200")
    return device


def test_download_under_way_is_finished_after_sigterm(tmp_path: Path) -> None:
    """The listener closes, who is being served is served, exit code 0, and the admin socket is gone."""
    server = WebServer(tmp_path)
    server.start()
    server.wait_until_ready()
    assert server.process is not None
    with download(server) as device:
        server.process.send_signal(signal.SIGTERM)
        while True:
            try:
                socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
            except OSError:
                break
        rest = b"".join(iter(lambda: device.recv(65536), b""))
    assert len(rest) > FIRMWARE_BYTES - 1000
    assert server.process.wait(10) == 0
    assert not (server.run_dir / "admin.sock").exists()


def test_second_sigterm_shortens_the_wait(tmp_path: Path) -> None:
    """A client that never finishes holds the process for a second, not for its whole deadline."""
    server = WebServer(tmp_path, env={"XZ_DRAIN_S": "600"})
    server.start()
    server.wait_until_ready()
    assert server.process is not None
    with download(server):
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(0.5)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0


def test_successor_takes_the_admin_socket_over(tmp_path: Path) -> None:
    """During a restart the command always finds somebody, and the old process does not remove the new one's socket."""
    with web_server(tmp_path) as old:
        with web_server(tmp_path) as new:
            assert new.ask_admin("/healthz").status == 200
            assert old.stop() is not None
            assert new.ask_admin("/healthz").status == 200
        old.start()
        old.wait_until_ready()


def test_sigint_is_the_supervisors_business(tmp_path: Path) -> None:
    """Ctrl-C in a terminal reaches every process of the foreground group; only SIGTERM ends this one."""
    with web_server(tmp_path) as server:
        assert server.process is not None
        server.process.send_signal(signal.SIGINT)
        assert server.ask("GET", "/healthz").status == 200


def test_taken_port_is_named(tmp_path: Path) -> None:
    """The process exits non-zero and says which setting to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        server = WebServer(tmp_path, env={"XZ_HTTP_PORT": port})
        server.start("--slot", "0")
        assert server.process is not None
        assert server.process.wait(30) == 1
    errors = (server.root / "stderr").read_text()
    assert "XZ_HTTP_PORT" in errors and port in errors


@pytest.mark.parametrize(
    ("config", "named"),
    [({"server": {"trusted_proxies": ["nonsense"]}}, "trusted_proxies"), ({"server": []}, "server")],
)
def test_configuration_that_cannot_be_used_is_named(tmp_path: Path, config: dict[str, Any], named: str) -> None:
    """Before anything is served."""
    assert named in failed_start(WebServer(tmp_path, config))


def test_damaged_registry_is_named(tmp_path: Path) -> None:
    """The operator decides what becomes of it."""
    path = devices_path(tmp_path / "data")
    path.parent.mkdir()
    path.write_bytes(b"no database" * 500)
    assert "devices.db" in failed_start(WebServer(tmp_path))


def test_descriptor_that_is_no_listening_socket_is_named(tmp_path: Path) -> None:
    """Started by hand with the supervisor's arguments."""
    server = WebServer(tmp_path)
    assert "--listen-fd" in failed_start(server, "--listen-fd", "2")


def failed_start(server: WebServer, *arguments: str) -> str:
    server.start(*arguments)
    assert server.process is not None
    try:
        assert server.process.wait(30) == 1
    except subprocess.TimeoutExpired:
        server.process.kill()
        raise
    return (server.root / "stderr").read_text()


def test_no_secret_is_logged_at_any_level(tmp_path: Path) -> None:
    """Tokens, the admin token and client-ids appear in no line of a DEBUG run."""
    with web_server(tmp_path, CONFIG) as server:
        ids = {"Device-Id": "aa", "Client-Id": "client-0123456789"}
        token = server.ask("POST", "/xiaozhi/ota/", ids, b"{}").json()["websocket"]["token"]
        server.ask("POST", f"/xiaozhi/ota/?authorization=Bearer+{token}", ids | auth(token), b"{}")
        server.ask("GET", f"/sd?token={token}", auth(TOKEN))
        server.ask("GET", "/api/cluster", auth("a wrong admin token"))
        server.raw(f"BAD {token}\r\n\r\n".encode())
    for secret in (token, token.split(".")[0], TOKEN, "a wrong admin token", ids["Client-Id"]):
        assert secret not in server.errors
    assert "device_booted" in server.errors
