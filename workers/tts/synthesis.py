"""One segment being made: the work of a compute thread, and the frames that came out so far.

`step` runs on a compute thread, one step at a time; all else belongs to the event loop. Packets go to the loop in small
batches as they are encoded, the first ones at once. Several streams may wait for the same segment. What a service
outside says is read by a task of the loop (`workers.tts.remote`); a step encodes what has come of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import islice

from shared.errors import EngineError
from workers.tts.cache import SegmentKey
from workers.tts.engine import AnyEngine, Later, Pcm, Speech, SpeechRequest, is_local, is_remote, seed_of
from workers.tts.opus import SAMPLE_RATE, OpusEncoder
from workers.tts.remote import RemoteSpeech, RemoteTasks
from workers.tts.resample import resampled

FIRST_BATCH_FRAMES = 3
"""What the router sends ahead of real time."""
BATCH_FRAMES = 16
STEP_FRAMES = 16
"""A step ends when it has made so many: then a device that is nearer to silence may go first."""


class Synthesis:
    """Made by steps until one has exhausted it. `on_frames(self, packets)` is called on the loop."""

    def __init__(
        self, key: SegmentKey, engine: AnyEngine, complexity: int, on_frames: Callable[[Synthesis, list[bytes]], None]
    ) -> None:
        self.key = key
        self.frames: list[bytes] = []
        self.finished = False
        """All frames are in `frames`; set by the loop."""
        self.exhausted = False
        """The engine has no more; set by the last step, whose frames may still be on their way."""
        self.running = False
        self.cancelled = False
        self.is_paused = False
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
        self._remote: RemoteSpeech | None = None
        self._reading: asyncio.Task[None] | None = None
        self._tasks: RemoteTasks | None = None

    @property
    def is_waiting(self) -> bool:
        """A step would find nothing."""
        return self.is_paused or (self._remote is not None and not self._remote.is_due)

    @property
    def early_fault(self) -> EngineError | None:
        """Why a service outside failed, if no frame was made of what it gave."""
        return self._remote.fault if self._remote is not None and not self.made_frames else None

    @property
    def has_sound(self) -> bool:
        """Frames can be made of what a service outside gave."""
        return self._remote is not None and self._remote.has_frame

    def begin(self, owner: str, tasks: RemoteTasks, on_due: Callable[[Synthesis], None]) -> None:
        """Ask a service outside; `on_due(self)` is called when a step has something to do. Others begin with a step."""
        if not is_remote(self.engine):
            return
        _, voice, language, text = self.key
        self._remote = RemoteSpeech(self.engine, SpeechRequest(text, voice, language, owner), lambda: on_due(self))
        self._tasks, self._reading = tasks, tasks.start(self._remote.read())

    def on_stepped(self) -> None:
        """A step has ended."""
        self.running = False
        if self._remote is not None:
            self._remote.on_taken()

    def step(self) -> None:
        """Make some frames, or find out that the segment has ended. Raises what the engine raises."""
        started_s = time.perf_counter()
        self.wait_ms = 0.0
        try:
            self._make()
        finally:
            self.synth_s += time.perf_counter() - started_s

    def cancel(self, *, given_up: bool = False) -> None:
        """No more frames are wanted; a step that runs stops at its next batch. `given_up`: they came too late."""
        self.cancelled = True
        if self._tasks is not None and self._reading is not None:
            self._tasks.cancel(self._reading, given_up=given_up)
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
        return resampled(self._remote or self._computed(), self.engine.sample_rate, SAMPLE_RATE)

    def _computed(self) -> Speech:
        assert is_local(self.engine)
        _, voice, language, text = self.key
        return self.engine.synthesise(text, voice, language, seed_of(text, voice))

    def _encode(self, encoder: OpusEncoder, pcm: Pcm) -> None:
        self._deliver(encoder.encode(pcm))

    def _deliver(self, packets: Iterator[bytes]) -> None:
        while not self.cancelled:
            batch = list(islice(packets, BATCH_FRAMES if self.made_frames else FIRST_BATCH_FRAMES))
            if not batch:
                return
            self.made_frames += len(batch)
            self._loop.call_soon_threadsafe(self._on_frames, self, batch)
