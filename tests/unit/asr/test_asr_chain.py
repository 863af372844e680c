"""Which engine is asked, how long it may take, and what a failure is worth to another worker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import EngineError
from shared.upstream.faults import Code, Kind, UpstreamError
from workers.asr.chain import Candidate, RecognitionChain

pytestmark = pytest.mark.unit

LOCAL, CLOUD = Candidate("local"), Candidate("cloud", is_remote=True)
DOWN = UpstreamError("down", code=Code.CLOSED)


def chain(*candidates: Candidate) -> RecognitionChain:
    return RecognitionChain(candidates, local_s=3.0, upstream_s=8.0)


def test_a_local_engine_alone_has_the_local_deadline() -> None:
    """Nothing outside is waited for."""
    assert (chain(LOCAL).due_s(0.0), chain(LOCAL).can_repeat) == (3.0, False)


def test_a_service_alone_has_the_upstream_deadline() -> None:
    """Its sound is kept for the retry."""
    assert (chain(CLOUD).due_s(0.0), chain(CLOUD).can_repeat) == (8.0, True)


def test_who_has_others_behind_leaves_them_time() -> None:
    """A local engine's worth each, or an equal share where that is more than there is."""
    assert chain(CLOUD, LOCAL).due_s(0.0) == 5.0
    assert chain(LOCAL, CLOUD).due_s(0.0) == 3.0
    assert chain(CLOUD, CLOUD, LOCAL).due_s(0.0) == pytest.approx(8 / 3)


def test_the_last_one_has_all_that_is_left() -> None:
    """Whatever it is."""
    both = chain(CLOUD, LOCAL)
    assert both.fail(DOWN)
    assert (both.current, both.due_s(5.0), both.can_repeat) == (LOCAL, 8.0, False)
    assert not both.fail(EngineError("died", code="engine_died", retryable=True))


@pytest.mark.parametrize(
    ("errors", "retryable"),
    [
        ([DOWN], False),
        ([UpstreamError("busy", code=Code.BUSY, kind=Kind.QUOTA)], True),
        ([EngineError("all at work", code="asr_busy", retryable=True)], True),
        ([DOWN, EngineError("died", code="engine_died", retryable=True)], True),
        ([DOWN, EngineError("a bug", code="internal")], False),
    ],
)
def test_another_worker_may_try_only_what_it_could_do_better(errors: list[EngineError], retryable: bool) -> None:
    """It asks the same services; its recognisers and its seats are its own."""
    failed = chain(*[CLOUD] * len(errors))
    for error in errors:
        failed.fail(error)
    verdict = failed.verdict()
    assert (verdict.code, verdict.retryable) == (errors[-1].code, retryable)


def test_being_late_is_the_current_engines_fault() -> None:
    """An upstream's failure for a service, the worker's for an engine that computes here."""
    late = [chain(one).late() for one in (LOCAL, CLOUD)]
    assert [error.code for error in late] == ["asr_timeout", Code.TOTAL_TIMEOUT]
    assert [isinstance(error, UpstreamError) for error in late] == [False, True]


@given(
    st.lists(st.sampled_from([LOCAL, CLOUD]), min_size=1, max_size=6),
    st.lists(st.floats(0.0, 1.0), min_size=6, max_size=6),
)
def test_everybody_has_a_turn_within_the_whole(candidates: list[Candidate], used: list[float]) -> None:
    """However much of its time each one takes, the next one's ends later, and none later than the whole."""
    one = chain(*candidates)
    now_s = 0.0
    for part in used[: len(candidates)]:
        due_s = one.due_s(now_s)
        assert now_s < due_s <= one.total_s
        now_s += (due_s - now_s) * min(part, 0.999)
        if not one.fail(DOWN):
            break
    assert one.is_last
