"""When a router leaves a new connection to its siblings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.device.fair_share import ALWAYS, STALE_S, Share, may_accept
from router.device.share_table import SLOTS, ShareTable

pytestmark = pytest.mark.unit

counts = st.lists(st.integers(0, 3000), min_size=1, max_size=10)


def accepts(own: int, *others: int) -> bool:
    return may_accept(own, [Share(100.0, count) for count in others], 100.0)


def test_a_router_alone_takes_all() -> None:
    """Without living siblings there is nobody to leave anything to."""
    assert accepts(10_000)
    assert may_accept(10_000, [Share(100.0 - STALE_S, 0), Share(100.0 + STALE_S, 0)], 100.0)


def test_above_its_share_it_leaves_the_next_to_others() -> None:
    """1.2 times the mean of all, the new connection counted."""
    assert accepts(119, 80) and not accepts(120, 79)
    assert not accepts(500, 0) and accepts(0, 500)
    assert accepts(ALWAYS - 1, 0) and not accepts(ALWAYS, 0)


@given(all_counts=counts)
def test_there_is_always_one_who_accepts(all_counts: list[int]) -> None:
    """Whatever the counts: no connection waits for ever."""
    assert any(accepts(own, *all_counts[:i], *all_counts[i + 1 :]) for i, own in enumerate(all_counts))


@given(choices=st.lists(st.integers(0, 9), min_size=200, max_size=200), routers=st.integers(2, 4))
def test_nobody_ends_with_more_than_its_share(choices: list[int], routers: int) -> None:
    """Whoever the kernel wakes, two routers end with at most 60 % of 200, and n with 1.2 / n."""
    held = [0] * routers
    for choice in choices:
        order = [(choice + step) % routers for step in range(routers)]
        taker = next(i for i in order if accepts(held[i], *held[:i], *held[i + 1 :]))
        held[taker] += 1
    assert sum(held) == 200
    assert max(held) <= 1.2 * 200 / routers


def test_routers_see_each_others_counts(tmp_path: Path) -> None:
    """Through one small file; a slot that was never told, or has left, is no sibling."""
    first, second = ShareTable(tmp_path, 0), ShareTable(tmp_path, SLOTS - 1)
    assert first.siblings() == []
    second.tell(7, 12.5)
    assert first.siblings() == [Share(12.5, 7)]
    assert second.siblings() == []
    second.close()
    assert first.siblings() == []
    first.close()
