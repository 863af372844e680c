"""Addresses of routers that are known by name, asked off the loop: a slow name server must not stop the link.

libzmq would resolve a name in its I/O thread, at every attempt to connect, while all other routers' messages wait; so
it is given numbers only. A name that means several addresses is tried one after the other.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import structlog

from shared.link.tcp_address import TCP, parse_tcp_address
from shared.log.seldom import Seldom

log = structlog.get_logger(__name__)

TIMEOUT_S = 10.0
AGAIN_S = 5.0

OnAddress = Callable[[str], None]
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Host and port → addresses. Raises OSError."""


def is_named(endpoint: str) -> bool:
    return endpoint.startswith(TCP) and parse_tcp_address(endpoint).is_name


class Addresses:
    """At most one question under way for each endpoint."""

    def __init__(self, resolve: Resolve | None = None, again_s: float = AGAIN_S) -> None:
        self._loop = asyncio.get_running_loop()
        self._again_s = again_s
        self._resolve = resolve or self._ask_the_system
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._last: dict[str, str] = {}
        self._seldom = Seldom()

    def __repr__(self) -> str:
        return f"Addresses({self._last}, asking {sorted(self._asking)})"

    def ask(self, endpoint: str, tell: OnAddress) -> None:
        """`tell` gets the endpoint with a number in it, another one than last time if there are several."""
        if endpoint not in self._asking:
            name = f"resolve-{parse_tcp_address(endpoint).host}"
            task = self._loop.create_task(self._ask(endpoint, tell), name=name)
            self._asking[endpoint] = task

    def forget(self, endpoint: str) -> None:
        """Whoever asked is not interested any more."""
        task = self._asking.pop(endpoint, None)
        if task is not None:
            task.cancel()
        self._last.pop(endpoint, None)

    def close(self) -> None:
        for endpoint in list(self._asking):
            self.forget(endpoint)

    async def _ask(self, endpoint: str, tell: OnAddress) -> None:
        while True:
            hosts = await self._hosts_of(endpoint)
            if hosts:
                break
            await asyncio.sleep(self._again_s)
        chosen = next_of(hosts, self._last.get(endpoint))
        self._last[endpoint] = chosen
        del self._asking[endpoint]  # whoever is told may ask again
        tell(str(parse_tcp_address(endpoint).at(chosen)))

    async def _hosts_of(self, endpoint: str) -> list[str]:
        address = parse_tcp_address(endpoint)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._resolve(address.host, address.port)
        except (OSError, TimeoutError) as error:
            times = self._seldom.count(address.host, self._loop.time())
            if times is not None:
                log.warning("router_name_unknown", name=address.host, error=type(error).__name__, times=times)
            return []

    async def _ask_the_system(self, host: str, port: int) -> list[str]:
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [str(each[4][0]) for each in found]


def next_of(hosts: list[str], last: str | None) -> str:
    """The one after `last`, or the first."""
    if last not in hosts:
        return hosts[0]
    return hosts[(hosts.index(last) + 1) % len(hosts)]
