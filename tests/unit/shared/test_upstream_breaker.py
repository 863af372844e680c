"""When an upstream is asked and when it is left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import TransitionError
from shared.upstream.breaker import END_OF, FAILURES, REST, Breaker, End, Pass, State
from shared.upstream.faults import Kind

pytestmark = pytest.mark.unit


def end(breaker: Breaker, how: End, now: float) -> None:
    held = breaker.admit(now)
    assert held is not None
    breaker.ended(held, how, now)


def opened(chance: Callable[[], float] = lambda: 0.0) -> Breaker:
    breaker = Breaker(chance)
    end(breaker, End.FATAL, 0.0)
    return breaker


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_of_failure_has_its_weight(kind: Kind) -> None:
    """A fatal one opens it, three countable ones in a row do, wrong input never does."""
    breaker = Breaker()
    states = []
    for _ in range(FAILURES):
        end(breaker, END_OF[kind], 0.0)
        states.append(breaker.state)
        if breaker.state is State.OPEN:
            break
    assert (
        states
        == {
            Kind.RETRYABLE: [State.CLOSED, State.CLOSED, State.OPEN],
            Kind.QUOTA: [State.CLOSED, State.CLOSED, State.OPEN],
            Kind.FATAL: [State.OPEN],
            Kind.INPUT: [State.CLOSED] * 3,
        }[kind]
    )


def test_only_failures_in_a_row_count() -> None:
    """A success between them begins the count anew; what says nothing does not."""
    breaker = Breaker()
    for how in (End.FAILURE, End.FAILURE, End.SUCCESS, End.FAILURE, End.FAILURE, End.NOTHING):
        end(breaker, how, 0.0)
    assert breaker.state is State.CLOSED
    end(breaker, End.FAILURE, 0.0)
    assert breaker.state is State.OPEN


def test_it_rests_then_lets_one_request_try() -> None:
    """While the probe is out everybody else is refused; its success opens the door to all."""
    breaker = opened()
    assert breaker.admit(REST.first_s - 0.1) is None
    probe = breaker.admit(REST.first_s)
    assert (probe, breaker.state, breaker.admit(REST.first_s)) == (Pass.PROBE, State.HALF_OPEN, None)
    breaker.ended(Pass.PROBE, End.SUCCESS, REST.first_s)
    assert [breaker.admit(REST.first_s) for _ in range(2)] == [Pass.ORDINARY] * 2


def test_each_failed_probe_doubles_the_rest_up_to_its_limit() -> None:
    """15 s, 30 s, 60 s, 120 s, and no longer; a success makes the next one short again."""
    breaker, now, rests = opened(), 0.0, []
    for _ in range(5):
        began = now
        while breaker.refuses(now):
            now += 1.0
        rests.append(now - began)
        end(breaker, End.FAILURE, now)
    assert rests == [15.0, 30.0, 60.0, 120.0, 120.0]
    end(breaker, End.SUCCESS, now + 120.0)
    end(breaker, End.FATAL, now + 120.0)
    assert (breaker.refuses(now + 134.0), breaker.refuses(now + 135.0)) == (True, False)


@given(st.floats(0.0, 1.0, exclude_max=True))
def test_chance_makes_the_rest_longer_but_never_shorter(chance: float) -> None:
    """Processes that failed together do not come back together."""
    breaker = opened(lambda: chance)
    due = REST.first_s * (1.0 + 0.25 * chance)
    assert breaker.refuses(due - 0.001) and not breaker.refuses(due)


@pytest.mark.parametrize("how", [End.NOTHING])
def test_a_probe_that_says_nothing_makes_room_for_the_next(how: End) -> None:
    """A person who interrupts neither closes the breaker nor keeps it half open for ever."""
    breaker = opened()
    end(breaker, how, 20.0)
    assert (breaker.state, breaker.admit(20.0)) == (State.HALF_OPEN, Pass.PROBE)


@pytest.mark.parametrize("how", End)
def test_what_was_let_in_before_it_opened_changes_nothing_later(how: End) -> None:
    """Neither an old success closes it, nor do old failures make its rest longer."""
    breaker = Breaker()
    old = [breaker.admit(0.0) for _ in range(5)]
    end(breaker, End.FATAL, 0.0)
    for held in old:
        assert held is not None
        breaker.ended(held, how, 10.0)
    assert breaker.state is State.OPEN
    assert (breaker.refuses(REST.first_s - 0.1), breaker.refuses(REST.first_s)) == (True, False)


def test_an_end_of_a_probe_that_never_was_is_an_error() -> None:
    """Our own mistake must show, and change nothing."""
    breaker = opened()
    with pytest.raises(TransitionError):
        breaker.ended(Pass.PROBE, End.SUCCESS, 1.0)
    assert breaker.state is State.OPEN


@given(st.lists(st.tuples(st.sampled_from(["admit", "end"]), st.sampled_from(End), st.floats(0.0, 40.0)), max_size=80))
def test_however_requests_come_and_end_it_never_locks_up(steps: list[tuple[str, End, float]]) -> None:
    """At most one probe is out, half open, and once all have ended and the longest rest is over somebody may ask."""
    breaker, now, out = Breaker(lambda: 0.99), 0.0, list[Pass]()
    for what, how, pause in steps:
        now += pause
        if what == "admit":
            refused = breaker.refuses(now)
            held = breaker.admit(now)
            assert (held is None) == refused
            out += [held] if held is not None else []
        elif out:
            breaker.ended(out.pop(0), how, now)
        assert out.count(Pass.PROBE) <= 1
        assert Pass.PROBE not in out or breaker.state is State.HALF_OPEN
    for held in out:
        breaker.ended(held, End.NOTHING, now)
    assert breaker.admit(now + REST.most_s * 1.25) is not None
