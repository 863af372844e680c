"""A simulated device on a real WebSocket: the shell around the firmware core.

It executes the core's effects and feeds it with what arrives; it decides nothing about states, queues or sound.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from ops.device import wire
from ops.device.connection import open_connection
from ops.device.effects import (
    Capture,
    Effect,
    Play,
    SendAbort,
    SendDetect,
    SendPacket,
    SendStart,
    SendStop,
)
from ops.device.enrolment import DeviceError, Identity
from ops.device.firmware import Firmware, Profile, State
from ops.device.line import Line
from ops.device.microphone import Microphone
from ops.device.news import Kind, News, Observer
from ops.device.opus import Speech
from ops.device.tools import DeviceTools
from ops.device.turn import TurnMeter, TurnReport
from shared.errors import DeviceProtocolError
from shared.listening import Mode

_TIMER_SLACK_S = 0.001
"""uvloop rounds to milliseconds; a timer that came too early would have to be set again."""


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """How this device is built and used."""

    identity: Identity
    mode: Mode = "auto"
    protocol: wire.ProtocolVersion = 1
    profile: Profile = field(default_factory=Profile)
    has_aec: bool = False
    keep_audio: bool = False
    """Keep the packets that the speaker played, in `played`."""
    hello_timeout_s: float = 10.0
    answer_timeout_s: float = 30.0
    """Longest wait between two signs of life of the server within a turn."""
    abort_linger_s: float = 0.3
    """After an aborted turn: how long stale frames are looked out for."""


class Device:
    """One device. `async with Device(...)` hangs up at the end."""

    def __init__(
        self,
        options: DeviceOptions,
        silence: Sequence[bytes],
        *,
        observer: Observer | None = None,
        tools: DeviceTools | None = None,
    ) -> None:
        self.options = options
        self.firmware = Firmware(options.mode, options.profile)
        self.microphone = Microphone(silence)
        self.tools = tools or DeviceTools()
        self.session = ""
        self.played: list[bytes] = []
        self.faults: Counter[str] = Counter()
        """What the server sent that a device cannot read or that breaks one, by code."""
        self.line: Line | None = None
        self._observer = observer
        self._meter = TurnMeter(0, self.firmware.counters.copy())
        self._timer: asyncio.TimerHandle | None = None
        self._abort_timer: asyncio.TimerHandle | None = None
        self._abort_after_s: float | None = None
        self._failure: DeviceError | None = None
        self._is_closing = False
        self._has_hello = asyncio.Event()
        self._has_news = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def failure(self) -> DeviceError | None:
        """Why the connection is over."""
        return self._failure

    async def open(self, url: str, token: str = "") -> None:
        """Connect and shake hands; DeviceError if the server is not there, refuses, or says no hello."""
        options = self.options
        self._apply(self.firmware.connect(self._now()))
        socket = await open_connection(url, options.identity, token, options.protocol, options.hello_timeout_s)
        self.line = Line(socket, options.identity.device, self._on_message, self._on_closed)
        self.send(wire.hello(options.protocol, has_aec=options.has_aec))
        try:
            async with asyncio.timeout(options.hello_timeout_s):
                await self._has_hello.wait()
        except TimeoutError as error:
            raise DeviceError(f"{url} said no hello within {options.hello_timeout_s:g} s", code="no_hello") from error
        self._raise_failure()
        self._tell(Kind.OPENED, self.session)

    async def close(self) -> None:
        """Hang up."""
        self._is_closing = True
        for handle in (self._timer, self._abort_timer):
            if handle is not None:
                handle.cancel()
        if self.line is not None:
            await self.line.close()

    # Turns

    async def ask(self, speech: Speech, *, abort_after_s: float | None = None) -> TurnReport:
        """Say something and hear the answer out; abort it so long after its first sound, if asked to."""
        self.begin(speech, abort_after_s=abort_after_s)
        return await self.turn_over()

    async def ask_text(self, text: str, *, abort_after_s: float | None = None) -> TurnReport:
        """Type something and hear the answer out."""
        self._new_turn(abort_after_s)
        now = self._now()
        is_asleep = self.firmware.state is State.IDLE and self.options.mode != "manual"
        act = self.firmware.wake if is_asleep else self.firmware.type_text
        self._meter.on_done_speaking(now)
        self._apply(act(now, text))
        return await self.turn_over()

    def begin(self, speech: Speech, *, abort_after_s: float | None = None) -> None:
        """Begin to say something, pressing the button if need be. `turn_over` waits for the end."""
        self._new_turn(abort_after_s)
        self.microphone.hear(speech)
        if self.options.mode == "manual" or self.firmware.state is State.IDLE:
            self._apply(self.firmware.start_listening(self._now()))

    async def turn_over(self) -> TurnReport:
        """Wait until the reply has been heard out. DeviceError if the server hangs up or falls silent."""
        while not self._is_turn_over:
            if not self._meter.is_stopped:
                self._raise_failure()
            await self._wait_for_news()
        if self._meter.was_aborted:
            await asyncio.sleep(self.options.abort_linger_s)
        return self._meter.report(self.session, self.firmware)

    @property
    def _is_turn_over(self) -> bool:
        return self._meter.is_stopped and self.firmware.is_settled

    def abort(self, reason: str | None = None) -> None:
        now = self._now()
        self._meter.on_abort(now)
        self._tell(Kind.ABORTED)
        self._apply(self.firmware.abort(now, reason))

    def send(self, message: dict[str, Any]) -> None:
        """Any JSON message, past the firmware."""
        assert self.line is not None, "not open"
        self.line.put_text(json.dumps(message, ensure_ascii=False))

    def send_audio(self, packet: bytes) -> None:
        """One Opus packet, past the firmware."""
        assert self.line is not None, "not open"
        self.line.put_audio(wire.pack_audio(self.options.protocol, packet))

    def _new_turn(self, abort_after_s: float | None) -> None:
        self._raise_failure()
        self._meter = self._meter.next(self.firmware.counters, self._now())
        self._abort_after_s = abort_after_s

    async def _wait_for_news(self) -> None:
        self._has_news.clear()
        try:
            async with asyncio.timeout_at(self._deadline_s()):
                await self._has_news.wait()
        except TimeoutError:
            if self._now() >= self._deadline_s():
                waited_s = self.options.answer_timeout_s
                message = f"the server has not gone on for {waited_s:g} s: {self._meter.stage}"
                raise DeviceError(message, code="no_answer") from None

    def _deadline_s(self) -> float:
        """Nobody expects an answer while the person still speaks."""
        is_speaking = not self.microphone.is_quiet and self.firmware.is_mic_on
        return (self._now() if is_speaking else self._meter.progress_s) + self.options.answer_timeout_s

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    # Effects

    def _now(self) -> float:
        # Not the loop's clock: uvloop's has whole milliseconds, and is that old.
        return time.monotonic()

    def _on_timer(self) -> None:
        self._apply(self.firmware.advance(self._now()))
        self._note()

    def _note(self) -> None:
        """Wake `turn_over`, but not for every frame."""
        if self._is_turn_over or self._failure is not None:
            self._has_news.set()

    def _apply(self, effects: list[Effect]) -> None:
        has_finished = False
        for effect in effects:
            has_finished |= self._execute(effect)
        if has_finished and self.options.mode == "manual" and self.firmware.state is State.LISTENING:
            self._apply(self.firmware.stop_listening(self._now()))
            return
        self._arm()

    def _arm(self) -> None:
        """One timer, for the next moment at which something happens by itself."""
        if self._timer is not None:
            self._timer.cancel()
        at_s = self.firmware.wake_at_s()
        loop = asyncio.get_running_loop()
        self._timer = None if at_s is None else loop.call_at(at_s + _TIMER_SLACK_S, self._on_timer)

    def _execute(self, effect: Effect) -> bool:
        """True if the person has finished speaking."""
        match effect:
            case Capture():
                return self._capture()
            case Play(packet):
                if self.options.keep_audio:
                    self.played.append(packet)
            case SendPacket(packet):
                self.send_audio(packet)
            case SendStart(mode):
                self.send(wire.listen_start(self.session, mode))
                self._tell(Kind.LISTENING)
            case SendStop():
                self.send(wire.listen_stop(self.session))
                self._meter.on_done_speaking(self._now())
                self._tell(Kind.DONE_SPEAKING)
            case SendDetect(text):
                self.send(wire.listen_detect(self.session, text))
            case SendAbort(reason):
                self.send(wire.abort(self.session, reason))
        return False

    def _capture(self) -> bool:
        heard = self.microphone.next()
        self.send_audio(heard.packet)
        if heard.is_voiced and self.options.mode != "manual":
            self._meter.on_done_speaking(self._now())
        return heard.is_last

    def _tell(self, kind: Kind, text: str = "") -> None:
        if self._observer is not None:
            self._observer(News(kind, self._meter.elapsed_ms(self._now()), text))

    # What the server sends

    def _on_message(self, message: str | bytes) -> None:
        try:
            if isinstance(message, bytes):
                self._on_audio(wire.unpack_audio(self.options.protocol, message))
            else:
                self._on_json(wire.parse(message))
        except DeviceProtocolError as error:
            self.faults[error.code] += 1
        self._note()

    def _on_audio(self, packet: bytes) -> None:
        now = self._now()
        if self._meter.on_audio(now):
            self._tell(Kind.FIRST_AUDIO)
            if self._abort_after_s is not None:
                self._abort_timer = asyncio.get_running_loop().call_at(now + self._abort_after_s, self._abort_reply)
        self._apply(self.firmware.on_audio(packet, now))

    def _abort_reply(self) -> None:
        if not self._meter.is_stopped and self._failure is None:
            self.abort()

    def _on_json(self, message: dict[str, Any]) -> None:
        now = self._now()
        text = str(message.get("text", ""))
        match message["type"]:
            case "hello":
                self._on_hello(message, now)
            case "stt":
                self._meter.on_stt(text, now)
                self._tell(Kind.TRANSCRIPT, text)
            case "llm":
                emotion = str(message.get("emotion", ""))
                self._meter.on_emotion(emotion, now)
                self._tell(Kind.EMOTION, emotion)
            case "tts":
                self._on_tts(wire.check_tts(message), text, now)
            case "mcp":
                self._on_mcp(message.get("payload"))
            case _:
                self.faults["unknown_type"] += 1

    def _on_hello(self, message: dict[str, Any], now: float) -> None:
        if self._has_hello.is_set():
            self.faults["second_hello"] += 1
            return
        try:
            self.session, frame_s = wire.check_hello(message)
        except DeviceProtocolError as error:
            self._failure = DeviceError(f"the server's hello cannot be used: {error}", code=error.code)
        else:
            self._apply(self.firmware.connected(now, frame_s))
        self._has_hello.set()

    def _on_tts(self, state: str, text: str, now: float) -> None:
        match state:
            case "start":
                self._meter.on_tts_start(now)
                self._tell(Kind.REPLY_STARTED)
                if self.options.mode != "realtime":
                    # The microphone goes off: what the person still says, nobody hears.
                    self.microphone.hush()
                self._apply(self.firmware.on_tts_start(now))
            case "sentence_start":
                self._meter.on_sentence(text, now)
                self._tell(Kind.SENTENCE, text)
                self._apply(self.firmware.on_sentence_start(now))
            case "stop":
                self._meter.on_tts_stop(now)
                self._tell(Kind.REPLY_STOPPED)
                self._apply(self.firmware.on_tts_stop(now))

    def _on_mcp(self, request: object) -> None:
        answer = self.tools.answer(request)
        if answer is None:
            return
        self.send(wire.mcp(self.session, answer))
        if isinstance(request, dict) and request.get("method") == "tools/call":
            self._tell(Kind.TOOL_CALLED, self.tools.calls[-1][0] if self.tools.calls else "")

    def _on_closed(self, code: int, reason: str) -> None:
        if self._is_closing:
            return
        words = f"the server hung up (close code {code}{f', {reason}' if reason else ''})"
        self._failure = self._failure or DeviceError(words, code=f"closed_{code}")
        self._tell(Kind.CLOSED, words)
        self._apply(self.firmware.disconnected(self._now()))
        self._has_hello.set()
        self._has_news.set()
