"""The times of one turn as the person feels them. Pure.

The zero point is when the person was done: `listen stop` or typed text sent, or the last microphone frame with speech.
A turn is over when its `tts stop` has come and the device has played out what it held.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ops.device.effects import Counters
from ops.device.firmware import Firmware


@dataclass(frozen=True, slots=True)
class TurnReport:
    """One turn's outcome; times in ms after the zero point, None = it never happened."""

    turn: int
    session: str
    stt: str
    reply: str
    emotion: str | None
    stt_ms: float | None
    tts_start_ms: float | None
    first_audio_ms: float | None
    tts_stop_ms: float | None
    abort_stop_ms: float | None
    """From the abort to its `tts stop`."""
    counters: Counters
    heard_s: float
    sentences: tuple[str, ...]

    @property
    def was_aborted(self) -> bool:
        return self.counters.aborts > 0

    def to_json(self) -> dict[str, Any]:
        """What `xiaozhi talk --json` prints."""
        counters = self.counters
        return {
            "turn": self.turn,
            "session": self.session,
            "stt": self.stt,
            "reply": self.reply,
            "emotion": self.emotion,
            "stt_ms": self.stt_ms,
            "tts_start_ms": self.tts_start_ms,
            "first_audio_ms": self.first_audio_ms,
            "tts_stop_ms": self.tts_stop_ms,
            "abort_stop_ms": self.abort_stop_ms,
            "frames": counters.frames,
            "late_frames": counters.late_frames,
            "underruns": counters.underruns,
            "pauses": counters.pauses,
            "overflow_frames": counters.overflow_frames,
            "early_frames": counters.early_frames,
            "stale_frames": counters.stale_frames,
            "tts_starts": counters.tts_starts,
            "tts_stops": counters.tts_stops,
            "heard_s": self.heard_s,
        }


@dataclass(slots=True)
class TurnMeter:
    """Collects one turn; the shell calls it with everything that it sends and gets."""

    turn: int
    before: Counters
    """The firmware's counters when the turn began."""
    zero_s: float | None = None
    progress_s: float = 0.0
    """When something last came from the server for this turn."""
    is_stopped: bool = False
    ended: Counters | None = None
    """The firmware's counters when the turn was reported."""
    _stt: list[str] = field(default_factory=list)
    _sentences: list[str] = field(default_factory=list)
    _emotion: str | None = None
    _at_s: dict[str, float] = field(default_factory=dict)

    def next(self, counters: Counters, now: float) -> TurnMeter:
        """The next turn's meter. Frames that came after this one's report count for the next."""
        before = self.ended or (self.before if self.turn == 0 else counters.copy())
        return TurnMeter(self.turn + 1, before, progress_s=now)

    @property
    def was_aborted(self) -> bool:
        return "abort" in self._at_s

    @property
    def has_reply(self) -> bool:
        return "tts_start" in self._at_s

    @property
    def stage(self) -> str:
        """How far the turn has come, for a person."""
        if self.is_stopped:
            return "answered"
        for key, words in (
            ("first_audio", "the answer has begun, but `tts stop` has not come"),
            ("tts_start", "the reply was announced, but no sound has come"),
            ("stt", "the transcript has come, but no reply"),
        ):
            if key in self._at_s:
                return words
        return "nothing has come"

    def on_done_speaking(self, now: float) -> None:
        """`listen stop` was sent, or a frame with speech: the last call counts."""
        self.zero_s = now
        self.progress_s = now

    def on_stt(self, text: str, now: float) -> None:
        self._first("stt", now)
        self._stt.append(text)

    def on_emotion(self, name: str, now: float) -> None:
        self._emotion = name
        self.progress_s = now

    def on_tts_start(self, now: float) -> None:
        self._first("tts_start", now)

    def on_sentence(self, text: str, now: float) -> None:
        self._first("sentence", now)
        self._sentences.append(text)

    def on_audio(self, now: float) -> bool:
        """True for the first frame of the turn's answer. Frames without a `tts start` are no answer."""
        is_first = self.has_reply and "first_audio" not in self._at_s
        if is_first:
            self._first("first_audio", now)
        self.progress_s = now
        return is_first

    def on_abort(self, now: float) -> None:
        self._first("abort", now)

    def on_tts_stop(self, now: float) -> None:
        """A stop without a start ends the turn only if it answers an abort."""
        self.progress_s = now
        if self.has_reply or "abort" in self._at_s:
            self._first("tts_stop", now)
            self.is_stopped = True

    def elapsed_ms(self, now: float) -> float | None:
        """Since the zero point."""
        return None if self.zero_s is None else round((now - self.zero_s) * 1000, 1)

    def report(self, session: str, firmware: Firmware) -> TurnReport:
        self.ended = firmware.counters.copy()
        counters = self.ended.since(self.before)
        abort_s, stop_s = self._at_s.get("abort"), self._at_s.get("tts_stop")
        return TurnReport(
            turn=self.turn,
            session=session,
            stt=" ".join(self._stt),
            reply=" ".join(self._sentences),
            emotion=self._emotion,
            stt_ms=self._ms("stt"),
            tts_start_ms=self._ms("tts_start"),
            first_audio_ms=self._ms("first_audio"),
            tts_stop_ms=self._ms("tts_stop"),
            abort_stop_ms=None if abort_s is None or stop_s is None else round((stop_s - abort_s) * 1000, 1),
            counters=counters,
            heard_s=round(counters.played_frames * firmware.speaker.frame_s, 2),
            sentences=tuple(self._sentences),
        )

    def _first(self, key: str, now: float) -> None:
        self._at_s.setdefault(key, now)
        self.progress_s = now

    def _ms(self, key: str) -> float | None:
        at_s = self._at_s.get(key)
        return None if at_s is None else self.elapsed_ms(at_s)
