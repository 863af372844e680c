"""Whether an upstream can be reached: name, TCP, TLS, and its clock where it speaks HTTP. Sends no credentials."""

from __future__ import annotations

import re
import socket
import ssl
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime

from ops.doctor.upstream import Reach, Upstream

TIMEOUT_S = 4.0
_DATE = re.compile(rb"^date:\s*(.+?)\r?$", re.IGNORECASE | re.MULTILINE)


def reach(upstream: Upstream, context: ssl.SSLContext | None = None) -> Reach:
    """One attempt, each of its steps within TIMEOUT_S."""
    try:
        with socket.create_connection((upstream.host, upstream.port), TIMEOUT_S) as plain:
            if not upstream.has_tls:
                return Reach(upstream, skew_s=_skew_s(plain, upstream))
            context = context or ssl.create_default_context()
            with context.wrap_socket(plain, server_hostname=upstream.host) as secure:
                return Reach(upstream, skew_s=_skew_s(secure, upstream))
    except (OSError, UnicodeError) as error:
        fault, detail = fault_of(error)
        return Reach(upstream, fault, detail)


def fault_of(error: Exception) -> tuple[str, str]:
    """The kind of a failure, and a word more where that helps."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate", error.verify_message
    if isinstance(error, ssl.SSLError):
        return "tls", getattr(error, "reason", "") or ""
    if isinstance(error, socket.gaierror | UnicodeError):
        return "resolve", ""
    if isinstance(error, TimeoutError):
        return "timeout", ""
    if isinstance(error, ConnectionRefusedError):
        return "refused", ""
    return "unreachable", getattr(error, "strerror", "") or ""


def _skew_s(connection: socket.socket, upstream: Upstream) -> float | None:
    """Its clock minus ours, from the Date of any answer, however it refuses; None if there is none in time."""
    if not upstream.speaks_http:
        return None
    with suppress(OSError, ValueError, TypeError):
        connection.sendall(f"HEAD / HTTP/1.1\r\nHost: {upstream.host}\r\nConnection: close\r\n\r\n".encode())
        match = _DATE.search(connection.recv(4096))
        if match:
            return parsedate_to_datetime(match[1].decode("ascii")).timestamp() - time.time()
    return None
