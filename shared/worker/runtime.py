"""A service on the link: its routers, its beats, its drain. Lives in a running loop and knows nothing of processes.

Rules
- One BEAT every half second and at once on change; changes within 20 ms travel together.
- Capacity is shared by all routers; what is over it is refused here, the service is not asked.
- A drain tells the routers first, takes nothing new, and waits for every stream, until its deadline.
- The list of routers is looked at with the beats: new ones are joined, ones that are gone are left, no restart.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog
import zmq

from shared.ids import Role, WorkerId
from shared.link.beat import LATE_TICK_S, BeatClock, worker_id
from shared.link.envelope import PROTO
from shared.link.keys import WorkerKeys
from shared.link.messages import Beat
from shared.link.roster import Roster
from shared.link.tcp_address import TCP
from shared.process.drain import DRAIN_SECONDS, HURRY_S
from shared.process.lag import LoopLag
from shared.worker.addresses import Addresses, is_named
from shared.worker.peer import RouterPeer
from shared.worker.routers import FixedRouters, RouterSource
from shared.worker.service import Service

log = structlog.get_logger(__name__)

DRAIN_NOTICE_S = 0.1
"""OPENs that cross the draining BEAT are still refused in words, not by a closed socket."""
LAST_WORDS_MS = 500
LOOK_S = 0.45
"""Beats that come sooner than this after a look do not look again."""
LEAVE_S = 30.0


@dataclass(frozen=True, slots=True)
class Label:
    """What a worker says of itself in every BEAT and never changes."""

    role: Role
    slot: int
    incarnation: str
    epoch: int
    metrics_port: int

    def identity(self, boot: str) -> WorkerId:
        return worker_id(self.role, self.slot, boot)


class WorkerRuntime:
    """A service on the link: its routers, its beats, its drain. Lives in a running loop."""

    def __init__(
        self,
        service: Service,
        routers: RouterSource | Sequence[str],
        *,
        slot: int,
        context: zmq.Context[zmq.Socket[bytes]],
        epoch: int = 1,
        metrics_port: int = 0,
        lag: LoopLag | None = None,
        on_beat: Callable[[], None] | None = None,
        keys: WorkerKeys | None = None,
        host_name: str = "",
        leave_s: float = LEAVE_S,
        addresses: Addresses | None = None,
    ) -> None:
        """`leave_s`: how long the streams of a router that is off the list may go on."""
        self.service = service
        self.role = service.role
        self.peers: list[RouterPeer] = []
        self.is_draining = False
        self._label = Label(service.role, slot, secrets.token_hex(4), epoch, metrics_port)
        self._source = FixedRouters(routers) if isinstance(routers, Sequence) else routers
        self._roster = Roster()
        self._looked_s = float("-inf")
        self._addresses = addresses or Addresses()
        self._keys = keys
        self._leave_s = leave_s
        self._context = context
        self._lag = lag or LoopLag()
        self._on_beat = on_beat
        self._host_name = host_name or socket.gethostname()
        self._loop = asyncio.get_running_loop()
        self._clock = BeatClock(due_s=self._loop.time())
        # A timer's own when() cannot be asked: uvloop makes one that is due now into a plain Handle.
        self._timer: asyncio.Handle | None = None
        self._timer_due_s = 0.0
        self._idle: asyncio.Future[None] | None = None
        self._is_noticed = False
        self._deadline: asyncio.Handle | None = None
        self._deadline_s = 0.0
        self._lag_ms = 0.0

    def __repr__(self) -> str:
        return f"WorkerRuntime({self._label.identity(self._label.incarnation)}, {self.active()} active)"

    def join(self) -> None:
        """Connect to all routers there are, and from now on to those that come. The service must have been started."""
        self._lag.start()
        self._look()
        self._schedule()

    def adopt(self, epoch: int) -> None:
        """The configuration that this worker runs with from now on; told in every BEAT."""
        self._label = replace(self._label, epoch=epoch)
        self.on_load_changed()

    def reload(self) -> None:
        """Read lists of routers again, whether they have changed or not."""
        self._source.reload()
        self._look()

    async def drain(self, deadline_s: float) -> None:
        """Take nothing new and wait for the open streams; what is left at the deadline fails, retryable."""
        began_s = self._loop.time()
        self.is_draining = True
        self._clock.on_urgent(began_s)
        self._schedule()
        self._idle = self._loop.create_future()
        self._set_deadline(began_s + deadline_s)
        await asyncio.sleep(min(DRAIN_NOTICE_S, deadline_s))
        self._is_noticed = True
        self._check_idle()
        await self._idle
        self._set_deadline(None)
        log.info("worker_drained", left=self.active(), took_s=round(self._loop.time() - began_s, 2))
        for peer in self.peers:
            peer.fail_streams("drained")
        DRAIN_SECONDS.observe(self._loop.time() - began_s)

    def hurry(self) -> None:
        """Shorten a running drain."""
        hurried_s = self._loop.time() + HURRY_S
        if self._deadline is not None and self._deadline_s > hurried_s:
            self._set_deadline(hurried_s)

    def close(self, linger_ms: int = LAST_WORDS_MS) -> None:
        self._lag.stop()
        self._addresses.close()
        if self._timer is not None:
            self._timer.cancel()
        for peer in self.peers:
            peer.close(linger_ms)

    def routers_heard(self) -> int:
        """Routers that have answered us."""
        return sum(peer.heard_s is not None for peer in self.peers)

    # What a RouterPeer asks

    def refusal(self) -> str | None:
        if self.is_draining:
            return "draining"
        return "full" if self.active() >= self.service.capacity else None

    def active(self) -> int:
        return sum(len(peer.streams) for peer in self.peers)

    def on_load_changed(self) -> None:
        self._clock.on_change(self._loop.time())
        self._schedule()
        self._check_idle()

    def new_identity(self) -> WorkerId:
        """For a rejoin."""
        return self._label.identity(secrets.token_hex(4))

    def beat(self, opened: int) -> Beat:
        label, service = self._label, self.service
        return Beat(
            role=label.role.value,
            incarnation=label.incarnation,
            slot=label.slot,
            capacity=service.capacity,
            active=self.active(),
            draining=self.is_draining,
            lag_ms=self._lag_ms,
            stalled_ms=service.stalled_ms,
            epoch=label.epoch,
            proto=PROTO,
            pid=os.getpid(),
            host=self._host_name,
            metrics_port=label.metrics_port,
            caps=service.caps,
            opened=opened,
        )

    # Routers

    def _look(self) -> None:
        self._looked_s = now = self._loop.time()
        heard_s = {peer.endpoint: peer.heard_s for peer in self.peers if peer.heard_s is not None}
        changes = self._roster.look(self._source.look(), heard_s, now)
        for endpoint in changes.leave:
            self._leave(endpoint)
        for endpoint in changes.join if not self.is_draining else ():
            self._join(endpoint)
        self._leave_twins()
        for peer in list(self.peers):
            if peer.is_leaving and not peer.streams:
                self.peers.remove(peer)
                peer.close(LAST_WORDS_MS)
            elif peer.is_unheard:
                self._try_anew(peer)

    def _join(self, endpoint: str) -> None:
        log.info("router_listed", endpoint=endpoint, role=self.role)
        if is_named(endpoint):
            self._addresses.ask(endpoint, lambda address: self._connect(endpoint, address))
        else:
            self._connect(endpoint, endpoint)

    def _connect(self, endpoint: str, address: str) -> None:
        if self.is_draining or endpoint not in self._roster:
            return
        keys = self._keys if address.startswith(TCP) else None
        # Not twice the same: to a router that is listed twice the second would be a ghost of the first.
        identity = self._label.identity(secrets.token_hex(4) if self.peers else self._label.incarnation)
        self.peers.append(RouterPeer(self._context, endpoint, identity, self, address=address, keys=keys))

    def _leave(self, endpoint: str) -> None:
        log.info("router_unlisted", endpoint=endpoint, role=self.role)
        self._addresses.forget(endpoint)
        for peer in self.peers:
            if peer.endpoint == endpoint and not peer.is_leaving:
                peer.leave(self._leave_s)

    def _leave_twins(self) -> None:
        """A router that is listed twice would count us twice."""
        boots: set[str] = set()
        for peer in self.peers:
            if peer.boot is None or peer.is_leaving:
                continue
            if peer.boot in boots:
                log.warning("router_listed_twice", endpoint=peer.endpoint, role=self.role)
                peer.leave(self._leave_s)
            boots.add(peer.boot)

    def _try_anew(self, peer: RouterPeer) -> None:
        if is_named(peer.endpoint):
            self._addresses.ask(peer.endpoint, peer.renew)
        else:
            peer.renew(peer.endpoint)

    # Beats

    def _schedule(self) -> None:
        due_s = self._clock.due_s
        if self._timer is not None:
            if self._timer_due_s <= due_s:
                return
            self._timer.cancel()
        self._timer_due_s = due_s
        self._timer = self._loop.call_at(due_s, self._send_beats)

    def _send_beats(self) -> None:
        now = self._loop.time()
        is_late = self._clock.late_s(now) > LATE_TICK_S
        self._clock.on_sent(now)
        self._timer = None
        self._schedule()
        self._lag_ms = self._lag.take_max_ms()
        for peer in self.peers:
            peer.send_beat()
            if is_late:
                peer.forgive()
            else:
                peer.judge()
        if not is_late and now - self._looked_s >= LOOK_S:
            self._look()
        if self._on_beat is not None:
            self._on_beat()

    def _set_deadline(self, at_s: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline_s = at_s or 0.0
        self._deadline = None if at_s is None else self._loop.call_at(at_s, self._stop_waiting)

    def _check_idle(self) -> None:
        if self._is_noticed and self.active() == 0:
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
