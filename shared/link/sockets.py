"""The two ends of a link: a router's ROUTER socket, a worker's DEALER. What they do with a loop is in loop_socket.

Rules
- ROUTER_MANDATORY, because a default ROUTER drops silently what it cannot deliver; EHOSTUNREACH means that the peer
  is gone, EAGAIN that it is full (libzmq#485).
- Socket options hold for the endpoints bound or connected after them (zmq_setsockopt(3)): a router's ipc:// socket is
  plain and its tcp:// socket is CURVE, on the same ROUTER.
- Which key a remote worker came with is asked of its first message only: nothing costs per message.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import structlog
import zmq

from shared.errors import ConfigError, WorkerProtocolError
from shared.ids import WorkerId
from shared.link.endpoints import IPC, SocketFile, check_endpoint, prepare_directory
from shared.link.envelope import MAX_BODY_BYTES, MAX_MESSAGE_BYTES, Head, unpack_head
from shared.link.gate import ZAP_DOMAIN, Gate
from shared.link.keys import WorkerKeys
from shared.link.loop_socket import LINGER_MS, LoopSocket, Notice, SendOutcome
from shared.link.strangers import Doorstep, Knock, Reason
from shared.link.tcp_address import TCP
from shared.log.seldom import Seldom

log = structlog.get_logger(__name__)

HIGH_WATER_MESSAGES = 32_768
"""A fuse, never flow control: about three seconds of 400 ears at 60 ms."""

HANDSHAKE_MS = 5_000
RECONNECT_MS = (100, 3_000)
HEARTBEAT_MS = (1_000, 3_000)
CONNECT_MS = 3_000
"""An attempt that met a cut cable is given up: the kernel's own next one may be a minute away."""
BACKLOG = 128

MAX_ORIGINS = 10_000
"""Identities whose key is remembered; a worker is forgotten when it is buried."""

OnWorkerMessage = Callable[[WorkerId, Head, bytes], None]
OnRouterMessage = Callable[[Head, bytes], None]

_EVENT = struct.Struct("=HI")
_KNOCKS = {
    int(zmq.EVENT_ACCEPTED): Knock.ACCEPTED,
    int(zmq.EVENT_HANDSHAKE_SUCCEEDED): Knock.SUCCEEDED,
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): Knock.FAILED_KEY,
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): Knock.FAILED_PROTOCOL,
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): Knock.FAILED_SILENTLY,
    int(zmq.EVENT_DISCONNECTED): Knock.DISCONNECTED,
}
_DISCONNECTED = int(zmq.EVENT_DISCONNECTED)
_REFUSALS = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_MECHANISM_MISMATCH = int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
_RCVMORE = int(zmq.RCVMORE)


class Traffic:
    """What passed one socket since it was last asked."""

    __slots__ = ("malformed", "received", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0
        self.malformed = 0

    def take(self) -> tuple[int, int, int]:
        counts = (self.received, self.sent, self.malformed)
        self.received = self.sent = self.malformed = 0
        return counts


class RouterLink:
    """The router's end: one ROUTER socket that all workers of one pool connect to.

    `endpoint` is ipc://. `remote` is tcp:// and needs a `gate`.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        *,
        on_message: OnWorkerMessage,
        on_disconnect: Notice,
        on_drained: Notice,
        high_water: int = HIGH_WATER_MESSAGES,
        remote: str | None = None,
        gate: Gate | None = None,
        on_stranger: Callable[[Reason], None] | None = None,
    ) -> None:
        prepare_directory(check_endpoint(endpoint))
        self.traffic = Traffic()
        self._on_message = on_message
        self._on_disconnect = on_disconnect
        self._gate = gate
        self._on_stranger = on_stranger
        self._origins: dict[bytes, str | None] = {}
        self._doorstep = Doorstep()
        self._seldom = Seldom()
        self._loop = asyncio.get_running_loop()
        self._raw = context.socket(zmq.ROUTER)
        _set_common(self._raw, high_water)
        self._raw.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # The monitor tells of a dead peer before anything is sent to it, but not which one it was.
        events = zmq.EVENT_DISCONNECTED if remote is None else sum(_KNOCKS)
        self._monitor = LoopSocket(self._raw.get_monitor_socket(events), self._on_monitor, _nothing)
        self._bind("XZ_RUN_DIR", endpoint)
        self._file = SocketFile(endpoint)
        if remote is not None:
            self._bind_remote(remote)
        receive = None if remote is None else self._receive_with_origin
        self._socket = LoopSocket(self._raw, self._on_parts, on_drained, receive)

    def send(self, worker: WorkerId, head: bytes, body: bytes | None) -> SendOutcome:
        name = worker.encode()
        outcome = self._socket.send([name, head] if body is None else [name, head, body])
        if outcome is SendOutcome.SENT:
            self.traffic.sent += 1
        return outcome

    def kick(self) -> None:
        self._socket.kick()

    def close(self) -> None:
        self._file.remove()
        _stop_monitor(self._raw, self._monitor)
        self._socket.close()

    def origin_of(self, worker: WorkerId) -> str | None:
        """The key that a worker of another machine came with; None = of this machine."""
        return self._origins.get(worker.encode())

    def admits(self, worker: WorkerId) -> bool:
        """Whether its key, if it needs one, is still on the list."""
        origin = self.origin_of(worker)
        return origin is None or (self._gate is not None and self._gate.allows(origin))

    def forget(self, worker: WorkerId) -> None:
        """Its key is asked again should it send anything more."""
        self._origins.pop(worker.encode(), None)

    def _bind_remote(self, remote: str) -> None:
        if self._gate is None:
            self._abandon()
            raise ConfigError("XZ_LINK_BIND", remote, "keys: make them with `xiaozhi keys init`")
        self._raw.setsockopt(zmq.CURVE_SERVER, 1)
        self._raw.setsockopt(zmq.CURVE_SECRETKEY, self._gate.keys.secret)
        self._raw.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        self._raw.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without its gate nobody gets in
        self._raw.setsockopt(zmq.BACKLOG, BACKLOG)
        _set_tcp(self._raw, remote)
        self._bind("XZ_LINK_BIND", check_endpoint(remote))

    def _bind(self, key: str, endpoint: str) -> None:
        try:
            self._raw.bind(endpoint)
        except zmq.ZMQError as error:
            self._abandon()
            raise ConfigError(key, endpoint, f"a socket we can bind ({error.strerror})") from error

    def _abandon(self) -> None:
        _stop_monitor(self._raw, self._monitor)
        self._raw.close(0)

    def _receive_with_origin(self, flags: int) -> list[bytes]:
        socket = self._raw
        parts = [socket.recv(flags)]
        if parts[0] not in self._origins and socket.getsockopt(_RCVMORE):
            frame = socket.recv(flags, copy=False)
            parts.append(frame.bytes)
            self._remember_origin(parts[0], frame)
        while socket.getsockopt(_RCVMORE):
            parts.append(socket.recv(flags))
        return parts

    def _remember_origin(self, name: bytes, frame: zmq.Frame) -> None:
        try:
            origin = str(frame.get("User-Id"))
        except zmq.ZMQError:
            origin = None  # it came over ipc://, where nobody is asked
        self._origins[name] = origin
        if len(self._origins) > MAX_ORIGINS:
            del self._origins[next(iter(self._origins))]

    def _on_parts(self, parts: list[bytes]) -> None:
        self.traffic.received += 1
        try:
            worker = WorkerId(parts[0].decode("ascii"))
            head, body = _split(parts[1:])
        except (UnicodeDecodeError, WorkerProtocolError):
            self.traffic.malformed += 1
            return
        self._on_message(worker, head, body)

    def _on_monitor(self, parts: list[bytes]) -> None:
        event, value = _EVENT.unpack(parts[0])
        if not parts[1].startswith(b"tcp"):
            if event == _DISCONNECTED:
                self._on_disconnect()
            return
        knock = _KNOCKS[event]
        if knock is Knock.FAILED_PROTOCOL and value == _MECHANISM_MISMATCH:
            knock = Knock.FAILED_MECHANISM
        self._on_knock(knock, value)

    def _on_knock(self, knock: Knock, value: int) -> None:
        is_strangers = self._doorstep.is_strangers(knock)
        reason = self._doorstep.on_knock(knock, value, self._loop.time())
        if reason is not None:
            self._on_refused(reason)
        if knock is Knock.DISCONNECTED and not is_strangers:
            self._on_disconnect()

    def _on_refused(self, reason: Reason) -> None:
        if self._on_stranger is not None:
            self._on_stranger(reason)
        count = self._seldom.count(reason, self._loop.time())
        if count is not None:
            log.warning("link_stranger_refused", reason=reason.value, times=count)


class WorkerLink:
    """The worker's end towards one router: a DEALER with an identity of its own."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        identity: WorkerId,
        *,
        on_message: OnRouterMessage,
        on_drained: Notice,
        high_water: int = HIGH_WATER_MESSAGES,
        keys: WorkerKeys | None = None,
        on_refused: Notice | None = None,
    ) -> None:
        """`on_refused`: a tcp:// router did not let us in, or was not the one whose key we have."""
        self.identity = identity
        self.traffic = Traffic()
        self._on_message = on_message
        self._on_refused = on_refused
        self._monitor: LoopSocket | None = None
        self._raw = socket = context.socket(zmq.DEALER)
        _set_common(socket, high_water)
        socket.setsockopt(zmq.IDENTITY, identity.encode("ascii"))
        socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing queues for an absent router, to reach its successor stale
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS[0])
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MS[1])
        if not endpoint.startswith(IPC):
            self._secure(endpoint, keys)
        socket.connect(check_endpoint(endpoint))
        self._socket = LoopSocket(socket, self._on_parts, on_drained)

    def send(self, head: bytes, body: bytes | None) -> SendOutcome:
        outcome = self._socket.send([head] if body is None else [head, body])
        if outcome is SendOutcome.SENT:
            self.traffic.sent += 1
        return outcome

    def kick(self) -> None:
        self._socket.kick()

    def close(self, linger_ms: int = LINGER_MS) -> None:
        if self._monitor is not None:
            _stop_monitor(self._raw, self._monitor)
            self._monitor = None
        self._socket.close(linger_ms)

    def _secure(self, endpoint: str, keys: WorkerKeys | None) -> None:
        if keys is None:
            self._raw.close(0)
            raise ConfigError("XZ_ROUTER_ENDPOINTS", endpoint, "keys: make them with `xiaozhi keys add NAME`")
        self._raw.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        self._raw.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        self._raw.setsockopt(zmq.CURVE_SERVERKEY, keys.router)
        self._raw.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
        _set_tcp(self._raw, endpoint)
        if self._on_refused is not None:
            self._monitor = LoopSocket(self._raw.get_monitor_socket(_REFUSALS), self._on_monitor, _nothing)

    def _on_parts(self, parts: list[bytes]) -> None:
        self.traffic.received += 1
        try:
            head, body = _split(parts)
        except WorkerProtocolError:
            self.traffic.malformed += 1
            return
        self._on_message(head, body)

    def _on_monitor(self, parts: list[bytes]) -> None:
        if self._on_refused is not None:
            self._on_refused()


def make_context() -> zmq.Context[zmq.Socket[bytes]]:
    """One per process: it costs two threads, however many sockets it has."""
    return zmq.Context(io_threads=1)


def _stop_monitor(watched: zmq.Socket[bytes], monitor: LoopSocket) -> None:
    """In this order: without a reader libzmq's thread waits for one for ever, holding what disabling needs."""
    watched.disable_monitor()
    monitor.close(0)


def _set_common(socket: zmq.Socket[bytes], high_water: int) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, high_water)
    socket.setsockopt(zmq.RCVHWM, high_water)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)


def _set_tcp(socket: zmq.Socket[bytes], endpoint: str) -> None:
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS[0])
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_MS[1])
    if endpoint.startswith(f"{TCP}["):
        socket.setsockopt(zmq.IPV6, 1)


def _split(parts: list[bytes]) -> tuple[Head, bytes]:
    if not 1 <= len(parts) <= 2:
        raise WorkerProtocolError(f"{len(parts)} parts, expected head and body", code="bad_parts")
    if len(parts) == 1:
        return unpack_head(parts[0]), b""
    if len(parts[1]) > MAX_BODY_BYTES:
        raise WorkerProtocolError(f"body of {len(parts[1])} bytes, at most {MAX_BODY_BYTES}", code="body_too_large")
    return unpack_head(parts[0]), parts[1]


def _nothing() -> None:
    pass
