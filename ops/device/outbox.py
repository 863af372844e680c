"""What waits to be sent to the server: at most 40 audio frames, the oldest go first; text is never dropped. Pure."""

from __future__ import annotations

from collections import deque

SEND_QUEUE_FRAMES = 40


class Outbox:
    """First in, first out, like the device's send queue."""

    def __init__(self, limit_frames: int = SEND_QUEUE_FRAMES) -> None:
        self._limit = limit_frames
        self._items: deque[bytes | str] = deque()
        self._audio = 0
        self.dropped_frames = 0

    def __len__(self) -> int:
        return len(self._items)

    def put_text(self, text: str) -> None:
        self._items.append(text)

    def put_audio(self, frame: bytes) -> None:
        self._items.append(frame)
        self._audio += 1
        if self._audio > self._limit:
            self._drop_oldest()

    def take(self) -> bytes | str:
        item = self._items.popleft()
        self._audio -= isinstance(item, bytes)
        return item

    def _drop_oldest(self) -> None:
        oldest = next(place for place, item in enumerate(self._items) if isinstance(item, bytes))
        del self._items[oldest]
        self._audio -= 1
        self.dropped_frames += 1
