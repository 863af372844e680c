"""How soon a worker comes back."""

from __future__ import annotations

import pytest

from shared.link.rejoin import DELAYS_S, WELCOME_S, RejoinPace

pytestmark = pytest.mark.unit


def test_the_first_time_is_at_once_and_then_slower_and_slower() -> None:
    """Somebody who is not wanted does not knock a thousand times a second."""
    pace, now, waited = RejoinPace(joined_s=0.0), 0.0, []
    for _ in range(7):
        delay_s = pace.next_delay_s(now)
        waited.append(delay_s)
        now += delay_s + 0.01
    assert waited == [*DELAYS_S, DELAYS_S[-1], DELAYS_S[-1]]


def test_whoever_was_welcome_begins_anew() -> None:
    """A router that is restarted once a day is joined at once each time."""
    pace = RejoinPace(joined_s=0.0)
    assert [pace.next_delay_s(now) for now in (0.1, 0.2, 0.3)] == [0.0, 0.5, 1.0]
    assert pace.next_delay_s(1.3 + WELCOME_S) == 0.0
