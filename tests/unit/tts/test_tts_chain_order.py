"""Who speaks a segment when an engine fails, and how long each may take to begin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import EngineError
from workers.tts.chain import SegmentChain

pytestmark = pytest.mark.unit


def error(code: str = "x", *, retryable: bool = False) -> EngineError:
    return EngineError("it failed", code=code, retryable=retryable)


def test_engines_are_asked_in_their_order_and_each_once() -> None:
    """Until there is none left."""
    chain = SegmentChain("abc", 2.5)
    asked = [chain.current]
    while chain.fail(error()):
        asked.append(chain.current)
    assert asked == list("abc")
    assert chain.is_last and not chain.is_first


@pytest.mark.parametrize(
    ("retryable", "verdict"), [([True], True), ([False], False), ([True, False, False], True), ([False, False], False)]
)
def test_the_verdict_is_the_last_error_and_the_best_hope(retryable: list[bool], verdict: bool) -> None:
    """Another worker may try if it might have fared better with any of them."""
    chain = SegmentChain(range(len(retryable)), 2.5)
    for number, each in enumerate(retryable):
        chain.fail(error(f"code{number}", retryable=each))
    told = chain.verdict()
    assert (told.code, told.retryable) == (f"code{len(retryable) - 1}", verdict)


def test_an_engine_has_its_share_and_the_last_one_all_the_rest() -> None:
    """More while the device has sound in hand, and never so much that the others could not begin."""
    assert SegmentChain("ab", 2.5).share_s(0, 15) == 2.5
    assert SegmentChain("ab", 2.5, dry_s=8.0).share_s(0, 15) == 5.5
    assert SegmentChain("ab", 2.5, dry_s=8.0).share_s(4.0, 15) == 2.5
    assert SegmentChain("ab", 2.5, dry_s=60.0).share_s(0, 15) == 7.5
    assert SegmentChain("a", 2.5).share_s(0, 15) is None
    chain = SegmentChain("ab", 2.5)
    chain.fail(error())
    assert chain.share_s(2.5, 12.5) is None


@given(st.integers(1, 6), st.floats(0.01, 60), st.floats(0, 120), st.floats(0.1, 60))
def test_all_engines_get_their_turn_within_the_deadline(
    count: int, first_frame_s: float, dry_s: float, timeout_s: float
) -> None:
    """However the times are set, the last engine is asked before the segment's deadline."""
    chain = SegmentChain(range(count), first_frame_s, dry_s)
    elapsed_s = 0.0
    while (share_s := chain.share_s(elapsed_s, timeout_s - elapsed_s)) is not None:
        assert share_s > 0
        elapsed_s += share_s
        chain.fail(error())
    assert elapsed_s < timeout_s
    assert chain.current == count - 1
