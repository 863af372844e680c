"""One device on the line: executes what its Conversation decides, on its socket and on the workers' streams.

Nothing here waits and nothing here decides. Everything that happens to a device enters through `_run`, so effects
never nest: what an effect causes arrives as an event of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from router import metrics, wire
from router.device.identity import Identity
from router.device.manners import Manners
from router.device.socket import DeviceSocket
from router.device.timetable import Timetable
from router.device.uplink_batch import UplinkBatch
from router.talk.conversation import Conversation
from router.talk.effects import (
    AbortStream,
    CloseDevice,
    Count,
    Effect,
    EndStream,
    LogTurn,
    Observe,
    OpenStream,
    SendAudio,
    SendPing,
    SendText,
    StreamAudio,
    StreamCredit,
    StreamEvent,
    StreamKey,
)
from shared.errors import DeviceProtocolError, WorkerProtocolError
from shared.link.messages import Done

if TYPE_CHECKING:
    from router.pools.stream_ref import StreamRef
    from router.pools.switchboard import Switchboard

log = structlog.get_logger(__name__)

POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011
PROTOCOL_CODES = frozenset({1002, 1007, 1009})
"""Protocol error, invalid data, message too big (RFC 6455, section 7.4.1)."""


def _unread(_: str | bytes) -> None:
    return


def _nothing() -> None:
    return


class StreamSlot:
    """The owner of one stream: knows which key of which line it is."""

    __slots__ = ("_line", "key")

    def __init__(self, line: Line, key: StreamKey) -> None:
        self._line = line
        self.key = key

    def on_opened(self, ref: StreamRef) -> None:
        self._line.stream_opened(self.key, ref)

    def on_audio(self, ref: StreamRef, packet: bytes) -> None:
        self._line.stream_audio(self.key, packet)

    def on_event(self, ref: StreamRef, body: dict[str, Any]) -> None:
        self._line.stream_event(self.key, body)

    def on_credit(self, ref: StreamRef, body: dict[str, Any]) -> None:
        self._line.stream_credit(self.key, body)

    def on_done(self, ref: StreamRef, done: Done) -> None:
        self._line.stream_done(self.key)

    def on_draining(self, ref: StreamRef) -> None:
        self._line.stream_draining(self.key)

    def on_lost(self, ref: StreamRef, cause: str, retryable: bool) -> None:
        self._line.stream_lost(self.key, ref, cause, retryable)


class Line:
    """A device connection's shell around its Conversation."""

    def __init__(
        self,
        socket: DeviceSocket,
        identity: Identity,
        conversation: Conversation,
        switchboard: Switchboard,
        timetable: Timetable,
        *,
        uplink: UplinkBatch,
        on_close: Callable[[Line, int, str], None],
    ) -> None:
        self.socket = socket
        self.identity = identity
        self.conversation = conversation
        self.close_reason = "device"
        self.pinged_at = socket.heard_at
        self._framing = identity.framing(None)
        self._switchboard = switchboard
        self._uplink = uplink
        self._entry = timetable.entry(self._tick)
        self._on_close = on_close
        self._refs: dict[StreamKey, StreamRef] = {}
        self._manners = Manners(time.monotonic())
        self._sequence = 0
        self._is_closed = False
        socket.on_pong = self._pong
        socket.on_writable = self._writable
        socket.on_control = self.control
        self._schedule()

    @property
    def device(self) -> str:
        return self.conversation.caller.device

    @property
    def final_reason(self) -> str:
        """Why the connection has ended; `protocol`: the device broke the rules of WebSocket."""
        sent = self.socket.protocol.close_sent
        if self.close_reason == "device" and sent is not None and sent.code in PROTOCOL_CODES:
            return "protocol"
        return self.close_reason

    @property
    def log(self) -> Any:
        return log.bind(session=self.conversation.caller.session, device=self.device)

    # From the device

    def receive(self, message: str | bytes) -> None:
        """One WebSocket message."""
        now = time.monotonic()
        manners = self._manners
        manners.messages += 1
        if manners.messages > manners.quota and manners.floods(now):
            self._stop_flood()
            return
        if manners.limited(now):
            metrics.count("bad_messages", "limited")
            return
        if isinstance(message, str) and manners.chatters(len(message), now):
            metrics.count("bad_messages", "text_rate")
            return
        try:
            if isinstance(message, str):
                self._receive_text(message, now)
            else:
                self._receive_audio(message, now)
        except DeviceProtocolError as error:
            self._manners.offend(now)
            metrics.count("bad_messages", error.code)
            log.debug("bad_message", session=self.conversation.caller.session, code=error.code)
        except Exception:  # the root of everything a device causes: our bug must end its line only
            metrics.count("bad_messages", "internal")
            self.log.exception("line_failed")
            self.hang_up(INTERNAL_ERROR, "internal")

    def control(self) -> None:
        """One frame that is no message: a ping, a pong, a fragment."""
        manners = self._manners
        manners.messages += 1
        if manners.messages > manners.quota and manners.floods(time.monotonic()):
            self._stop_flood()

    def _stop_flood(self) -> None:
        metrics.count("bad_messages", "flood")
        self.socket.on_message = _unread
        self.socket.on_control = _nothing
        self.hang_up(POLICY_VIOLATION, "flood")

    def _receive_audio(self, message: bytes, now: float) -> None:
        packet = wire.unframe(self._framing, message)
        metrics.FRAMES_IN.inc()
        metrics.BYTES_IN.inc(len(packet))
        effects = self.conversation.audio(packet, now)
        self._execute(effects)
        # A frame that only went into the log moves deadlines to later, and later needs no new timer.
        if any(type(effect) is not StreamAudio for effect in effects) or self._entry.at is None:
            self._schedule()

    def _receive_text(self, text: str, now: float) -> None:
        message = wire.parse(text)
        match message:
            case wire.Hello():
                self._framing = self.identity.framing(message.version)
            case wire.Echo():
                self._manners.offend(now)
                self.socket.send_now(message.text)
            case wire.AbortReply():
                self._run(self.conversation.message(message, now))
                metrics.observe("bargein_stop", time.monotonic() - now)
                return
            case wire.PingText():
                self.socket.send_now(json.dumps(wire.pong(time.strftime("%Y-%m-%d %H:%M:%S"))))
        self._run(self.conversation.message(message, now))

    def closed(self) -> None:
        """The connection is gone. Streams end; the session worker commits what was said."""
        if self._is_closed:
            return
        self._is_closed = True
        self._entry.cancel()
        self._run(self.conversation.closed(time.monotonic()))

    def leave(self, code: int, reason: str) -> None:
        self._run(self.conversation.leave(code, reason, time.monotonic()))

    def hang_up(self, code: int, reason: str) -> None:
        """Close the socket; `closed` follows when it is gone."""
        self.close_reason = reason
        self._on_close(self, code, reason)

    def _pong(self, payload: bytes) -> None:
        if payload.isdigit():
            self._run(self.conversation.pong(int(payload), time.monotonic()))

    def _writable(self, is_writable: bool) -> None:
        now = time.monotonic()
        if is_writable:
            self._run(self.conversation.unblocked(now))
        else:
            metrics.WS_SLOW.inc()
            self.conversation.blocked(now)
            self._schedule()

    # From the workers

    def stream_opened(self, key: StreamKey, ref: StreamRef) -> None:
        if key not in self._refs or ref.worker is None:
            return
        caps = self._switchboard.caps_of(ref)
        engine = self.conversation.mouth.engine or caps.get("default")
        deterministic = engine in caps.get("deterministic", ())
        now = time.monotonic()
        self._run(self.conversation.opened(key, ref.worker, now, deterministic=deterministic))

    def stream_audio(self, key: StreamKey, packet: bytes) -> None:
        self._run(self.conversation.stream_audio(key, packet, time.monotonic()))

    def stream_event(self, key: StreamKey, body: dict[str, Any]) -> None:
        self._guarded(lambda now: self.conversation.stream_event(key, body, now))

    def stream_credit(self, key: StreamKey, body: dict[str, Any]) -> None:
        self._guarded(lambda now: self.conversation.stream_credit(key, body, now))

    def stream_done(self, key: StreamKey) -> None:
        self._refs.pop(key, None)
        self._run(self.conversation.stream_done(key, time.monotonic()))

    def stream_lost(self, key: StreamKey, ref: StreamRef, cause: str, retryable: bool) -> None:
        self._refs.pop(key, None)
        self.log.warning("stream_lost", role=str(key.role), worker=ref.worker, cause=cause, retryable=retryable)
        now = time.monotonic()
        lost = self.conversation.stream_lost(key, cause, retryable=retryable, worker=ref.worker, now=now)
        self._run(lost)

    def stream_draining(self, key: StreamKey) -> None:
        self._run(self.conversation.stream_draining(key, time.monotonic()))

    def _guarded(self, decide: Callable[[float], list[Effect]]) -> None:
        try:
            effects = decide(time.monotonic())
        except WorkerProtocolError as error:
            metrics.count("bad_messages", "worker_body")
            self.log.warning("bad_worker_body", code=error.code)
            return
        self._run(effects)

    # Time and effects

    def _tick(self, now: float) -> None:
        self._run(self.conversation.tick(now))

    def _schedule(self) -> None:
        if not self._is_closed:
            self._entry.set(self.conversation.next_due(time.monotonic()))

    def _run(self, effects: list[Effect]) -> None:
        self._execute(effects)
        self._schedule()

    def _execute(self, effects: list[Effect]) -> None:
        for effect in effects:
            _EXECUTORS[type(effect)](self, effect)

    def _send_text(self, effect: SendText) -> None:
        if self._is_closed:
            return
        message = effect.message
        if not effect.bare:
            message = {**message, "session_id": self.conversation.caller.session}
        self.socket.send_now(json.dumps(message))

    def _send_audio(self, effect: SendAudio) -> None:
        if self._is_closed:
            return
        self._sequence += 1
        metrics.FRAMES_OUT.inc()
        metrics.BYTES_OUT.inc(len(effect.packet))
        self.socket.send_now(wire.frame(self._framing, effect.packet, self._sequence))

    def _send_ping(self, effect: SendPing) -> None:
        if not self._is_closed:
            self.socket.ping_now(str(effect.token).encode())

    def _open_stream(self, effect: OpenStream) -> None:
        caller = self.conversation.caller
        self._refs[effect.key] = self._switchboard.open(
            StreamSlot(self, effect.key),
            effect.key.role,
            effect.body,
            key=caller.device,
            prefer=effect.prefer,
            exclude=effect.exclude,
            engine=effect.engine,
            wait_s=effect.wait_s,
            is_repin=effect.is_repin,
        )

    def _stream_audio(self, effect: StreamAudio) -> None:
        ref = self._refs.get(effect.key)
        if ref is not None:
            self._uplink.add(ref, effect.packet)

    def _stream_event(self, effect: StreamEvent) -> None:
        ref = self._refs.get(effect.key)
        if ref is not None:
            ref.send_event(effect.body)

    def _stream_credit(self, effect: StreamCredit) -> None:
        ref = self._refs.get(effect.key)
        if ref is not None:
            ref.send_credit(effect.body)

    def _end_stream(self, effect: EndStream) -> None:
        ref = self._refs.get(effect.key)
        if ref is not None:
            self._uplink.flush()
            ref.end()

    def _abort_stream(self, effect: AbortStream) -> None:
        ref = self._refs.pop(effect.key, None)
        if ref is not None:
            ref.abort(effect.reason)

    def _close_device(self, effect: CloseDevice) -> None:
        self.hang_up(effect.code, effect.reason)

    def _count(self, effect: Count) -> None:
        metrics.count(effect.metric, effect.label)

    def _observe(self, effect: Observe) -> None:
        metrics.observe(effect.metric, effect.value)

    def _log_turn(self, effect: LogTurn) -> None:
        self.log.info("turn", **effect.fields)
        metrics.observe_turn(effect.fields)


_EXECUTORS: dict[type[Effect], Callable[[Line, Any], None]] = {
    SendText: Line._send_text,
    SendAudio: Line._send_audio,
    SendPing: Line._send_ping,
    OpenStream: Line._open_stream,
    StreamAudio: Line._stream_audio,
    StreamEvent: Line._stream_event,
    StreamCredit: Line._stream_credit,
    EndStream: Line._end_stream,
    AbortStream: Line._abort_stream,
    CloseDevice: Line._close_device,
    Count: Line._count,
    Observe: Line._observe,
    LogTurn: Line._log_turn,
}
