"""The speaker's side of the device: a bounded decode queue in front of a short output queue, in real time. Pure.

A packet moves from the decode queue to the output as soon as there is room; the first one in the output is sounding.
When the decode queue is full, the new packet is lost (78/xiaozhi-esp32, audio_service.cc, PushPacketToDecodeQueue).
"""

from __future__ import annotations

from collections import deque

from ops.device.effects import Play


class Speaker:
    """Plays packets back to back, each for `frame_s` seconds."""

    def __init__(self, decode_queue_packets: int, output_packets: int) -> None:
        self.frame_s = 0.06
        self._decode_limit = decode_queue_packets
        self._output_limit = output_packets
        self._decode: deque[bytes] = deque()
        self._output: deque[bytes] = deque()
        self.sounding_until_s: float | None = None
        """When the packet that sounds now ends; None = silence."""

    @property
    def queued_packets(self) -> int:
        """Packets that wait in the decode queue."""
        return len(self._decode)

    @property
    def is_silent(self) -> bool:
        return self.sounding_until_s is None

    def runs_dry_at_s(self) -> float | None:
        """When it falls silent if nothing more comes."""
        if self.sounding_until_s is None:
            return None
        return self.sounding_until_s + self.frame_s * (len(self._output) - 1 + len(self._decode))

    @property
    def has_room(self) -> bool:
        return len(self._decode) < self._decode_limit

    def push(self, packet: bytes, now: float) -> Play | None:
        """Take one packet, for which there must be room. Returns it if it sounds at once."""
        assert self.has_room, "the decode queue is full"
        self._decode.append(packet)
        self._refill()
        if self.sounding_until_s is not None:
            return None
        return self._begin(now)

    def step(self) -> Play | None:
        """The sounding packet has ended: begin the next, or fall silent."""
        ended_s = self.sounding_until_s
        assert ended_s is not None, "nothing sounds"
        self._output.popleft()
        self._refill()
        if self._output:
            return self._begin(ended_s)
        self.sounding_until_s = None
        return None

    def clear(self) -> int:
        """Drop all that waits; what sounds, sounds to its end. Returns how many packets were dropped."""
        dropped = len(self._decode) + max(0, len(self._output) - 1)
        self._decode.clear()
        while len(self._output) > 1:
            self._output.pop()
        return dropped

    def _begin(self, at_s: float) -> Play:
        self.sounding_until_s = at_s + self.frame_s
        return Play(self._output[0], at_s)

    def _refill(self) -> None:
        while self._decode and len(self._output) < self._output_limit:
            self._output.append(self._decode.popleft())
