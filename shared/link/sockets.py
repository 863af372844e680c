"""ZeroMQ sockets on the event loop. The only module of the audio path that knows pyzmq.

Rules
- The socket's FD is edge triggered: any send or receive may consume its edge, so every send schedules a re-check and a
  drain ends only at EAGAIN or by asking for another turn of the loop (libzmq#3641, pyzmq#1208).
- No call ever waits: NOBLOCK on every send and receive. `send` answers with an outcome; what follows from a failure
  is decided by the caller, later.
- ROUTER_MANDATORY, because a default ROUTER drops silently what it cannot deliver; EHOSTUNREACH means that the peer
  is gone, EAGAIN that it is full (libzmq#485).
- Never zmq.asyncio: it delivers one message per turn of the loop and costs several times the CPU (pyzmq#1209, #1411).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum

import structlog
import zmq

from shared.errors import ConfigError, WorkerProtocolError
from shared.ids import WorkerId
from shared.link.endpoints import check_endpoint, prepare_directory
from shared.link.envelope import MAX_MESSAGE_BYTES, Head, unpack_head

log = structlog.get_logger(__name__)

DRAIN_BUDGET = 64
"""Messages received in one callback before timers and other sockets get their turn."""

HIGH_WATER_MESSAGES = 32_768
"""A fuse, never flow control: about three seconds of 400 ears at 60 ms."""

FULL_RETRY_S = 0.05
"""After a send to a full peer its owner is told of a drain this much later, if no edge has come before."""

LINGER_MS = 40
"""How long a closed socket may go on delivering its last words."""

HANDSHAKE_MS = 5_000
RECONNECT_MS = (100, 3_000)
HEARTBEAT_MS = (1_000, 3_000)

OnWorkerMessage = Callable[[WorkerId, Head, bytes], None]
OnRouterMessage = Callable[[Head, bytes], None]
Notice = Callable[[], None]


class SendOutcome(Enum):
    SENT = "sent"
    FULL = "full"
    """The peer's queue is full (for a DEALER: or no router is connected). Nothing was sent."""
    UNREACHABLE = "unreachable"
    """The peer is gone. Nothing was sent."""


# Plain integers: the flags' own enum arithmetic costs more than the send.
_LAST = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_POLLIN = int(zmq.POLLIN)


class LoopSocket:
    """One ZeroMQ socket read by the running loop."""

    def __init__(self, socket: zmq.Socket[bytes], on_parts: Callable[[list[bytes]], None], on_drained: Notice) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = socket
        self._on_parts = on_parts
        self._on_drained = on_drained
        self._is_kicked = False
        self._is_told = False
        self._is_closed = False
        self._retry: asyncio.TimerHandle | None = None
        self._fd = int(socket.getsockopt(zmq.FD))  # uvloop takes the integer only (pyzmq#1047)
        self._loop.add_reader(self._fd, self._on_edge)
        self.kick()

    def kick(self) -> None:
        """Look at the socket again after the callbacks that are due now, and tell when it is drained."""
        self._is_told = True
        self._recheck()

    def send(self, parts: list[bytes]) -> SendOutcome:
        if self._is_closed:
            return SendOutcome.UNREACHABLE
        try:
            for part in parts[:-1]:
                self._socket.send(part, _MORE)
            self._socket.send(parts[-1], _LAST)
        except zmq.Again:
            # Whoever retries at each drain must not be told of this re-check, or it would spin on the full peer.
            self._recheck()
            self._retry_later()
            return SendOutcome.FULL
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._recheck()
            return SendOutcome.UNREACHABLE
        # A send may consume the descriptor's edge (pyzmq#199, #1208). Asking is cheaper than a fruitless receive.
        if int(self._socket.getsockopt(zmq.EVENTS)) & _POLLIN:
            self.kick()
        return SendOutcome.SENT

    def close(self, linger_ms: int = LINGER_MS) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._fd)
        if self._retry is not None:
            self._retry.cancel()
        self._socket.close(linger_ms)

    def _recheck(self) -> None:
        if not (self._is_kicked or self._is_closed):
            self._is_kicked = True
            self._loop.call_soon(self._on_kick)

    def _retry_later(self) -> None:
        if self._retry is None and not self._is_closed:
            self._retry = self._loop.call_later(FULL_RETRY_S, self._on_retry)

    def _on_retry(self) -> None:
        self._retry = None
        self._on_edge()

    def _on_edge(self) -> None:
        self._is_told = True
        self._drain()

    def _on_kick(self) -> None:
        self._is_kicked = False
        self._drain()

    def _drain(self) -> None:
        for _ in range(DRAIN_BUDGET):
            if self._is_closed:
                return
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                self._tell_drained()
                return
            try:
                self._on_parts(parts)
            except BaseException:
                self.kick()  # the rest must not wait for an edge that has been consumed
                raise
        self._recheck()

    def _tell_drained(self) -> None:
        if self._is_told:
            self._is_told = False
            self._on_drained()


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
    """The router's end: one ROUTER socket that all workers of one pool connect to."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        *,
        on_message: OnWorkerMessage,
        on_disconnect: Notice,
        on_drained: Notice,
        high_water: int = HIGH_WATER_MESSAGES,
    ) -> None:
        prepare_directory(check_endpoint(endpoint))
        self.traffic = Traffic()
        self._on_message = on_message
        self._on_disconnect = on_disconnect
        self._raw = context.socket(zmq.ROUTER)
        _set_common(self._raw, endpoint, high_water)
        self._raw.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # The monitor tells of a dead peer before anything is sent to it, but not which one it was.
        monitor = self._raw.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._monitor = LoopSocket(monitor, self._on_monitor, _nothing)
        try:
            self._raw.bind(endpoint)
        except zmq.ZMQError as error:
            self._close_monitor()
            self._raw.close(0)
            raise ConfigError("XZ_RUN_DIR", endpoint, f"a socket we can bind ({error.strerror})") from error
        self._socket = LoopSocket(self._raw, self._on_parts, on_drained)

    def send(self, worker: WorkerId, head: bytes, body: bytes | None) -> SendOutcome:
        name = worker.encode()
        outcome = self._socket.send([name, head] if body is None else [name, head, body])
        if outcome is SendOutcome.SENT:
            self.traffic.sent += 1
        return outcome

    def kick(self) -> None:
        self._socket.kick()

    def close(self) -> None:
        self._close_monitor()
        self._socket.close()

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
        self._on_disconnect()

    def _close_monitor(self) -> None:
        self._monitor.close(0)
        self._raw.disable_monitor()


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
    ) -> None:
        self.identity = identity
        self.traffic = Traffic()
        self._on_message = on_message
        socket = context.socket(zmq.DEALER)
        _set_common(socket, check_endpoint(endpoint), high_water)
        socket.setsockopt(zmq.IDENTITY, identity.encode("ascii"))
        socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing queues for an absent router, to reach its successor stale
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS[0])
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MS[1])
        socket.connect(endpoint)
        self._socket = LoopSocket(socket, self._on_parts, on_drained)

    def send(self, head: bytes, body: bytes | None) -> SendOutcome:
        outcome = self._socket.send([head] if body is None else [head, body])
        if outcome is SendOutcome.SENT:
            self.traffic.sent += 1
        return outcome

    def kick(self) -> None:
        self._socket.kick()

    def close(self, linger_ms: int = LINGER_MS) -> None:
        self._socket.close(linger_ms)

    def _on_parts(self, parts: list[bytes]) -> None:
        self.traffic.received += 1
        try:
            head, body = _split(parts)
        except WorkerProtocolError:
            self.traffic.malformed += 1
            return
        self._on_message(head, body)


def make_context() -> zmq.Context[zmq.Socket[bytes]]:
    """One per process: it costs two threads, however many sockets it has."""
    return zmq.Context(io_threads=1)


def _set_common(socket: zmq.Socket[bytes], endpoint: str, high_water: int) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, high_water)
    socket.setsockopt(zmq.RCVHWM, high_water)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    if endpoint.startswith("tcp://"):
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS[0])
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_MS[1])


def _split(parts: list[bytes]) -> tuple[Head, bytes]:
    if not 1 <= len(parts) <= 2:
        raise WorkerProtocolError(f"{len(parts)} parts, expected head and body", code="bad_parts")
    return unpack_head(parts[0]), parts[1] if len(parts) == 2 else b""


def _nothing() -> None:
    pass
