"""The audio of a stream that may still belong to an utterance."""

from __future__ import annotations

from collections import deque

from workers.asr.opus import Pcm


class Sound:
    """Pieces of PCM with their places in audio time."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[int, Pcm]] = deque()

    def add(self, start_sample: int, pcm: Pcm) -> None:
        self._pieces.append((start_sample, pcm))

    def trim(self, sample: int) -> None:
        """Forget the pieces that end at or before `sample`."""
        while self._pieces and self._pieces[0][0] + len(self._pieces[0][1]) <= sample:
            self._pieces.popleft()

    def since(self, sample: int) -> bytes:
        return b"".join(pcm[max(0, sample - start) :].tobytes() for start, pcm in self._pieces)
