"""Where a request comes from: the caller's address, the name it called this server by, and whether that is the LAN.

Rules:
* The peer of the TCP connection is the caller, unless it is one of `trusted_proxies`: then the last address of
  X-Forwarded-For (or Forwarded, X-Real-IP) that is no trusted proxy itself.
* A request with a forwarding header from anybody else is never LAN: some proxy stands in between that does not know
  that it is being relied on, and behind it is the internet.
* A request with an Origin was made by a web page in somebody's browser. It is LAN only if the page comes from this
  machine, from the host that was called, or from an allowed origin. "The host that was called" must be an address or a
  name of this server: any other name could be a stranger's that resolves to this address (DNS rebinding).
* A forwarded host or scheme is believed from a trusted proxy only.

Pure. Behind a container's port mapping all callers can appear with the gateway's private address; such a deployment
needs `enroll: activation` or `allowlist`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from multidict import MultiMapping

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LAN_NETWORKS: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)
"""Loopback, private and link-local. Not `is_private`, which also counts documentation and benchmark networks."""

FORWARDING_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via")

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host as it stands in a URL (IPv6 in brackets), with the port if one was given."""

    name: str
    port: int | None = None

    def __str__(self) -> str:
        return self.name if self.port is None else f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class Caller:
    address: Address | None
    """None for a unix socket, or if the proxy named none."""
    host: HostPort
    """What the caller called this server; the address its connection came in on, if it said nothing usable."""
    secure: bool
    """A trusted proxy speaks TLS to the caller."""
    is_lan: bool


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Who is trusted: parsed once from the settings."""

    trusted_proxies: tuple[Network, ...] = ()
    allowed_origins: frozenset[str] = frozenset()
    own_names: frozenset[str] = frozenset()
    """Lower-case host names that are this server's own."""


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Addresses and CIDR networks. Raises ValueError."""
    return tuple(ipaddress.ip_network(text.strip(), strict=False) for text in texts)


def parse_address(text: str | None) -> Address | None:
    """An IP address, with or without brackets, port or scope; IPv4 in IPv6 becomes IPv4."""
    if not text:
        return None
    text = text.strip().strip('"')
    if match := re.fullmatch(r"\[([^\]]+)\](?::\d+)?|([0-9.]+):\d+", text):
        text = match.group(1) or match.group(2)
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def parse_host(text: str | None) -> HostPort | None:
    """A Host header's value; None if it could not stand in a URL."""
    match = _HOST.fullmatch((text or "").strip())
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else None
    return None if port is not None and not 1 <= port <= 65535 else HostPort(match["name"], port)


def is_within(address: Address | None, networks: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in networks)


def identify(
    peer: str | None, headers: MultiMapping[str], around: Neighbourhood, *, own: tuple[str, int] | None = None
) -> Caller:
    """`headers` must look names up without regard to case; `own` is this end of the connection."""
    peer_address = parse_address(peer)
    forwarded = any(name in headers for name in FORWARDING_HEADERS)
    trusted = is_within(peer_address, around.trusted_proxies)
    address = _forwarded_address(headers, around) if forwarded and trusted else peer_address
    host, secure = parse_host(headers.get("Host")), False
    if trusted:
        host = parse_host(_last(headers, "X-Forwarded-Host", "host")) or host
        secure = (_last(headers, "X-Forwarded-Proto", "proto") or "").lower() in {"https", "wss"}
    is_near = is_within(address, LAN_NETWORKS) and (trusted or not forwarded)
    is_lan = is_near and _is_origin_near(headers.get("Origin"), host, around)
    return Caller(address, host or _host_of(own), secure, is_lan)


def _host_of(own: tuple[str, int] | None) -> HostPort:
    text, port = own or ("127.0.0.1", None)
    address = parse_address(text) or ipaddress.IPv4Address("127.0.0.1")
    return HostPort(f"[{address}]" if address.version == 6 else str(address), port)


def _forwarded_address(headers: MultiMapping[str], around: Neighbourhood) -> Address | None:
    """The nearest address that is no trusted proxy; what stands before it could have been made up by the caller."""
    chain = _values(headers, "X-Forwarded-For")
    chain = chain or [pairs["for"] for pairs in _forwarded_pairs(headers) if "for" in pairs]
    chain = chain or _values(headers, "X-Real-IP")[-1:]
    addresses = [parse_address(part) for part in chain]
    for address in reversed(addresses):
        if not is_within(address, around.trusted_proxies):
            return address
    return addresses[0] if addresses else None


def _values(headers: MultiMapping[str], name: str) -> list[str]:
    """All values in order: some proxies (HAProxy) add a line of their own below the one that the caller sent."""
    return [part.strip() for line in headers.getall(name, []) for part in line.split(",") if part.strip()]


def _forwarded_pairs(headers: MultiMapping[str]) -> list[dict[str, str]]:
    """The hops of a Forwarded header (RFC 7239), the caller's first."""
    return [
        {
            key.strip().lower(): value.strip().strip('"')
            for key, found, value in map(_partition, hop.split(";"))
            if found
        }
        for hop in _values(headers, "Forwarded")
    ]


def _partition(pair: str) -> tuple[str, str, str]:
    return pair.partition("=")


def _last(headers: MultiMapping[str], header: str, key: str) -> str | None:
    """What the nearest proxy says."""
    told = _values(headers, header) or [pairs[key] for pairs in _forwarded_pairs(headers) if key in pairs]
    return told[-1] if told else None


def _is_origin_near(origin: str | None, host: HostPort | None, around: Neighbourhood) -> bool:
    if origin is None:
        return True
    if origin.rstrip("/").lower() in around.allowed_origins:
        return True
    name = _origin_host(origin)
    if name is None:
        return False
    if name == "localhost" or getattr(parse_address(name), "is_loopback", False):
        return True
    is_called = host is not None and name == host.name.strip("[]").lower()
    return is_called and (parse_address(name) is not None or name in around.own_names)


def _origin_host(origin: str) -> str | None:
    try:
        return urlsplit(origin).hostname
    except ValueError:
        return None
