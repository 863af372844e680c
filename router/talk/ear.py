"""The ear of a conversation: when it listens, what it has heard, and how a lost recogniser is replaced.

Rules
- Every frame that may belong to speech is in the uplink log before anything else happens to it.
- One asr stream at a time. It is opened at the first frame, and can be opened again elsewhere from the log at any time.
- Events of the worker carry positions; one at or below a position already acted on is a replay's echo and is ignored.
- In auto and realtime the stream lives over many utterances; in manual mode it is one utterance, ended by END.
- Nobody is answered while they hold the key: an utterance that fails before is told when the key is let go.
- Pure: no clock, no sockets. Returns effects and what the conversation must know (`Heard`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from router.talk.effects import AbortStream, Count, Effect, EndStream, OpenStream, StreamAudio, StreamKey
from router.talk.heard import (
    Heard,
    SpeechBegan,
    SpeechConfirmed,
    SpeechVanished,
    Transcript,
    UtteranceFailed,
)
from router.talk.uplink import UplinkLog
from shared.errors import TransitionError
from shared.ids import Role, WorkerId
from shared.link.messages import AsrCredit, Final, OpenAsr
from shared.listening import Mode, VadProfile

PRE_ROLL_FRAMES = 40
"""Kept while closed: a device sends up to 33 frames of its wake word before it says `detect` or `start`."""

SILENT_UPLINK_S = 1.5
"""No audio for so long in the middle of speech ends the utterance (auto, realtime)."""

MAX_DEATHS = 2
"""Placements again after a worker's death, per utterance."""

MAX_ERRORS = 1
"""Placements again after a retryable error, per utterance."""


class EarState(StrEnum):
    CLOSED = "closed"
    ARMED = "armed"
    HEARING = "hearing"
    DECIDING = "deciding"


class EarEvent(StrEnum):
    ARM = "arm"
    CLOSE = "close"
    SPEECH = "speech"
    END = "end"
    FINAL = "final"


_C, _A, _H, _D = EarState.CLOSED, EarState.ARMED, EarState.HEARING, EarState.DECIDING

TRANSITIONS: dict[EarState, dict[EarEvent, EarState]] = {
    _C: {EarEvent.ARM: _A, EarEvent.CLOSE: _C},
    _A: {EarEvent.ARM: _A, EarEvent.CLOSE: _C, EarEvent.SPEECH: _H, EarEvent.END: _D},
    _H: {EarEvent.ARM: _A, EarEvent.CLOSE: _C, EarEvent.SPEECH: _H, EarEvent.END: _D, EarEvent.FINAL: _A},
    _D: {EarEvent.ARM: _A, EarEvent.CLOSE: _C, EarEvent.SPEECH: _H, EarEvent.END: _D, EarEvent.FINAL: _A},
}


Outcome = list["Effect | Heard"]


@dataclass(slots=True)
class ListenProfile:
    """What an asr stream of this device is opened with."""

    session: str
    vad: VadProfile
    engine: str | None = None
    language: str | None = None
    format: str = "opus"
    sample_rate: int = 16_000
    frame_ms: int = 60


@dataclass(slots=True)
class Ear:
    profile: ListenProfile
    final_timeout_s: float = 3.0
    state: EarState = EarState.CLOSED
    mode: Mode = "auto"
    log: UplinkLog = field(default_factory=UplinkLog)
    ready: bool = False
    """Until the device's profile is known (or given up waiting for), frames are only kept."""
    utterance: int = 0
    last_audio_at: float = 0.0
    _started: bool = False
    """The device has said `start` on this connection; it will say so again when it wants to be heard."""
    _pre_roll: deque[tuple[bytes, float]] = field(default_factory=lambda: deque(maxlen=PRE_ROLL_FRAMES))
    _key: StreamKey | None = None
    _key_count: int = 0
    _placed: bool = False
    _worker: WorkerId | None = None
    _acted: int = -1
    """Position of the last event acted on."""
    _begun: int = -1
    """Number of the last utterance that has begun."""
    _ended: bool = False
    """No more frames for this stream: END leaves behind the last one."""
    _end_sent: bool = False
    _ended_at: float = 0.0
    _fed_ms: float = 0.0
    """Audio since `start`, for manual mode's maximum."""
    _marked: bool = False
    """The uplink fell silent in mid-speech and the end mark is in the log."""
    _failed: str | None = None
    """Why the utterance of a held key was given up already."""
    _deadline: float | None = None
    _deaths: int = 0
    _errors: int = 0
    _excluded: frozenset[WorkerId] = frozenset()

    def __repr__(self) -> str:
        return f"<Ear {self.state} {self.mode} utterance={self.utterance} log={self.log.trim}..{self.log.head}>"

    # From the device

    def start(self, mode: Mode) -> Outcome:
        """`listen start`. Some clients send it at every sentence, so what has been heard already is kept."""
        self._started = True
        self._pre_roll.clear()
        kept = self.state in (_H, _D) and mode != "manual" and self.mode != "manual"
        if kept:
            self.mode = mode
            return []
        out = self._reset("listen_start")
        self.mode = mode
        self._move(EarEvent.ARM)
        return out

    def stop(self, now: float) -> Outcome:
        """`listen stop`: the utterance is over. Without any audio since `start` there is no turn."""
        if self.state == _C:
            return []
        if self._failed is not None:
            reason = self._failed
            out = self._reset(reason)
            self._move(EarEvent.CLOSE)
            return [*out, UtteranceFailed(reason)]
        nothing_said = self._fed_ms == 0.0 if self.mode == "manual" else self.state == _A
        if nothing_said:
            out = self._reset("listen_stop")
            self._move(EarEvent.CLOSE)
            return out
        self._ended = True
        return self._end(now) + self._pump()

    def drop(self) -> Outcome:
        """`detect`, or `abort` while nothing is spoken: what was heard so far is void; listening goes on."""
        self._pre_roll.clear()
        out = self._reset("dropped")
        if self.state != _C:
            self._move(EarEvent.CLOSE if self.mode == "manual" else EarEvent.ARM)
        return out

    def rearm(self) -> None:
        """`tts stop` was sent: in auto and realtime the device is listening again, whether it says so or not."""
        if self.state == _C and self._started and self.mode != "manual":
            self._move(EarEvent.ARM)

    def close(self) -> Outcome:
        """The connection is gone."""
        self._pre_roll.clear()
        out = self._reset("closed")
        self._move(EarEvent.CLOSE)
        return out

    def audio(self, packet: bytes, duration_ms: float, now: float) -> Outcome:
        """One packet of the device. An empty one ends the utterance."""
        self.last_audio_at = now
        if self.state == _C:
            return self._audio_while_closed(packet, duration_ms)
        if not packet:
            return self._end_mark(now)
        if self.mode == "manual" and (self._ended or self._fed_ms >= self.profile.vad.max_utterance_ms):
            return [Count("uplink_dropped", "max_utterance")]
        if self._failed is not None:
            return [Count("uplink_dropped", "failed")]
        self._fed_ms += duration_ms
        self._marked = False
        self.log.append(packet, duration_ms)
        if self.mode == "manual" and self.state == _A:
            self._move(EarEvent.SPEECH)
        if self.log.overloaded:
            return [Count("asr_overloaded"), *self.fail("asr_overloaded")]
        return self._pump()

    def _audio_while_closed(self, packet: bytes, duration_ms: float) -> Outcome:
        if packet:
            self._pre_roll.append((packet, duration_ms))
        if self._started or len(self._pre_roll) < PRE_ROLL_FRAMES:
            return []
        # More than any wake word, and never a `start`: a client that just talks.
        self._started = True
        self._move(EarEvent.ARM)
        for kept, kept_ms in self._pre_roll:
            self._fed_ms += kept_ms
            self.log.append(kept, kept_ms)
        self._pre_roll.clear()
        return self._pump()

    def _end_mark(self, now: float) -> Outcome:
        if self.mode == "manual":
            return self.stop(now)
        if self.state != _H or self._marked:
            return []
        self._marked = True
        self.log.append(b"", 0.0)
        return self._pump()

    def profile_known(self) -> Outcome:
        """The device's settings are in `profile`; what was kept so far may leave."""
        self.ready = True
        return self._pump() if self.log.head > self.log.sent or self._ended else []

    # From the asr worker

    def opened(self, key: StreamKey, worker: WorkerId, now: float) -> Outcome:
        if key != self._key:
            return []
        self._placed = True
        self._worker = worker
        if self._deadline is not None:
            # The time without a worker was nobody's fault, and was bounded by its own limit.
            self._deadline = max(self._deadline, now + self.final_timeout_s)
        return self._pump()

    def credit(self, key: StreamKey, credit: AsrCredit) -> Outcome:
        if key != self._key:
            return []
        is_true = credit.trim <= credit.acked <= self.log.sent
        self.log.credit(credit.acked, credit.trim)
        return self._pump() if is_true else [Count("credit_violations", "asr"), *self._pump()]

    def speech_start(self, key: StreamKey, position: int, utterance: int) -> Outcome:
        if not self._news(key, position) or self.state == _C:
            return []
        self._move(EarEvent.SPEECH)
        self._begun = utterance
        return [SpeechBegan()]

    def speech_goes_on(self, key: StreamKey, position: int) -> Outcome:
        """A word was recognised, or the speech has lasted."""
        if not self._news(key, position) or self.state not in (_H, _D):
            return []
        return [SpeechConfirmed()]

    def speech_end(self, key: StreamKey, position: int, now: float) -> Outcome:
        if not self._news(key, position) or self.state not in (_H, _D):
            return []
        return self._end(now)

    def final(self, key: StreamKey, final: Final, now: float) -> Outcome:
        # Known by its number, not its position: the next utterance may have begun before this one's text is there.
        if key != self._key or final.utterance < self.utterance or self.state not in (_H, _D):
            return []
        ended_at = self._ended_at or now
        self.utterance = final.utterance + 1
        more = self._begun > final.utterance
        self._forgive()
        if more and self.state == _D:
            self._deadline = now + self.final_timeout_s
        elif not more:
            self._move(EarEvent.CLOSE if self._ended else EarEvent.FINAL)
        text = final.text.strip()
        if not text:
            return [SpeechVanished()]
        return [
            Transcript(
                text, self.mode, final.language, final.speech_ms, final.engine_ms, ended_at, speaker=final.speaker
            )
        ]

    def done(self, key: StreamKey) -> Outcome:
        """The worker has finished the stream: after END, or because it is drained."""
        if key != self._key:
            return []
        if not self._ended:
            return self._place_again(frozenset())
        self._forget_stream()
        self.log.drop()
        if self.state != _C:
            # END without a final: the worker heard no utterance.
            self._move(EarEvent.CLOSE)
            return [SpeechVanished()]
        return []

    def lost(self, key: StreamKey, cause: str, *, retryable: bool, worker: WorkerId | None) -> Outcome:
        """The stream is gone. The log holds what is needed to open it again elsewhere."""
        if key != self._key:
            return []
        self._forget_stream()
        if cause in ("busy", "no_worker"):
            return self.fail(cause)
        if cause == "dead":
            self._deaths += 1
        elif cause != "drained":
            self._errors += 1
        may_retry = retryable and self._deaths <= MAX_DEATHS and self._errors <= MAX_ERRORS
        if not may_retry:
            return self.fail("busy" if cause in ("asr_busy", "full") else cause)
        return [Count("stream_retries", "asr"), *self._place_again(frozenset({worker} if worker else ()))]

    def draining(self, key: StreamKey) -> Outcome:
        """The worker is going: move the ear elsewhere, as after a death but without its cost."""
        if key != self._key or self._end_sent:
            return []
        return [AbortStream(key, "moved"), Count("stream_moves", "asr"), *self._place_again(frozenset())]

    # Time

    @property
    def _waits(self) -> bool:
        """For a worker; the wait has a limit of its own, and its end is told."""
        return self._key is not None and not self._placed

    def next_due(self) -> float | None:
        """When `tick` has something to do."""
        due = [] if self._deadline is None or self._waits else [self._deadline]
        if self.state == _H and self.mode != "manual" and not self._marked:
            due.append(self.last_audio_at + SILENT_UPLINK_S)
        return min(due, default=None)

    def tick(self, now: float) -> Outcome:
        if self._deadline is not None and not self._waits and now >= self._deadline:
            return self._final_late()
        silent = self.state == _H and self.mode != "manual" and now >= self.last_audio_at + SILENT_UPLINK_S
        return self._end_mark(now) if silent else []

    def _final_late(self) -> Outcome:
        """Its worker may hang, and that is not known before three seconds of silence: once, another one is asked."""
        self._errors += 1
        if self._key is None or self._errors > MAX_ERRORS:
            return self.fail("final_timeout")
        abort = AbortStream(self._key, "final_timeout")
        return [abort, Count("stream_retries", "asr"), *self._place_again(frozenset(filter(None, [self._worker])))]

    def fail(self, reason: str) -> Outcome:
        """Give the utterance up."""
        out = self._reset(reason)
        if self.mode == "manual" and self.state in (_A, _H):
            self._failed = reason
            return out
        self._move(EarEvent.CLOSE if self.mode == "manual" else EarEvent.ARM)
        return [*out, UtteranceFailed(reason)]

    # Within

    def _move(self, event: EarEvent) -> None:
        target = TRANSITIONS[self.state].get(event)
        if target is None:
            raise TransitionError(f"ear: {event} in {self.state}")
        self.state = target

    def _news(self, key: StreamKey, position: int) -> bool:
        if key != self._key or position <= self._acted:
            return False
        self._acted = position
        return True

    def _end(self, now: float) -> Outcome:
        self._move(EarEvent.END)
        self._ended_at = now
        # After a replay the worker must first catch up; local engines manage ten times real time.
        self._deadline = now + self.final_timeout_s + self.log.backlog_ms / 10_000.0
        return []

    def _pump(self) -> Outcome:
        if self._key is None:
            return self._open() if self.ready else []
        if not self._placed:
            return []
        out: Outcome = [StreamAudio(self._key, packet) for packet in self.log.take()]
        if self._ended and not self._end_sent and self.log.sent == self.log.head:
            self._end_sent = True
            out.append(EndStream(self._key))
        return out

    def _open(self) -> Outcome:
        self._key_count += 1
        self._key = StreamKey(Role.ASR, self._key_count)
        self._placed = False
        self._end_sent = False
        profile = self.profile
        body = OpenAsr(
            session=profile.session,
            mode=self.mode,
            position=self.log.sent,
            utterance=self.utterance,
            format="pcm" if profile.format == "pcm" else "opus",
            sample_rate=profile.sample_rate,
            frame_ms=profile.frame_ms,
            vad=profile.vad,
            engine=profile.engine,
            language=profile.language,
        )
        return [OpenStream(self._key, body, exclude=self._excluded, engine=profile.engine)]

    def _place_again(self, exclude: frozenset[WorkerId]) -> Outcome:
        self._forget_stream()
        self._excluded = exclude
        self.log.rewind()
        if self._deadline is not None:
            self._deadline += self.final_timeout_s
        return self._open() if self.log.head > self.log.trim or self._ended else []

    def _forget_stream(self) -> None:
        self._key = None
        self._placed = False
        self._end_sent = False

    def _forgive(self) -> None:
        self._deadline = None
        self._deaths = self._errors = 0
        self._excluded = frozenset()
        self._ended_at = 0.0
        self._marked = False

    def _reset(self, reason: str) -> Outcome:
        out: Outcome = []
        if self._key is not None:
            out.append(AbortStream(self._key, reason))
        self._forget_stream()
        self._forgive()
        self.log.drop()
        self._ended = False
        self._failed = None
        self._fed_ms = 0.0
        return out
