"""What the fakes say, in the formats of services: really encoded, piece by piece, as a stream that cannot seek."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

import av
import numpy as np

PIECE_MS: Final = 240
CONTENT_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "mp3": "audio/mpeg",
        "opus": "audio/opus",
        "aac": "audio/aac",
        "flac": "audio/flac",
        "wav": "audio/wav",
        "pcm": "audio/pcm",
    }
)
FORMATS: Final = tuple(CONTENT_TYPES)

_MUXERS: Final[Mapping[str, tuple[str, str, int]]] = MappingProxyType(
    {
        "mp3": ("mp3", "libmp3lame", 48_000),
        "opus": ("ogg", "libopus", 32_000),
        "aac": ("adts", "aac", 48_000),
        "flac": ("flac", "flac", 0),
        "wav": ("wav", "pcm_s16le", 0),
    }
)
_OPTIONS: Final = {
    "mp3": {"write_xing": "0", "id3v2_version": "0"},
    "ogg": {"page_duration": "200000"},
}


class _Pipe:
    """A file that can only be written; without `seek` the sizes in a header stay open."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def taken(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data


def encoded(pcm: bytes, format_name: str, rate_hz: int) -> Iterator[bytes]:
    """s16le mono in one of FORMATS, a piece for every PIECE_MS or what the encoder makes of it; none is empty."""
    size = 2 * rate_hz * PIECE_MS // 1000
    chunks = (pcm[start : start + size] for start in range(0, len(pcm), size))
    if format_name == "pcm":
        return chunks
    return filter(None, _muxed(chunks, format_name, rate_hz))


def _muxed(chunks: Iterator[bytes], format_name: str, rate_hz: int) -> Iterator[bytes]:
    muxer, codec, bit_rate = _MUXERS[format_name]
    pipe = _Pipe()
    container = av.open(pipe, "w", format=muxer, options=_OPTIONS.get(muxer, {}), buffer_size=1024)
    with container:
        stream = container.add_stream(codec, rate=rate_hz, layout="mono")
        assert isinstance(stream, av.AudioStream)
        if bit_rate:
            stream.bit_rate = bit_rate
        samples = 0
        for chunk in chunks:
            frame = av.AudioFrame.from_ndarray(np.frombuffer(chunk, "<i2")[np.newaxis, :], format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate_hz, samples
            samples += frame.samples
            container.mux(stream.encode(frame))
            yield pipe.taken()
        container.mux(stream.encode(None))
    yield pipe.taken()
