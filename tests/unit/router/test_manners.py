"""How many texts a device may send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.device.manners import CHARS_PER_TOKEN, TEXT_BURST, TEXTS_PER_S, Manners

pytestmark = pytest.mark.unit


def test_a_burst_then_so_many_a_second() -> None:
    """More than a device says at once, when it connects with all its tools."""
    manners = Manners(0.0)
    assert not any(manners.chatters(100, 0.0) for _ in range(TEXT_BURST))
    assert manners.chatters(100, 0.0)
    assert not any(manners.chatters(100, 1.0) for _ in range(int(TEXTS_PER_S)))
    assert manners.chatters(100, 1.0)


def test_a_long_text_costs_more() -> None:
    """What takes milliseconds to read is not had for the price of a ping; the longest that may come fits in."""
    manners = Manners(0.0)
    longest = 64 * 1024
    assert 1 + longest // CHARS_PER_TOKEN <= TEXT_BURST
    assert not manners.chatters(longest, 0.0)
    assert manners.chatters(longest, 0.0)
    assert not manners.chatters(10, 0.0)


@given(st.lists(st.tuples(st.integers(0, 65_536), st.floats(0, 0.5)), max_size=200))
def test_what_passes_is_bounded(texts: list[tuple[int, float]]) -> None:
    """Over any time: the burst, and what came back since."""
    manners, now, passed = Manners(0.0), 0.0, 0
    for chars, wait_s in texts:
        now += wait_s
        if not manners.chatters(chars, now):
            passed += 1 + chars // CHARS_PER_TOKEN
    assert passed <= TEXT_BURST + TEXTS_PER_S * now + 1e-6
