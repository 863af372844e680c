"""The sound of one utterance, kept as long as another recogniser may still have to hear it from the beginning."""

from __future__ import annotations

from collections.abc import Iterator

MAX_KEPT_BYTES = 4 * 1024 * 1024
"""Two minutes: beyond any sensible longest utterance."""


class KeptSound:
    """PCM in order. Once it holds more than `max_bytes`, or was let go, it is no longer whole and holds nothing."""

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self.size_bytes = 0
        self.is_whole = True

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def add(self, pcm: bytes) -> None:
        if not self.is_whole:
            return
        self._pieces.append(pcm)
        self.size_bytes += len(pcm)
        if self.size_bytes > self._max_bytes:
            self.let_go()

    def let_go(self) -> None:
        """Nobody needs it any more."""
        self.is_whole = False
        self.size_bytes = 0
        self._pieces.clear()
