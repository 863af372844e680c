"""One open WebSocket of a device: a reader task and a writer task, both ended by `close`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from ops.device.outbox import Outbox


class Line:
    """Hands in what arrives, sends what is put out. `on_closed(code, reason)` is called once, whoever hung up."""

    def __init__(
        self,
        socket: ClientConnection,
        name: str,
        on_message: Callable[[str | bytes], None],
        on_closed: Callable[[int, str], None],
    ) -> None:
        self.outbox = Outbox()
        self._socket = socket
        self._on_message = on_message
        self._on_closed = on_closed
        self._has_outgoing = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._read(), name=f"device-reader-{name}"),
            asyncio.create_task(self._write(), name=f"device-writer-{name}"),
        ]

    def put_text(self, text: str) -> None:
        self.outbox.put_text(text)
        self._has_outgoing.set()

    def put_audio(self, frame: bytes) -> None:
        self.outbox.put_audio(frame)
        self._has_outgoing.set()

    async def close(self) -> None:
        await self._socket.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop(self) -> None:
        """Hang up as a device does: the TCP connection ends without a close frame."""
        self._socket.transport.abort()

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                self._on_message(message)
        except ConnectionClosed:
            pass
        self._on_closed(self._socket.close_code or 1006, self._socket.close_reason or "")

    async def _write(self) -> None:
        try:
            while True:
                await self._has_outgoing.wait()
                self._has_outgoing.clear()
                while self.outbox:
                    await self._socket.send(self.outbox.take())
        except ConnectionClosed:
            return
