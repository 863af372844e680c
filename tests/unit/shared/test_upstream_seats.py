"""Who gets a seat, and in which order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.upstream.seats import Seats, share_of

pytestmark = pytest.mark.unit


def drained(seats: Seats[str], seated: str) -> list[str]:
    """Who gets the seat after whom."""
    order = []
    following = seats.leave(seated)
    while following is not None:
        order.append(following)
        following = seats.leave(following)
    return order


def test_owners_take_turns_and_keep_their_own_order() -> None:
    """Somebody with many segments does not keep the others waiting."""
    seats: Seats[str] = Seats(1)
    assert seats.enter("a0", "a")
    for ticket in ("a1", "a2", "a3", "b1", "c1", "b2"):
        assert not seats.enter(ticket, ticket[0])
    assert drained(seats, "a0") == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_no_limit_seats_everybody() -> None:
    """0 means any number, and they are counted nevertheless."""
    seats: Seats[int] = Seats(0)
    assert all(seats.enter(ticket, "a") for ticket in range(100))
    assert seats.in_use == 100
    assert seats.leave(5) is None
    assert seats.in_use == 99


def test_who_leaves_the_queue_takes_nothing_from_the_others() -> None:
    """Its place is gone at once and the seat goes to the next."""
    seats: Seats[str] = Seats(1)
    seats.enter("a0", "a")
    for ticket in ("b1", "c1"):
        seats.enter(ticket, ticket[0])
    assert seats.leave("b1") is None
    assert (seats.waiting, drained(seats, "a0")) == (1, ["c1"])


def test_leaving_twice_is_leaving_once() -> None:
    """A second leave gives nobody a seat that is not free."""
    seats: Seats[str] = Seats(1)
    seats.enter("a", "a")
    seats.enter("b", "b")
    seats.enter("c", "c")
    assert seats.leave("a") == "b"
    assert seats.leave("a") is None
    assert (seats.in_use, seats.waiting) == (1, 1)


@pytest.mark.parametrize(("total", "processes", "share"), [(10, 4, 2), (10, 1, 10), (2, 8, 1), (0, 4, 0), (5, 0, 5)])
def test_a_process_takes_its_share_of_what_all_may(total: int, processes: int, share: int) -> None:
    """Rounded down, at least one; no limit stays none."""
    assert share_of(total, processes) == share


class Crowd(RuleBasedStateMachine):
    """Sessions that ask, end, and give up in any order, beside the plainest model of it."""

    LIMIT = 3

    def __init__(self) -> None:
        super().__init__()
        self.seats: Seats[int] = Seats(self.LIMIT)
        self.seated: list[int] = []
        self.waiting: list[tuple[int, str]] = []
        self.passed: Counter[tuple[int, str]] = Counter()
        """(an owner's next ticket, another owner) → turns that the other one had while it waited."""
        self.tickets = 0

    @rule(owner=st.sampled_from("abcdef"))
    def ask(self, owner: str) -> None:
        self.tickets += 1
        if self.seats.enter(self.tickets, owner):
            assert len(self.seated) < self.LIMIT
            self.seated.append(self.tickets)
        else:
            assert len(self.seated) == self.LIMIT
            self.waiting.append((self.tickets, owner))

    @precondition(lambda self: self.seated)
    @rule(which=st.integers(0, 10))
    def end(self, which: int) -> None:
        following = self.seats.leave(self.seated.pop(which % len(self.seated)))
        assert (following is None) == (not self.waiting)
        if following is not None:
            self.seat(following)

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 30))
    def give_up(self, which: int) -> None:
        ticket, _ = self.waiting.pop(which % len(self.waiting))
        assert self.seats.leave(ticket) is None

    def seat(self, ticket: int) -> None:
        owner = dict(self.waiting)[ticket]
        assert ticket == next(one for one, whose in self.waiting if whose == owner)
        self.waiting.remove((ticket, owner))
        self.seated.append(ticket)
        heads = {whose: one for one, whose in reversed(self.waiting) if whose != owner}
        for head in heads.values():
            self.passed[head, owner] += 1
            assert self.passed[head, owner] == 1, "one owner had two turns while another waited for one"

    @invariant()
    def counts_agree(self) -> None:
        assert (self.seats.in_use, self.seats.waiting) == (len(self.seated), len(self.waiting))
        assert self.seats.in_use <= self.LIMIT


TestCrowd = Crowd.TestCase
TestCrowd.pytestmark = [pytest.mark.unit]
