"""The order of segments, the cache, and how far a stream is served."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.tts.cache import SegmentCache, SegmentKey
from workers.tts.delivery import Delivery
from workers.tts.jobs import DueQueue

pytestmark = pytest.mark.unit


def test_the_device_that_runs_dry_first_is_served_first() -> None:
    """Due time decides, across lanes; arrival decides among equals."""
    queue: DueQueue[str] = DueQueue()
    for lane, item, due_s in (("a", "late", 9), ("b", "soon", 1), ("a", "first", 3), ("a", "second", 3)):
        queue.put(lane, item, due_s)
    assert [queue.take() for _ in range(5)] == ["soon", "first", "second", "late", None]


def test_a_closed_lane_keeps_its_items() -> None:
    """What a stuck engine's lane holds waits; the others go on."""
    queue: DueQueue[str] = DueQueue()
    queue.put("stuck", "x", 1)
    queue.put("sound", "y", 2)
    assert queue.take({"stuck"}) == "y"
    assert queue.take({"stuck"}) is None
    assert queue.take() == "x"


operations = st.lists(
    st.tuples(st.sampled_from(["put", "discard", "take"]), st.integers(0, 5), st.floats(0, 10)), max_size=60
)


@given(operations)
def test_the_queue_agrees_with_a_plain_model(steps: list[tuple[str, int, float]]) -> None:
    """An item is in it at most once, at its latest due time."""
    queue: DueQueue[int] = DueQueue()
    model: dict[int, tuple[float, int]] = {}
    for number, (step, item, due_s) in enumerate(steps):
        if step == "put":
            queue.put(str(item % 2), item, due_s)
            model[item] = (due_s, number)
        elif step == "discard":
            queue.discard(item)
            model.pop(item, None)
        else:
            expected = min(model, key=model.__getitem__, default=None)
            assert queue.take() == expected
            model.pop(expected, None)  # type: ignore[arg-type]
        assert len(queue) == len(model)


def key(text: str, engine: str = "e") -> SegmentKey:
    return SegmentKey(engine, None, None, text)


def test_the_cache_forgets_what_was_used_least_recently() -> None:
    """Bounded in bytes; a hit counts as use."""
    cache = SegmentCache(4 * 200)
    for text in "abc":
        cache.put(key(text), [b"x" * 100])
    assert cache.get(key("a")) is not None
    for text in "defg":
        cache.put(key(text), [b"x" * 100])
    assert cache.get(key("b")) is None
    assert cache.bytes <= 4 * 200


def test_the_cache_keeps_engines_apart_and_refuses_giants() -> None:
    """The same text of another engine is another sound; one segment cannot push out all others."""
    cache = SegmentCache(1000)
    cache.put(key("a", "one"), [b"1"])
    cache.put(key("a", "two"), [b"x" * 600])
    assert cache.get(key("a", "one")) == (b"1",)
    assert cache.get(key("a", "two")) is None
    assert SegmentCache(0).get(key("a")) is None


@given(st.lists(st.tuples(st.text("ab", max_size=3), st.integers(0, 300)), max_size=40), st.integers(0, 2000))
def test_the_cache_never_exceeds_its_bound(puts: list[tuple[str, int]], limit: int) -> None:
    """The count of bytes stays true through replacement and eviction."""
    cache = SegmentCache(limit)
    for text, size in puts:
        cache.put(key(text), [b"x" * size])
        assert 0 <= cache.bytes <= limit
    if not len(cache):
        assert cache.bytes == 0


steps = st.lists(
    st.one_of(st.tuples(st.just("grant"), st.integers(0, 50)), st.tuples(st.just("make"), st.integers(0, 50)))
)


@given(steps, st.integers(0, 30), st.integers(0, 30))
def test_frames_are_sent_once_in_order_and_only_against_credit(
    walk: list[tuple[str, int]], window: int, skip: int
) -> None:
    """Skipped frames cost no credit; nothing is sent twice or left out."""
    delivery = Delivery(window_frames=window, skip_frames=skip, dry_at_s=100)
    made, granted, sent = 0, window, list[int]()
    for step, count in walk:
        if step == "grant":
            delivery.grant(count)
            granted += count
        else:
            made += count
        sent.extend(delivery.take(made))
        assert sent == list(range(skip, skip + len(sent)))
        assert len(sent) == max(0, min(made - skip, granted))
        assert delivery.wants_more_than(made) == (granted > len(sent))
        assert delivery.due_s == pytest.approx(100 + 0.06 * len(sent))


def test_a_segment_shorter_than_what_was_played_is_complete() -> None:
    """A skip beyond the end sends nothing and ends well."""
    delivery = Delivery(window_frames=10, skip_frames=9, dry_at_s=0)
    assert not list(delivery.take(5))
    assert delivery.is_complete(5)
