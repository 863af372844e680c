"""A ZeroMQ socket on the event loop: edges, drains, sends that never wait.

Rules
- The socket's FD is edge triggered: any send or receive may consume its edge, so every send schedules a re-check and a
  drain ends only at EAGAIN or by asking for another turn of the loop (libzmq#3641, pyzmq#1208).
- No call ever waits: NOBLOCK on every send and receive. `send` answers with an outcome; what follows from a failure
  is decided by the caller, later.
- Never zmq.asyncio: it delivers one message per turn of the loop and costs several times the CPU (pyzmq#1209, #1411).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum

import zmq

DRAIN_BUDGET = 64
"""Messages received in one callback before timers and other sockets get their turn."""

FULL_RETRY_S = 0.05
"""After a send to a full peer its owner is told of a drain this much later, if no edge has come before."""

LINGER_MS = 40
"""How long a closed socket may go on delivering its last words."""

Notice = Callable[[], None]
Receive = Callable[[int], list[bytes]]
"""One whole message, or zmq.Again."""


class SendOutcome(Enum):
    SENT = "sent"
    FULL = "full"
    """The peer's queue is full (for a DEALER: or no router is connected). Nothing was sent."""
    UNREACHABLE = "unreachable"
    """The peer is gone. Nothing was sent."""


# Plain integers: the flags' own enum arithmetic costs more than the send.
_NOBLOCK = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_POLLIN = int(zmq.POLLIN)


class LoopSocket:
    """One ZeroMQ socket read by the running loop."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_parts: Callable[[list[bytes]], None],
        on_drained: Notice,
        receive: Receive | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = socket
        self._receive: Receive = receive or socket.recv_multipart
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
            self._socket.send(parts[-1], _NOBLOCK)
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
                parts = self._receive(_NOBLOCK)
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
