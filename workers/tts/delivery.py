"""How far one stream has been served: position, credit and the time its device runs dry. Pure.

* A frame is sent only against credit; skipped frames were played before and cost none.
* The due time moves by the length of what was sent, so a stream with sound in hand lets others go first.
"""

from __future__ import annotations

FRAME_S = 0.06


class Delivery:
    """Frames [skip, position) of the segment have been sent."""

    def __init__(self, *, window_frames: int, skip_frames: int, dry_at_s: float) -> None:
        self.credit = max(0, window_frames)
        self.position = max(0, skip_frames)
        self.sent = 0
        self._dry_at_s = dry_at_s

    def __repr__(self) -> str:
        return f"Delivery(position {self.position}, credit {self.credit}, sent {self.sent})"

    @property
    def due_s(self) -> float:
        """When the device runs out of what it was sent."""
        return self._dry_at_s + self.sent * FRAME_S

    def grant(self, frames: int) -> None:
        self.credit += max(0, frames)

    def take(self, available: int) -> range:
        """The frames to send now, of `available` made so far."""
        count = max(0, min(available - self.position, self.credit))
        start = self.position
        self.position += count
        self.credit -= count
        self.sent += count
        return range(start, start + count)

    def wants_more_than(self, available: int) -> bool:
        """Frames beyond `available` could be sent if they were there."""
        return self.credit > 0 and self.position >= available

    def is_complete(self, total: int) -> bool:
        return self.position >= total
