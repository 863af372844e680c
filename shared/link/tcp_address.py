"""A router's address on the network: tcp://HOST:PORT, from which each pool's own endpoint follows. Pure.

Rules
- One address stands for one router. Its pools are on consecutive ports: asr +0, tts +1, session +2.
- Router slots of one machine are ten ports apart.
- An IPv6 address stands in brackets, as in a URL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import ip_address

from shared.ids import Role

TCP = "tcp://"
PORT_OF_ROLE = {Role.ASR: 0, Role.TTS: 1, Role.SESSION: 2}
PORTS_PER_SLOT = 10
LAST_LINK_PORT = 65_535 - max(PORT_OF_ROLE.values())

_ADDRESS = re.compile(r"tcp://(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>\*|[\w.-]+)):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """Host without brackets, and the port of the first pool."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{TCP}{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def is_name(self) -> bool:
        """Whether it has to be resolved before anybody can connect to it."""
        try:
            ip_address(self.host.partition("%")[0])
        except ValueError:
            return self.host != "*"
        return False

    def at(self, host: str) -> TcpAddress:
        return replace(self, host=host)

    def of_role(self, role: Role) -> TcpAddress:
        return replace(self, port=self.port + PORT_OF_ROLE[role])

    def of_slot(self, slot: int) -> TcpAddress:
        return replace(self, port=self.port + slot * PORTS_PER_SLOT)


def is_tcp_address(text: str) -> bool:
    """Something to bind: `*` is every address."""
    match = _ADDRESS.fullmatch(text)
    return match is not None and 0 < int(match["port"]) <= LAST_LINK_PORT


def is_tcp_peer(text: str) -> bool:
    """Something to connect to."""
    return is_tcp_address(text) and parse_tcp_address(text).host != "*"


def parse_tcp_address(text: str) -> TcpAddress:
    """Raises ValueError."""
    match = _ADDRESS.fullmatch(text)
    if match is None or not is_tcp_address(text):
        raise ValueError(f"{text!r} is not {TCP}HOST:PORT")
    return TcpAddress(match["six"] or match["host"], int(match["port"]))
