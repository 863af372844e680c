"""Packets in, 16 kHz mono PCM out: one decoder per stream, every packet becomes audio time.

Rules: a packet that cannot be decoded is counted and replaced by concealment of one nominal frame, so that positions
and audio time stay together; 1- and 2-byte packets are ordinary DTX frames; nothing longer than 120 ms or 4,000 bytes
is accepted. libopus is called through its own prototypes: opuslib's wrapper spends more time around a frame than in it.
"""

from __future__ import annotations

import ctypes
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import soxr

from shared.errors import ConfigError, EngineError
from shared.link.messages import OpenAsr
from workers.asr.timeline import RATE_HZ, SAMPLES_PER_MS

Pcm = npt.NDArray[np.int16]

MAX_PACKET_BYTES = 4000
MAX_FRAME_MS = 120
MAX_FRAME_SAMPLES = MAX_FRAME_MS * SAMPLES_PER_MS
OPUS_FRAME_MS = (5, 10, 20, 40, 60, 80, 100, 120)
PCM_RATES_HZ = range(8_000, 48_001)


class Decoder(Protocol):
    """What a stream needs of its packets' format."""

    bad_packets: int

    def decode(self, packet: bytes) -> Pcm:
        """The packet's samples, or a concealed frame; never raises for what a device sent."""

    def flush(self) -> Pcm:
        """Samples still held back when no more packets will come."""


class _LibOpus:
    """The four calls, as function objects of our own, so that opuslib's argtypes stay as they are."""

    def __init__(self) -> None:
        lib = _load()
        pointer, integer = ctypes.c_void_p, ctypes.c_int
        self.size = ctypes.CFUNCTYPE(integer, integer)(("opus_decoder_get_size", lib))
        self.init = ctypes.CFUNCTYPE(integer, pointer, integer, integer)(("opus_decoder_init", lib))
        decode = ctypes.CFUNCTYPE(integer, pointer, ctypes.c_char_p, integer, pointer, integer, integer)
        self.decode = decode(("opus_decode", lib))


def _load() -> ctypes.CDLL:
    try:
        from opuslib.api import libopus  # noqa: PLC0415  it raises a bare Exception without the library
    except Exception as error:
        raise ConfigError("libopus", str(error), "the shared library; on Debian: apt install libopus0") from error
    library: ctypes.CDLL = libopus
    return library


class OpusDecoder:
    """Opus to 16 kHz mono. The decoder's state is our own memory, so nothing has to be freed."""

    _lib: _LibOpus | None = None

    def __init__(self, frame_ms: int) -> None:
        self.bad_packets = 0
        self._nominal_samples = frame_ms * SAMPLES_PER_MS
        self._calls = self.load_library()
        self._memory = ctypes.create_string_buffer(self._calls.size(1))
        self._state = ctypes.addressof(self._memory)
        if self._calls.init(self._state, RATE_HZ, 1) != 0:
            raise EngineError("opus_decoder_init failed", code="opus")
        self._out = np.zeros(MAX_FRAME_SAMPLES, np.int16)
        self._out_address = self._out.ctypes.data

    @classmethod
    def load_library(cls) -> _LibOpus:
        """Once, before the first stream: finding it runs ldconfig. Raises ConfigError if it is missing."""
        if OpusDecoder._lib is None:
            OpusDecoder._lib = _LibOpus()
        return OpusDecoder._lib

    def decode(self, packet: bytes) -> Pcm:
        size = len(packet)
        samples = self._decode(packet, size, MAX_FRAME_SAMPLES) if 0 < size <= MAX_PACKET_BYTES else -1
        if samples <= 0:
            self.bad_packets += 1
            samples = self._decode(None, 0, self._nominal_samples)
        return self._out[: max(samples, 0)].copy()

    def flush(self) -> Pcm:
        return np.zeros(0, np.int16)

    def _decode(self, packet: bytes | None, size: int, frame_samples: int) -> int:
        return int(self._calls.decode(self._state, packet, size, self._out_address, frame_samples, 0))


class PcmDecoder:
    """s16le mono at the device's own rate, resampled as a stream."""

    def __init__(self, rate_hz: int, frame_ms: int) -> None:
        if rate_hz not in PCM_RATES_HZ:
            raise EngineError(f"pcm at {rate_hz} Hz", code="bad_format")
        self.bad_packets = 0
        self._nominal_samples = frame_ms * rate_hz // 1000
        self._max_samples = MAX_FRAME_MS * rate_hz // 1000
        self._resampler: Any = None
        if rate_hz != RATE_HZ:
            self._resampler = soxr.ResampleStream(rate_hz, RATE_HZ, 1, dtype="int16", quality="MQ")

    def decode(self, packet: bytes) -> Pcm:
        if len(packet) % 2 or not 0 < len(packet) // 2 <= self._max_samples:
            self.bad_packets += 1
            return self._resample(np.zeros(self._nominal_samples, np.int16))
        return self._resample(np.frombuffer(packet, "<i2"))

    def flush(self) -> Pcm:
        return self._resample(np.zeros(0, np.int16), last=True)

    def _resample(self, pcm: Pcm, last: bool = False) -> Pcm:
        if self._resampler is None:
            return pcm
        resampled: Pcm = self._resampler.resample_chunk(pcm, last=last)
        return resampled


def make_decoder(spec: OpenAsr) -> Decoder:
    """Raises EngineError for a format that cannot be decoded."""
    frame_ms = nominal_frame_ms(spec.frame_ms)
    return PcmDecoder(spec.sample_rate, frame_ms) if spec.format == "pcm" else OpusDecoder(frame_ms)


def nominal_frame_ms(announced_ms: int) -> int:
    """What a device announces, made a length that Opus knows."""
    return min(OPUS_FRAME_MS, key=lambda known_ms: abs(known_ms - announced_ms))
