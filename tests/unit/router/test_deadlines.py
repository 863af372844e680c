"""What of a reply is late, and when."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from router.talk.deadlines import FILLER_AFTER_S, Deadlines, Late, MouthTimeouts
from router.talk.turn import Job, TurnRecord
from shared.link.messages import Input, Segment

pytestmark = pytest.mark.unit

TIMES = MouthTimeouts(reply_s=25.0, segment_s=15.0, first_frame_s=3.0, next_frame_s=2.0)


def deadlines(job: Job | None = None, *, progress_at: float = 0.0, dry_at: float = 0.0, **turn: Any) -> Deadlines:
    record = TurnRecord(1, Input(1, "hi", "text"), began_at=0.0, ended_at=0.0, **turn)
    return Deadlines(TIMES, record, job, progress_at, dry_at)


def job(**state: Any) -> Job:
    return Job(0, "words", None, **state)


def test_first_a_filler_then_a_failure() -> None:
    """A turn without words."""
    assert deadlines().next_due() == FILLER_AFTER_S
    assert deadlines().late(3.9) is None and deadlines().late(4.0) is Late.FILLER
    said = deadlines(filler_said=True)
    assert said.next_due() == 15.0 and said.late(14.9) is None and said.late(15.0) is Late.SEGMENT


def test_after_a_stall_no_filler_is_said_for_what_has_failed() -> None:
    """Both are over: the graver one counts."""
    assert deadlines().late(16.0) is Late.SEGMENT


def test_words_that_came_end_the_wait_for_words() -> None:
    """Then only the whole reply may be late."""
    waiting = deadlines(segments=[Segment(1, 0, "a", "a")], progress_at=5.0)
    assert waiting.next_due() == 30.0 and waiting.late(29.9) is None and waiting.late(30.0) is Late.REPLY


def test_a_segment_that_no_worker_has_is_not_late() -> None:
    """The wait for a worker has a limit of its own."""
    assert deadlines(job()).next_due() == 25.0


def test_a_frame_is_late_by_its_worker_or_by_the_frame_before() -> None:
    """3 s for the first, 2 s for the next."""
    assert deadlines(job(placed_at=1.0)).late(3.9) is None
    assert deadlines(job(placed_at=1.0)).late(4.0) is Late.FRAME
    assert deadlines(job(placed_at=1.0, last_frame_at=2.5)).next_due() == 4.5


def test_nothing_is_late_that_the_device_does_not_wait_for() -> None:
    """Not before it runs dry, not while frames are here, not when all have come."""
    assert deadlines(job(placed_at=1.0), dry_at=9.0).late(8.9) is None
    assert deadlines(job(placed_at=1.0), dry_at=9.0).late(9.0) is Late.FRAME
    assert deadlines(job(placed_at=1.0, frames=deque([b"frame"]))).late(20.0) is None
    assert deadlines(job(placed_at=1.0, finished=True)).late(20.0) is None
