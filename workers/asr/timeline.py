"""Audio time of one stream: which samples belong to which frame, at 16 kHz, counted from frame 0 of the ear's life.

Rules:
* A frame's nominal length anchors the count, so that a stream opened anywhere counts like the one before.
* Voice detection looks at windows of 512 samples that lie on one fixed grid; a stream that opens between two grid
  points skips to the next one. Two workers that hear the same frames therefore look at the same windows.
"""

from __future__ import annotations

from collections import deque

RATE_HZ = 16_000
"""Everything after the decoder is mono at this rate; it is what Silero and the recognisers were trained on."""

WINDOW_SAMPLES = 512
"""Silero's only window at 16 kHz (snakers4/silero-vad, utils_vad.py)."""

WINDOW_MS = WINDOW_SAMPLES * 1000 // RATE_HZ

SAMPLES_PER_MS = RATE_HZ // 1000


def next_window(sample: int) -> int:
    """The first grid point at or after `sample`."""
    return -(-sample // WINDOW_SAMPLES) * WINDOW_SAMPLES


class Timeline:
    """Frames seen, and where the ones that may still be needed begin."""

    def __init__(self, position: int, frame_ms: int) -> None:
        self.frame_samples = frame_ms * SAMPLES_PER_MS
        """A nominal frame's length."""
        self.position = position
        """Number of the next frame = frames seen so far in the ear's life."""
        self.end_sample = position * self.frame_samples
        """Where the next frame begins."""
        self._starts: deque[int] = deque()
        self._first = position

    def add(self, samples: int) -> None:
        """One more frame."""
        self._starts.append(self.end_sample)
        self.end_sample += samples
        self.position += 1

    def add_mark(self) -> None:
        """An empty packet: without sound, but it takes a frame's place, so that position and sample stay in step."""
        self.add(self.frame_samples)

    def trim(self, sample: int) -> int:
        """The last frame that begins at or before `sample`; frames before it are forgotten."""
        while self._starts and self._next_start() <= sample:
            self._starts.popleft()
            self._first += 1
        return self._first

    def _next_start(self) -> int:
        return self._starts[1] if len(self._starts) > 1 else self.end_sample
