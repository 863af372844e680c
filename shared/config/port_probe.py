"""Whether a TCP port can be listened on: for the checks before a start, and for whoever looks for a free one."""

from __future__ import annotations

import socket


def listen_fault(host: str, port: int) -> OSError | None:
    """Why this address cannot be listened on now; None = it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return error
    return None
