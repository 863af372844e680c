"""Which engine speaks a segment when one fails, and how long each may take to begin. Pure.

* Only a segment of which nothing was delivered goes on to the next engine: no word is said twice.
* An engine with others behind it has a share of the time: what the configuration gives it, longer while the device has
  sound in hand, and never so long that the rest could not begin. The last one has all that is left.
* When all have failed the last error stands, and another worker may try if it might have fared better with any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from shared.errors import EngineError
from shared.upstream.chain import Chain

E = TypeVar("E")


@dataclass(slots=True)
class SegmentChain(Chain[E]):
    """Of one segment."""

    first_frame_s: float
    """An engine's share when the device has nothing in hand."""
    dry_s: float = 0.0
    """When that will be, from the segment's beginning."""

    def share_s(self, elapsed_s: float, left_s: float) -> float | None:
        """Seconds from now until the next engine is asked; None for the last one."""
        if self.is_last:
            return None
        in_hand_s = self.dry_s - elapsed_s - self.first_frame_s
        return min(max(self.first_frame_s, in_hand_s), left_s / (self.behind + 1))

    def verdict(self) -> EngineError:
        """What the segment fails with."""
        last = self._errors[-1]
        if len(self._errors) == 1:
            return last
        retryable = any(error.retryable for error in self._errors)
        return EngineError(f"none of {len(self._errors)} engines spoke: {last}", code=last.code, retryable=retryable)
