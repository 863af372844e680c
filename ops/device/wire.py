"""What a device writes on its WebSocket, and how it reads: JSON messages and the three binary framings. Pure.

Version 1 is the bare Opus packet; 2 and 3 put a big-endian header before it (78/xiaozhi-esp32, protocols/protocol.h).
"""

from __future__ import annotations

import json
import struct
from typing import Any, Literal

from shared.errors import DeviceProtocolError
from shared.listening import Mode

ProtocolVersion = Literal[1, 2, 3]

_V2 = struct.Struct(">HHIII")
_V3 = struct.Struct(">BBH")


def pack_audio(version: ProtocolVersion, packet: bytes, timestamp_ms: int = 0) -> bytes:
    if version == 2:
        return _V2.pack(2, 0, 0, timestamp_ms & 0xFFFFFFFF, len(packet)) + packet
    if version == 3:
        return _V3.pack(0, 0, len(packet)) + packet
    return packet


def unpack_audio(version: ProtocolVersion, message: bytes) -> bytes:
    """The Opus packet. The firmware checks no bounds and would crash where this raises DeviceProtocolError."""
    if version == 1:
        return message
    header = _V2 if version == 2 else _V3
    if len(message) < header.size:
        raise DeviceProtocolError("binary message shorter than its header", code="short_header")
    size = header.unpack_from(message)[-1]
    if size > len(message) - header.size:
        raise DeviceProtocolError("binary message shorter than its header says", code="short_payload")
    return message[header.size : header.size + size]


def hello(version: ProtocolVersion, *, has_aec: bool = False, frame_ms: int = 60) -> dict[str, Any]:
    features: dict[str, bool] = {"mcp": True, "glyph_push": False}
    if has_aec:
        features["aec"] = True
    return {
        "type": "hello",
        "version": version,
        "features": features,
        "transport": "websocket",
        "audio_params": {"format": "opus", "sample_rate": 16_000, "channels": 1, "frame_duration": frame_ms},
    }


def listen_start(session: str, mode: Mode) -> dict[str, Any]:
    return {"session_id": session, "type": "listen", "state": "start", "mode": mode}


def listen_stop(session: str) -> dict[str, Any]:
    return {"session_id": session, "type": "listen", "state": "stop"}


def listen_detect(session: str, text: str) -> dict[str, Any]:
    return {"session_id": session, "type": "listen", "state": "detect", "text": text}


def abort(session: str, reason: str | None) -> dict[str, Any]:
    message = {"session_id": session, "type": "abort"}
    return message if reason is None else {**message, "reason": reason}


def mcp(session: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {"session_id": session, "type": "mcp", "payload": payload}


def parse(text: str) -> dict[str, Any]:
    """A server's message; DeviceProtocolError if a device could not read it."""
    try:
        message = json.loads(text)
    except ValueError as error:
        raise DeviceProtocolError("not JSON", code="not_json") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise DeviceProtocolError("no string `type`", code="no_type")
    return message


def check_hello(message: dict[str, Any]) -> tuple[str, float]:
    """Session id and frame duration in seconds. Raises where the firmware would crash or ignore the hello."""
    if message.get("transport") != "websocket":
        raise DeviceProtocolError("hello without transport websocket: it crashes a device", code="hello_transport")
    params = message.get("audio_params")
    frame_ms = params.get("frame_duration", 60) if isinstance(params, dict) else 60
    if frame_ms not in (5, 10, 20, 40, 60, 80, 100, 120):
        raise DeviceProtocolError("hello with a frame_duration that no decoder has", code="hello_frame_duration")
    return str(message.get("session_id", "")), frame_ms / 1000


def check_tts(message: dict[str, Any]) -> str:
    """The state of a tts message. Releases before 2.4.0 crash without a string there."""
    state = message.get("state")
    if not isinstance(state, str):
        raise DeviceProtocolError("tts without a string `state`: it crashes devices before 2.4.0", code="tts_state")
    return state
