"""Terminates device WebSockets: one line per device, keepalive, the end of all.

Who is let in is decided by router.device.admission. A device that connects again replaces its older connection.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections import Counter as Tally
from functools import partial

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.server import ServerProtocol

from router import metrics, wire
from router.device.admission import Admission
from router.device.identity import Identity
from router.device.line import Line
from router.device.listener import Listener
from router.device.share_table import ShareTable
from router.device.socket import WRITE_LIMIT_BYTES, DeviceSocket
from router.device.timetable import Timetable
from router.device.uplink_batch import UplinkBatch
from router.pools.switchboard import Switchboard
from router.talk.conversation import Conversation
from router.talk.mouth import Prompts
from router.talk.session_stream import Caller
from shared.identity.auth import DeviceLookup, clean_client_id, clean_device_id
from shared.identity.enrol import DeviceState
from shared.settings import Settings

log = structlog.get_logger(__name__)

SWEEP_S = 5.0
"""How often all lines are looked at for pings, silence and the gauges."""

CLOSE_GRACE_S = 0.5
"""Beyond the time that the library gives the closing handshake."""

MAX_WAITING_MESSAGES = 64

DROP_EVERY_S = 0.1
"""At the end: some that were accepted just before are only now becoming connections."""
BACKLOG = 1024

NOT_A_DEVICE = "端口正常，如需测试连接，请启动digital-human测试"
"""What today's server tells a WebSocket client without a device-id; connection testers look for it."""

PHASES = ("idle", "listening", "thinking", "speaking")


class Gateway:
    """All device connections of one router."""

    def __init__(self, settings: Settings, switchboard: Switchboard, prompts: Prompts, registry: DeviceLookup) -> None:
        self._settings = settings
        self._switchboard = switchboard
        self._prompts = prompts
        self._registry = registry
        self._admission = Admission(settings, registry)
        self._lines: dict[str, Line] = {}
        """By device: the newest connection of each."""
        self._arriving: set[DeviceSocket] = set()
        """Connections whose request is not answered yet."""
        self._leaving: set[Line] = set()
        """Superseded or closing lines whose socket is not gone yet."""
        self._empty = asyncio.Event()
        """Set when a connection has ended and none is left."""
        self._closers: set[asyncio.Task[None]] = set()
        self._server: Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, listening: socket.socket, shares: ShareTable | None = None) -> None:
        """Serve on `listening`. `shares` if siblings accept from the same socket."""
        self._loop = asyncio.get_running_loop()
        self._timetable = Timetable(self._loop)
        self._uplink = UplinkBatch(self._loop)
        server = serve(self._handle, process_request=self._admission.admit, server_header=None)
        listener = Listener(
            self._loop, listening, lambda: self._socket(server, listener), backlog=BACKLOG, shares=shares
        )

        async def listen() -> Listener:
            await listener.start_serving()
            return listener

        # The library's own server cannot pause accepting; ours has the same interface.
        server.create_server = listen  # type: ignore[assignment]
        self._server = await server
        self._sweep()

    def _socket(self, server: Server, listener: Listener) -> DeviceSocket:
        connection = DeviceSocket(
            ServerProtocol(max_size=wire.MAX_MESSAGE_BYTES),
            server,
            max_queue=MAX_WAITING_MESSAGES,
            write_limit=WRITE_LIMIT_BYTES,
            ping_interval=None,
            close_timeout=self._settings.router.close_timeout_s,
        )
        self._arriving.add(connection)
        connection.on_gone = partial(self._gone, connection, listener)
        return connection

    def _gone(self, connection: DeviceSocket, listener: Listener) -> None:
        self._arriving.discard(connection)
        listener.left()

    @property
    def connections(self) -> int:
        return len(self._lines) + len(self._leaving)

    def reconfigure(self, settings: Settings) -> None:
        """For connections that begin from now on."""
        self._settings = settings
        self._admission.reconfigure(settings)

    def phases(self) -> dict[str, int]:
        tally = Tally(line.conversation.phase for line in self._lines.values())
        return {phase: tally.get(phase, 0) for phase in PHASES}

    async def drain(self, deadline_s: float, hurry: asyncio.Event) -> None:
        """Accept nobody new; let running turns end; then close what is left and wait until it is gone."""
        assert self._server is not None
        self._server.close(close_connections=False)
        for line in list(self._lines.values()):
            line.leave(1001, "going_away")
        await self._until_empty(deadline_s, hurry)
        for line in [*self._lines.values(), *self._leaving]:
            line.hang_up(1001, "going_away")
        await self._until_closed(self._server)
        while self._closers:
            await asyncio.wait(self._closers)

    async def _until_closed(self, server: Server) -> None:
        """Whoever has not finished asking by now would hold up the end for as long as a handshake may take."""
        closed = self._loop.create_task(server.wait_closed(), name="drain-closed")
        while not closed.done():
            for arriving in list(self._arriving):
                arriving.drop()
            await asyncio.wait((closed,), timeout=DROP_EVERY_S)
        await closed

    async def _until_empty(self, deadline_s: float, hurry: asyncio.Event) -> None:
        if not self.connections:
            return
        self._empty.clear()
        waits = [
            self._loop.create_task(event.wait(), name=f"drain-{name}")
            for name, event in (("empty", self._empty), ("hurry", hurry))
        ]
        await asyncio.wait(waits, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._timetable.close()
        self._uplink.close()

    # A connection's life

    async def _handle(self, connection: ServerConnection) -> None:
        assert isinstance(connection, DeviceSocket)
        self._arriving.discard(connection)
        self._admission.entered(connection)
        try:
            await self._converse(connection)
        finally:
            self._admission.left(connection)

    async def _converse(self, connection: DeviceSocket) -> None:
        identity: Identity = connection.identity
        device = clean_device_id(identity.device)
        if device is None:
            connection.send_now(NOT_A_DEVICE)
            return
        line = self._open_line(connection, identity, device)
        connection.on_message = line.receive
        try:
            # Messages that were queued before now, and fragmented ones; the rest goes straight to the line.
            async for message in connection:
                line.receive(message)
        except ConnectionClosed:
            pass
        finally:
            self._close_line(line)

    def _open_line(self, connection: DeviceSocket, identity: Identity, device: str) -> Line:
        older = self._lines.pop(device, None)
        if older is not None:
            # Its streams end now, so that its session commits before the new one begins.
            self._leaving.add(older)
            older.closed()
            older.hang_up(1000, "superseded")
        caller = Caller(secrets.token_hex(16), device, clean_client_id(identity.client) or "", identity.address)
        conversation = Conversation(caller, self._settings.router, self._prompts, time.monotonic())
        line = Line(
            connection,
            identity,
            conversation,
            self._switchboard,
            self._timetable,
            uplink=self._uplink,
            on_close=self._close_socket,
        )
        self._lines[device] = line
        metrics.CONNECTIONS_TOTAL.inc()
        metrics.CONNECTIONS.set(self.connections)
        line.log.info("connected", address=identity.address, gateway=identity.from_gateway)
        return line

    def _close_line(self, line: Line) -> None:
        if self._lines.get(line.device) is line:
            del self._lines[line.device]
        self._leaving.discard(line)
        line.closed()
        seconds = time.monotonic() - line.conversation.began_at
        metrics.CONNECTION_SECONDS.observe(seconds)
        metrics.WS_CLOSE.labels(line.final_reason).inc()
        metrics.CONNECTIONS.set(self.connections)
        if not self.connections:
            self._empty.set()
        line.log.info("closed", reason=line.final_reason, code=line.socket.close_code, seconds=round(seconds, 1))

    def _close_socket(self, line: Line, code: int, reason: str) -> None:
        timeout_s = self._settings.router.close_timeout_s + CLOSE_GRACE_S
        task = self._loop.create_task(line.socket.close_in_time(code, reason, timeout_s), name="device-close")
        self._closers.add(task)
        task.add_done_callback(self._closers.discard)

    # Keepalive

    def _sweep(self) -> None:
        """Ping who is due, drop who is dead. One timer for all: a task per connection would cost memory."""
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)
        now = time.monotonic()
        router = self._settings.router
        for line in [*self._lines.values(), *self._leaving]:
            if now - line.socket.heard_at > router.dead_after_s:
                line.close_reason = "dead"
                line.socket.drop()
            elif now - line.pinged_at >= router.ping_interval_s - SWEEP_S / 2:
                line.pinged_at = now
                line.socket.ping_now(b"keepalive")
                self._close_if_revoked(line)
        self._set_gauges()

    def _set_gauges(self) -> None:
        for phase, count in self.phases().items():
            metrics.SESSIONS.labels(phase).set(count)
        lines = self._lines.values()
        metrics.WS_WRITE_BUFFER.set(sum(line.socket.waiting_bytes for line in lines))
        metrics.WS_BLOCKED.set(sum(line.conversation.mouth.pacer.slow_at is not None for line in lines))
        metrics.UPLINK_LOG.set(sum(line.conversation.ear.log.size_bytes for line in lines))
        metrics.UPLINK_BACKLOG.set(max((line.conversation.ear.log.backlog_ms for line in lines), default=0.0) / 1000)
        metrics.EGRESS_FRAMES.set(sum(line.conversation.mouth.buffered_frames for line in lines))

    def _close_if_revoked(self, line: Line) -> None:
        record = self._registry.lookup(line.device) if self._settings.auth.enabled else None
        if record is not None and record.state is DeviceState.REVOKED:
            line.hang_up(1008, "revoked")
