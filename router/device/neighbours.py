"""Which address a connection counts for, and who is exempt from limits by address.

Rules
- The peer of the TCP connection counts, unless it is one of `server.trusted_proxies`: then the address that it
  forwards.
- IPv6 counts by its first 64 bits: one customer has all the rest.
- Exempt are this machine, a trusted proxy that forwards no address, and the host of `server.mqtt_gateway` if that is an
  address: many devices stand behind each. That a client calls itself the gateway proves nothing.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network

from multidict import CIMultiDict

from router.web.caller import Address, Neighbourhood, is_within, parse_address, parse_host, parse_networks
from router.web.caller import identify as identify_caller
from shared.settings import Settings

IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class Origin:
    address: str
    """Of the device, as far as it is known."""
    counted_as: str
    """What limits by address go by; empty = exempt."""


class Neighbours:
    """Parsed once from the settings. Raises ValueError for a trusted proxy that is no address or network."""

    def __init__(self, settings: Settings) -> None:
        self._around = Neighbourhood(parse_networks(settings.auth.trusted_proxies))
        gateway = parse_host(settings.web.mqtt_gateway)
        self._gateway = None if gateway is None else parse_address(gateway.name)

    def origin(self, peer: str, headers: Iterable[tuple[str, str]]) -> Origin:
        """`peer` is the other end of the socket; `headers` are the request's, in order, doubles included."""
        address = parse_address(peer)
        if address is None:
            return Origin(peer, "")
        if not is_within(address, self._around.trusted_proxies):
            return Origin(peer, self._counted(address))
        forwarded = identify_caller(peer, CIMultiDict(headers), self._around).address
        if forwarded is None or is_within(forwarded, self._around.trusted_proxies):
            return Origin(peer, "")
        return Origin(str(forwarded), self._counted(forwarded))

    def _counted(self, address: Address) -> str:
        if address.is_loopback or address == self._gateway:
            return ""
        if address.version == 6:
            return str(ip_network((address, IPV6_PREFIX), strict=False))
        return str(address)
