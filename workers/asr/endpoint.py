"""When an utterance begins and ends in `auto` and `realtime`, decided on audio time only.

It is told the probability of speech of each window and answers with decisions; it never sees a clock, so a burst, a
stalled process and a replay on another worker all give the same answer.

Rules:
* A window is voiced at `threshold` or above, unvoiced at `threshold_low` or below, and like the one before in between.
* An utterance begins when `min_speech_ms` of the last windows are voiced (two of them may be gaps). It reaches
  `pre_roll_ms` back before its first voiced window, but never into the utterance before.
* It ends when `end_silence_ms` have passed since its last voiced window, or at `max_utterance_ms`, or at a mark (an
  empty packet), or at the end of the stream. All end on a frame boundary, and the search starts afresh there.
* While an upstream owns the end of speech, silence ends nothing before NET_SILENCE_MS: a net for an upstream that never
  says it. What it says ends the utterance at the frame that has been looked at last; the next one may begin with any
  sound behind the place that the upstream named.
* `keep_sample` is a point from which another Endpoint, started with nothing, takes the same decisions: it lies before
  the pre-roll and before every window that can still count, with room for the detector's memory to settle.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal

from shared.errors import TransitionError
from shared.listening import VadProfile
from workers.asr.engines.engine import EndOwner
from workers.asr.timeline import SAMPLES_PER_MS, WINDOW_MS, WINDOW_SAMPLES

HELD_MS = 400
"""Voiced audio after which an utterance is no cough."""

GAP_WINDOWS = 2
"""Unvoiced windows allowed among those that begin an utterance."""

SETTLE_WINDOWS = 10
"""Windows after which Silero started with nothing agrees with one that has listened for long."""

NET_SILENCE_MS = 3000
"""Silence after which an utterance ends although its end is an upstream's to find."""

LOOK_BACK_MS = 3000
"""How far behind an upstream may place the end of speech."""

EndReason = Literal["silence", "length", "mark", "end", "upstream"]


@dataclass(frozen=True, slots=True)
class Begun:
    """An utterance has begun; its sound is what follows `from_sample`."""

    position: int
    utterance: int
    from_sample: int


@dataclass(frozen=True, slots=True)
class Held:
    """The utterance holds HELD_MS of voiced audio."""

    position: int
    utterance: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The utterance is over; its last frame is the one before `position`."""

    position: int
    utterance: int
    speech_ms: int
    reason: EndReason
    silence_ms: int = field(default=0, compare=False)
    """Sound behind its last voiced window."""


Decision = Begun | Held | Ended


class State(Enum):
    QUIET = auto()
    HEARING = auto()
    CLOSED = auto()


class Event(Enum):
    WINDOW = auto()
    ONSET = auto()
    OVER = auto()
    MARK = auto()
    END = auto()
    TOLD = auto()


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.QUIET, Event.WINDOW): State.QUIET,
    (State.QUIET, Event.ONSET): State.HEARING,
    (State.QUIET, Event.MARK): State.QUIET,
    (State.QUIET, Event.END): State.CLOSED,
    (State.HEARING, Event.WINDOW): State.HEARING,
    (State.HEARING, Event.OVER): State.QUIET,
    (State.HEARING, Event.MARK): State.QUIET,
    (State.HEARING, Event.TOLD): State.QUIET,
    (State.HEARING, Event.END): State.CLOSED,
}


class Endpoint:
    """Finds the utterances of one stream."""

    def __init__(self, profile: VadProfile, utterance: int, start_sample: int) -> None:
        self.state = State.QUIET
        self.utterance = utterance
        """Number of the utterance that is open, or of the next one."""
        self.owner: EndOwner = "own"
        """Who finds the end of speech; may change at any time."""
        self._profile = profile
        self._need = max(1, -(-profile.min_speech_ms // WINDOW_MS))
        self._settle = max(SETTLE_WINDOWS, self._need) * WINDOW_SAMPLES
        self._recent: deque[tuple[int, bool]] = deque(maxlen=self._need + GAP_WINDOWS)
        """Start of each of the last windows, and whether it was voiced."""
        self._floor = self._keep = self._from = self._last_voiced = start_sample
        self._looked = start_sample
        """Where the last window ended."""
        self._speech_ms = 0
        self._voiced = self._held = False

    @property
    def keep_sample(self) -> int:
        """Samples before it will not be needed again once the utterances already ended are settled."""
        return self._keep

    @property
    def sound_sample(self) -> int:
        """No utterance that begins from now on reaches back before it."""
        if self.state is State.HEARING:
            return max(self._keep, self._looked - LOOK_BACK_MS * SAMPLES_PER_MS)
        return self._keep

    def on_window(self, probability: float, end_sample: int, position: int, frame_end: int) -> list[Decision]:
        """A window that ends at `end_sample` was complete after the frames before `position`, which end at `frame_end`.

        Windows that overlap an utterance already ended are ignored.
        """
        self._next(Event.WINDOW)
        start_sample = end_sample - WINDOW_SAMPLES
        if start_sample < self._floor:
            return []
        self._voiced = self._is_voiced(probability)
        self._looked = end_sample
        self._recent.append((start_sample, self._voiced))
        if self.state is State.QUIET:
            return self._listen(end_sample, position)
        return self._hear(end_sample, position, frame_end)

    def on_mark(self, position: int, frame_end: int) -> list[Decision]:
        """An empty packet: whoever sent it has finished speaking."""
        return self._finish(Event.MARK, "mark", position, frame_end)

    def on_end(self, position: int, frame_end: int) -> list[Decision]:
        """No more audio will come."""
        return self._finish(Event.END, "end", position, frame_end)

    def on_told(self, at_sample: int | None, position: int, frame_end: int) -> list[Decision]:
        """The upstream has found the end of speech, at a sample or, if it does not say where, at the last frame."""
        recent = tuple(self._recent)
        decisions = self._finish(Event.TOLD, "upstream", position, frame_end)
        if at_sample is not None:
            self._restart(min(max(at_sample, self._looked - LOOK_BACK_MS * SAMPLES_PER_MS), frame_end))
            self._recent.extend(one for one in recent if one[0] >= self._floor)
            self._voiced = bool(self._recent) and self._recent[-1][1]
        return decisions

    def _is_voiced(self, probability: float) -> bool:
        if probability >= self._profile.threshold:
            return True
        return self._voiced and probability > self._profile.threshold_low

    def _listen(self, end_sample: int, position: int) -> list[Decision]:
        if sum(voiced for _, voiced in self._recent) >= self._need:
            return self._begin(end_sample, position)
        first_needed = min(self._recent[0][0], self._onset(end_sample) - self._pre_roll)
        self._keep = max(self._keep, first_needed - self._settle)
        return []

    def _begin(self, end_sample: int, position: int) -> list[Decision]:
        self.state = self._next(Event.ONSET)
        self._from = max(self._floor, self._onset(end_sample) - self._pre_roll)
        self._last_voiced = end_sample
        self._speech_ms = WINDOW_MS * sum(voiced for _, voiced in self._recent)
        return [Begun(position, self.utterance, self._from), *self._hold(position)]

    def _hear(self, end_sample: int, position: int, frame_end: int) -> list[Decision]:
        if self._voiced:
            self._speech_ms += WINDOW_MS
            self._last_voiced = end_sample
        held = self._hold(position)
        if end_sample - self._last_voiced >= self._end_silence_ms * SAMPLES_PER_MS:
            return held + self._finish(Event.OVER, "silence", position, frame_end)
        if frame_end - self._from >= self._profile.max_utterance_ms * SAMPLES_PER_MS:
            return held + self._finish(Event.OVER, "length", position, frame_end)
        return held

    def _hold(self, position: int) -> list[Decision]:
        if self._held or self._speech_ms < HELD_MS:
            return []
        self._held = True
        return [Held(position, self.utterance)]

    def _finish(self, event: Event, reason: EndReason, position: int, frame_end: int) -> list[Decision]:
        state, was = self._next(event), self.state
        decisions: list[Decision] = []
        if was is State.HEARING:
            silence_ms = max(0, frame_end - self._last_voiced) // SAMPLES_PER_MS
            decisions.append(Ended(position, self.utterance, self._speech_ms, reason, silence_ms))
            self.utterance += 1
        self.state = state
        self._restart(frame_end)
        return decisions

    def _restart(self, sample: int) -> None:
        self._floor = self._keep = self._from = self._last_voiced = sample
        self._voiced = self._held = False
        self._speech_ms = 0
        self._recent.clear()

    def _onset(self, end_sample: int) -> int:
        """Where the first voiced window that can still count begins."""
        return next((start for start, voiced in self._recent if voiced), end_sample)

    @property
    def _end_silence_ms(self) -> int:
        own_ms = self._profile.end_silence_ms
        return own_ms if self.owner == "own" else max(own_ms, NET_SILENCE_MS)

    @property
    def _pre_roll(self) -> int:
        return self._profile.pre_roll_ms * SAMPLES_PER_MS

    def _next(self, event: Event) -> State:
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise TransitionError(f"{event.name} in {self.state.name}")
        return state
