"""What is fuzzed, one function for each decoder: bytes in, nothing out, and only the typed error may come out.

A target also holds what is decoded to its word: whatever is accepted can be sent on, and means the same afterwards.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from router import wire
from router.device.identity import identify
from shared.errors import DeviceProtocolError, WorkerProtocolError
from shared.ids import StreamId
from shared.link import messages
from shared.link.envelope import Kind, pack_head, unpack_head, unpack_map
from shared.link.messages import Body, FromDevice

Target = Callable[[bytes], None]

FRAMINGS = tuple(wire.Framing)
LONGEST_PACKET_MS = 63 * 60


def bodies(of: type[Body] = Body) -> list[type[Body]]:
    """Every message of the link."""
    return [each for kind in of.__subclasses__() for each in (kind, *bodies(kind))]


def wire_input(data: bytes) -> None:
    """One WebSocket message of a device: binary in each framing, then the same bytes as text."""
    for framing in FRAMINGS:
        with suppress(DeviceProtocolError):
            _unframe(framing, data)
    with suppress(UnicodeDecodeError):
        _parse(data.decode())


def _unframe(framing: wire.Framing, data: bytes) -> None:
    packet = wire.unframe(framing, data)
    assert len(packet) <= wire.MAX_PACKET_BYTES
    assert packet in data
    assert 0.0 <= wire.opus_ms(packet) <= LONGEST_PACKET_MS
    framed = wire.frame(framing, packet, len(data))
    assert wire.unframe(framing, framed) == packet


def _parse(text: str) -> None:
    with suppress(DeviceProtocolError):
        message = wire.parse(text)
        match message:
            case wire.Echo():
                assert message.text == text
            case wire.Hello():
                assert 8_000 <= message.sample_rate <= 48_000 and 5 <= message.frame_ms <= 120
                messages.OpenSession("s", "d", features=message.features).pack()
            case wire.ForSession():
                assert FromDevice.unpack(FromDevice(message.message).pack()) is not None
            case wire.Detect():
                messages.Input(1, message.text, "text").pack()
                wire.displayed_transcript(message.text).encode()


def request_input(data: bytes) -> None:
    """The path and the headers of a device's request, and how it wants its frames then."""
    path, *lines = data.decode("latin-1").split("\n")
    headers = dict(line.partition(":")[::2] for line in lines)
    identity = identify(path, headers, "192.0.2.1")
    with suppress(DeviceProtocolError):
        identity.framing(len(lines))


def envelope_input(data: bytes) -> None:
    """One message of the link. First byte: length of the head; second: what the body is read as."""
    if len(data) < 2:
        return
    head, body = data[2 : 2 + data[0]], data[2 + data[0] :]
    with suppress(WorkerProtocolError):
        found = unpack_head(head)
        if found.kind in KINDS and found.stream < 2**64 and found.seq < 2**64:
            assert unpack_head(pack_head(Kind(found.kind), found.stream, found.seq)) == found
    with suppress(WorkerProtocolError):
        unpack_map(body)
        _decode(BODIES[data[1] % len(BODIES)], body)


def _decode(kind: type[Body], body: bytes) -> None:
    decoded = kind.unpack(body)
    again = kind.from_map(decoded.to_map())
    assert again == decoded or repr(again) == repr(decoded)  # a NaN is not equal to itself


KINDS = frozenset(Kind)
BODIES = tuple(bodies())
TARGETS: dict[str, Target] = {"wire": wire_input, "request": request_input, "envelope": envelope_input}


def seeds(name: str) -> list[bytes]:
    """Valid inputs to begin with: a mutation of nonsense is rejected by the first byte for hours."""
    match name:
        case "wire":
            return _wire_seeds()
        case "request":
            return [b"/xiaozhi/v1/?device-id=aa:bb\nDevice-Id: aa:bb:cc:dd:ee:ff\nProtocol-Version: 2\nClient-Id: x"]
        case _:
            head = pack_head(Kind.EVENT, StreamId(7), 1)
            return [bytes([len(head), at]) + head + _example(kind).pack() for at, kind in enumerate(BODIES)]


def _wire_seeds() -> list[bytes]:
    said: list[dict[str, Any]] = [
        {"type": "hello", "version": 1, "features": {"mcp": True}, "audio_params": {"format": "opus"}},
        {"type": "listen", "state": "start", "mode": "auto"},
        {"type": "listen", "state": "detect", "text": "你好"},
        {"type": "abort", "reason": "wake_word_detected"},
        {"type": "mcp", "payload": {"jsonrpc": "2.0", "id": 1, "result": {}}},
        {"type": "iot", "states": [{"name": "lamp", "state": {"on": True}}]},
        {"type": "ping"},
    ]
    packet = b"\x58" + bytes(40)
    framed = [wire.frame(framing, packet, 1) for framing in FRAMINGS]
    return [*(json.dumps(each, ensure_ascii=False).encode() for each in said), *framed, struct.pack(">I", 7)]


CANDIDATES = ("x", "asr", "auto", "text", "complete", 1, 1.5, True, {"a": [1, "b", None]}, ["x"])


def _example(kind: type[Body]) -> Body:
    """One of these with something in every field."""
    hints = get_type_hints(kind, include_extras=True)
    return kind(**{each.name: _value(hints[each.name]) for each in fields(kind)})  # type: ignore[arg-type]


def _value(hint: Any) -> Any:
    """The first candidate that fits."""
    if isinstance(hint, type) and is_dataclass(hint):
        return _example(hint) if issubclass(hint, Body) else hint()
    adapter: TypeAdapter[Any] = TypeAdapter(hint)
    for candidate in CANDIDATES:
        with suppress(ValidationError):
            return adapter.validate_python(candidate, strict=True)
    return None
