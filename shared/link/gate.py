"""Who may connect to a router over TCP: the ZAP handler (rfc.zeromq.org/spec/27) of the process's one context.

Rules
- A machine may join if its public key is on the list; CURVE alone would only prove who the router is (libzmq#2594).
- The list is looked at every two seconds, and when an unknown key knocks; it is read again when a file of it has
  changed. A key that is taken away is told at once, so that its workers leave; their next handshake is refused.
- No thread: handshakes are answered on the event loop. libzmq gives each five seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
import zmq
from zmq.utils import z85

from shared.link.keys import AllowList, RouterKeys, read_allowed, signature_of
from shared.link.loop_socket import LoopSocket
from shared.log.seldom import Seldom

log = structlog.get_logger(__name__)

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_VERSION = b"1.0"
ZAP_DOMAIN = b"link"
REQUEST_PARTS = 7
"""version, request id, domain, address, identity, mechanism, key"""
LOOK_S = 2.0
KNOCK_LOOK_S = 0.05
"""However many strangers knock."""


class Gate:
    """Answers every CURVE handshake of one context. To be opened before a tcp:// endpoint is bound."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], keys: RouterKeys, on_revoked: Callable[[str], None]
    ) -> None:
        self.keys = keys
        self._on_revoked = on_revoked
        self._loop = asyncio.get_running_loop()
        self._allowed: AllowList = {}
        self._signature: object = None
        self._looked_s = 0.0
        self._seldom = Seldom()
        self._raw = context.socket(zmq.REP)
        self._raw.setsockopt(zmq.LINGER, 0)
        self._raw.bind(ZAP_ENDPOINT)
        self._socket = LoopSocket(self._raw, self._on_request, _nothing)
        self._timer: asyncio.Handle | None = None
        self.look()

    def __repr__(self) -> str:
        return f"Gate({len(self._allowed)} machines)"

    def allows(self, key: str) -> bool:
        return key in self._allowed

    def look(self) -> None:
        """Read the list again if it has changed; looks again by itself."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(LOOK_S, self.look)
        self._looked_s = self._loop.time()
        signature = signature_of(self.keys.allowed)
        if signature != self._signature:
            self._signature = signature
            self._read()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._socket.close(0)

    def _read(self) -> None:
        before = self._allowed
        self._allowed, bad = read_allowed(self.keys.allowed)
        log.info("link_machines", allowed=sorted(self._allowed.values()), no_key_in=bad)
        for key, machine in before.items():
            if key not in self._allowed:
                log.warning("link_machine_revoked", machine=machine)
                self._on_revoked(key)

    def _on_request(self, parts: list[bytes]) -> None:
        version, request, *_, mechanism, raw = parts if len(parts) == REQUEST_PARTS else [b""] * REQUEST_PARTS
        key = z85.encode(raw).decode("ascii") if mechanism == b"CURVE" else ""
        if version == ZAP_VERSION and self._lets_in(key):
            answer = [b"200", b"", key.encode()]
        else:
            answer = [b"400", b"", b""]
            self._note(parts[3].decode("ascii", "replace") if len(parts) > 3 else "")
        self._socket.send([ZAP_VERSION, request, *answer, b""])

    def _lets_in(self, key: str) -> bool:
        if key not in self._allowed and self._loop.time() - self._looked_s >= KNOCK_LOOK_S:
            self.look()
        return key in self._allowed

    def _note(self, address: str) -> None:
        count = self._seldom.count("", self._loop.time())
        if count is not None:
            log.warning("link_key_refused", address=address, times=count)


def _nothing() -> None:
    pass
