"""A WebSocket client that does only what it is told: for what a faithful device would never send, or would leave out.

It writes its own request and keeps everything that arrives with its time. It can be deaf to pings and closes, and a
frame with a reserved bit, which the firmware would take for garbage, is a fault.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from ops.device import wire
from ops.device.enrolment import Identity, enrol, simulated_mac
from tests.fakes.cluster import Cluster

PATH = "/xiaozhi/v1/"
MCP_HELLO: dict[str, Any] = wire.hello(1)
"""The firmware's. Who says it has to answer the MCP requests, or turns wait for the tools."""
HELLO: dict[str, Any] = {**MCP_HELLO, "features": {}}
TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Received:
    """One message of the server. `body` is the object of a JSON text, the text of any other, or audio."""

    at: float
    body: dict[str, Any] | str | bytes

    def is_text(self, kind: str, state: str | None = None) -> bool:
        body = self.body
        return isinstance(body, dict) and body.get("type") == kind and state in (None, body.get("state"))


class RawDevice(asyncio.Protocol):
    """One connection. `connect` returns when the server has answered the request, whatever it answered."""

    def __init__(self, *, is_deaf: bool = False) -> None:
        self.received: list[Received] = []
        self.head = ""
        self.body = b""
        """Of an answer that is no upgrade."""
        self.close_code: int | None = None
        self.is_gone = False
        """The TCP connection is over."""
        self.on_message: Callable[[RawDevice, dict[str, Any]], None] | None = None
        self._is_deaf = is_deaf
        self._news = asyncio.Event()
        self._bytes = b""
        self._protocol = ClientProtocol(parse_uri("ws://device"), state=OPEN, max_size=1 << 20)
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def connect(
        cls, cluster: Cluster, headers: Mapping[str, str], *, path: str = PATH, is_deaf: bool = False
    ) -> RawDevice:
        loop = asyncio.get_running_loop()
        device = cls(is_deaf=is_deaf)
        await loop.create_connection(lambda: device, "127.0.0.1", cluster.ports.ws)
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        device.write("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        await device.until(lambda: bool(device.head) or device.is_gone)
        return device

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        at = time.monotonic()
        if not self.head:
            data = self._read_head(data)
        if self.status == 101:
            self._read_frames(data, at)
        else:
            self.body += data
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_gone = True
        self._news.set()

    def _read_head(self, data: bytes) -> bytes:
        self._bytes += data
        head, separator, rest = self._bytes.partition(b"\r\n\r\n")
        if separator:
            self.head = head.decode()
        return rest if separator else b""

    def _read_frames(self, data: bytes, at: float) -> None:
        if data:
            self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            assert isinstance(event, Frame)
            self._on_frame(event, at)
        answers = self._protocol.data_to_send()
        if not self._is_deaf:
            for answer in answers:
                self.write(answer)

    def _on_frame(self, frame: Frame, at: float) -> None:
        match frame.opcode:
            case Opcode.TEXT:
                body = _parsed(bytes(frame.data).decode())
                self.received.append(Received(at, body))
                if self.on_message is not None and isinstance(body, dict):
                    self.on_message(self, body)
            case Opcode.BINARY:
                self.received.append(Received(at, bytes(frame.data)))
            case Opcode.CLOSE:
                self.close_code = int(Close.parse(bytes(frame.data)).code)

    # What arrived

    @property
    def status(self) -> int:
        """Of the answer to the request; 0 before it."""
        return int(self.head.split(" ", 2)[1]) if self.head else 0

    @property
    def fault(self) -> Exception | None:
        """What of the server's frames no device could read."""
        return self._protocol.parser_exc

    @property
    def session(self) -> str:
        return str(self.texts("hello")[0]["session_id"])

    @property
    def audio(self) -> list[bytes]:
        return [one.body for one in self.received if isinstance(one.body, bytes)]

    def texts(self, kind: str, state: str | None = None) -> list[dict[str, Any]]:
        return [one.body for one in self.received if isinstance(one.body, dict) and one.is_text(kind, state)]

    def times(self, kind: str, state: str | None = None) -> list[float]:
        return [one.at for one in self.received if one.is_text(kind, state)]

    @property
    def audio_times(self) -> list[float]:
        return [one.at for one in self.received if isinstance(one.body, bytes)]

    async def until(self, condition: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> None:
        """Wait for messages until it is so. AssertionError if the connection ends before, or if it takes too long."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    assert not self.is_gone, f"the connection has ended: {self}"
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"not within {timeout_s} s: {self}") from None

    async def turns_over(self, count: int = 1) -> None:
        await self.until(lambda: len(self.texts("tts", "stop")) >= count)

    async def gone(self) -> None:
        """Wait for the end of the connection."""
        await self.until(lambda: self.is_gone)

    def __repr__(self) -> str:
        told = [one.body if isinstance(one.body, dict) else type(one.body).__name__ for one in self.received]
        return f"<RawDevice status={self.status} close={self.close_code} gone={self.is_gone} last={told[-6:]}>"

    # What is sent

    def write(self, data: bytes) -> None:
        """Bytes as they are; none = the end of the stream."""
        assert self._transport is not None
        if self._transport.is_closing():
            return
        if data:
            self._transport.write(data)
        else:
            self._transport.write_eof()

    def send(self, message: dict[str, Any] | list[Any] | str | bytes) -> None:
        """An object as JSON, anything else as it is."""
        if isinstance(message, bytes):
            self._protocol.send_binary(message)
        else:
            text = message if isinstance(message, str) else json.dumps(message)
            self._protocol.send_text(text.encode("utf-8", "surrogateescape"))
        for data in self._protocol.data_to_send():
            self.write(data)

    def send_all(self, messages: Iterable[bytes]) -> None:
        for message in messages:
            self.send(message)

    def listen(self, state: str, **fields: Any) -> None:
        self.send({"type": "listen", "state": state, **fields})

    def hang_up(self) -> None:
        """As a device does: the TCP connection is dropped, nothing is said."""
        if self._transport is not None:
            self._transport.abort()


def _parsed(text: str) -> dict[str, Any] | str:
    try:
        body = json.loads(text)
    except ValueError:
        return text
    return body if isinstance(body, dict) else text


def upgrade_headers(identity: Identity, token: str = "", **changes: str) -> dict[str, str]:
    """The firmware's request: `Host` without a port, no `Origin`, no extensions (78/esp-ml307, src/web_socket.cc)."""
    headers = {
        "Host": "127.0.0.1",
        "Authorization": f"Bearer {token}",
        "Client-Id": identity.client_id,
        "Connection": "Upgrade",
        "Device-Id": identity.device,
        "Protocol-Version": "1",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
        "Upgrade": "websocket",
    }
    if not token:
        del headers["Authorization"]
    return {**headers, **{name.replace("_", "-"): value for name, value in changes.items()}}


def identity_of(number: int) -> Identity:
    return Identity(simulated_mac("raw", number))


async def token_of(cluster: Cluster, identity: Identity) -> str:
    async with aiohttp.ClientSession() as http:
        return (await enrol(http, cluster.ota_url, identity)).token


@asynccontextmanager
async def raw_device(
    cluster: Cluster,
    number: int,
    *,
    hello: dict[str, Any] | None = HELLO,
    path: str = PATH,
    is_deaf: bool = False,
    on_message: Callable[[RawDevice, dict[str, Any]], None] | None = None,
    **headers: str,
) -> AsyncIterator[RawDevice]:
    """Enrolled and connected, and greeted if it says `hello`."""
    identity = identity_of(number)
    token = await token_of(cluster, identity)
    device = await RawDevice.connect(cluster, upgrade_headers(identity, token, **headers), path=path, is_deaf=is_deaf)
    device.on_message = on_message
    try:
        assert device.status == 101, device.head
        if hello is not None:
            device.send(hello)
            await device.until(lambda: bool(device.texts("hello")))
        yield device
        assert device.fault is None, device.fault
    finally:
        device.hang_up()
