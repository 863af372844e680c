"""How many sessions may look for a new worker in one moment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.pools.repin import RepinBudget

pytestmark = pytest.mark.unit


def test_the_first_go_at_once_the_rest_in_the_next_windows() -> None:
    """A worker with fifty sessions dies: twenty now, twenty in 100 ms, ten in 200 ms."""
    budget = RepinBudget(most=20, per_s=0.1)
    places = [budget.take(5.0) for _ in range(50)]
    assert [round(at - 5.0, 3) for at in places] == [0.0] * 20 + [0.1] * 20 + [0.2] * 10


def test_one_now_and_then_never_waits() -> None:
    """The budget is for storms."""
    budget = RepinBudget(most=2, per_s=0.1)
    assert [budget.take(now) for now in (1.0, 1.02, 1.2, 1.4)] == [1.0, 1.02, 1.2, 1.4]


@given(
    st.lists(st.floats(0, 0.3, allow_nan=False), min_size=1, max_size=60),
    st.integers(1, 5),
)
def test_no_window_holds_more_than_its_share(gaps: list[float], most: int) -> None:
    """Nobody goes before its turn, and no stretch as long as a window holds more than two windows' share."""
    budget, now, places = RepinBudget(most=most, per_s=0.1), 0.0, []
    for gap in gaps:
        now += gap
        at = budget.take(now)
        assert at >= now and (not places or at >= places[-1] - 1e-9)
        places.append(at)
    for first in places:
        assert sum(first <= at < first + 0.1 - 1e-9 for at in places) <= 2 * most
