"""A shared.worker.service.Stream that keeps what was sent on it, and a device's ears to listen to it with."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from opuslib import Decoder

from shared.ids import StreamId
from shared.link.messages import Body, Substituted

_numbers = itertools.count(1)
FRAME_SAMPLES = 1440


@dataclass(frozen=True)
class End:
    """How a stream ended: code None = DONE."""

    code: str | None
    retryable: bool = False
    stats: dict[str, Any] | None = None


class RecordingStream:
    """Drops what is sent after the end, as the runtime does, and counts second ends."""

    def __init__(self) -> None:
        self.id = StreamId(next(_numbers))
        self.packets: list[bytes] = []
        self.arrived_s: list[float] = []
        self.ends: list[End] = []
        self.events: list[Body] = []
        self.after_end = 0
        self._aborted = False
        self._changed = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return not self.ends and not self._aborted

    def audio(self, packet: bytes) -> None:
        if self.is_open:
            self.packets.append(packet)
            self.arrived_s.append(asyncio.get_running_loop().time())
            self._changed.set()
        else:
            self.after_end += 1

    def event(self, body: Body) -> None:
        assert isinstance(body, Substituted) and not self.packets, (
            "of a segment nothing else is told, and only before sound"
        )
        self.events.append(body)

    def credit(self, body: Body) -> None:
        raise AssertionError("a segment gives no credit")

    def done(self, **stats: Any) -> None:
        self._end(End(None, stats=stats))

    def error(self, code: str, *, retryable: bool = False, message: str = "") -> None:
        self._end(End(code, retryable))

    def abort(self) -> None:
        """What the runtime does before it tells the job."""
        self._aborted = True
        self._changed.set()

    @property
    def end(self) -> End:
        assert len(self.ends) == 1, self.ends
        return self.ends[0]

    @property
    def stats(self) -> dict[str, Any]:
        assert self.end.code is None and self.end.stats is not None, self.end
        return self.end.stats

    async def ended(self, timeout_s: float = 20.0) -> End:
        async with asyncio.timeout(timeout_s):
            while self.is_open:
                await self._change()
        return self.end

    async def has_packets(self, count: int, timeout_s: float = 20.0) -> None:
        async with asyncio.timeout(timeout_s):
            while len(self.packets) < count and self.is_open:
                await self._change()
        assert len(self.packets) >= count

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _end(self, end: End) -> None:
        self.ends.append(end)
        self._changed.set()


def decoded(packets: Sequence[bytes]) -> npt.NDArray[np.float32]:
    """What a device hears: 24 kHz mono, every packet exactly 60 ms."""
    decoder = Decoder(24_000, 1)
    frames = [np.frombuffer(decoder.decode(packet, FRAME_SAMPLES), "<i2") for packet in packets]
    assert all(len(frame) == FRAME_SAMPLES for frame in frames)
    if not frames:
        return np.zeros(0, np.float32)
    return np.concatenate(frames).astype(np.float32) / np.float32(32768)


def pitch_hz(sound: npt.NDArray[np.float32]) -> float:
    """The strongest frequency."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(np.argmax(spectrum)) * 24_000 / len(sound)
