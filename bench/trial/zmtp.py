"""Cuts a ZeroMQ byte stream into whole messages (ZMTP 3: rfc.zeromq.org/spec/23). Pure.

Behind the greeting of 64 bytes come frames: a byte of flags (1 = more parts follow, 2 = long, 4 = command), a length
of 1 or 8 bytes, and the body. A message is all frames up to one without "more"; a command stands alone.
"""

from __future__ import annotations

from dataclasses import dataclass

GREETING_BYTES = 64
_MORE, _LONG, _COMMAND = 1, 2, 4
_SHORT_HEAD_BYTES, _LONG_HEAD_BYTES = 2, 9


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it stands in the stream, and its parts. A command and the greeting have no parts."""

    raw: bytes
    parts: tuple[bytes, ...] = ()


class MessageReader:
    """One direction of one connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._greeting_left = GREETING_BYTES
        self._raw = bytearray()
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> list[Message]:
        """What is complete now. The greeting is passed on as it comes: each side waits for the other's."""
        found = []
        if self._greeting_left:
            greeting, data = data[: self._greeting_left], data[self._greeting_left :]
            self._greeting_left -= len(greeting)
            found.append(Message(bytes(greeting)))
        self._buffer += data
        while (message := self._next()) is not None:
            found.append(message)
        return found

    def _next(self) -> Message | None:
        while (frame := self._next_frame()) is not None:
            flags, raw, body = frame
            if flags & _COMMAND:
                return Message(raw)
            self._raw += raw
            self._parts.append(body)
            if not flags & _MORE:
                message = Message(bytes(self._raw), tuple(self._parts))
                self._raw.clear()
                self._parts.clear()
                return message
        return None

    def _next_frame(self) -> tuple[int, bytes, bytes] | None:
        """(flags, the frame as it stands, its body)."""
        buffer = self._buffer
        if not buffer:
            return None
        head_bytes = _LONG_HEAD_BYTES if buffer[0] & _LONG else _SHORT_HEAD_BYTES
        if len(buffer) < head_bytes:
            return None
        end = head_bytes + int.from_bytes(buffer[1:head_bytes], "big")
        if len(buffer) < end:
            return None
        raw = bytes(buffer[:end])
        del buffer[:end]
        return raw[0], raw, raw[head_bytes:]
