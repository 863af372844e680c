"""A real web process on free ports, with the listening socket as its fd 0, and plain HTTP without a client's help."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.fakes.canary import blocked_lines

START_S = 30.0
ROUTER_OFFSET = 10


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer, byte for byte."""

    status: int
    headers: dict[str, str]
    """Lower-case names."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class WebServer:
    root: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    metrics_port: int = 0
    errors: str = ""
    """What the process wrote, once it has ended."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def data_dir(self) -> Path:
        return self.root / "data"

    @property
    def run_dir(self) -> Path:
        return self.root / "run"

    def start(self, *arguments: str) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir.joinpath(".config.yaml").write_text(yaml.safe_dump(dict(self.config), allow_unicode=True))
        self.metrics_port = free_metrics_port()
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            self.port = listener.getsockname()[1]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "router.web", "--slot", "0", *(arguments or ("--listen-fd", "0"))],
                stdin=listener.fileno(),
                stderr=(self.root / "stderr").open("wb"),
                env={**os.environ, **self._variables(), **self.env},
            )

    def _variables(self) -> dict[str, str]:
        return {
            "XZ_DATA_DIR": str(self.data_dir),
            "XZ_RUN_DIR": str(self.run_dir),
            "XZ_METRICS_PORT": str(self.metrics_port),
            "XZ_LOG_LEVEL": "DEBUG",
            "XZ_DEBUG_LOOP": "1",
        }

    def wait_until_ready(self) -> None:
        """The process's own probe, asked until it says yes."""
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s and self.process is not None and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if self.ask("GET", "/readyz", port=self.metrics_port).status == 200:
                    return
            time.sleep(0.02)
        raise AssertionError(f"the web process did not start:\n{self.stop(signal.SIGKILL)}")

    def stop(self, number: int = signal.SIGTERM) -> str:
        """End it and return what it wrote."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(15)
        self.errors = (self.root / "stderr").read_text()
        return self.errors

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        *,
        port: int | None = None,
    ) -> Reply:
        """One request on its own connection; redirects are not followed."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=10)
        try:
            return _exchange(connection, method, target, headers, body)
        finally:
            connection.close()

    def ask_admin(self, target: str) -> Reply:
        """Through the command's unix socket."""
        connection = http.client.HTTPConnection("localhost", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.run_dir / "admin.sock"))
        try:
            return _exchange(connection, "GET", target, None, None)
        finally:
            connection.close()

    def raw(self, request: bytes) -> bytes:
        """Send bytes, return all bytes until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(65536), b""))


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: Mapping[str, str] | None,
    body: bytes | str | None,
) -> Reply:
    connection.request(method, target, body=body, headers=dict(headers or {}))
    answer = connection.getresponse()
    return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


def free_metrics_port() -> int:
    """A base port that is free, and so is the one of router 0 above it."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as found, contextlib.suppress(OSError):
            port: int = found.getsockname()[1]
            if port < 65000:
                socket.create_server(("127.0.0.1", port + ROUTER_OFFSET)).close()
                return port


@contextlib.contextmanager
def web_server(root: Path, config: Mapping[str, Any] | None = None, **env: str) -> Iterator[WebServer]:
    """A ready server; at the end it must exit 0 on SIGTERM and must never have blocked its loop."""
    server = WebServer(root, config or {}, env)
    server.start()
    server.wait_until_ready()
    try:
        yield server
    finally:
        errors = server.stop()
    assert server.process is not None
    assert server.process.returncode == 0, errors
    assert blocked_lines(errors.partition("web_draining")[0]) == []


@contextlib.contextmanager
def told_router(port: int, snapshot: Mapping[str, Any], metrics: str = "") -> Iterator[None]:
    """A stand-in for a router's metrics port: it tells this snapshot."""
    pages = {"/cluster": json.dumps(snapshot).encode(), "/metrics": metrics.encode()}

    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Pages) as stand_in:
        thread = threading.Thread(target=stand_in.serve_forever, name="told-router")
        thread.start()
        try:
            yield
        finally:
            stand_in.shutdown()
            thread.join()
