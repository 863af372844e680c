"""The hard limit of what a device is sent, and when it counts as slow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.talk.flow_control import FlowControl, FlowControlConfig, TokenBucket

pytestmark = pytest.mark.unit


def sent(flow: FlowControl, now: float) -> int:
    """Send all that may leave."""
    count = 0
    while flow.allows(now):
        flow.sent(now)
        count += 1
    return count


def test_the_hard_limit_is_the_device_queue() -> None:
    """40 packets at once, then one per 60 ms: 1000/60 a second."""
    flow = FlowControl()
    assert sent(flow, 5.0) == 40
    assert sent(flow, 5.05) == 0
    assert flow.next_at(5.05) == pytest.approx(5.06)
    assert sent(flow, 5.06) == 1
    assert sent(flow, 6.06) == 16 and sent(flow, 600.0) == 40


@given(steps=st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), max_size=150), capacity=st.integers(5, 40))
def test_sent_minus_played_never_exceeds_the_queue(steps: list[tuple[float, bool]], capacity: int) -> None:
    """A device that plays one packet per duration whenever it has one holds at most its queue, blocked or not."""
    flow = FlowControl(FlowControlConfig(capacity_frames=capacity))
    now, held, playing_until = 1.0, 0.0, 0.0
    for wait_s, toggles in steps:
        now += wait_s
        if toggles:
            flow.unblock() if flow.is_blocked else flow.block(now)
        held = max(0.0, held - (now - playing_until) / 0.06)
        playing_until = now
        count = sent(flow, now)
        assert count == 0 or not flow.is_blocked
        held += count
        assert held <= capacity + 1e-3


def test_a_device_is_slow_after_the_longest_wait() -> None:
    """5 s of a socket that takes nothing, in one piece; being told twice changes nothing."""
    flow = FlowControl()
    assert flow.slow_at is None
    flow.block(10.0)
    flow.block(12.0)
    assert flow.slow_at == 15.0
    assert [flow.is_slow(at) for at in (10.0, 14.99, 15.0)] == [False, False, True]
    flow.unblock()
    flow.block(16.0)
    assert not flow.is_slow(20.9) and flow.is_slow(21.0)


def test_a_blocked_device_is_sent_nothing_and_loses_nothing() -> None:
    """Waiting drops no frame: they may leave as soon as it takes something again."""
    flow = FlowControl()
    flow.block(1.0)
    assert sent(flow, 4.0) == 0 and flow.next_at(4.0) is None
    flow.unblock()
    assert sent(flow, 4.0) == 40


def test_a_clock_that_goes_back_gives_no_tokens() -> None:
    """Monotonic only: an earlier time changes nothing."""
    bucket = TokenBucket(2, 1.0, 0.0, 10.0)
    bucket.refill(5.0)
    assert bucket.tokens == 0.0
