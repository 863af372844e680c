"""Encoded segments that were spoken before, least recently used out first. Pure.

A segment is known by what decides its sound: engine, voice, language, text. The bound counts the packets' bytes and
what Python adds to each.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

_PACKET_OVERHEAD_BYTES = 48


class SegmentKey(NamedTuple):
    engine: str
    voice: str | None
    language: str | None
    text: str


class SegmentCache:
    """Segment → its frames. A segment larger than a quarter of the bound is not kept."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._entries: OrderedDict[SegmentKey, tuple[bytes, ...]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: SegmentKey) -> tuple[bytes, ...] | None:
        frames = self._entries.get(key)
        if frames is not None:
            self._entries.move_to_end(key)
        return frames

    def put(self, key: SegmentKey, frames: Sequence[bytes]) -> None:
        size = _size_bytes(key, frames)
        self._remove(key)
        if size > self._limit_bytes // 4:
            return
        self._entries[key] = tuple(frames)
        self.bytes += size
        while self.bytes > self._limit_bytes:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: SegmentKey) -> None:
        frames = self._entries.pop(key, None)
        if frames is not None:
            self.bytes -= _size_bytes(key, frames)


def _size_bytes(key: SegmentKey, frames: Sequence[bytes]) -> int:
    return 4 * len(key.text) + sum(map(len, frames)) + len(frames) * _PACKET_OVERHEAD_BYTES
