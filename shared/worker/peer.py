"""One router as a worker sees it: its link, the lives it has had, and the streams it has opened here.

Rules
- Every OPEN is answered by exactly one DONE or ERROR; after it nothing more is sent on that stream.
- `seq` counts in both directions. A gap in what arrives fails the stream: it is never a silent hole.
- An exception of a job ends its stream with ERROR{internal}. Its message is not logged: it may quote what was said.
- AUDIO that the router's queue does not take fails its stream; control waits in the lane.
- LEAVE, a stuck lane and a silent router have one answer: abort that router's streams, rejoin under a new identity; the
  first time at once, then more and more slowly.
- Leaving a router that is no longer on the list is a drain towards it alone.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import structlog
import zmq

from shared.errors import EngineError, WorkerProtocolError, XiaozhiError
from shared.ids import Role, StreamId, WorkerId
from shared.link.beat import RouterWatch
from shared.link.envelope import Head, Kind, pack_head, unpack_map
from shared.link.keys import WorkerKeys
from shared.link.lane import Lane
from shared.link.loop_socket import SendOutcome
from shared.link.messages import Abort, Beat, Body, Done, Error, Ping
from shared.link.metrics import LINK_DROPPED, LINK_MESSAGES, LINK_SEND_FAILURES, LINK_UNKNOWN_KIND
from shared.link.rejoin import UNHEARD_S, RejoinPace
from shared.link.sockets import WorkerLink
from shared.log.seldom import Seldom
from shared.worker.metrics import JOB_SECOND_ENDS, JOBS_ENDED, LINK_REFUSED, REJOINS
from shared.worker.service import Service
from shared.worker.worker_stream import WorkerStream

log = structlog.get_logger(__name__)

MAX_ERROR_CHARS = 200


class Host(Protocol):
    """What a peer asks of its process."""

    role: Role
    service: Service

    def refusal(self) -> str | None:
        """Why no stream can be opened now: "full", "draining", or None."""

    def active(self) -> int:
        """Open streams of all routers."""

    def on_load_changed(self) -> None: ...

    def new_identity(self) -> WorkerId: ...

    def beat(self, opened: int) -> Beat: ...


class RouterPeer:
    """The worker's side of one router."""

    _link: WorkerLink
    _lane: Lane
    _watch: RouterWatch
    _opened: int
    _newest: int
    """Of this router life's streams: ids only grow, so an OPEN that is not newer has come before."""
    _has_beaten: bool
    _joined_s: float

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        identity: WorkerId,
        host: Host,
        *,
        address: str | None = None,
        keys: WorkerKeys | None = None,
    ) -> None:
        """`endpoint` is the router's name on the list, `address` where it is reached if that is something else."""
        self.endpoint = endpoint
        self.streams: dict[StreamId, WorkerStream] = {}
        self.is_leaving = False
        self._address = address or endpoint
        self._keys = keys
        self._context = context
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._pace = RejoinPace(self._loop.time())
        self._return: asyncio.TimerHandle | None = None
        self._leave_by: asyncio.TimerHandle | None = None
        self._seldom = Seldom()
        self._is_judgement_due = False
        self._on_kind: dict[int, Callable[[Head, bytes], None]] = {
            Kind.PING: self._on_ping,
            Kind.LEAVE: self._on_leave,
            Kind.OPEN: self._on_open,
            Kind.END: self._on_end,
            Kind.ABORT: self._on_abort,
            Kind.AUDIO: self._on_audio,
            Kind.EVENT: self._on_event,
            Kind.CREDIT: self._on_credit,
        }
        role = host.role
        self._received = LINK_MESSAGES.labels(role, "in")
        self._sent = LINK_MESSAGES.labels(role, "out")
        self._full = LINK_SEND_FAILURES.labels(role, "full")
        self._join(identity)

    def __repr__(self) -> str:
        return f"RouterPeer({self.endpoint} as {self.identity}, {len(self.streams)} streams, {self._lane!r})"

    @property
    def identity(self) -> WorkerId:
        return self._link.identity

    @property
    def heard_s(self) -> float | None:
        """When the router was last heard, on this identity."""
        return self._watch.heard_s

    @property
    def boot(self) -> str | None:
        """Which life of which router this is, once it has said so."""
        return self._watch.boot

    # Membership

    def send_beat(self) -> None:
        """A BEAT never overtakes what waits: the router counts on their order."""
        if self._lane.is_clear:
            beat = self._host.beat(self._opened)
            if self.is_leaving:
                beat = replace(beat, draining=True)
            outcome = self._link.send(pack_head(Kind.BEAT), beat.pack())
            self._has_beaten = outcome is SendOutcome.SENT

    def judge(self) -> None:
        """Decide whether the router is gone, once everything it has sent is read."""
        self._flush_traffic()
        self._is_judgement_due = True
        self._link.kick()

    def forgive(self) -> None:
        """We stalled: the router's silence is our own."""
        self._watch.forgive(self._loop.time())

    def leave(self, within_s: float) -> None:
        """Take no more of this router's streams; those that are open may end, or fail when the time is over."""
        self.is_leaving = True
        self._leave_by = self._loop.call_later(within_s, self.fail_streams, "drained")
        self.send_beat()

    def close(self, linger_ms: int) -> None:
        for timer in (self._return, self._leave_by):
            if timer is not None:
                timer.cancel()
        self._close_link(linger_ms)

    def rejoin(self, reason: str) -> None:
        """Abort this router's streams and come back as somebody new."""
        delay_s = self._pace.next_delay_s(self._loop.time())
        log.warning("worker_rejoins", endpoint=self.endpoint, identity=self.identity, reason=reason, delay_s=delay_s)
        REJOINS.labels(self._host.role, reason).inc()
        self.drop_streams(reason)
        self._close_link(linger_ms=0)
        if delay_s > 0:
            self._return = self._loop.call_later(delay_s, self._come_back)
        else:
            self._come_back()
        self._host.on_load_changed()

    @property
    def is_unheard(self) -> bool:
        """Connected over TCP for a while, and not a word yet."""
        waits = self._watch.heard_s is None and self._return is None and not self.is_leaving
        return waits and self._keys is not None and self._loop.time() - self._joined_s >= UNHEARD_S

    def renew(self, address: str) -> None:
        """Nobody is there: quietly try again, maybe elsewhere."""
        self._address = address
        if self._return is None:
            self._close_link(linger_ms=0)
            self._join(self._host.new_identity())

    def drop_streams(self, reason: str) -> None:
        """Their router does not want them any more: nothing is answered."""
        for stream in list(self.streams.values()):
            self._forget(stream, "dropped")
            self._tell_aborted(stream, reason)

    def fail_streams(self, code: str) -> None:
        """End every stream with a retryable ERROR."""
        for stream in list(self.streams.values()):
            self._fail(stream, code, retryable=True)

    def _come_back(self) -> None:
        self._return = None
        self._join(self._host.new_identity())

    def _join(self, identity: WorkerId) -> None:
        self._opened = 0
        self._newest = 0
        self._has_beaten = False
        self._joined_s = self._loop.time()
        self._lane = Lane()
        self._watch = RouterWatch()
        self._link = WorkerLink(
            self._context,
            self._address,
            identity,
            on_message=self._on_message,
            on_drained=self._on_drained,
            keys=self._keys,
            on_refused=self._on_refused,
        )

    def _close_link(self, linger_ms: int) -> None:
        self._flush_traffic()
        self._link.close(linger_ms)

    def _on_refused(self) -> None:
        LINK_REFUSED.labels(self._host.role).inc()
        times = self._seldom.count("", self._loop.time())
        if times is not None:
            log.warning("router_refused_us", endpoint=self.endpoint, times=times)

    # Sending

    def send_audio(self, stream: WorkerStream, packet: bytes) -> None:
        if self._lane.is_clear:
            head = pack_head(Kind.AUDIO, stream.id, stream.next_out)
            if self._link.send(head, packet) is SendOutcome.SENT:
                stream.next_out += 1
                return
        self._full.inc()
        self._fail(stream, "link_full", retryable=True)

    def send_control(self, stream: WorkerStream, kind: Kind, body: Body) -> None:
        packed = body.pack()
        head = pack_head(kind, stream.id, stream.next_out)
        stream.next_out += 1
        if self._lane.is_clear and self._link.send(head, packed) is SendOutcome.SENT:
            return
        self._full.inc()
        self._lane.hold((head, packed), self._loop.time())

    def end(self, stream: WorkerStream, kind: Kind, body: Body, code: str) -> None:
        """The one DONE or ERROR of a stream."""
        if not stream.is_open:
            JOB_SECOND_ENDS.labels(self._host.role).inc()
            return
        self.send_control(stream, kind, body)
        self._forget(stream, code)

    def error_body(self, code: str, retryable: bool, message: str = "") -> Error:
        return Error(code=code, retryable=retryable, load=self._host.active(), message=message[:MAX_ERROR_CHARS])

    # Receiving

    def _on_message(self, head: Head, body: bytes) -> None:
        self._watch.on_heard(self._loop.time())
        consume = self._on_kind.get(head.kind)
        if consume is None:
            LINK_UNKNOWN_KIND.labels(self._host.role).inc()
            return
        consume(head, body)

    def _on_drained(self) -> None:
        now = self._loop.time()
        if not self._lane.is_clear:
            self._lane.retry(self._send_waiting, now)
        if not self._has_beaten:
            self.send_beat()  # the connection has just been made, or the router takes messages again
        if not self._is_judgement_due:
            return
        self._is_judgement_due = False
        if self._lane.is_stuck(now):
            self.rejoin("stuck")
        elif self._watch.is_gone(now):
            self.rejoin("silent")

    def _on_ping(self, head: Head, body: bytes) -> None:
        try:
            boot = Ping.unpack(body).router_boot
        except WorkerProtocolError:
            self._count_dropped("bad_body")
            return
        if self._watch.on_boot(boot):
            log.warning("router_restarted", endpoint=self.endpoint, dropped=len(self.streams))
            self.drop_streams("router_restarted")
            self._newest = 0
            self._host.on_load_changed()
        self.send_beat()

    def _on_leave(self, head: Head, body: bytes) -> None:
        self.rejoin("leave")

    def _on_open(self, head: Head, body: bytes) -> None:
        if head.stream <= self._newest or head.seq != 0:
            self._count_dropped("bad_open")
            return
        self._newest = head.stream
        self._opened += 1
        stream = WorkerStream(self, head.stream)
        refusal = "draining" if self.is_leaving else self._host.refusal()
        if refusal is not None:
            stream.error(refusal, retryable=True)
            return
        self.streams[stream.id] = stream
        self._host.on_load_changed()
        self._start_job(stream, body)

    def _on_end(self, head: Head, body: bytes) -> None:
        stream = self._accept(head)
        if stream is not None and stream.job is not None:
            self._run(stream, stream.job.on_end)

    def _on_abort(self, head: Head, body: bytes) -> None:
        # Not fenced by seq: what is aborted may be aborted because it has a gap.
        stream = self.streams.get(head.stream)
        if stream is None:
            self._count_dropped("stale")
            return
        try:
            reason = Abort.unpack(body).reason
        except WorkerProtocolError:
            reason = "bad_body"
        self.end(stream, Kind.DONE, Done(aborted=True), "aborted")
        self._tell_aborted(stream, reason)

    def _on_audio(self, head: Head, body: bytes) -> None:
        stream = self._accept(head)
        if stream is not None and stream.job is not None:
            self._run(stream, stream.job.on_audio, body)

    def _on_event(self, head: Head, body: bytes) -> None:
        stream = self._accept(head)
        if stream is not None and stream.job is not None:
            self._run_with_map(stream, stream.job.on_event, body)

    def _on_credit(self, head: Head, body: bytes) -> None:
        stream = self._accept(head)
        if stream is not None and stream.job is not None:
            self._run_with_map(stream, stream.job.on_credit, body)

    def _accept(self, head: Head) -> WorkerStream | None:
        stream = self.streams.get(head.stream)
        if stream is None:
            self._count_dropped("stale")
            return None
        if head.seq != stream.next_in:
            self._count_dropped("gap")
            self._fail(stream, "gap", retryable=True)
            return None
        stream.next_in += 1
        return stream

    # Jobs

    def _start_job(self, stream: WorkerStream, body: bytes) -> None:
        try:
            stream.job = self._host.service.open(stream, unpack_map(body))
        except EngineError as error:
            stream.error(error.code, retryable=error.retryable, message=str(error))
        except XiaozhiError as error:
            stream.error(error.code, message=str(error))
        except Exception as error:
            self._on_job_raised(stream, error)

    def _run_with_map(self, stream: WorkerStream, call: Callable[[dict[str, Any]], None], body: bytes) -> None:
        try:
            value = unpack_map(body)
        except WorkerProtocolError:
            self._fail(stream, "bad_body", retryable=False)
            return
        self._run(stream, call, value)

    def _run(self, stream: WorkerStream, call: Callable[..., None], *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception as error:  # the root of a job: whatever it raises ends that job only
            self._on_job_raised(stream, error)

    def _on_job_raised(self, stream: WorkerStream, error: Exception) -> None:
        stack = "".join(traceback.format_tb(error.__traceback__))
        log.error("job_raised", role=self._host.role, stream=stream.id, error=type(error).__name__, stack=stack)
        self._fail(stream, "internal", retryable=True)

    def _fail(self, stream: WorkerStream, code: str, *, retryable: bool) -> None:
        """The runtime ends a stream; the job learns of it after whatever it is doing now."""
        if stream.is_open:
            self.end(stream, Kind.ERROR, self.error_body(code, retryable), code)
            self._loop.call_soon(self._tell_aborted, stream, code)

    def _tell_aborted(self, stream: WorkerStream, reason: str) -> None:
        job, stream.job = stream.job, None
        if job is not None:
            self._run(stream, job.on_abort, reason)

    def _forget(self, stream: WorkerStream, code: str) -> None:
        stream.close()
        JOBS_ENDED.labels(self._host.role, code).inc()
        if self.streams.pop(stream.id, None) is not None:
            self._host.on_load_changed()

    def _send_waiting(self, message: tuple[bytes, bytes | None]) -> bool:
        return self._link.send(*message) is SendOutcome.SENT

    def _count_dropped(self, reason: str) -> None:
        LINK_DROPPED.labels(self._host.role, reason).inc()

    def _flush_traffic(self) -> None:
        received, sent, malformed = self._link.traffic.take()
        self._received.inc(received)
        self._sent.inc(sent)
        if malformed:
            LINK_DROPPED.labels(self._host.role, "malformed").inc(malformed)
