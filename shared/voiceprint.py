"""Who is known by voice, as the configuration lists them, and where voices are told apart. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, urlsplit

UNKNOWN: Final = "未知说话人"
"""What a voice is called that is nobody's of the list. Prompts of today's server know this word."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """One entry of the list; `id` is what the server knows the voice by."""

    id: str
    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Address:
    """Of the server: scheme, host and port, and the key that its URL carries. The URL's path means nothing."""

    base: str
    key: str = field(repr=False)


def speaker_of(entry: str) -> Speaker | None:
    """An entry `id,name,description`; the description may hold commas, or be missing. None if it is no entry."""
    parts = [part.strip() for part in entry.split(",", 2)]
    if len(parts) < 2 or not all(parts[:2]):
        return None
    return Speaker(*parts)


def speakers_of(entries: Iterable[str]) -> tuple[Speaker, ...]:
    """Each id once, the first entry of it."""
    found: dict[str, Speaker] = {}
    for entry in entries:
        speaker = speaker_of(entry)
        if speaker is not None:
            found.setdefault(speaker.id, speaker)
    return tuple(found.values())


def address_of(url: str) -> Address | None:
    """From `http://host:port/voiceprint/health?key=KEY`; None without a host or a key."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return None
    key = parse_qs(parts.query).get("key", [""])[0]
    if parts.scheme not in ("http", "https") or not host or not key:
        return None
    return Address(f"{parts.scheme}://{parts.netloc}", key)


def speakers_info(speakers: Iterable[Speaker]) -> str:
    """What a model is told of the people it may talk with."""
    lines = (f"- {speaker.name}: {speaker.description}" for speaker in speakers)
    return "\n".join(("<speakers_info>", *lines, "</speakers_info>"))
