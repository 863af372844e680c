"""PCM to Opus packets of 60 ms, straight through libopus.

* One encoder a segment, always fresh, last frame filled with silence: the frames of a segment depend on its samples
  alone, so fresh, cached and re-issued frames mix freely.
* APPLICATION_AUDIO at 32 kbit/s stays in CELT mode, which costs a quarter of the hybrid mode that VOIP or a lower rate
  selects, and is nearer to the original than 24 kbit/s at complexity 10.
* opuslib spends a third of its time on copies around the same call, so libopus is called here directly; the state lives
  in a Python buffer and needs no destructor.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator

import numpy as np

from shared.errors import EngineError
from workers.tts.engine import Pcm

SAMPLE_RATE = 24_000
FRAME_MS = 60
FRAME_SAMPLES = SAMPLE_RATE * FRAME_MS // 1000
BITRATE = 32_000

_APPLICATION_AUDIO = 2049
_SET_BITRATE = 4002
_SET_VBR = 4006
_SET_COMPLEXITY = 4010
_GET_LOOKAHEAD = 4027
_MAX_PACKET_BYTES = 1500


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libopus.so.0")
    except OSError as error:
        raise EngineError("libopus.so.0 is missing; remedy: apt install libopus0", code="no_libopus") from error
    library.opus_encoder_get_size.argtypes = (ctypes.c_int,)
    library.opus_encoder_init.argtypes = (ctypes.c_void_p, ctypes.c_int32, ctypes.c_int, ctypes.c_int)
    library.opus_encode_float.argtypes = (
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_int32,
    )
    return library


class OpusEncoder:
    """One segment's encoder: `encode` as chunks come, then `finish` once. Not shared between threads at one time."""

    def __init__(self, complexity: int, *, application: int = _APPLICATION_AUDIO, bitrate: int = BITRATE) -> None:
        self._library = _library()
        self._state = ctypes.create_string_buffer(self._library.opus_encoder_get_size(1))
        self._packet = ctypes.create_string_buffer(_MAX_PACKET_BYTES)
        self._rest: Pcm = np.zeros(0, np.float32)
        self._has_sound = False
        _check(self._library.opus_encoder_init(self._state, SAMPLE_RATE, 1, application))
        for request, value in ((_SET_BITRATE, bitrate), (_SET_VBR, 1), (_SET_COMPLEXITY, complexity)):
            _check(self._library.opus_encoder_ctl(self._state, request, ctypes.c_int32(value)))

    def encode(self, pcm: Pcm) -> Iterator[bytes]:
        """The packets that are full now; the samples of the next one are kept."""
        joined = np.concatenate((self._rest, pcm)) if len(self._rest) else np.ascontiguousarray(pcm, np.float32)
        self._has_sound = self._has_sound or len(joined) > 0
        full = len(joined) // FRAME_SAMPLES * FRAME_SAMPLES
        self._rest = joined[full:].copy()
        address = joined.ctypes.data
        for start in range(0, full, FRAME_SAMPLES):
            yield self._encode_at(address + start * joined.itemsize)

    def finish(self) -> Iterator[bytes]:
        """The last packets: what is left, what the encoder still holds back, and silence up to a whole frame."""
        if not self._has_sound:
            return
        padding = -(len(self._rest) + self.lookahead_samples) % FRAME_SAMPLES
        yield from self.encode(np.zeros(self.lookahead_samples + padding, np.float32))

    @functools.cached_property
    def lookahead_samples(self) -> int:
        """How far the packets lag behind the samples."""
        value = ctypes.c_int32()
        _check(self._library.opus_encoder_ctl(self._state, _GET_LOOKAHEAD, ctypes.byref(value)))
        return value.value

    def _encode_at(self, address: int) -> bytes:
        size = self._library.opus_encode_float(self._state, address, FRAME_SAMPLES, self._packet, _MAX_PACKET_BYTES)
        return ctypes.string_at(self._packet, _check(size))


def _check(result: int) -> int:
    if result < 0:
        raise EngineError(f"libopus returned error {result}", code="opus")
    return result
