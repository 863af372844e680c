"""The one utterance of a `manual` stream: it lasts as long as the key is held.

Rules: it begins with the first frame and ends with the stream, never before. After `max_utterance_ms` nothing more is
fed to the recogniser, but the answer still waits for the key. Empty packets end nothing here. Nothing is trimmed.
"""

from __future__ import annotations

from enum import Enum, auto

from shared.errors import TransitionError
from workers.asr.endpoint import Begun, Ended
from workers.asr.timeline import SAMPLES_PER_MS


class State(Enum):
    WAITING = auto()
    FEEDING = auto()
    FULL = auto()
    CLOSED = auto()


class Event(Enum):
    FRAME = auto()
    FILLED = auto()
    END = auto()


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.WAITING, Event.FRAME): State.FEEDING,
    (State.WAITING, Event.END): State.CLOSED,
    (State.FEEDING, Event.FRAME): State.FEEDING,
    (State.FEEDING, Event.FILLED): State.FULL,
    (State.FEEDING, Event.END): State.CLOSED,
    (State.FULL, Event.FRAME): State.FULL,
    (State.FULL, Event.END): State.CLOSED,
}


class HeldKey:
    """Follows the held key of one stream."""

    def __init__(self, max_utterance_ms: int, utterance: int, start_sample: int) -> None:
        self.state = State.WAITING
        self.utterance = utterance
        self.keep_sample = start_sample
        self._limit_sample = start_sample + max_utterance_ms * SAMPLES_PER_MS
        self._fed_to = start_sample

    @property
    def is_feeding(self) -> bool:
        """Whether the recogniser gets the next frame."""
        return self.state in (State.WAITING, State.FEEDING)

    def on_frame(self, position: int, frame_end: int) -> list[Begun]:
        """The frame before `position` has come; it ends at `frame_end`."""
        was, self.state = self.state, self._next(Event.FRAME)
        if self.state is State.FEEDING:
            self._fed_to = frame_end
            if frame_end >= self._limit_sample:
                self.state = self._next(Event.FILLED)
        return [Begun(position, self.utterance, self.keep_sample)] if was is State.WAITING else []

    def on_end(self, position: int) -> Ended:
        """The key was released."""
        self.state = self._next(Event.END)
        fed_ms = (self._fed_to - self.keep_sample) // SAMPLES_PER_MS
        return Ended(position, self.utterance, fed_ms, "end")

    def _next(self, event: Event) -> State:
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise TransitionError(f"{event.name} in {self.state.name}")
        return state
