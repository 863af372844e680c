"""Messages of the service that Microsoft Edge reads pages aloud with. Pure.

A message has header lines, `Path` among them, and a body. Text messages have an empty line between the two; binary ones
begin with the length of their headers in two bytes, big endian. Sound is MP3, 24 kHz, mono, 48 kbit/s, in frames of
`Path:audio`; `turn.end` is the last message of a request.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from shared.upstream.faults import Code, UpstreamError

OUTPUT_FORMAT: Final = "audio-24khz-48kbitrate-mono-mp3"
MAX_PART_CHARS: Final = 800
"""The service takes 4096 bytes of escaped text; a character takes five at most."""
TURN_END: Final = "turn.end"
AUDIO: Final = "audio"

_PATHS: Final = frozenset({"turn.start", "response", "audio.metadata", AUDIO, TURN_END})
_SHORT_NAME: Final = re.compile(r"([a-z]{2,3})-([A-Za-z]+(?:-[A-Za-z]+)*)-([A-Za-z]+Neural)")
_UNSPEAKABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""No character of XML 1.0; the service refuses a text with one."""


@dataclass(frozen=True, slots=True)
class Prosody:
    """Changes, as the service writes them: +10%, -5Hz."""

    rate: str = "+0%"
    volume: str = "+0%"
    pitch: str = "+0Hz"


@dataclass(frozen=True, slots=True)
class Message:
    path: str
    request_id: str
    body: bytes

    @property
    def is_sound(self) -> bool:
        """The last audio message of a request has no body."""
        return self.path == AUDIO and bool(self.body)


def is_voice(name: str) -> bool:
    return _SHORT_NAME.fullmatch(name) is not None


def config_message(stamp: str) -> str:
    """What the sound is to be; comes first. `stamp` as JavaScript writes a date."""
    options = {"sentenceBoundaryEnabled": "true", "wordBoundaryEnabled": "false"}
    audio = {"metadataoptions": options, "outputFormat": OUTPUT_FORMAT}
    body = json.dumps({"context": {"synthesis": {"audio": audio}}}, separators=(",", ":"))
    head = f"X-Timestamp:{stamp}\r\nContent-Type:application/json; charset=utf-8\r\nPath:speech.config"
    return f"{head}\r\n\r\n{body}\r\n"


def ssml_message(request_id: str, stamp: str, text: str, voice: str, prosody: Prosody) -> str:
    """The text. The Z behind the stamp is what Edge sends."""
    head = f"X-RequestId:{request_id}\r\nContent-Type:application/ssml+xml\r\nX-Timestamp:{stamp}Z\r\nPath:ssml"
    return f"{head}\r\n\r\n{_ssml(text, voice, prosody)}"


def read(message: str | bytes) -> Message:
    """Raises UpstreamError `upstream_malformed`."""
    head, body = _cut(message) if isinstance(message, bytes) else _cut_text(message)
    headers = dict(_header(line) for line in head.split("\r\n") if line)
    path = headers.get("path", "")
    if path not in _PATHS:
        raise _malformed()
    return Message(path, headers.get("x-requestid", ""), body)


def _cut(message: bytes) -> tuple[str, bytes]:
    length = int.from_bytes(message[:2], "big")
    if len(message) < 2 + length:
        raise _malformed()
    return message[2 : 2 + length].decode("utf-8", "replace"), message[2 + length :]


def _cut_text(message: str) -> tuple[str, bytes]:
    head, _, body = message.partition("\r\n\r\n")
    return head, body.encode()


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise _malformed()
    return name.lower(), value.strip()


def _ssml(text: str, voice: str, prosody: Prosody) -> str:
    changes = f"pitch='{prosody.pitch}' rate='{prosody.rate}' volume='{prosody.volume}'"
    return (
        "<speak version='1.0' xmlns='http://www.w3.org/2001/10/synthesis' xml:lang='en-US'>"
        f"<voice name={quoteattr(_full_name(voice))}><prosody {changes}>"
        f"{escape(_UNSPEAKABLE.sub(' ', text))}</prosody></voice></speak>"
    )


def _full_name(voice: str) -> str:
    """zh-CN-liaoning-XiaobeiNeural → Microsoft Server Speech Text to Speech Voice (zh-CN-liaoning, XiaobeiNeural)."""
    match = _SHORT_NAME.fullmatch(voice)
    if match is None:
        return voice
    return f"Microsoft Server Speech Text to Speech Voice ({match[1]}-{match[2]}, {match[3]})"


def _malformed() -> UpstreamError:
    return UpstreamError("it sent what is no message of its protocol", code=Code.MALFORMED)
