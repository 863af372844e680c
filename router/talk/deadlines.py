"""What of a running reply may come too late, and when it is too late. Pure.

Rules
- The reply as a whole: nothing has moved for so long.
- A frame: only the segment that the device waits for can be late, not before the device runs dry, and not before a
  worker has it (the wait for one has its own limit).
- The first words: after a while a filler is said, once; later the turn has failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from router.talk.turn import Job, TurnRecord

FILLER_AFTER_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class MouthTimeouts:
    reply_s: float = 25.0
    segment_s: float = 15.0
    first_frame_s: float = 3.0
    next_frame_s: float = 2.0


class Late(StrEnum):
    """In the order in which they are looked at."""

    REPLY = "reply"
    FRAME = "frame"
    SEGMENT = "segment"
    FILLER = "filler"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Of this moment: they move with every frame and every piece of text."""

    timeouts: MouthTimeouts
    turn: TurnRecord
    job: Job | None
    """The segment that plays, or is to be played next."""
    progress_at: float
    """When anything of the reply has moved last."""
    dry_at: float
    """When the device runs out of sound."""

    def next_due(self) -> float:
        return min(due for _, due in self._all())

    def late(self, now: float) -> Late | None:
        """The first thing that is too late."""
        return next((what for what, due in self._all() if now >= due), None)

    def _all(self) -> Iterator[tuple[Late, float]]:
        yield Late.REPLY, self.progress_at + self.timeouts.reply_s
        if self.job is not None:
            yield from self._of_job(self.job)
        elif not self.turn.segments:
            yield Late.SEGMENT, self.turn.began_at + self.timeouts.segment_s
            if not self.turn.filler_said:
                yield Late.FILLER, self.turn.began_at + FILLER_AFTER_S

    def _of_job(self, job: Job) -> Iterator[tuple[Late, float]]:
        if job.frames or job.finished or job.placed_at is None:
            return
        if job.last_frame_at is None:
            due = job.placed_at + self.timeouts.first_frame_s
        else:
            due = job.last_frame_at + self.timeouts.next_frame_s
        yield Late.FRAME, max(due, self.dry_at)
