"""One segment being made: the work of a compute thread, and the frames that came out so far.

`step` runs on a compute thread, one step at a time; all else belongs to the event loop. Packets go to the loop in small
batches as they are encoded, the first ones at once. Several streams may wait for the same segment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import islice

from workers.tts.cache import SegmentKey
from workers.tts.engine import Later, Pcm, Speech, TtsEngine, seed_of
from workers.tts.opus import SAMPLE_RATE, OpusEncoder
from workers.tts.resample import resampled

FIRST_BATCH_FRAMES = 3
"""What the router sends ahead of real time."""
BATCH_FRAMES = 16
STEP_FRAMES = 16
"""A step ends when it has made so many: then a device that is nearer to silence may go first."""


class Synthesis:
    """Made by steps until one has exhausted it. `on_frames(self, packets)` is called on the loop."""

    def __init__(
        self, key: SegmentKey, engine: TtsEngine, complexity: int, on_frames: Callable[[Synthesis, list[bytes]], None]
    ) -> None:
        self.key = key
        self.frames: list[bytes] = []
        self.finished = False
        """All frames are in `frames`; set by the loop."""
        self.exhausted = False
        """The engine has no more; set by the last step, whose frames may still be on their way."""
        self.running = False
        self.cancelled = False
        self.is_waiting = False
        """Its engine had nothing yet and is asked again later; the loop's."""
        self.wait_ms = 0.0
        """Set by a step whose engine had nothing yet."""
        self.synth_s = 0.0
        self.made_frames = 0
        self.engine = engine
        self._complexity = complexity
        self._on_frames = on_frames
        self._loop = asyncio.get_running_loop()
        self._speech: Speech | None = None
        self._encoder: OpusEncoder | None = None

    def step(self) -> None:
        """Make some frames, or find out that the segment has ended. Raises what the engine raises."""
        started_s = time.perf_counter()
        self.wait_ms = 0.0
        try:
            self._make()
        finally:
            self.synth_s += time.perf_counter() - started_s

    def cancel(self) -> None:
        """No more frames are wanted; a step that runs stops at its next batch."""
        self.cancelled = True
        if not self.running:
            self.release()

    def release(self) -> None:
        """Close the engine's iterator, when no step runs."""
        if self._speech is not None and not self.running:
            speech, self._speech = self._speech, None
            close = getattr(speech, "close", None)
            if close:
                close()

    def _make(self) -> None:
        encoder = self._encoder = self._encoder or OpusEncoder(self._complexity)
        speech = self._speech = self._speech or self._begin()
        target = self.made_frames + STEP_FRAMES
        while self.made_frames < target and not self.cancelled:
            item = next(speech, None)
            if item is None:
                self._deliver(encoder.finish())
                self.exhausted = True
                return
            if isinstance(item, Later):
                self.wait_ms = item.wait_ms
                return
            self._encode(encoder, item)

    def _begin(self) -> Speech:
        _, voice, language, text = self.key
        speech = self.engine.synthesise(text, voice, language, seed_of(text, voice))
        return resampled(speech, self.engine.sample_rate, SAMPLE_RATE)

    def _encode(self, encoder: OpusEncoder, pcm: Pcm) -> None:
        self._deliver(encoder.encode(pcm))

    def _deliver(self, packets: Iterator[bytes]) -> None:
        while not self.cancelled:
            batch = list(islice(packets, BATCH_FRAMES if self.made_frames else FIRST_BATCH_FRAMES))
            if not batch:
                return
            self.made_frames += len(batch)
            self._loop.call_soon_threadsafe(self._on_frames, self, batch)
