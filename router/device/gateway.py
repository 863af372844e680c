"""Terminates device WebSockets: identity, authorisation before the upgrade, keepalive, one line per device.

A GET that asks for no upgrade is answered 200, whatever its path, so that load balancers and people can look. A device
that connects again replaces its older connection.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections import Counter as Tally
from http import HTTPStatus

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from router import metrics, wire
from router.device.identity import Identity, identify
from router.device.line import Line
from router.device.socket import WRITE_LIMIT_BYTES, DeviceSocket
from router.device.timetable import Timetable
from router.device.uplink_batch import UplinkBatch
from router.pools.switchboard import Switchboard
from router.talk.conversation import Conversation
from router.talk.mouth import Prompts
from router.talk.session_stream import Caller
from shared.identity.auth import DeviceLookup, authorise, clean_client_id, clean_device_id
from shared.identity.enrol import DeviceState
from shared.settings import Settings

log = structlog.get_logger(__name__)

SWEEP_S = 5.0
"""How often all lines are looked at for pings, silence and the gauges."""

MAX_WAITING_MESSAGES = 64
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
        self._lines: dict[str, Line] = {}
        """By device: the newest connection of each."""
        self._leaving: set[Line] = set()
        """Superseded or closing lines whose socket is not gone yet."""
        self._empty = asyncio.Event()
        """Set when a connection has ended and none is left."""
        self._closers: set[asyncio.Task[None]] = set()
        self._server: Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._timetable = Timetable(self._loop)
        self._uplink = UplinkBatch(self._loop)
        self._server = await serve(
            self._handle,
            sock=listener,
            backlog=BACKLOG,
            create_connection=DeviceSocket,
            process_request=self._admit,
            compression=None,
            max_size=wire.MAX_MESSAGE_BYTES,
            max_queue=MAX_WAITING_MESSAGES,
            write_limit=WRITE_LIMIT_BYTES,
            ping_interval=None,
            close_timeout=self._settings.router.close_timeout_s,
            server_header=None,
        )
        self._sweep()

    @property
    def connections(self) -> int:
        return len(self._lines) + len(self._leaving)

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
        await self._server.wait_closed()
        while self._closers:
            await asyncio.wait(self._closers)

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

    # Before the upgrade

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        assert isinstance(connection, DeviceSocket)
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return connection.respond(HTTPStatus.OK, "Server is running\n")
        peer = connection.remote_address
        identity = identify(request.path, request.headers, str(peer[0]) if peer else "")
        connection.identity = identity
        if identity.device is None and not self._settings.auth.enabled:
            return None
        result = authorise(
            self._settings.auth,
            identity.device,
            identity.client,
            identity.authorization,
            now_s=time.time(),
            registry=self._registry,
        )
        if result.accepted:
            return None
        metrics.CONNECTION_REJECTS.labels(str(result.reason)).inc()
        log.info("connection_refused", reason=str(result.reason), address=identity.address)
        return connection.respond(HTTPStatus.UNAUTHORIZED, "Unauthorized\n")

    # A connection's life

    async def _handle(self, connection: ServerConnection) -> None:
        assert isinstance(connection, DeviceSocket)
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
        metrics.WS_CLOSE.labels(line.close_reason).inc()
        metrics.CONNECTIONS.set(self.connections)
        if not self.connections:
            self._empty.set()
        line.log.info("closed", reason=line.close_reason, code=line.socket.close_code, seconds=round(seconds, 1))

    def _close_socket(self, line: Line, code: int, reason: str) -> None:
        task = self._loop.create_task(line.socket.close(code, reason), name="device-close")
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
        for phase, count in self.phases().items():
            metrics.SESSIONS.labels(phase).set(count)

    def _close_if_revoked(self, line: Line) -> None:
        record = self._registry.lookup(line.device) if self._settings.auth.enabled else None
        if record is not None and record.state is DeviceState.REVOKED:
            line.hang_up(1008, "revoked")
