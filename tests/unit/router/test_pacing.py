"""The schedule of a reply's frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.talk.pacing import GRID_S, Pacer

pytestmark = pytest.mark.unit


def run(pacer: Pacer, now: float) -> int:
    """Send all that is due; how many frames left."""
    count = 0
    while pacer.may_send(now):
        pacer.sent(now)
        count += 1
    return count


def started(lead: int = 3, at: float = 100.0) -> Pacer:
    pacer = Pacer(lead)
    pacer.start(at, at)
    return pacer


def test_the_lead_leaves_at_once_then_one_frame_a_duration() -> None:
    """Burst of 3, then one per 60 ms on an absolute grid."""
    pacer = started()
    assert run(pacer, 100.0) == 3
    assert pacer.next_due(100.0) == pytest.approx(100.06, abs=GRID_S)
    assert [run(pacer, 100.0 + 0.06 * step) for step in range(1, 6)] == [1] * 5


def test_nothing_leaves_before_the_device_is_ready() -> None:
    """Frames in the first moments after tts start are lost in the device."""
    pacer = Pacer(3)
    pacer.start(10.0, 10.08)
    assert run(pacer, 10.05) == 0
    assert pacer.next_due(10.05) == pytest.approx(10.08)
    assert run(pacer, 10.08) == 3


def test_a_late_tick_catches_up_without_drift() -> None:
    """Two ticks missed: the two frames leave together, and the grid is the old one."""
    pacer = started()
    run(pacer, 100.0)
    due = pacer.next_due(100.0)
    assert due is not None
    assert run(pacer, 100.13) == 2
    assert pacer.next_due(100.13) == pytest.approx(due + 0.12)


def test_an_underrun_anchors_the_grid_anew() -> None:
    """After the device ran dry there is no burst to catch up, only a new lead."""
    pacer = started()
    run(pacer, 100.0)
    assert run(pacer, 105.0) == 3
    assert pacer.underruns == 1


def test_hold_stops_and_resume_goes_on() -> None:
    """A held pacer sends nothing and is never due."""
    pacer = started()
    pacer.hold()
    assert run(pacer, 100.0) == 0 and pacer.next_due(100.0) is None
    pacer.resume()
    assert run(pacer, 100.0) == 3


def test_unplayed_frames_follow_the_schedule() -> None:
    """What the device still holds is known without asking it."""
    pacer = started()
    run(pacer, 100.0)
    assert [pacer.unplayed_frames(100.0 + at) for at in (0.0, 0.06, 0.1, 0.18, 9.0)] == [3, 2, 2, 0, 0]


@given(lead=st.integers(1, 5), delays=st.lists(st.floats(0.0, 0.5), max_size=200))
def test_the_device_never_holds_more_than_the_lead(lead: int, delays: list[float]) -> None:
    """However the ticks fall, sent − played stays within the lead, so far below the device's 40 packets."""
    pacer = started(lead)
    now = 100.0
    for delay in delays:
        now += delay
        run(pacer, now)
        assert pacer.unplayed_frames(now) <= lead


@given(count=st.integers(1, 300))
def test_frames_are_never_ahead_of_real_time_by_more_than_the_lead(count: int) -> None:
    """Ticked exactly when due, frame k leaves at (k − lead + 1) durations."""
    pacer = started(3)
    now, times = 100.0, []
    while len(times) < count:
        while pacer.may_send(now) and len(times) < count:
            pacer.sent(now)
            times.append(now)
        due = pacer.next_due(now)
        assert due is not None
        now = max(now, due)
    expected = [100.0 + max(0, index - 2) * 0.06 for index in range(count)]
    assert times == pytest.approx(expected, abs=GRID_S + 1e-4)


@given(starts=st.lists(st.floats(50.0, 60.0), min_size=2, max_size=20))
def test_all_devices_are_due_on_common_steps(starts: list[float]) -> None:
    """Whenever their replies began: one wake-up of the router serves many."""
    for start in starts:
        pacer = started(3, start)
        run(pacer, start)
        due = pacer.next_due(start)
        assert due is not None
        assert abs(due / GRID_S - round(due / GRID_S)) < 1e-3
        assert start + 0.06 - GRID_S <= due + 1e-6 and due <= start + 0.06 + 1e-6


def test_a_pacer_with_a_silly_lead_meets_the_hard_limit() -> None:
    """The bucket binds where the lead does not."""
    pacer = started(lead=500)
    assert run(pacer, 100.0) == 40
    assert pacer.next_due(100.0) == pytest.approx(100.06)


def test_the_hard_limit_outlives_replies() -> None:
    """What one reply has left in the device's queue the next one finds there."""
    pacer = started(lead=500)
    assert run(pacer, 100.0) == 40
    pacer.start(100.3, 100.3)
    assert run(pacer, 100.3) == 5


def test_a_blocked_socket_stops_a_pacer_whatever_begins() -> None:
    """Nobody who stops speaking and no new reply sends into a socket that takes nothing; then nothing is missing."""
    pacer = started()
    run(pacer, 100.0)
    pacer.block(100.05)
    pacer.hold()
    pacer.resume()
    assert run(pacer, 101.0) == 0 and pacer.next_due(101.0) is None
    pacer.start(101.0, 101.0)
    assert run(pacer, 102.0) == 0 and pacer.next_due(102.0) is None
    pacer.unblock()
    assert run(pacer, 102.0) == 3
