"""What an upstream's address says of its host. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit


def is_here(host: str) -> bool:
    """Whether a host is this machine."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def is_name(url: str) -> bool:
    """Whether the host must be resolved, which costs a process its resolver's threads."""
    return _address(urlsplit(url).hostname or "") is None


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
