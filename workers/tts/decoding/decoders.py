"""One decoder for each kind of stream. Libraries do the decoding; none of them starts a thread here.

A frame that cannot be decoded is left out (a cut stream, a tag); too many in a row are an error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, cast

import av
import numpy as np
import opuslib
from av.audio.codeccontext import AudioCodecContext

from workers.tts.decoding.formats import Declared, Format
from workers.tts.decoding.ogg import OPUS_RATE_HZ, OpusPages
from workers.tts.decoding.samples import Int16, Resampler, mono_of
from workers.tts.decoding.wav import MAX_HEADER_BYTES, WavHeader, wav_header

MAX_LOST_FRAMES: Final = 50
"""So many in a row that cannot be decoded, and the rest is not waited for."""
FAULTS: Final = (ValueError, av.FFmpegError, opuslib.OpusError)
"""What a decoder raises for what is no sound."""

_TAG_BYTES: Final = 10
_MAX_OPUS_MS: Final = 120


class Decoder(ABC):
    """One stream. Raises one of FAULTS."""

    def __init__(self, known: Declared, rate_hz: int) -> None:
        self._known = known
        self._rate_hz = rate_hz

    @abstractmethod
    def feed(self, piece: bytes) -> Iterable[Int16]: ...

    @abstractmethod
    def finish(self) -> Iterable[Int16]: ...


class _FrameDecoder(Decoder):
    """MP3, AAC and FLAC: frames that a parser finds by their marks. FLAC's holds ten back, to be sure of them."""

    codec: str

    def __init__(self, known: Declared, rate_hz: int) -> None:
        super().__init__(known, rate_hz)
        self._context = _opened(self.codec)
        self._resampler = Resampler(rate_hz)
        self._lost = 0

    def feed(self, piece: bytes) -> Iterator[Int16]:
        for packet in self._context.parse(piece) if piece else ():
            yield from self._packet(packet)

    def finish(self) -> Iterator[Int16]:
        while packets := self._context.parse(b""):
            for packet in packets:
                yield from self._packet(packet)
        yield from self._packet(None)
        yield from self._resampler.finish()

    def _packet(self, packet: av.Packet[Any] | None) -> Iterator[Int16]:
        try:
            frames = self._context.decode(packet)
        except av.InvalidDataError:
            self._lost += 1
            if self._lost >= MAX_LOST_FRAMES:
                raise
            return
        for frame in frames:
            self._lost = 0
            yield from self._resampler.chunk(mono_of(frame), frame.sample_rate)


class _Mp3Decoder(_FrameDecoder):
    """A tag before the first frame is skipped by its length: what it holds may look like a frame."""

    codec = "mp3float"

    def __init__(self, known: Declared, rate_hz: int) -> None:
        super().__init__(known, rate_hz)
        self._skip: int | None = None

    def feed(self, piece: bytes) -> Iterator[Int16]:
        if self._skip is None:
            self._skip = _tag_bytes(piece)
        skipped = min(self._skip, len(piece))
        self._skip -= skipped
        yield from super().feed(piece[skipped:])


class _AacDecoder(_FrameDecoder):
    codec = "aac"


class _FlacDecoder(_FrameDecoder):
    codec = "flac"


class _PcmDecoder(Decoder):
    """Raw samples, and those behind a WAV header."""

    def __init__(self, known: Declared, rate_hz: int) -> None:
        super().__init__(known, rate_hz)
        self._resampler = Resampler(rate_hz)
        self._rest = b""
        self._begin("pcm_s16le", known.rate_hz, known.channels, 2 * known.channels)

    def feed(self, piece: bytes) -> Iterator[Int16]:
        data = self._rest + piece if self._rest else piece
        whole = len(data) - len(data) % self._block_bytes
        self._rest = data[whole:]
        if whole:
            for frame in self._context.decode(av.Packet(data[:whole])):
                yield from self._resampler.chunk(mono_of(frame), self._from_hz)

    def finish(self) -> Iterator[Int16]:
        yield from self._resampler.finish()

    def _begin(self, codec: str, from_hz: int, channels: int, block_bytes: int) -> None:
        self._from_hz = from_hz
        self._block_bytes = block_bytes
        self._context = _opened(codec, from_hz, channels)


class _WavDecoder(_PcmDecoder):
    def __init__(self, known: Declared, rate_hz: int) -> None:
        super().__init__(known, rate_hz)
        self._head = b""
        self._header: WavHeader | None = None
        self._left: int | None = None

    def feed(self, piece: bytes) -> Iterator[Int16]:
        if self._header is None:
            self._head += piece
            piece = self._read_header()
        if self._left is not None:
            piece = piece[: self._left]
            self._left -= len(piece)
        yield from super().feed(piece)

    def _read_header(self) -> bytes:
        """The sound behind the header, once it is whole."""
        self._header = header = wav_header(self._head)
        if header is None:
            if len(self._head) > MAX_HEADER_BYTES:
                raise ValueError("no sound behind the header")
            return b""
        self._begin(header.codec, header.rate_hz, header.channels, header.block_bytes)
        self._left = header.sound_bytes
        sound, self._head = self._head[header.sound_at :], b""
        return sound


class _OggDecoder(Decoder):
    """libopus decodes to our rate and to mono by itself."""

    def __init__(self, known: Declared, rate_hz: int) -> None:
        super().__init__(known, rate_hz)
        self._pages = OpusPages()
        self._opus = opuslib.Decoder(rate_hz, 1)
        self._skipped = 0
        self._most = rate_hz * _MAX_OPUS_MS // 1000

    def feed(self, piece: bytes) -> Iterator[Int16]:
        for packet in self._pages.feed(piece):
            samples = np.frombuffer(self._opus.decode(packet, self._most), np.int16)
            skip = min(len(samples), self._pages.preskip * self._rate_hz // OPUS_RATE_HZ - self._skipped)
            self._skipped += skip
            yield samples[skip:]

    def finish(self) -> Iterator[Int16]:
        return iter(())


DECODERS: Final[Mapping[Format, type[Decoder]]] = MappingProxyType(
    {
        Format.MP3: _Mp3Decoder,
        Format.AAC: _AacDecoder,
        Format.FLAC: _FlacDecoder,
        Format.OGG: _OggDecoder,
        Format.WAV: _WavDecoder,
        Format.PCM: _PcmDecoder,
    }
)


def _opened(codec: str, rate_hz: int = 0, channels: int = 0) -> AudioCodecContext:
    context = cast(AudioCodecContext, av.CodecContext.create(codec, "r"))
    context.thread_count = 1
    if rate_hz:
        context.sample_rate = rate_hz
        context.layout = f"{channels}c" if channels > 2 else ("mono", "stereo")[channels - 1]
    return context


def _tag_bytes(head: bytes) -> int:
    """The length of the ID3v2 tag that a stream begins with (id3.org, four numbers of seven bits); 0 = none."""
    if head[:3] != b"ID3" or len(head) < _TAG_BYTES:
        return 0
    size = 0
    for part in head[6:10]:
        size = size << 7 | part & 0x7F
    return _TAG_BYTES + size
