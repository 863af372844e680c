"""HTTP to a server behind a unix socket: supervisord's XML-RPC and the web process's admin socket.

A path instead of a host and port, and a time limit on every call; everything else is http.client's.
"""

from __future__ import annotations

import http.client
import json
import socket
import xmlrpc.client
from pathlib import Path
from typing import Any

TIMEOUT_S = 5.0


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to the server that listens at `path`."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self.timeout)
            connection.connect(str(self._path))
        except OSError:
            connection.close()
            raise
        self.sock = connection


class UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a UnixConnection."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__()
        self._path = path
        self._timeout_s = timeout_s

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return UnixConnection(self._path, self._timeout_s)


def get_json(path: Path, target: str, timeout_s: float = TIMEOUT_S) -> tuple[int, Any]:
    """Status and decoded body of GET `target`; the body is None where it is not JSON. Raises OSError, HTTPException."""
    connection = UnixConnection(path, timeout_s)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    try:
        return response.status, json.loads(body)
    except ValueError:
        return response.status, None
