"""Who asks for a WebSocket: ids and token from headers or, where there are none, from the query string."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from router.wire import Framing


@dataclass(frozen=True, slots=True)
class Identity:
    """As claimed; nothing here is verified yet."""

    device: str | None
    client: str | None
    authorization: str | None
    address: str
    protocol_version: int | None
    from_gateway: bool

    def framing(self, hello_version: int | None) -> Framing:
        """How this device wraps audio. Its header says; the browser page has only its hello."""
        if self.from_gateway:
            return Framing.GATEWAY
        for version in (self.protocol_version, hello_version):
            if version in (1, 2, 3):
                return Framing(version)
        return Framing.V1


def identify(path: str, headers: Mapping[str, str], peer: str) -> Identity:
    """`headers` is case-insensitive. A device-id header makes the query string's ids void, as today's server has it."""
    query = {key.lower(): values[0] for key, values in parse_qs(_query(path)).items()}
    source: Mapping[str, str] = headers if headers.get("Device-Id") else query
    keys = ("Device-Id", "Client-Id", "Authorization")
    device, client, authorization = (source.get(key if source is headers else key.lower()) for key in keys)
    version = headers.get("Protocol-Version", "")
    return Identity(
        device=device,
        client=client,
        authorization=authorization,
        address=peer,
        protocol_version=int(version) if version in ("1", "2", "3") else None,
        from_gateway=query.get("from") == "mqtt_gateway",
    )


def _query(path: str) -> str:
    """Not by urlsplit: that takes //name for a host, and raises for a bracket in it."""
    return path.partition("#")[0].partition("?")[2]
