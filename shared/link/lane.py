"""One ordered lane towards one peer: what waits when the peer's queue is full. Pure.

Rules
- Control (everything but AUDIO) waits here, in order, and is tried again at each drain of the socket.
- While anything waits, nothing may overtake it: AUDIO is refused as if the peer were full.
- A lane that is over its 64 slots, or has not moved for a second, belongs to a peer that is as good as dead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

CONTROL_SLOTS = 64
STUCK_S = 1.0

Message = tuple[bytes, bytes | None]
"""Head and body, packed."""


class Lane:
    """The queue of control messages that one peer has not taken yet."""

    __slots__ = ("_moved_s", "_waiting", "has_overflowed")

    def __init__(self) -> None:
        self._waiting: deque[Message] = deque()
        self._moved_s = 0.0
        self.has_overflowed = False

    def __repr__(self) -> str:
        return f"Lane({len(self._waiting)} waiting{', overflowed' if self.has_overflowed else ''})"

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_clear(self) -> bool:
        return not self._waiting

    def hold(self, message: Message, now: float) -> None:
        """Keep a control message for later."""
        if len(self._waiting) >= CONTROL_SLOTS:
            self.has_overflowed = True
            return
        if not self._waiting:
            self._moved_s = now
        self._waiting.append(message)

    def retry(self, send: Callable[[Message], bool], now: float) -> None:
        """Send what waits, in order, until `send` says that the peer took no more."""
        while self._waiting and send(self._waiting[0]):
            self._waiting.popleft()
            self._moved_s = now

    def is_stuck(self, now: float) -> bool:
        return self.has_overflowed or (bool(self._waiting) and now - self._moved_s >= STUCK_S)
