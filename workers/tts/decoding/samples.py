"""Decoded frames to s16 mono at one rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import av
import numpy as np
import numpy.typing as npt
import soxr

Int16 = npt.NDArray[np.int16]


class Resampler:
    """To one rate, whatever comes; a stream may change its rate where it was put together from two."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._from_hz = rate_hz
        self._stream: soxr.ResampleStream | None = None

    def chunk(self, samples: Int16, from_hz: int) -> Iterator[Int16]:
        if from_hz != self._from_hz:
            yield from self.finish()
            self._from_hz = from_hz
            if from_hz != self._rate_hz:
                self._stream = soxr.ResampleStream(from_hz, self._rate_hz, 1, dtype="int16", quality="HQ")
        yield samples if self._stream is None else self._stream.resample_chunk(samples)

    def finish(self) -> Iterator[Int16]:
        stream, self._stream = self._stream, None
        if stream is not None:
            yield stream.resample_chunk(np.zeros(0, np.int16), last=True)


def mono_of(frame: av.AudioFrame) -> Int16:
    samples = frame.to_ndarray()
    channels = frame.layout.nb_channels
    if not frame.format.is_planar:
        samples = samples.reshape(-1, channels).T
    one = _int16(samples)
    return cast(Int16, one[0] if channels == 1 else np.rint(one.mean(axis=0)).astype(np.int16))


def _int16(samples: npt.NDArray[np.generic]) -> Int16:
    if samples.dtype == np.int16:
        return cast(Int16, samples)
    if np.issubdtype(samples.dtype, np.floating):
        floats = samples.astype(np.float32) * np.float32(32767)
        return cast(Int16, np.clip(np.rint(floats), -32768, 32767).astype(np.int16))
    if samples.dtype == np.uint8:
        return cast(Int16, (samples.astype(np.int16) - 128) << 8)
    return cast(Int16, (samples.astype(np.int32) >> 16).astype(np.int16))


def joined(chunks: Iterable[Int16]) -> bytes:
    return b"".join(chunk.astype("<i2", copy=False).tobytes() for chunk in chunks if len(chunk))
