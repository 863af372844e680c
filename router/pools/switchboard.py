"""Connects the router's conversations to workers: opens streams, carries their messages, tells their ends.

Rules
- A stream nobody can take waits, in a bounded queue, for a worker that can; a person is never queued longer than asked.
- A refused OPEN tries the next candidate as long as nothing but the OPEN was sent.
- Ending anything is: delete the row, then ABORT. What the worker still sends is stale and dropped.
- Callbacks come from the loop only (see router.pools.stream_ref), in the order in which things happened.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import structlog
import zmq

from router.pools.metrics import (
    POOL_EXHAUSTED,
    POOL_REJECTS,
    REPINS_HELD,
    STREAM_FAILURES,
    STREAM_SECOND_ENDS,
    STREAMS,
    STREAMS_ENDED,
    STREAMS_OPENED,
    STREAMS_POISONED,
    STREAMS_WAITING,
)
from router.pools.pool import BeatNews, Choose, Pool, Shortage, Wish
from router.pools.pool_link import PoolLink
from router.pools.repin import RepinBudget
from router.pools.stream_ref import DrainWatcher, RefState, StreamOwner, StreamRef
from router.pools.streams import TERMINATORS, Refusal, Row, StreamTable
from router.pools.suspicion import YOUNG_S, Suspicion
from router.pools.teller import Teller
from shared.errors import WorkerProtocolError
from shared.ids import Role, StreamId, WorkerId
from shared.link.beat import LATE_TICK_S, TICK_S
from shared.link.endpoints import Binding
from shared.link.envelope import MAX_BODY_BYTES, Head, Kind, unpack_map
from shared.link.gate import Gate
from shared.link.keys import RouterKeys
from shared.link.loop_socket import SendOutcome
from shared.link.messages import Abort, Body, Done, Error
from shared.link.metrics import LINK_DROPPED, LINK_UNKNOWN_KIND
from shared.link.sockets import HIGH_WATER_MESSAGES, make_context

log = structlog.get_logger(__name__)

MAX_WAITING = 256
"""Opens of one pool that wait for a worker."""
MAX_EARLY = 64
"""Control messages of one stream that wait for its OPEN."""
MAX_CANDIDATES = 3
CANDIDATES_WITHIN_S = 0.5
FULL_WAIT_S = {Role.ASR: CANDIDATES_WITHIN_S, Role.SESSION: CANDIDATES_WITHIN_S, Role.TTS: 2.0}
"""How long a full pool is waited for: nobody queues a human. A segment may wait while the device plays another one."""
REFUSED = frozenset({"full", "draining"})
METRICS_EVERY_TICKS = 4
MAX_LISTED = 500
LAST_WORDS_S = 0.05
"""Between LEAVE and closing: a DEALER with IMMEDIATE=1 drops what it has not read when it sees its peer close."""


class Switchboard:
    """All pools and streams of one router."""

    def __init__(
        self,
        endpoints: Mapping[Role, str | Binding],
        *,
        choose: Choose = random.randrange,
        high_water: int = HIGH_WATER_MESSAGES,
        load_keys: Callable[[], RouterKeys] | None = None,
    ) -> None:
        """`load_keys`: what lets workers of other machines join, where a Binding has a tcp:// endpoint."""
        self.boot = secrets.token_hex(4)
        self._bindings = {role: Binding(one) if isinstance(one, str) else one for role, one in endpoints.items()}
        self._load_keys = load_keys
        self._gate: Gate | None = None
        self._high_water = high_water
        self._pools = {role: Pool(role, choose) for role in endpoints}
        self._links: dict[Role, PoolLink] = {}
        self._table: StreamTable[StreamRef] = StreamTable()
        self._waiting: dict[Role, dict[StreamRef, None]] = {role: {} for role in endpoints}
        self._repins = RepinBudget()
        self._suspicion = Suspicion()
        self._held: set[StreamRef] = set()
        """Waiting for their place in that budget."""
        self._teller = Teller()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tick_due_s = 0.0
        self._ticks = 0
        self._is_closed = False

    def __repr__(self) -> str:
        return f"Switchboard({self.boot}, {self._table!r}, {list(self._pools.values())})"

    # Life

    async def start(self) -> None:
        """Bind one socket per pool. Raises ConfigError."""
        self._loop = asyncio.get_running_loop()
        self._context = context = make_context()
        try:
            if self._load_keys is not None:
                self._gate = Gate(context, self._load_keys(), self._on_revoked)
            for role, binding in self._bindings.items():
                pool = self._pools[role]
                self._links[role] = PoolLink(
                    pool,
                    binding=binding,
                    boot=self.boot,
                    context=context,
                    observer=self,
                    high_water=self._high_water,
                    gate=self._gate,
                )
        except BaseException:
            self._close_links()
            raise
        self._schedule_tick()

    async def close(self) -> None:
        """End what is left, tell the workers, close the sockets."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for waiting in (*self._waiting.values(), self._held):
            for ref in list(waiting):
                self._lose(ref, "closing", retryable=False)
        for row in self._table.rows():
            self._fail(row, "closing", retryable=False)
        self._teller.tell()
        for link in self._links.values():
            link.say_goodbye()
        await asyncio.sleep(LAST_WORDS_S)
        self._close_links()

    def reload(self) -> None:
        """Look now at who may join; the list is looked at by itself too."""
        if self._gate is not None:
            self._gate.look()

    def pools_ready(self) -> bool:
        """True for good once each pool has had a worker: a pool that dies later is apologised for, not hidden."""
        return all(pool.has_had_worker for pool in self._pools.values())

    def snapshot(self) -> dict[str, Any]:
        """For people and dashboards."""
        return {
            "boot": self.boot,
            "streams": len(self._table),
            "pools": {
                role.value: {
                    "ready": pool.has_had_worker,
                    "waiting": len(self._waiting[role]),
                    "workers": [worker.describe() for worker in pool.workers()],
                }
                for role, pool in self._pools.items()
            },
        }

    def streams(self) -> dict[str, Any]:
        """Who is served where, for people: at most `MAX_LISTED` live streams."""
        rows = islice(self._table.rows(), MAX_LISTED)
        listed = [
            {"stream": one.id, "pool": one.role, "worker": one.worker, "device": one.owner.wish.key} for one in rows
        ]
        return {"live": len(self._table), "streams": listed}

    # Opening

    def open(
        self,
        owner: StreamOwner,
        role: Role,
        body: Body,
        *,
        key: str = "",
        prefer: WorkerId | None = None,
        exclude: frozenset[WorkerId] = frozenset(),
        engine: str | None = None,
        wait_s: float = 5.0,
        is_repin: bool = False,
    ) -> StreamRef:
        """A stream on a worker that has room, now or within `wait_s`; a repin not before the budget allows it."""
        ref = StreamRef(self, owner, role, body.pack(), self._after_deaths(role, Wish(key, prefer, exclude, engine)))
        if self._is_closed:
            self._lose(ref, "closing", retryable=False)
        elif is_repin:
            self._hold(ref, wait_s)
        else:
            self._place_or_wait(ref, wait_s)
        return ref

    def _after_deaths(self, role: Role, wish: Wish) -> Wish:
        """What a stream may ask for that comes from a dead worker."""
        pool = self._pools[role]
        if not pool.has_lost(wish.exclude):
            return wish
        is_suspect = self._suspicion.falls_on(role, wish.key, wish.exclude)
        return replace(wish, survived=pool.deaths, is_suspect=is_suspect)

    def _hold(self, ref: StreamRef, wait_s: float) -> None:
        now = self._loop.time()
        at = self._repins.take(now)
        if at <= now:
            self._place_or_wait(ref, wait_s)
            return
        REPINS_HELD.inc()
        self._held.add(ref)
        ref.timer = self._loop.call_at(at, self._on_place_free, ref, wait_s)

    def _on_place_free(self, ref: StreamRef, wait_s: float) -> None:
        self._stop_waiting(ref)
        self._place_or_wait(ref, wait_s)

    def _place_or_wait(self, ref: StreamRef, wait_s: float) -> None:
        if not self._place(ref):
            self._wait(ref, wait_s)

    def _place(self, ref: StreamRef) -> bool:
        """Try the candidates that the pool names until an OPEN leaves."""
        pool = self._pools[ref.role]
        for _ in range(MAX_CANDIDATES):
            worker = pool.place(ref.wish)
            if isinstance(worker, Shortage):
                return False
            if self._send_open(ref, worker):
                return True
            ref.wish = replace(ref.wish, exclude=ref.wish.exclude | {worker})
        return False

    def _send_open(self, ref: StreamRef, worker: WorkerId) -> bool:
        pool, link = self._pools[ref.role], self._links[ref.role]
        row = self._table.add(ref, ref.role, worker)
        pool.on_opened(worker, row.id, is_suspect=ref.wish.is_suspect)
        if link.send_control(worker, Kind.OPEN, row.id, 0, ref.open_body) is SendOutcome.UNREACHABLE:
            self._table.end(row.id)
            pool.on_unsent(worker, row.id)
            return False
        STREAMS_OPENED.labels(ref.role).inc()
        if ref.wish.is_suspect:
            self._loop.call_later(YOUNG_S, pool.on_cleared, worker, row.id)
        ref.row = row
        self._on_placed(ref)
        return True

    def _on_placed(self, ref: StreamRef) -> None:
        self._stop_waiting(ref)
        ref.state = RefState.PLACED
        ref.opened_s = self._loop.time()
        if ref.first_open_s is None:
            ref.first_open_s = ref.opened_s
            self._teller.post(ref, ref.owner.on_opened, ref)
        early, ref.early = ref.early, []
        for kind, body in early:
            self.send_control(ref, kind, body)

    def _wait(self, ref: StreamRef, wait_s: float) -> None:
        waiting = self._waiting[ref.role]
        if self._pools[ref.role].is_full(ref.wish):
            wait_s = min(wait_s, FULL_WAIT_S[ref.role])
        if wait_s <= 0 or len(waiting) >= MAX_WAITING:
            self._give_up(ref)
            return
        waiting[ref] = None
        ref.timer = self._loop.call_later(wait_s, self._on_waited, ref)

    def _on_waited(self, ref: StreamRef) -> None:
        if ref.state is RefState.WAITING:
            self._give_up(ref)

    def _give_up(self, ref: StreamRef) -> None:
        # Workers that are there and unwell are no crowd: their people are not sent away.
        cause = "busy" if self._pools[ref.role].is_full(ref.wish) else "no_worker"
        POOL_EXHAUSTED.labels(ref.role, cause).inc()
        self._lose(ref, cause, retryable=False)

    def _stop_waiting(self, ref: StreamRef) -> None:
        self._waiting[ref.role].pop(ref, None)
        self._held.discard(ref)
        if ref.timer is not None:
            ref.timer.cancel()
            ref.timer = None

    def _serve_waiting(self, role: Role) -> None:
        for ref in list(self._waiting[role]):
            if not self._pools[role].has_room:
                return
            self._place(ref)

    # What a StreamRef asks

    def send_audio(self, ref: StreamRef, packet: bytes) -> bool:
        row = ref.row
        if row is None or ref.state is not RefState.PLACED:
            return False
        if len(packet) > MAX_BODY_BYTES:
            raise WorkerProtocolError(f"audio of {len(packet)} bytes, at most {MAX_BODY_BYTES}", code="body_too_large")
        outcome = self._links[row.role].send_audio(row.worker, row.id, row.next_out, packet)
        if outcome is SendOutcome.SENT:
            row.next_out += 1
            return True
        if outcome is SendOutcome.FULL:
            self._fail(row, "send", retryable=True)
        return False

    def send_control(self, ref: StreamRef, kind: Kind, body: bytes | None) -> None:
        if ref.state is RefState.WAITING:
            self._keep_early(ref, kind, body)
        elif ref.state is RefState.PLACED and ref.row is not None:
            row = ref.row
            self._links[row.role].send_control(row.worker, kind, row.id, row.take_seq(), body)

    def abort(self, ref: StreamRef, reason: str) -> None:
        ref.is_silenced = True
        self._stop_waiting(ref)
        row = ref.row
        if ref.state is RefState.PLACED and row is not None:
            self._end_and_abort(row, reason)
        ref.state = RefState.ENDED

    def caps_of(self, ref: StreamRef) -> Mapping[str, Any]:
        """What the stream's worker says it can do; empty without one."""
        worker = None if ref.worker is None else self._pools[ref.role].get(ref.worker)
        return {} if worker is None else worker.beat.caps

    def is_draining(self, ref: StreamRef) -> bool:
        worker = None if ref.worker is None else self._pools[ref.role].get(ref.worker)
        return ref.is_placed and (worker is None or worker.is_draining)

    def _keep_early(self, ref: StreamRef, kind: Kind, body: bytes | None) -> None:
        if len(ref.early) >= MAX_EARLY:
            self._lose(ref, "send", retryable=True)
            return
        ref.early.append((kind, body))

    # What a PoolLink tells

    def on_stream_message(self, role: Role, worker: WorkerId, head: Head, body: bytes) -> None:
        self._teller.tell()
        if head.kind not in TERMINATORS:
            self._dispatch(role, worker, head, body)
        elif self._pools[role].on_ended(worker, head.stream):
            STREAMS_ENDED.labels(role, "done" if head.kind == Kind.DONE else "error").inc()
            self._dispatch(role, worker, head, body)
            self._serve_waiting(role)
        else:
            STREAM_SECOND_ENDS.labels(role).inc()
            self._dispatch(role, worker, head, body)

    def on_beat_news(self, role: Role, worker: WorkerId, news: BeatNews) -> None:
        if news is BeatNews.STALLED:
            for row in self._table.of_worker(worker):
                self._fail(row, "stalled", retryable=True)
        elif news is BeatNews.DRAINING:
            for row in self._table.of_worker(worker):
                if isinstance(row.owner.owner, DrainWatcher):
                    self._teller.post(row.owner, row.owner.owner.on_draining, row.owner)
        self._serve_waiting(role)

    def on_worker_gone(self, role: Role, worker: WorkerId, cause: str) -> None:
        for row in self._table.of_worker(worker):
            self._table.end(row.id)
            if self._is_poison(row):
                STREAMS_POISONED.labels(role).inc()
                log.warning("stream_poisonous", stream=row.id, worker=worker, device=row.owner.wish.key)
                self._lose(row.owner, "poison", retryable=False)
            else:
                self._lose(row.owner, "dead", retryable=True)

    def _is_poison(self, row: Row[StreamRef]) -> bool:
        wish, age_s = row.owner.wish, self._loop.time() - row.owner.opened_s
        return self._suspicion.on_death(row.role, wish.key, row.worker, age_s=age_s, was_suspect=wish.is_suspect)

    def _dispatch(self, role: Role, worker: WorkerId, head: Head, body: bytes) -> None:
        row = self._table.accept(worker, head.stream, head.kind, head.seq)
        if isinstance(row, Refusal):
            self._on_refused_message(role, worker, head.stream, row)
        elif head.kind == Kind.AUDIO:
            self._teller.call(row.owner, row.owner.owner.on_audio, row.owner, body)
        elif head.kind == Kind.EVENT:
            self._on_map(row, row.owner.owner.on_event, body)
        elif head.kind == Kind.CREDIT:
            self._on_map(row, row.owner.owner.on_credit, body)
        elif head.kind == Kind.DONE:
            self._on_done(row, body)
        elif head.kind == Kind.ERROR:
            self._on_error(row, body)
        else:
            LINK_UNKNOWN_KIND.labels(role).inc()

    def _on_refused_message(self, role: Role, worker: WorkerId, stream: StreamId, refusal: Refusal) -> None:
        LINK_DROPPED.labels(role, refusal.value).inc()
        if refusal is Refusal.GAP:
            for row in self._table.of_worker(worker):
                if row.id == stream:
                    self._fail(row, "gap", retryable=True)

    def _on_map(self, row: Row[StreamRef], call: Callable[[StreamRef, dict[str, Any]], None], body: bytes) -> None:
        try:
            value = unpack_map(body)
        except WorkerProtocolError:
            self._fail(row, "bad_body", retryable=False)
            return
        self._teller.call(row.owner, call, row.owner, value)

    def _on_done(self, row: Row[StreamRef], body: bytes) -> None:
        ref = row.owner
        try:
            done = Done.unpack(body)
        except WorkerProtocolError:
            self._lose(ref, "bad_body", retryable=False)
            return
        ref.state = RefState.ENDED
        self._teller.call(ref, ref.owner.on_done, ref, done)

    def _on_error(self, row: Row[StreamRef], body: bytes) -> None:
        ref = row.owner
        try:
            error = Error.unpack(body)
        except WorkerProtocolError:
            self._lose(ref, "bad_body", retryable=False)
            return
        if error.code not in REFUSED:
            log.info("stream_error", stream=row.id, worker=row.worker, code=error.code, retryable=error.retryable)
            self._lose(ref, error.code, error.retryable)
            return
        POOL_REJECTS.labels(row.role, error.code).inc()
        if error.code == "full":
            self._pools[row.role].on_refused(row.worker, error.load)
        if not self._try_next(ref, row):
            self._lose(ref, "full", retryable=True)

    def _try_next(self, ref: StreamRef, row: Row[StreamRef]) -> bool:
        ref.refusals += 1
        ref.wish = replace(ref.wish, exclude=ref.wish.exclude | {row.worker})
        is_late = ref.first_open_s is None or self._loop.time() - ref.first_open_s > CANDIDATES_WITHIN_S
        only_open_was_sent = row.next_out == 1
        return only_open_was_sent and not is_late and ref.refusals < MAX_CANDIDATES and self._place(ref)

    # Ends

    def _fail(self, row: Row[StreamRef], cause: str, *, retryable: bool) -> None:
        self._end_and_abort(row, cause)
        self._lose(row.owner, cause, retryable)

    def _end_and_abort(self, row: Row[StreamRef], reason: str) -> None:
        if self._table.end(row.id) is not None:
            body = Abort(reason=reason).pack()
            self._links[row.role].send_control(row.worker, Kind.ABORT, row.id, row.take_seq(), body)

    def _lose(self, ref: StreamRef, cause: str, retryable: bool) -> None:
        self._stop_waiting(ref)
        ref.state = RefState.ENDED
        STREAM_FAILURES.labels(ref.role, cause).inc()
        self._teller.post(ref, ref.owner.on_lost, ref, cause, retryable)

    # Clock

    def _schedule_tick(self) -> None:
        self._tick_due_s = self._loop.time() + TICK_S
        self._timer = self._loop.call_at(self._tick_due_s, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        is_on_time = now - self._tick_due_s < LATE_TICK_S
        self._schedule_tick()
        self._ticks += 1
        for link in self._links.values():
            link.tick(now, is_on_time)
        if self._ticks % METRICS_EVERY_TICKS == 0:
            self._flush_metrics()

    def _flush_metrics(self) -> None:
        by_role = dict.fromkeys(self._pools, 0)
        for row in self._table.rows():
            by_role[row.role] += 1
        for role, link in self._links.items():
            link.flush_metrics()
            STREAMS.labels(role).set(by_role[role])
            STREAMS_WAITING.labels(role).set(len(self._waiting[role]))

    def _on_revoked(self, key: str) -> None:
        for link in self._links.values():
            link.revoke(key)

    def _close_links(self) -> None:
        for link in self._links.values():
            link.close()
        if self._gate is not None:
            self._gate.close()
        if self._context is not None:
            self._context.term()
            self._context = None
