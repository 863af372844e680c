"""Volcengine's large-model streaming recognition ("sauc"), one utterance a connection. Pure.

Binary frames: 4 bytes of header (version and header size, type and flags, serialisation and compression, reserved),
then an int32 sequence if flag 1 is set, a uint32 size and the payload. An error frame has its code before the size.
Flag 2 or a negative sequence marks the last frame of a side. All numbers are big-endian.

`result_type` is "full": each answer holds every sentence so far, so that a repeated one does no harm. A sentence is
`definite` when silence has ended it.

Source: www.volcengine.com/docs/6561/1354869.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from shared.upstream.faults import Code, CodeTable, Kind, UpstreamError
from workers.asr.engines.dialogue import Message, News, Over, Partial, SentenceOver, Started, joined

VERSION_AND_SIZE: Final = 0x11
FULL_REQUEST: Final = 0x10
AUDIO: Final = 0x20
LAST_AUDIO: Final = 0x22
JSON_GZIP: Final = 0x11
GZIP_LEVEL: Final = 1
"""Sound hardly shrinks; a higher level would only cost time."""

FULL_RESPONSE: Final = 0x9
ACKNOWLEDGEMENT: Final = 0xB
ERROR: Final = 0xF
HAS_SEQUENCE: Final = 0x1
IS_LAST: Final = 0x2
HAS_EVENT: Final = 0x4
GZIP: Final = 0x1

MAX_PAYLOAD_BYTES: Final = 4 * 1024 * 1024
PACKET_BYTES: Final = 6400
"""200 ms, which the service recommends."""
FORCE_TO_SPEECH_MS: Final = 1000
"""Without it the service looks for no end within the first ten seconds."""

GOOD: Final = frozenset({0, 1000, 20000000})
NO_SPEECH: Final = frozenset({1013, 1014, 20000003, 45000002})
"""Nothing in the sound was speech, or there was no sound."""
QUOTA_CODE: Final = 45000292
QUOTA_WORDS: Final = "quota exceeded"
"""45000000 stands for this too; only its text tells."""

CODES = CodeTable(
    MappingProxyType(
        {
            "1001": (Code.REFUSED, Kind.FATAL),
            "1002": (Code.AUTH, Kind.FATAL),
            "1003": (Code.QUOTA, Kind.QUOTA),
            "1004": (Code.QUOTA, Kind.QUOTA),
            "1005": (Code.FAILED, Kind.RETRYABLE),
            "1010": (Code.INPUT, Kind.INPUT),
            "1011": (Code.INPUT, Kind.INPUT),
            "1012": (Code.INPUT, Kind.INPUT),
            "1020": (Code.FAILED, Kind.RETRYABLE),
            "1021": (Code.FAILED, Kind.RETRYABLE),
            "1022": (Code.FAILED, Kind.RETRYABLE),
            "45000000": (Code.AUTH, Kind.FATAL),
            "45000001": (Code.REFUSED, Kind.FATAL),
            "45000010": (Code.AUTH, Kind.FATAL),
            "45000030": (Code.AUTH, Kind.FATAL),
            "45000081": (Code.IDLE_TIMEOUT, Kind.RETRYABLE),
            "45000151": (Code.INPUT, Kind.INPUT),
            "45000292": (Code.QUOTA, Kind.QUOTA),
            "55000000": (Code.FAILED, Kind.RETRYABLE),
            "55000001": (Code.FAILED, Kind.RETRYABLE),
            "55000031": (Code.FAILED, Kind.RETRYABLE),
        }
    )
)
"""45000081: it waited too long for sound. 55000031: it has too much to do."""


@dataclass(frozen=True, slots=True)
class ServerFrame:
    """What came in."""

    is_last: bool
    body: Mapping[str, Any] = field(repr=False)
    """Of an error: its code under `code`, its text under `error`."""


def request_frame(payload: Mapping[str, Any]) -> bytes:
    return _frame(FULL_REQUEST, json.dumps(payload).encode())


def audio_frame(pcm: bytes) -> bytes:
    return _frame(AUDIO, pcm)


def last_frame() -> bytes:
    return _frame(LAST_AUDIO, b"")


def decoded(message: Message) -> ServerFrame:
    """Raises UpstreamError `upstream_malformed`."""
    if not isinstance(message, bytes) or len(message) < 4 or message[0] >> 4 != 1:
        raise _malformed()
    kind, flags = message[1] >> 4, message[1] & 0xF
    is_gzip, start = message[2] & 0xF == GZIP, (message[0] & 0xF) * 4
    try:
        if kind == ERROR:
            return _error_frame(message, start, is_gzip=is_gzip)
        if kind == ACKNOWLEDGEMENT:
            return ServerFrame(is_last=False, body={})
        if kind != FULL_RESPONSE:
            raise _malformed()
        is_last = bool(flags & IS_LAST) or _is_negative(message, start, flags)
        start += 4 * bool(flags & HAS_SEQUENCE) + 4 * bool(flags & HAS_EVENT)
        body = json.loads(_payload(message, start, is_gzip=is_gzip) or b"{}")
    except (struct.error, zlib.error, ValueError, RecursionError):
        raise _malformed() from None
    if not isinstance(body, dict):
        raise _malformed()
    return ServerFrame(is_last, body)


def _is_negative(message: bytes, start: int, flags: int) -> bool:
    return bool(flags & HAS_SEQUENCE) and struct.unpack_from(">i", message, start)[0] < 0


def _frame(kind_and_flags: int, content: bytes) -> bytes:
    payload = gzip.compress(content, GZIP_LEVEL, mtime=0)
    return struct.pack(">BBBBI", VERSION_AND_SIZE, kind_and_flags, JSON_GZIP, 0, len(payload)) + payload


def _error_frame(message: bytes, start: int, *, is_gzip: bool) -> ServerFrame:
    (code,) = struct.unpack_from(">I", message, start)
    try:
        text = _payload(message, start + 4, is_gzip=is_gzip).decode(errors="replace")
    except (struct.error, zlib.error, ValueError):
        text = ""  # The code says enough.
    return ServerFrame(is_last=True, body={"code": code, "error": text})


def _payload(message: bytes, start: int, *, is_gzip: bool) -> bytes:
    (size,) = struct.unpack_from(">I", message, start)
    payload = message[start + 4 :]
    if len(payload) != size:
        raise ValueError("cut")
    return _unzipped(payload) if is_gzip and payload else payload


def _unzipped(payload: bytes) -> bytes:
    """Bounded: a few bytes may stand for very many."""
    unzip = zlib.decompressobj(wbits=31)
    content = unzip.decompress(payload, MAX_PAYLOAD_BYTES)
    if not unzip.eof:
        raise ValueError("cut or too long")
    return content


def _malformed() -> UpstreamError:
    return UpstreamError("it sent what is no frame", code=Code.MALFORMED)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the configuration decides of a session."""

    end_window_ms: int
    ends_early: bool = False
    """Whether the service's end of speech counts, also within the first seconds."""
    language: str = ""
    boosting_table_name: str = ""
    correct_table_name: str = ""

    def payload(self, user: str) -> dict[str, Any]:
        audio = {"format": "pcm", "codec": "raw", "rate": 16000, "bits": 16, "channel": 1}
        request = {
            "model_name": "bigmodel",
            "enable_itn": True,
            "enable_punc": True,
            "show_utterances": True,
            "result_type": "full",
            "end_window_size": self.end_window_ms,
        }
        tables = {"boosting_table_name": self.boosting_table_name, "correct_table_name": self.correct_table_name}
        corpus = {name: value for name, value in tables.items() if value}
        return {
            "user": {"uid": user},
            "audio": audio | ({"language": self.language} if self.language else {}),
            "request": request
            | ({"force_to_speech_time": FORCE_TO_SPEECH_MS} if self.ends_early else {})
            | ({"corpus": corpus} if corpus else {}),
        }


class DoubaoDialogue:
    """One session."""

    packet_bytes = PACKET_BYTES

    def __init__(self, wishes: Wishes, user: str) -> None:
        """`user` names who asks, for the service's logs."""
        self._wishes = wishes
        self._user = user
        self._has_started = False
        self._has_closed = False
        self._sentences = ""
        """Those that are definite."""
        self._text = ""

    def opening(self) -> Message:
        return request_frame(self._wishes.payload(self._user))

    def sound(self, pcm: bytes) -> Message:
        return audio_frame(pcm)

    def closing(self) -> Message:
        self._has_closed = True
        return last_frame()

    def read(self, message: Message) -> list[News]:
        frame = decoded(message)
        code = _code(frame.body)
        if code in NO_SPEECH:
            return [Over(self._text)] if self._has_closed or frame.is_last else self._first()
        if code not in GOOD or frame.body.get("error"):
            raise _refusal(code, frame.body.get("error"))
        news = self._first() + self._on_result(frame.body.get("result"), is_last=frame.is_last)
        return [*news, Over(self._text)] if frame.is_last else news

    def _first(self) -> list[News]:
        if self._has_started:
            return []
        self._has_started = True
        return [Started()]

    def _on_result(self, result: object, *, is_last: bool) -> list[News]:
        """An answer without any sentence takes back what was not definite."""
        if isinstance(result, list):
            result = result[0] if result else None
        if not isinstance(result, dict):
            return []
        sentences = _sentences(result)
        definite = joined(_text(one) for one in sentences if one.get("definite") is True)
        text = joined(map(_text, sentences)) or _text(result) or self._sentences
        news: list[News] = [Partial(text)] if text != self._text else []
        if len(definite) > len(self._sentences) and not is_last:
            news.append(SentenceOver(_end_ms(sentences), definite))
        self._sentences, self._text = definite or self._sentences, text
        return news


def _code(body: Mapping[str, Any]) -> int:
    """-1 if it is no number."""
    code = body.get("code", 0)
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) <= 10:
        return int(code)
    return code if isinstance(code, int) else -1


def _sentences(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    sentences = result.get("utterances")
    return [one for one in sentences if isinstance(one, dict)] if isinstance(sentences, list) else []


def _text(part: Mapping[str, Any]) -> str:
    text = part.get("text")
    return text.strip() if isinstance(text, str) else ""


def _end_ms(sentences: list[Mapping[str, Any]]) -> int | None:
    """Where the last definite sentence ended."""
    ends = [one.get("end_time") for one in sentences if one.get("definite") is True]
    return ends[-1] if ends and isinstance(ends[-1], int) and ends[-1] >= 0 else None


def _refusal(code: object, text: object) -> UpstreamError:
    if isinstance(text, str) and QUOTA_WORDS in text.lower():
        code = QUOTA_CODE
    return CODES.error(code, "the recognition failed")
