"""One conversation's turns: which reply is alive, and what of the brain's text is said of it.

Rules
- `Input` begins a turn: thinking → answering (with the first segment) → ended → over. It is answered by segments,
  maybe none, and exactly one `ReplyEnd`, unless `TurnOver` comes first.
- Only the router raises the generation. What belongs to another generation than the current one changes nothing and
  says nothing; a new `Input` ends the turn before it.
- A reply that fails before its first segment has no text: the caller speaks something else in the same turn. One that
  fails later ends with the sentence that was complete; an unfinished one could say the contrary of what it began.
- A reply is at most 64 segments and 16 KB; what is longer ends there.
- The face leaves before the first segment; a reply without any text shows only the face it holds.
- Pure: no clock, no sockets. Callers execute the returned effects in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from shared.errors import TransitionError
from shared.link.messages import CloseAfter, Emotion, Input, ReplyEnd, Segment, TurnOver
from workers.session.emotion import DEFAULT_FACE, first_face
from workers.session.language import Tongue, speech_language, tongue_of
from workers.session.segmentation import Piece, Segmenter
from workers.session.speech_text import SpeechText

MAX_SEGMENTS: Final = 64
MAX_REPLY_BYTES: Final = 16 * 1024


class State(Enum):
    THINKING = "thinking"
    ANSWERING = "answering"
    ENDED = "ended"
    OVER = "over"


class Event(Enum):
    INPUT = "input"
    SEGMENT = "segment"
    RESTART = "restart"
    END = "end"
    TURN_OVER = "turn_over"


TABLE: Final[dict[tuple[State, Event], State]] = {
    (State.OVER, Event.INPUT): State.THINKING,
    (State.THINKING, Event.RESTART): State.THINKING,
    (State.THINKING, Event.SEGMENT): State.ANSWERING,
    (State.ANSWERING, Event.SEGMENT): State.ANSWERING,
    (State.THINKING, Event.END): State.ENDED,
    (State.ANSWERING, Event.END): State.ENDED,
    (State.THINKING, Event.TURN_OVER): State.OVER,
    (State.ANSWERING, Event.TURN_OVER): State.OVER,
    (State.ENDED, Event.TURN_OVER): State.OVER,
}


@dataclass(frozen=True, slots=True)
class Ask:
    """Effect: begin to work on this input."""

    input: Input


@dataclass(frozen=True, slots=True)
class Cancel:
    """Effect: stop working on this generation; nothing of it will be heard."""

    gen: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Effect: the turn is over, and so much of its segments was heard."""

    gen: int
    segments: tuple[str, ...]
    played_segments: int
    played_part: float
    is_complete: bool


Effect = Segment | Emotion | ReplyEnd | CloseAfter | Ask | Cancel | Commit
Effects = list[Effect]


class Turns:
    """The turns of one session, one after the other."""

    __slots__ = (
        "_bytes",
        "_has_face",
        "_has_failed",
        "_hint",
        "_segments",
        "_shows_emotion",
        "_tongue",
        "_voice",
        "gen",
        "state",
    )

    def __init__(self, *, shows_emotion: bool = True) -> None:
        self.gen = -1
        self.state = State.OVER
        self._shows_emotion = shows_emotion
        self._tongue: Tongue = "en"
        self._hint: str | None = None
        self._has_face = False
        self._reset()

    def __repr__(self) -> str:
        return f"Turns(gen={self.gen}, {self.state.value}, segments={len(self._segments)})"

    def is_alive(self, gen: int) -> bool:
        """May generation `gen` still speak?"""
        return gen == self.gen and self.state in (State.THINKING, State.ANSWERING)

    def on_input(self, event: Input) -> Effects:
        if event.gen <= self.gen:
            return []
        effects = self._over(TurnOver(self.gen, "interrupted", "superseded", 0))
        self._go(Event.INPUT)
        self._reset()
        self._has_face = False
        self.gen = event.gen
        self._tongue = tongue_of(event.text, event.language)
        self._hint = event.language
        return [*effects, Ask(event)]

    def on_text(self, gen: int, delta: str) -> Effects:
        """The brain's next words."""
        if not self.is_alive(gen):
            return []
        delta = self._bounded(delta)
        effects = self._show(first_face(delta) if delta else None)
        plain, segmenter = self._speech()
        return effects + self._say(segmenter.feed(plain.feed(delta)))

    def is_full(self, gen: int) -> bool:
        """The reply has reached its bound: more text is not needed."""
        return gen == self.gen and (self._bytes >= MAX_REPLY_BYTES or len(self._segments) >= MAX_SEGMENTS)

    def on_round(self, gen: int) -> Effects:
        """A tool is about to run: what was said before it is complete."""
        return self._flush() if self.is_alive(gen) else []

    def on_end(self, gen: int, *, close: bool = False, **stats: Any) -> Effects:
        """The brain has finished."""
        if not self.is_alive(gen):
            return []
        return [*self._flush(), *self._end(close, stats)]

    def on_failure(self, gen: int, **stats: Any) -> Effects:
        """The brain broke off behind at least one segment."""
        if not self.is_alive(gen):
            return []
        self._has_failed = True
        return self._end(False, stats)

    def on_restart(self, gen: int) -> bool:
        """Forget what the failed brain said; False if some of it has left already and the turn cannot begin again."""
        if not self.is_alive(gen) or self.state is not State.THINKING:
            return False
        self._go(Event.RESTART)
        self._reset()
        return True

    def on_turn_over(self, event: TurnOver) -> Effects:
        return self._over(event) if event.gen == self.gen else []

    def _go(self, event: Event) -> None:
        state = TABLE.get((self.state, event))
        if state is None:
            raise TransitionError(f"{event.value} in state {self.state.value}")
        self.state = state

    def _reset(self) -> None:
        """Nothing of a reply has been said. A face that has left stays."""
        self._voice: tuple[SpeechText, Segmenter] | None = None
        self._segments: list[str] = []
        self._bytes = 0
        self._has_failed = False

    def _bounded(self, delta: str) -> str:
        raw = delta.encode("utf-8", "replace")[: MAX_REPLY_BYTES - self._bytes]
        self._bytes += len(raw)
        return raw.decode("utf-8", "ignore")

    def _show(self, face: tuple[str, str] | None) -> Effects:
        if face is None or self._has_face:
            return []
        self._has_face = True
        return [Emotion(self.gen, *face)] if self._shows_emotion else []

    def _say(self, pieces: list[Piece]) -> Effects:
        effects: Effects = []
        for piece in pieces[: MAX_SEGMENTS - len(self._segments)]:
            effects += self._show(DEFAULT_FACE)
            self._go(Event.SEGMENT)
            language = speech_language(piece.spoken, self._hint, self._tongue)
            effects.append(Segment(self.gen, len(self._segments), piece.spoken, piece.display, language))
            self._segments.append(piece.spoken)
        return effects

    def _flush(self) -> Effects:
        if self._voice is None:
            return []
        plain, segmenter = self._voice
        return self._say(segmenter.feed(plain.finish()) + segmenter.finish())

    def _speech(self) -> tuple[SpeechText, Segmenter]:
        """Made when there is something to say: a session is silent most of the time."""
        if self._voice is None:
            self._voice = SpeechText(), Segmenter()
        return self._voice

    def _end(self, close: bool, stats: dict[str, Any]) -> Effects:
        self._go(Event.END)
        end = ReplyEnd(self.gen, stats)
        return [CloseAfter(self.gen), end] if close else [end]

    def _over(self, event: TurnOver) -> Effects:
        if self.state is State.OVER:
            return []
        effects: Effects = [Cancel(self.gen)] if self.is_alive(self.gen) else []
        is_complete = self.state is State.ENDED and not self._has_failed
        self._go(Event.TURN_OVER)
        commit = Commit(self.gen, tuple(self._segments), event.played_segments, event.played_part, is_complete)
        self._reset()
        return [*effects, commit]
