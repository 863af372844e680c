"""The binary frames of Volcengine's bidirectional synthesis, v3. Pure.

A frame is a header of four bytes (version and header size, message type and flags, serialisation and compression,
reserved), an event number, the id of the connection or session it is about, and a payload, the last two each behind a
length; all numbers are big-endian. An error frame has an error code in place of event and id.

Source: www.volcengine.com/docs/6561/1329505.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from shared.upstream.faults import Code, UpstreamError

MAX_INFLATED_BYTES: Final = 4 * 1024 * 1024

_HEADER: Final = bytes((0x11, 0x14, 0x10, 0x00))
"""Version 1, four bytes, a full client request with an event, JSON without compression."""
_WITH_EVENT: Final = 0x4
_GZIP: Final = 0x1


class MessageType(IntEnum):
    RESPONSE = 0x9
    SOUND = 0xB
    ERROR = 0xF


class Event(IntEnum):
    START_CONNECTION = 1
    FINISH_CONNECTION = 2
    CONNECTION_STARTED = 50
    CONNECTION_FAILED = 51
    CONNECTION_FINISHED = 52
    START_SESSION = 100
    CANCEL_SESSION = 101
    FINISH_SESSION = 102
    SESSION_STARTED = 150
    SESSION_CANCELED = 151
    SESSION_FINISHED = 152
    SESSION_FAILED = 153
    TASK_REQUEST = 200
    SENTENCE_START = 350
    SENTENCE_END = 351
    SOUND = 352


OF_CONNECTION = frozenset({Event.CONNECTION_STARTED, Event.CONNECTION_FAILED, Event.CONNECTION_FINISHED})


@dataclass(frozen=True, slots=True)
class Frame:
    """What came."""

    type: MessageType
    event: int = 0
    id: str = ""
    """Of the session, or of the connection."""
    payload: bytes = field(default=b"", repr=False)
    error_code: int = 0

    @property
    def meta(self) -> Mapping[str, Any]:
        """The payload as JSON; empty if it is none."""
        try:
            content = json.loads(self.payload)
        except (ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}


def start_connection() -> bytes:
    return _HEADER + struct.pack(">i", Event.START_CONNECTION) + _sized(b"{}")


def finish_connection() -> bytes:
    return _HEADER + struct.pack(">i", Event.FINISH_CONNECTION) + _sized(b"{}")


def of_session(event: Event, session_id: str, payload: bytes = b"{}") -> bytes:
    return _HEADER + struct.pack(">i", event) + _sized(session_id.encode()) + _sized(payload)


def decode(message: str | bytes) -> Frame:
    """A text message, which the service sends only to complain, counts as an error. Raises UpstreamError."""
    if isinstance(message, str):
        return Frame(MessageType.ERROR, payload=message.encode())
    try:
        return _decoded(message)
    except (struct.error, ValueError, IndexError, zlib.error):
        raise UpstreamError("it sent what is no frame", code=Code.MALFORMED) from None


def _decoded(message: bytes) -> Frame:
    size = (message[0] & 0xF) * 4
    kind, flags, compression = MessageType(message[1] >> 4), message[1] & 0xF, message[2] & 0xF
    if message[0] >> 4 != 1 or size < 4:
        raise ValueError("another version")
    body = message[size:]
    if kind is MessageType.ERROR:
        return Frame(
            kind, error_code=struct.unpack_from(">i", body)[0], payload=_inflated(_rest(body[4:]), compression)
        )
    if not flags & _WITH_EVENT:
        raise ValueError("no event")
    (event,) = struct.unpack_from(">i", body)
    name, payload = _id_and_payload(event, _strings(body[4:]))
    return Frame(kind, event, name.decode(), _inflated(payload, compression))


def _id_and_payload(event: int, strings: list[bytes]) -> tuple[bytes, bytes]:
    """Events of a connection may come with the id alone or the payload alone."""
    if len(strings) == 2:
        return strings[0], strings[1]
    if len(strings) == 1 and event in OF_CONNECTION:
        return (strings[0], b"") if event == Event.CONNECTION_STARTED else (b"", strings[0])
    if len(strings) == 1:
        return strings[0], b""
    raise ValueError("no id")


def _strings(body: bytes) -> list[bytes]:
    found: list[bytes] = []
    position = 0
    while position < len(body) and len(found) < 2:
        (size,) = struct.unpack_from(">I", body, position)
        position += 4 + size
        if position > len(body):
            raise ValueError("cut short")
        found.append(body[position - size : position])
    return found


def _rest(body: bytes) -> bytes:
    """An error's message comes behind its length, or without one."""
    if len(body) >= 4 and struct.unpack_from(">I", body)[0] == len(body) - 4:
        return body[4:]
    return body


def _inflated(payload: bytes, compression: int) -> bytes:
    if compression != _GZIP or not payload:
        return payload
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    content = inflater.decompress(payload, MAX_INFLATED_BYTES)
    if inflater.unconsumed_tail:
        raise ValueError("too large")
    return content


def _sized(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content
