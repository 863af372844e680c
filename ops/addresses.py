"""Where a device on the network finds this machine."""

from __future__ import annotations

import socket

_DOCUMENTATION_ADDRESS = ("192.0.2.1", 9)
"""RFC 5737: never a real host, and connecting a datagram socket sends nothing; the kernel only picks a route."""


def lan_address() -> str:
    """The address of the interface that leads out; loopback on a machine without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_DOCUMENTATION_ADDRESS)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def shown_host(host: str) -> str:
    """What to print for a listening address."""
    return lan_address() if host in ("", "0.0.0.0") else host
