"""What a device is told at the OTA address, and whether its caller can be told from a stranger. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from ops.doctor.finding import Finding, fail, ok, warn

OTA = "OTA answer"
CALLERS = "callers"
PATH = "/xiaozhi/v1/"
MANY_CALLERS = 3
_CONTAINER_NAMES = (".internal", ".local.docker")
_CONTAINER_NETWORK = ipaddress.ip_network("172.17.0.0/16")
"""Docker's default bridge."""


@dataclass(frozen=True, slots=True)
class OtaFact:
    """`url` is the configured address; None = made from the host that each device called."""

    url: str | None
    own_address: str
    """Of the interface that leads out."""
    ws_port: int
    is_container: bool = False
    reach: str | None = None
    """Why nothing answered at that address; "" = something did; None = not tried."""


@dataclass(frozen=True, slots=True)
class CallerFact:
    """From where connections came, one entry each."""

    enroll: str
    addresses: Sequence[str]
    gateway: str | None
    trusted_proxies: Sequence[str] = ()
    is_container: bool = False


def judge_ota(fact: OtaFact) -> Iterator[Finding]:
    if fact.url is None:
        yield from _judge_own_address(fact)
        return
    found = list(_url_faults(fact.url))
    if not found and fact.reach:
        remedy = "start the cluster, or correct server.websocket (is the port published, does the proxy forward it?)"
        found.append(warn(OTA, f"devices are sent to {_shown(fact.url)}: {fact.reach}", remedy))
    yield from found or [ok(OTA, f"devices are sent to {_shown(fact.url)}")]


def _judge_own_address(fact: OtaFact) -> Iterator[Finding]:
    what = f"devices are sent to the host they called, port {fact.ws_port}; here ws://{fact.own_address}:{fact.ws_port}"
    if fact.own_address.startswith("127."):
        yield warn(OTA, "this machine has no address but loopback: only devices on it can connect", "connect it")
    elif fact.is_container:
        remedy = "publish that port under the same number, or set server.websocket to the address outside"
        yield warn(OTA, f"{what} is inside a container", remedy)
    else:
        yield ok(OTA, what + PATH)


def _url_faults(url: str) -> Iterator[Finding]:
    remedy = f"set server.websocket to ws://ADDRESS:PORT{PATH} as devices reach it"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        yield fail(OTA, "server.websocket is no address", remedy)
        return
    if parts.scheme not in ("ws", "wss"):
        yield fail(OTA, f"server.websocket begins with {parts.scheme or 'nothing'}://, not ws:// or wss://", remedy)
    elif not host:
        yield fail(OTA, "server.websocket names no host", remedy)
    elif _is_loopback(host):
        yield fail(OTA, f"devices are sent to {host}, which is the device itself", remedy)
    elif _is_inside_container(host):
        yield fail(OTA, f"devices are sent to {host}, which exists inside containers only", remedy)
    elif not parts.path.startswith(PATH):
        yield warn(OTA, f"server.websocket has another path than {PATH}", remedy)


def _shown(url: str) -> str:
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and (address.is_loopback or address.is_unspecified))


def _is_inside_container(host: str) -> bool:
    address = _address(host)
    return host.endswith(_CONTAINER_NAMES) or (address is not None and address in _CONTAINER_NETWORK)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def judge_callers(fact: CallerFact) -> Iterator[Finding]:
    """With `enroll: lan` a private address is a key: nobody else's callers may appear with one."""
    remedy = "list the proxy in server.trusted_proxies, or set server.auth.enroll: activation"
    outside = [address for address in fact.addresses if address not in fact.trusted_proxies]
    if fact.enroll != "lan":
        yield ok(CALLERS, f"enrolment is {fact.enroll}: addresses decide nothing")
    elif len(outside) >= MANY_CALLERS and len(set(outside)) == 1:
        where = " (the gateway: a container's bridge or a proxy)" if outside[0] == fact.gateway else ""
        what = f"all {len(outside)} connections come from {outside[0]}{where}, so everybody counts as local"
        yield warn(CALLERS, what, remedy)
    elif fact.is_container and not fact.trusted_proxies:
        what = "in a container, callers of the internet can appear with the bridge's private address"
        yield warn(CALLERS, what, "set server.auth.enroll: activation, or use the host's network")
    else:
        yield ok(CALLERS, f"enrolment is lan; {len(set(fact.addresses))} addresses are connected")
