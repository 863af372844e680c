"""A device's WebSocket: the one place that touches what the websockets library does not document.

`send` of the library may wait; a router must never wait for a device. So frames are written at once, as the library's
own `broadcast` does it, and the transport's write buffer is the limit: `on_writable(False)` above 16 KiB.

A message that came in one piece goes straight to `on_message`, in the callback that read it: a queue and a task's
wake-up for each would cost as much as all the rest. Fragmented ones, which no known device sends, take the library's
way and come out of `async for`; their pieces may not be interleaved with other messages.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Event

from router import metrics

SEND_BUFFER_BYTES = 16 * 1024
"""In the kernel: more could not be taken back by an abort."""

WRITE_LIMIT_BYTES = 16 * 1024
"""In the process, above which the device counts as slow."""


_WHOLE = frozenset({Opcode.TEXT, Opcode.BINARY})
_FRAGMENTS = _WHOLE | {Opcode.CONT}

INVALID_DATA = 1007
MESSAGE_TOO_BIG = 1009

MAX_FRAGMENTS = 64
"""Of one message. The library bounds their bytes, and empty ones have none."""


def _ignore(_: Any) -> None:
    return


def _nothing() -> None:
    return


class DeviceSocket(ServerConnection):
    """A server connection that tells of every sign of life and never waits to send."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heard_at = time.monotonic()
        """When any byte of the device arrived last, pongs included."""
        self.on_pong: Callable[[bytes], None] = _ignore
        self.on_writable: Callable[[bool], None] = _ignore
        self.on_message: Callable[[str | bytes], None] | None = None
        """Set once the handshake is over; until then the library queues."""
        self.on_control: Callable[[], None] = _nothing
        """A frame that is no whole message has come."""
        self.on_gone: Callable[[], None] = _nothing
        """The TCP connection is over, whether it ever became a WebSocket or not."""
        self.identity: Any = None
        self._fragments = 0
        self._is_connected = False
        self.counted_as = ""
        """The address that limits go by; empty = exempt."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._is_connected = True
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.response is None:
            metrics.HANDSHAKES_UNFINISHED.inc()
        self.on_gone()

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        super().data_received(data)

    def process_event(self, event: Event) -> None:
        if self.on_message is None or not isinstance(event, Frame):
            super().process_event(event)
        elif event.opcode in _WHOLE and event.fin:
            self._deliver(event, self.on_message)
        elif self._is_endless(event):
            self.protocol.fail(MESSAGE_TOO_BIG)
            self.send_data()
        else:
            super().process_event(event)
            self.on_control()
            if event.opcode is Opcode.PONG:
                self.on_pong(bytes(event.data))

    def _is_endless(self, frame: Frame) -> bool:
        if frame.opcode in _FRAGMENTS:
            self._fragments = 0 if frame.fin else self._fragments + 1
        return self._fragments > MAX_FRAGMENTS

    def _deliver(self, frame: Frame, on_message: Callable[[str | bytes], None]) -> None:
        data = bytes(frame.data)
        if frame.opcode is Opcode.BINARY:
            on_message(data)
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self.protocol.fail(INVALID_DATA)
            self.send_data()
            return
        on_message(text)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.on_writable(False)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.on_writable(True)

    @property
    def waiting_bytes(self) -> int:
        """Written and not yet taken by the kernel."""
        return self.transport.get_write_buffer_size()

    def send_now(self, message: str | bytes) -> bool:
        """Write one message. False if the connection is not open."""
        protocol = self.protocol
        if protocol.state is not OPEN:
            return False
        if isinstance(message, str):
            protocol.send_text(message.encode())
        else:
            protocol.send_binary(message)
        self.send_data()
        return True

    def ping_now(self, payload: bytes) -> None:
        if self.protocol.state is OPEN:
            self.protocol.send_ping(payload)
            self.send_data()

    async def close_in_time(self, code: int, reason: str, timeout_s: float) -> None:
        """Close, and cut the connection if that takes longer: the library waits for ever for a socket that is full."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.close(code, reason)
        except TimeoutError:
            self.drop()

    def drop(self) -> None:
        """Cut the TCP connection: the device is not there any more. Nothing happens before there is one."""
        if self._is_connected:
            self.transport.abort()
