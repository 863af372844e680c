"""A world around one Conversation, for tests: applies its effects, keeps the books, checks what always holds.

Time is `now`; nothing sleeps. The world's own view of a device (`tts start` open or not) and of the workers (which
streams are open) is built from the effects alone.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from router import wire
from router.talk.conversation import Conversation
from router.talk.ear import EarState
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
from router.talk.prompts import Prompt
from router.talk.session_stream import Caller
from shared.ids import Role
from shared.link.messages import (
    Adopt,
    AsrCredit,
    Body,
    Claimed,
    Committed,
    Emotion,
    Final,
    Input,
    OpenSession,
    Partial,
    Profile,
    ReplyEnd,
    Segment,
    SpeechEnd,
    SpeechHeld,
    SpeechStart,
    TurnOver,
)
from shared.settings import RouterSettings

FRAME = bytes([0x18]) + bytes(20)
"""An Opus packet of 60 ms by its first byte."""

PROMPTS = {
    (name, language): Prompt(f"{name} {language}", (b"prompt-" + name.encode(),) * 5)
    for name in ("busy", "apology", "filler", "goodbye")
    for language in ("en", "zh")
}


@dataclass
class World:
    settings: RouterSettings = field(default_factory=lambda: RouterSettings(end_prompt="goodbye"))
    now: float = 1000.0
    auto_place: bool = True
    auto_ack: bool = True
    """The asr worker processes each frame at once."""
    sent: list[dict[str, Any]] = field(default_factory=list)
    audio: list[tuple[float, bytes]] = field(default_factory=list)
    open: dict[StreamKey, OpenStream] = field(default_factory=dict)
    ever: set[StreamKey] = field(default_factory=set)
    told: list[Body] = field(default_factory=list)
    uplink: dict[StreamKey, list[bytes]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    observed: dict[str, list[float]] = field(default_factory=dict)
    turns: list[dict[str, Any]] = field(default_factory=list)
    closed: tuple[int, str] | None = None
    pings: list[int] = field(default_factory=list)
    is_speaking: bool = False
    starts: int = 0
    stops: int = 0
    aborts: int = 0
    gens_begun: list[int] = field(default_factory=list)
    gens_over: list[int] = field(default_factory=list)
    """Turns that a worker was told the end of, each once."""
    auto_commit: bool = True
    """Session workers have a turn in the store as soon as they are told its end."""
    knows: dict[StreamKey, set[int]] = field(default_factory=dict)
    """Which turns each session stream was asked."""
    unwritten: list[tuple[StreamKey, int]] = field(default_factory=list)
    """Turns that are over and not in the store yet, by who was told so."""
    written: set[int] = field(default_factory=set)
    adopted: list[Adopt] = field(default_factory=list)
    ended: set[StreamKey] = field(default_factory=set)
    credited: int = 0

    def __post_init__(self) -> None:
        self.conversation = Conversation(Caller("s1", "dev-1"), self.settings, PROMPTS, self.now)
        self._to_open: deque[StreamKey] = deque()

    # Driving

    def do(self, effects: list[Effect]) -> World:
        for effect in effects:
            self._apply(effect)
        while self.auto_place and self._to_open:
            key = self._to_open.popleft()
            if key in self.open:
                for effect in self.conversation.opened(key, f"worker-{key.role}", self.now, deterministic=True):
                    self._apply(effect)
        return self.commit() if self.auto_commit and self.unwritten else self

    def commit(self) -> World:
        """The session workers that live write what they were told."""
        waiting, self.unwritten = self.unwritten, []
        for key, gen in waiting:
            if key in self.open:
                self.written.add(gen)
                self.do(self.conversation.stream_event(key, Committed(gen).to_map(), self.now))
        return self

    def claims(self, epoch: int) -> World:
        return self.event(Role.SESSION, Claimed(epoch))

    def say(self, message: wire.Message) -> World:
        if isinstance(message, wire.AbortReply):
            self.aborts += 1
        return self.do(self.conversation.message(message, self.now))

    def hello(self, **features: Any) -> World:
        self.say(wire.Hello(1, features))
        return self.event(Role.SESSION, Profile())

    def frames(self, count: int, packet: bytes = FRAME) -> World:
        for _ in range(count):
            self.do(self.conversation.audio(packet, self.now))
            if self.auto_ack:
                self.acknowledge()
            self.advance(0.06)
        return self

    def acknowledge(self) -> None:
        ear = self.conversation.ear
        keys = [key for key in self.open if key.role == Role.ASR]
        if keys:
            trim = ear.log.sent - 5 if ear.state == EarState.ARMED else 0
            credit = AsrCredit(ear.log.sent, max(0, trim))
            self.do(self.conversation.stream_credit(max(keys), credit.to_map(), self.now))

    def advance(self, seconds: float) -> World:
        """Let time pass, ticking exactly when something is due."""
        end = self.now + seconds
        for _ in range(10_000):
            due = self.conversation.next_due(self.now)
            if due is None or due > end:
                self.now = end
                return self
            self.now = max(self.now, due)
            self.do(self.conversation.tick(self.now))
        raise AssertionError(f"always due: {self.conversation!r} at {due}")

    def key(self, role: Role) -> StreamKey:
        """The newest open stream of a role."""
        return max(key for key in self.open if key.role == role)

    def event(self, role: Role, body: Body) -> World:
        return self.do(self.conversation.stream_event(self.key(role), body.to_map(), self.now))

    def lose(self, key: StreamKey, cause: str = "dead", *, retryable: bool = True) -> World:
        self.open.pop(key, None)
        worker = f"worker-{key.role}"
        return self.do(self.conversation.stream_lost(key, cause, retryable=retryable, worker=worker, now=self.now))

    def done(self, key: StreamKey) -> World:
        self.open.pop(key, None)
        return self.do(self.conversation.stream_done(key, self.now))

    # What workers do

    def hears(self, text: str, utterance: int | None = None) -> World:
        """The asr worker recognises one utterance in what it has."""
        key = self.key(Role.ASR)
        number = self.conversation.ear.utterance if utterance is None else utterance
        position = self.conversation.ear.log.sent
        if self.conversation.ear.mode != "manual":
            self.event(Role.ASR, SpeechStart(position - 3, number))
            self.event(Role.ASR, SpeechEnd(position, number, 600))
        if key in self.open:
            final = Final(position, number, text, 600, 40.0)
            self.do(self.conversation.stream_event(key, final.to_map(), self.now))
        return self

    @property
    def input(self) -> Input:
        return [body for body in self.told if isinstance(body, Input)][-1]

    def replies(self, *texts: str, end: bool = True) -> World:
        gen = self.input.gen
        for n, text in enumerate(texts):
            self.event(Role.SESSION, Segment(gen, n, text, text))
        if end:
            self.event(Role.SESSION, ReplyEnd(gen))
        return self

    def speaks(self, frames: int = 10, *, finish: bool = True) -> World:
        """The oldest open tts job delivers."""
        key = min(key for key in self.open if key.role == Role.TTS)
        for _ in range(frames):
            self.do(self.conversation.stream_audio(key, f"{key.number}".encode(), self.now))
        return self.done(key) if finish else self

    def partial(self, text: str) -> World:
        log = self.conversation.ear.log
        return self.event(Role.ASR, Partial(log.sent, self.conversation.ear.utterance, text))

    def speech_start(self) -> World:
        ear = self.conversation.ear
        return self.event(Role.ASR, SpeechStart(ear.log.sent, ear.utterance))

    def speech_held(self) -> World:
        ear = self.conversation.ear
        return self.event(Role.ASR, SpeechHeld(ear.log.sent, ear.utterance))

    def smiles(self) -> World:
        return self.event(Role.SESSION, Emotion(self.input.gen, "🙂", "happy"))

    # What the device and the workers see

    def states(self) -> list[str]:
        """The order of what the device was told, shortly."""
        return [message.get("state", message["type"]) for message in self.sent]

    def texts(self) -> list[str]:
        return [message["text"] for message in self.sent if message.get("state") == "sentence_start"]

    def _apply(self, effect: Effect) -> None:
        match effect:
            case SendText(message):
                self._sent_text(message)
            case SendAudio(packet):
                assert self.is_speaking, "audio outside tts start … tts stop"
                self.audio.append((self.now, packet))
            case SendPing(token):
                self.pings.append(token)
            case OpenStream(key):
                assert key not in self.ever, "a stream key was used twice"
                self.ever.add(key)
                self.open[key] = effect
                self._to_open.append(key)
                if isinstance(effect.body, OpenSession):
                    self.knows[key] = {effect.body.resume.gen} if effect.body.resume else set()
                jobs = [one for one in self.open if one.role == Role.TTS]
                assert len(jobs) <= 2, "more than two tts jobs"
            case StreamAudio(key, packet):
                assert key in self.open, "audio on a stream that is over"
                self.uplink.setdefault(key, []).append(packet)
            case StreamEvent(key, body):
                self._told(key, body)
            case StreamCredit(key):
                assert key in self.open
                self.credited += 1
            case EndStream(key):
                assert key in self.open, "END on a stream that is over"
                self.ended.add(key)
            case AbortStream(key):
                assert key in self.open, "ABORT on a stream that is over"
                del self.open[key]
            case CloseDevice(code, reason):
                assert self.closed is None, "closed twice"
                self.closed = (code, reason)
            case Count(metric, _):
                self.counts[metric] = self.counts.get(metric, 0) + 1
            case Observe(metric, value):
                self.observed.setdefault(metric, []).append(value)
            case LogTurn(fields):
                self.turns.append(fields)
            case _:
                pass

    def _sent_text(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        if message.get("type") != "tts":
            return
        if message["state"] == "start":
            assert not self.is_speaking, "tts start within a reply"
            self.is_speaking = True
            self.starts += 1
        elif message["state"] == "stop":
            self.is_speaking = False
            self.stops += 1

    def _told(self, key: StreamKey, body: Body) -> None:
        assert key in self.open, "an event on a stream that is over"
        self.told.append(body)
        match body:
            case Input(gen):
                self.gens_begun.append(gen)
                self.knows[key].add(gen)
            case TurnOver(gen):
                assert gen in self.knows[key], "the end of a turn that this worker was never asked"
                assert gen not in self.gens_over, "a turn is over twice"
                self.gens_over.append(gen)
                self.unwritten.append((key, gen))
            case Adopt(over=TurnOver(gen)):
                assert gen not in self.knows[key], "the record of a turn that this worker was asked itself"
                if gen not in self.gens_over:
                    self.gens_over.append(gen)
                self.adopted.append(body)
                self.unwritten.append((key, gen))
