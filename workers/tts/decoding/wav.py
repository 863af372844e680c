"""The header of a WAV stream that is still being written. Pure.

Its sizes are not to be believed: a server that streams does not know them and writes 0, or 0xFFFFFFFF. The sound begins
behind the word `data` and goes on to the end of the stream, or for as many bytes as a plausible size says.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

MAX_HEADER_BYTES: Final = 64 * 1024
"""Chunks before the sound (LIST, bext …) may be so long together."""
_EXTENSIBLE: Final = 0xFFFE
_UNKNOWN_SIZES: Final = frozenset({0, 0xFFFFFFFF, 0x7FFFFFFF})
_PLAUSIBLE_SLACK: Final = 1024
"""ffmpeg and others write sizes a little below 0xFFFFFFFF: the maximum less the header."""

_CODECS: Final[Mapping[tuple[int, int], str]] = MappingProxyType(
    {
        (1, 8): "pcm_u8",
        (1, 16): "pcm_s16le",
        (1, 24): "pcm_s24le",
        (1, 32): "pcm_s32le",
        (3, 32): "pcm_f32le",
        (3, 64): "pcm_f64le",
        (6, 8): "pcm_alaw",
        (7, 8): "pcm_mulaw",
    }
)
"""(format tag, bits a sample) → libavcodec's name."""


@dataclass(frozen=True, slots=True)
class WavHeader:
    codec: str
    rate_hz: int
    channels: int
    block_bytes: int
    """One sample of every channel."""
    sound_at: int
    """Offset of the first sample in the stream."""
    sound_bytes: int | None
    """None = to the end of the stream."""


def wav_header(data: bytes) -> WavHeader | None:
    """The header at the stream's beginning; None: more bytes are needed. Raises ValueError."""
    layout: tuple[str, int, int, int] | None = None
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"data":
            if layout is None:
                raise ValueError("no format before the sound")
            return WavHeader(*layout, sound_at=at + 8, sound_bytes=_sound_bytes(size))
        if name == b"fmt " and at + 8 + size <= len(data):
            layout = _layout(data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
        if at > MAX_HEADER_BYTES:
            raise ValueError("the header does not end")
    return None


def _layout(chunk: bytes) -> tuple[str, int, int, int]:
    if len(chunk) < 16:
        raise ValueError("the format is cut short")
    tag, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE and len(chunk) >= 26:
        tag = int.from_bytes(chunk[24:26], "little")
    codec = _CODECS.get((tag, bits))
    if codec is None or not 1 <= channels <= 8 or not 4000 <= rate_hz <= 192_000:
        raise ValueError("a format that is not supported")
    return codec, rate_hz, channels, channels * bits // 8


def _sound_bytes(size: int) -> int | None:
    return None if size in _UNKNOWN_SIZES or size > 0xFFFFFFFF - _PLAUSIBLE_SLACK else size
