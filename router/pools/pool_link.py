"""One pool's socket with the pool behind it: sends, PINGs, and finding out who is dead.

Rules
- A failed send is never acted on inside the send: burials come later from the loop.
- After a death everybody else is pinged: only who answers, and so has survived it, gets the streams of the dead.
- A disconnect reported by the socket's monitor names nobody, so the whole pool is pinged at once: the PING to the one
  that is gone fails with EHOSTUNREACH.
- Strangers at a tcp:// port can cause disconnects as fast as they like: the pool is pinged for them at most every
  SECOND_LOOK_S.
- Who speaks another version of the link, or for another pool, is told to LEAVE, counted, and named once a minute.
- Silence is judged only right after everything that has arrived was read, and never after a stall of our own.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import structlog
import zmq

from router.pools.metrics import (
    LINK_AUTH_REFUSED,
    LINK_PROTO_REFUSED,
    LINK_RTT,
    LINK_WAITING,
    POOL_ACTIVE,
    POOL_CAPACITY,
    POOL_REJECTS,
    POOL_RESERVED,
    POOL_WORKERS,
    STREAMS_ENDED,
    WORKER_DEATHS,
)
from router.pools.pool import BeatNews, Pool, State
from shared.errors import WorkerProtocolError
from shared.ids import Role, StreamId, WorkerId
from shared.link.endpoints import Binding
from shared.link.envelope import Head, Kind, pack_head
from shared.link.gate import Gate
from shared.link.lane import Lane, Message
from shared.link.loop_socket import SendOutcome
from shared.link.messages import Beat, Ping
from shared.link.metrics import LINK_DROPPED, LINK_MESSAGES, LINK_SEND_FAILURES
from shared.link.sockets import RouterLink
from shared.log.seldom import Seldom

log = structlog.get_logger(__name__)

SECOND_LOOK_S = 0.02
"""The monitor may speak before the socket has dropped the peer's pipe: ping once more."""


class PoolObserver(Protocol):
    """What the switchboard is told."""

    def on_stream_message(self, role: Role, worker: WorkerId, head: Head, body: bytes) -> None: ...

    def on_beat_news(self, role: Role, worker: WorkerId, news: BeatNews) -> None: ...

    def on_worker_gone(self, role: Role, worker: WorkerId, cause: str) -> None: ...


class PoolLink:
    """All traffic with the workers of one role."""

    def __init__(
        self,
        pool: Pool,
        *,
        binding: Binding,
        boot: str,
        context: zmq.Context[zmq.Socket[bytes]],
        observer: PoolObserver,
        high_water: int,
        gate: Gate | None = None,
    ) -> None:
        self.pool = pool
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._ping_body = Ping(router_boot=boot).pack()
        self._lanes: dict[WorkerId, Lane] = {}
        self._blocked: set[WorkerId] = set()
        self._unreachable: set[WorkerId] = set()
        self._pinged_s: dict[WorkerId, float] = {}
        self._is_judgement_due = False
        self._second_look: asyncio.TimerHandle | None = None
        self._seldom = Seldom()
        self._is_closed = False
        self._bind_metrics(pool.role)
        self._link = RouterLink(
            context,
            binding.local,
            on_message=self._on_message,
            on_disconnect=self._on_disconnect,
            on_drained=self._on_drained,
            high_water=high_water,
            remote=binding.remote,
            gate=gate,
            on_stranger=lambda reason: LINK_AUTH_REFUSED.labels(reason).inc(),
        )

    def __repr__(self) -> str:
        return f"PoolLink({self.pool!r}, blocked {sorted(self._blocked)})"

    # Sending

    def send_audio(self, worker: WorkerId, stream: StreamId, seq: int, packet: bytes) -> SendOutcome:
        lane = self._lanes.get(worker)
        if lane is None:
            return SendOutcome.UNREACHABLE
        if not lane.is_clear:
            return SendOutcome.FULL
        return self._send(worker, (pack_head(Kind.AUDIO, stream, seq), packet))

    def send_control(self, worker: WorkerId, kind: Kind, stream: StreamId, seq: int, body: bytes | None) -> SendOutcome:
        """SENT also if it waits in the lane; UNREACHABLE if the worker is gone."""
        lane = self._lanes.get(worker)
        if lane is None:
            return SendOutcome.UNREACHABLE
        message = (pack_head(kind, stream, seq), body)
        outcome = self._send(worker, message) if lane.is_clear else SendOutcome.FULL
        if outcome is SendOutcome.FULL:
            lane.hold(message, self._loop.time())
            self._blocked.add(worker)
            return SendOutcome.SENT
        return outcome

    def ping(self, worker: WorkerId) -> None:
        now = self._loop.time()
        lane = self._lanes.get(worker)
        if lane is not None and lane.is_clear:
            self._send(worker, (pack_head(Kind.PING), self._ping_body))
            self._pinged_s.setdefault(worker, time.perf_counter())  # a uvloop counts whole milliseconds
        self.pool.on_pinged(worker, now)

    def tick(self, now: float, is_on_time: bool) -> None:
        """Four times a second."""
        if is_on_time:
            self._is_judgement_due = True
        else:
            self.pool.forgive(now)
        for worker in self.pool.pings_due(now):
            self.ping(worker)
        self._link.kick()

    def revoke(self, key: str) -> None:
        """The machine with this key may not join any more: its workers are dead to us, now."""
        for worker in self.pool.workers():
            if self._link.origin_of(worker.id) == key:
                self._bury(worker.id, "revoked")

    def say_goodbye(self) -> None:
        """Every worker drops our streams now, not when it misses our PINGs. From here on nobody is listened to."""
        self._is_closed = True
        for worker in self._lanes:
            self._link.send(worker, pack_head(Kind.LEAVE), None)

    def close(self) -> None:
        self._is_closed = True
        if self._second_look is not None:
            self._second_look.cancel()
        self._link.close()

    def flush_metrics(self) -> None:
        received, sent, malformed = self._link.traffic.take()
        self._received.inc(received)
        self._sent.inc(sent)
        self._malformed.inc(malformed)
        workers = self.pool.workers()
        for state, gauge in self._by_state.items():
            gauge.set(sum(worker.state is state for worker in workers))
        self._capacity.set(sum(worker.beat.capacity for worker in workers))
        self._active.set(sum(worker.beat.active for worker in workers))
        self._reserved.set(sum(worker.reserved for worker in workers))
        self._waiting.set(sum(map(len, self._lanes.values())))

    def _send(self, worker: WorkerId, message: Message) -> SendOutcome:
        outcome = self._link.send(worker, *message)
        if outcome is SendOutcome.UNREACHABLE:
            self._failed_unreachable.inc()
            self._unreachable.add(worker)
            self._loop.call_soon(self._bury_unreachable)
        elif outcome is SendOutcome.FULL:
            self._failed_full.inc()
        return outcome

    # Receiving

    def _on_message(self, worker: WorkerId, head: Head, body: bytes) -> None:
        if self._is_closed:
            return
        if head.kind == Kind.BEAT:
            self._on_beat(worker, body)
        elif self.pool.on_heard(worker, self._loop.time()):
            self._observer.on_stream_message(self.pool.role, worker, head, body)
        else:
            self._tell_leave(worker)

    def _on_beat(self, worker: WorkerId, body: bytes) -> None:
        try:
            beat = Beat.unpack(body)
        except WorkerProtocolError:
            self._malformed.inc()
            return
        if not self._link.admits(worker):
            self._tell_leave(worker)
            return
        now = self._loop.time()
        self._observe_rtt(worker)
        news = self.pool.on_beat(worker, beat, now)
        if news is BeatNews.DEAD:
            self._tell_leave(worker)
        elif news is BeatNews.UNWELCOME:
            self._on_unwelcome(worker, beat, now)
        else:
            self._on_welcome_beat(worker, beat, news)

    def _on_welcome_beat(self, worker: WorkerId, beat: Beat, news: BeatNews) -> None:
        if news is BeatNews.JOINED:
            self._lanes[worker] = Lane()
            self.ping(worker)
            log.info("worker_joined", worker=worker, pool=self.pool.role, capacity=beat.capacity, pid=beat.pid)
        elif news is not BeatNews.KNOWN:
            log.info("worker_news", worker=worker, news=news.value)
        self._observer.on_beat_news(self.pool.role, worker, news)

    def _on_unwelcome(self, worker: WorkerId, beat: Beat, now: float) -> None:
        POOL_REJECTS.labels(self.pool.role, "unwelcome").inc()
        if beat.role == self.pool.role:
            LINK_PROTO_REFUSED.labels(self.pool.role).inc()
        if worker in self._lanes:
            self._bury(worker, "unwelcome")
        else:
            self._tell_leave(worker)
        times = self._seldom.count("unwelcome", now)
        if times is not None:
            log.warning(
                "worker_unwelcome", worker=worker, role=beat.role, proto=beat.proto, host=beat.host, times=times
            )

    def _tell_leave(self, worker: WorkerId) -> None:
        self._outsider.inc()
        self._link.send(worker, pack_head(Kind.LEAVE), None)

    def _on_drained(self) -> None:
        now = self._loop.time()
        for worker in tuple(self._blocked):
            self._retry(worker, now)
        if self._is_judgement_due:
            self._is_judgement_due = False
            for worker in self.pool.judge(now):
                self._bury(worker, "silent")

    def _retry(self, worker: WorkerId, now: float) -> None:
        lane = self._lanes[worker]
        lane.retry(lambda message: self._send(worker, message) is SendOutcome.SENT, now)
        if lane.is_clear:
            self._blocked.discard(worker)
        elif lane.is_stuck(now):
            self._bury(worker, "stuck")

    def _on_disconnect(self) -> None:
        if self._is_closed or self._second_look is not None:
            return
        self._ping_all()
        self._second_look = self._loop.call_later(SECOND_LOOK_S, self._look_again)

    def _look_again(self) -> None:
        self._second_look = None
        self._ping_all()

    def _ping_all(self) -> None:
        for worker in self.pool.workers():
            self.ping(worker.id)

    # Deaths

    def _bury_unreachable(self) -> None:
        gone, self._unreachable = self._unreachable, set()
        for worker in gone:
            self._bury(worker, "unreachable")

    def _bury(self, worker: WorkerId, cause: str) -> None:
        removed = None if self._is_closed else self.pool.remove(worker)
        if removed is None:
            return
        STREAMS_ENDED.labels(self.pool.role, "lost").inc(len(removed.held))
        del self._lanes[worker]
        self._blocked.discard(worker)
        self._pinged_s.pop(worker, None)
        self._link.forget(worker)
        if cause != "unreachable":
            self._tell_leave(worker)
        if removed.is_draining and not removed.held:
            log.info("worker_left", worker=worker)
        else:
            WORKER_DEATHS.labels(self.pool.role, cause).inc()
            log.warning("worker_dead", worker=worker, cause=cause, streams=len(removed.held))
        self._observer.on_worker_gone(self.pool.role, worker, cause)
        # Who answers has survived; its streams wait for that.
        self._ping_all()

    # Metrics

    def _observe_rtt(self, worker: WorkerId) -> None:
        pinged_s = self._pinged_s.pop(worker, None)
        if pinged_s is not None:
            self._rtt.observe(time.perf_counter() - pinged_s)

    def _bind_metrics(self, role: Role) -> None:
        self._received = LINK_MESSAGES.labels(role, "in")
        self._sent = LINK_MESSAGES.labels(role, "out")
        self._malformed = LINK_DROPPED.labels(role, "malformed")
        self._outsider = LINK_DROPPED.labels(role, "not_in_pool")
        self._failed_full = LINK_SEND_FAILURES.labels(role, "full")
        self._failed_unreachable = LINK_SEND_FAILURES.labels(role, "unreachable")
        self._rtt = LINK_RTT.labels(role)
        self._by_state = {state: POOL_WORKERS.labels(role, state) for state in State}
        self._capacity = POOL_CAPACITY.labels(role)
        self._active = POOL_ACTIVE.labels(role)
        self._reserved = POOL_RESERVED.labels(role)
        self._waiting = LINK_WAITING.labels(role)
