"""The xiaozhi device protocol as bytes and JSON: what a device may send, what it is sent. No I/O, no state machine.

Sources: 78/xiaozhi-esp32 main/protocols/{protocol,websocket_protocol}.cc and main/application.cc; the MQTT gateway's
16-byte header as xinnan-tech/xiaozhi-esp32-server's core/connection.py reads and writes it.

Rules
- A message that is malformed raises DeviceProtocolError with a code for the counter; nothing else does.
- `session_id` is never required: several clients send none or an empty one.
- `type` and `state` of what we send are always strings: firmware before 2.4.0 crashes otherwise.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, cast

from shared.errors import DeviceProtocolError, WorkerProtocolError
from shared.link.messages import FromDevice
from shared.listening import Mode

MAX_PACKET_BYTES = 4000
"""The browser page sends about 1.9 KB per 60 ms; libopus never needs more than this."""

MAX_MESSAGE_BYTES = 64 * 1024
"""The firmware's own limit for one message; more closes the connection with 1009."""

MAX_DEPTH = 32
"""Nesting of a message; tool descriptions, the deepest thing that devices send, have about ten levels."""

OUTPUT_FRAME_MS = 60
OUTPUT_SAMPLE_RATE = 24_000
OUTPUT_AUDIO_PARAMS = {
    "format": "opus",
    "sample_rate": OUTPUT_SAMPLE_RATE,
    "channels": 1,
    "frame_duration": OUTPUT_FRAME_MS,
}


class Framing(IntEnum):
    """How audio is wrapped in binary messages: Protocol-Version 1, 2, 3, or the MQTT gateway's header."""

    V1 = 1
    V2 = 2
    V3 = 3
    GATEWAY = 16


_V2 = struct.Struct(">HHIII")
_V3 = struct.Struct(">BBH")
_GATEWAY = struct.Struct(">BBHIII")


def unframe(framing: Framing, message: bytes) -> bytes:
    """The Opus packet inside one binary message; b"" means end of utterance.

    Raises DeviceProtocolError: header_short, header_length, not_audio, packet_too_large.
    """
    match framing:
        case Framing.V1:
            packet = message
        case Framing.V2:
            packet = _unframe_v2(message)
        case Framing.V3:
            packet = _unframe_v3(message)
        case Framing.GATEWAY:
            packet = _unframe_gateway(message)
    if len(packet) > MAX_PACKET_BYTES:
        raise DeviceProtocolError(f"audio packet of {len(packet)} bytes", code="packet_too_large")
    return packet


def _unframe_v2(message: bytes) -> bytes:
    if len(message) < _V2.size:
        raise DeviceProtocolError("binary v2 header is cut short", code="header_short")
    _version, kind, _reserved, _timestamp, length = _V2.unpack_from(message)
    if kind != 0:
        raise DeviceProtocolError("binary v2 message is not audio", code="not_audio")
    return _payload(message, _V2.size, length)


def _unframe_v3(message: bytes) -> bytes:
    if len(message) < _V3.size:
        raise DeviceProtocolError("binary v3 header is cut short", code="header_short")
    kind, _reserved, length = _V3.unpack_from(message)
    if kind != 0:
        raise DeviceProtocolError("binary v3 message is not audio", code="not_audio")
    return _payload(message, _V3.size, length)


def _unframe_gateway(message: bytes) -> bytes:
    if len(message) < _GATEWAY.size:
        raise DeviceProtocolError("gateway header is cut short", code="header_short")
    # Only the timestamp and the payload are meaningful here; some gateways leave the length at zero.
    return message[_GATEWAY.size :]


def _payload(message: bytes, header_bytes: int, length: int) -> bytes:
    # A longer rest is ignored, as the firmware does; a shorter one is a lie.
    if header_bytes + length > len(message):
        raise DeviceProtocolError("header names more bytes than there are", code="header_length")
    return message[header_bytes : header_bytes + length]


def frame(framing: Framing, packet: bytes, sequence: int) -> bytes:
    """One binary message for the device. `sequence` counts its packets from 1.

    The timestamp is the packet's place in playing time, so it changes with every packet: the MQTT gateway encrypts
    with AES-CTR and would use a key stream twice otherwise.
    """
    match framing:
        case Framing.V1:
            return packet
        case Framing.V2:
            return _V2.pack(2, 0, 0, _timestamp_ms(sequence), len(packet)) + packet
        case Framing.V3:
            return _V3.pack(0, 0, len(packet)) + packet
        case Framing.GATEWAY:
            length = len(packet)
            return _GATEWAY.pack(1, 0, length, sequence & 0xFFFFFFFF, _timestamp_ms(sequence), length) + packet


def _timestamp_ms(sequence: int) -> int:
    return (sequence * OUTPUT_FRAME_MS) & 0xFFFFFFFF


_SILK_MS = (10, 20, 40, 60)
_HYBRID_MS = (10, 20)
_CELT_MS = (2.5, 5, 10, 20)


def opus_ms(packet: bytes) -> float:
    """Duration of an Opus packet from its table-of-contents byte (RFC 6716 §3.1); 0 for an empty packet."""
    if not packet:
        return 0.0
    config = packet[0] >> 3
    if config < 12:
        one_ms: float = _SILK_MS[config & 3]
    elif config < 16:
        one_ms = _HYBRID_MS[config & 1]
    else:
        one_ms = _CELT_MS[config & 3]
    match packet[0] & 3:
        case 0:
            frames = 1
        case 1 | 2:
            frames = 2
        case _:
            frames = packet[1] & 0x3F if len(packet) > 1 else 1
    return one_ms * frames


@dataclass(frozen=True, slots=True)
class Hello:
    """`hello`, with what is missing filled in: opus, 16000, 1, 60."""

    version: int | None = None
    features: dict[str, Any] = field(default_factory=dict)
    format: Literal["opus", "pcm"] = "opus"
    sample_rate: int = 16_000
    frame_ms: int = 60


@dataclass(frozen=True, slots=True)
class ListenStart:
    mode: Mode | None


@dataclass(frozen=True, slots=True)
class ListenStop:
    pass


@dataclass(frozen=True, slots=True)
class Detect:
    """`listen detect`: a wake word, or the text input of test pages. Empty text only resets."""

    text: str
    mode: Mode | None = None


@dataclass(frozen=True, slots=True)
class AbortReply:
    reason: str


@dataclass(frozen=True, slots=True)
class ForSession:
    """`mcp` and `iot` go to the session worker as they are."""

    message: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PingText:
    pass


@dataclass(frozen=True, slots=True)
class Echo:
    """Text that is no JSON, or a bare integer: today's server sends it back, and connection testers rely on it."""

    text: str


Message = Hello | ListenStart | ListenStop | Detect | AbortReply | ForSession | PingText | Echo

_MODES = ("auto", "manual", "realtime")


def parse(text: str) -> Message:
    """Raises DeviceProtocolError: not_object, no_type, unknown_type, no_state, unknown_state, bad_field, too_deep."""
    try:
        message = json.loads(text)
    except RecursionError:
        raise DeviceProtocolError("JSON is nested too deeply", code="too_deep") from None
    except ValueError:
        return Echo(text)
    if type(message) is int:
        return Echo(text)
    if not isinstance(message, dict):
        raise DeviceProtocolError("JSON is not an object", code="not_object")
    kind = message.get("type")
    if not isinstance(kind, str):
        raise DeviceProtocolError("message has no type", code="no_type")
    parser = _PARSERS.get(kind)
    if parser is None:
        raise DeviceProtocolError("message type is not known", code="unknown_type")
    _check_travels(message)
    return parser(message)


def _check_travels(message: dict[str, Any]) -> None:
    """Parts of it go on to workers: JSON can say what a link cannot carry, such as a number of 100 digits."""
    if _is_deep(message, MAX_DEPTH):
        raise DeviceProtocolError("JSON is nested too deeply", code="too_deep")
    try:
        FromDevice(message).pack()
    except (ValueError, OverflowError, RecursionError, WorkerProtocolError):
        raise DeviceProtocolError("message cannot be passed on", code="cannot_travel") from None


def _is_deep(value: object, levels: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_deep(child, levels - 1) for child in children)


def _parse_hello(message: dict[str, Any]) -> Hello:
    version = message.get("version")
    features = message.get("features")
    params = message.get("audio_params")
    if not isinstance(params, dict):
        params = {}
    return Hello(
        version=version if type(version) is int else None,
        features=features if isinstance(features, dict) else {},
        format="pcm" if params.get("format") == "pcm" else "opus",
        sample_rate=_number(params.get("sample_rate"), 16_000, 8_000, 48_000),
        frame_ms=_number(params.get("frame_duration"), 60, 5, 120),
    )


def _number(value: object, default: int, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        return default
    return int(value)


def _mode(message: dict[str, Any]) -> Mode | None:
    mode = message.get("mode")
    return cast(Mode, mode) if mode in _MODES else None


def _parse_listen(message: dict[str, Any]) -> Message:
    match message.get("state"):
        case "start":
            return ListenStart(_mode(message))
        case "stop":
            return ListenStop()
        case "detect":
            text = message.get("text", "")
            if not isinstance(text, str):
                raise DeviceProtocolError("listen text is not a string", code="bad_field")
            return Detect(text, _mode(message))
        case None:
            raise DeviceProtocolError("listen has no state", code="no_state")
        case _:
            raise DeviceProtocolError("listen state is not known", code="unknown_state")


def _parse_abort(message: dict[str, Any]) -> AbortReply:
    reason = message.get("reason")
    return AbortReply("wake_word" if reason == "wake_word_detected" else "abort")


def _parse_for_session(message: dict[str, Any]) -> ForSession:
    if message["type"] == "mcp" and not isinstance(message.get("payload"), dict):
        raise DeviceProtocolError("mcp payload is not an object", code="bad_field")
    return ForSession(message)


def _parse_ping(message: dict[str, Any]) -> PingText:
    return PingText()


_PARSERS: dict[str, Callable[[dict[str, Any]], Message]] = {
    "hello": _parse_hello,
    "listen": _parse_listen,
    "abort": _parse_abort,
    "mcp": _parse_for_session,
    "iot": _parse_for_session,
    "ping": _parse_ping,
}


def hello_reply(session_id: str) -> dict[str, Any]:
    """The reply to `hello`: always what is really sent, never an echo of the device's own parameters."""
    return {
        "type": "hello",
        "version": 1,
        "transport": "websocket",
        "audio_params": OUTPUT_AUDIO_PARAMS,
        "session_id": session_id,
    }


def stt(text: str) -> dict[str, Any]:
    return {"type": "stt", "text": text}


def tts(state: Literal["start", "stop"]) -> dict[str, Any]:
    return {"type": "tts", "state": state}


def sentence_start(text: str) -> dict[str, Any]:
    return {"type": "tts", "state": "sentence_start", "text": text}


def llm(emoji: str, emotion: str) -> dict[str, Any]:
    return {"type": "llm", "text": emoji, "emotion": emotion}


def pong(timestamp: str) -> dict[str, Any]:
    """Answer to the text `ping` of clients that cannot see WebSocket pongs."""
    return {"type": "pong", "timestamp": timestamp}


TO_DEVICE_TYPES = frozenset({"mcp", "iot", "stt", "alert", "system", "custom"})
"""What a session worker may send through to the device."""


_EDGE = '，,。.！!“”"：:－-、[]【】 \t\r\n'


def displayed_transcript(text: str) -> str:
    """`text` as today's server shows it: without the punctuation of this set at its edges (？ and ； stay)."""
    return text.strip(_EDGE)
