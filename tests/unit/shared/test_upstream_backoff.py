"""The pauses between attempts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.upstream.backoff import Backoff

pytestmark = pytest.mark.unit

CHANCE = st.floats(0.0, 1.0, exclude_max=True)


def test_the_ceiling_doubles_up_to_its_limit() -> None:
    """However many attempts there were, it is a number and no more than the limit."""
    pauses = Backoff(first_s=1.0, most_s=10.0)
    assert [pauses.ceiling_s(attempt) for attempt in (1, 2, 3, 4, 5, 10_000)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


@given(st.integers(1, 200), CHANCE)
def test_a_pause_is_below_its_ceiling_and_a_rest_is_not(attempt: int, chance: float) -> None:
    """A pause spreads over the whole time; a rest only gets longer by chance."""
    pauses = Backoff(first_s=0.5, most_s=60.0)
    ceiling_s = pauses.ceiling_s(attempt)
    assert 0.0 <= pauses.pause_s(attempt, chance) <= ceiling_s
    assert ceiling_s <= pauses.rest_s(attempt, chance) <= ceiling_s * 1.25
