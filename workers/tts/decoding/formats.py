"""Which kind of sound a stream of bytes holds: what its first bytes say, else what the server has declared. Pure.

The first bytes win, because many servers answer WAV or MP3 whatever they were asked for and however they call it. Raw
samples have no mark of their own: they are believed only where they are declared, and then not mistaken for MP3, whose
mark is too short.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from enum import Enum
from types import MappingProxyType
from typing import Final

HEAD_BYTES: Final = 12
"""So many tell every kind apart."""


class Format(Enum):
    MP3 = "mp3"
    AAC = "aac"
    """In ADTS frames."""
    FLAC = "flac"
    OGG = "ogg"
    """Opus in Ogg pages."""
    WAV = "wav"
    PCM = "pcm"
    """Raw s16le."""


_OF_TYPE: Final[Mapping[str, Format]] = MappingProxyType(
    {
        "audio/mpeg": Format.MP3,
        "audio/mp3": Format.MP3,
        "audio/aac": Format.AAC,
        "audio/aacp": Format.AAC,
        "audio/flac": Format.FLAC,
        "audio/x-flac": Format.FLAC,
        "audio/ogg": Format.OGG,
        "audio/opus": Format.OGG,
        "application/ogg": Format.OGG,
        "audio/wav": Format.WAV,
        "audio/x-wav": Format.WAV,
        "audio/wave": Format.WAV,
        "audio/vnd.wave": Format.WAV,
        "audio/pcm": Format.PCM,
        "audio/x-pcm": Format.PCM,
        "audio/raw": Format.PCM,
        "audio/l16": Format.PCM,
    }
)
_SPEAKS_OF_SOUND: Final = ("audio/", "application/ogg", "application/octet-stream", "binary/octet-stream")


@dataclass(frozen=True, slots=True)
class Declared:
    """What is known before the first byte."""

    format: Format | None = None
    rate_hz: int = 24_000
    """Of raw samples; every other kind says its own."""
    channels: int = 1


def declared(content_type: str, asked: Format, rate_hz: int) -> Declared | None:
    """What a Content-Type announces, `asked` and `rate_hz` where it leaves that open. None: it is no sound at all."""
    header = Message()
    header["Content-Type"] = content_type or "application/octet-stream"
    kind = header.get_content_type()
    if not kind.startswith(_SPEAKS_OF_SOUND):
        return None
    return Declared(
        _OF_TYPE.get(kind, asked),
        _number(header.get_param("rate"), 4000, 192_000) or rate_hz,
        _number(header.get_param("channels"), 1, 8) or 1,
    )


def format_of(head: bytes, known: Declared) -> Format | None:
    """The kind of a stream that begins so. None: neither the bytes nor the server tell."""
    marked = _marked(head)
    if marked is not None:
        return marked
    if known.format is not Format.PCM and _is_frame_sync(head):
        # Layer 0 is no MPEG audio layer: ADTS, which has the same sync, uses it.
        return Format.MP3 if head[1] & 0x06 else Format.AAC
    return known.format


def _marked(head: bytes) -> Format | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return Format.WAV
    if head[:4] == b"OggS":
        return Format.OGG
    if head[:4] == b"fLaC":
        return Format.FLAC
    return Format.MP3 if head[:3] == b"ID3" else None


def _is_frame_sync(head: bytes) -> bool:
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0


def _number(value: object, least: int, most: int) -> int | None:
    if isinstance(value, str) and value.isdecimal() and least <= int(value) <= most:
        return int(value)
    return None
