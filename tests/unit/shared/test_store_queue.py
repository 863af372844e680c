"""Commits that wait: in order, within bounds, none lost without a word."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.errors import TransitionError
from shared.store.commit_queue import CommitQueue, joined, size_of
from shared.store.model import Claim, Commit, DeviceFacts
from tests.fakes.stores import commit_of, parcel, turn

pytestmark = pytest.mark.unit


def claim(device: str = "d", epoch: int = 1) -> Claim:
    return Claim(device, epoch, "w")


def gens(commit: Commit | None) -> list[int]:
    assert commit is not None
    return [one.gen for one in commit.turns]


def test_a_commit_joins_the_one_of_its_claim_that_waits() -> None:
    """A store that was away finds one transaction a device, with everything in it."""
    queue = CommitQueue()
    first = commit_of(claim(), 1, facts=DeviceFacts({"a": 1}, None, "x"), notes=(("", "old"),), parcels=(parcel(1),))
    assert not queue.put(first, 1.0).joined
    assert not queue.put(commit_of(claim("e"), 5), 2.0).joined
    second = commit_of(claim(), 2, facts=DeviceFacts({}, [1]), notes=(("", "new"), ("cook", "n")), parcels=(parcel(2),))
    assert queue.put(second, 3.0).joined
    assert (len(queue), queue.oldest_s) == (2, 1.0)
    both = queue.begin()
    assert gens(both) == [1, 2]
    assert both is not None
    assert both.facts == DeviceFacts({}, [1], "x")
    assert both.notes == (("", "new"), ("cook", "n"))
    assert both.parcels == (parcel(1), parcel(2))
    queue.end()
    assert gens(queue.begin()) == [5]


def test_a_commit_that_is_being_written_is_not_joined() -> None:
    """What is added to it would not be written."""
    queue = CommitQueue()
    queue.put(commit_of(claim(), 1), 1.0)
    assert gens(queue.begin()) == [1]
    assert not queue.put(commit_of(claim(), 2), 2.0).joined
    queue.end()
    assert gens(queue.begin()) == [2]


def test_a_commit_that_could_not_be_written_stays_the_first() -> None:
    """Its device's later turns come behind it."""
    queue = CommitQueue()
    queue.put(commit_of(claim(), 1), 1.0)
    queue.begin()
    queue.put(commit_of(claim(), 2), 2.0)
    queue.postpone()
    assert queue.put(commit_of(claim(), 3), 3.0).joined
    assert gens(queue.begin()) == [1]
    queue.end()
    assert gens(queue.begin()) == [2, 3]


def test_claims_of_one_device_are_written_apart_and_in_order() -> None:
    """Each counts by its own epoch."""
    queue = CommitQueue()
    for epoch, gen in ((1, 1), (2, 2), (1, 3)):
        queue.put(commit_of(claim(epoch=epoch), gen), 1.0)
    assert gens(queue.begin()) == [1, 3]
    queue.end()
    assert gens(queue.begin()) == [2]


def test_the_oldest_is_dropped_and_handed_back_when_there_are_too_many() -> None:
    """Never the one that is being written, and never in silence."""
    queue = CommitQueue(most_commits=3)
    for n in range(3):
        assert queue.put(commit_of(claim(f"d{n}"), n), 1.0).dropped == ()
    queue.begin()
    (dropped,) = queue.put(commit_of(claim("d3"), 3), 1.0).dropped
    assert dropped.claim.device == "d1"
    assert not queue.holds("d1")
    assert not queue.put(commit_of(claim("d1"), 9), 1.0).joined


def test_memory_is_bounded_too() -> None:
    """Long words of few devices count as much as many devices; one commit is always taken."""
    most = size_of(commit_of(claim(), 1)) * 3
    queue = CommitQueue(most_bytes=most)
    huge = Commit(claim("huge"), (turn(1, words="x" * 2 * most),))
    assert queue.put(huge, 1.0).dropped == ()
    assert queue.put(commit_of(claim(), 1), 1.0).dropped == (huge,)
    assert queue.size_bytes == size_of(commit_of(claim(), 1))


def test_sound_and_payloads_count_in_the_size() -> None:
    """A queue of recordings is bounded like one of words."""
    assert size_of(Commit(claim(), parcels=(parcel(1, audio=b"x" * 50_000),))) > 50_000
    assert size_of(Commit(claim(), notes=(("", "x" * 9_000),))) > 9_000


@pytest.mark.parametrize("event", ["end", "postpone"])
def test_what_is_not_being_written_cannot_end(event: str) -> None:
    """An event out of place changes nothing."""
    queue = CommitQueue()
    queue.put(commit_of(claim(), 1), 1.0)
    with pytest.raises(TransitionError):
        getattr(queue, event)()
    assert gens(queue.begin()) == [1]
    with pytest.raises(TransitionError):
        queue.begin()


def test_facts_of_neither_are_none() -> None:
    """Nothing is written that nobody said."""
    assert joined(commit_of(claim(), 1), commit_of(claim(), 2)).facts is None


class QueueWalk(RuleBasedStateMachine):
    """Whatever is put comes out once, in the order of its device, or is handed back as dropped."""

    most = 4

    def __init__(self) -> None:
        super().__init__()
        self.queue = CommitQueue(most_commits=self.most, most_bytes=20_000)
        self.expected: dict[tuple[str, int], list[int]] = {}
        self.writing: Commit | None = None
        self.count = 0

    @rule(device=st.sampled_from("abcdef"), epoch=st.integers(1, 2), chars=st.sampled_from([1, 3000]))
    def put(self, device: str, epoch: int, chars: int) -> None:
        self.count += 1
        commit = Commit(claim(device, epoch), (turn(self.count, words="x" * chars, messages=1),))
        put = self.queue.put(commit, float(self.count))
        self.expected.setdefault((device, epoch), []).append(self.count)
        for dropped in put.dropped:
            assert dropped is not self.writing
            lane = self.expected[dropped.claim.device, dropped.claim.epoch]
            for gen in gens(dropped):
                lane.remove(gen)

    @precondition(lambda self: self.writing is None)
    @rule()
    def begin(self) -> None:
        self.writing = self.queue.begin()
        assert (self.writing is None) == (not any(self.expected.values()))
        if self.writing is not None:
            lane = self.expected[self.writing.claim.device, self.writing.claim.epoch]
            assert gens(self.writing) == lane[: len(gens(self.writing))]

    @precondition(lambda self: self.writing is not None)
    @rule(is_written=st.booleans())
    def finish(self, is_written: bool) -> None:
        assert self.writing is not None
        if is_written:
            self.queue.end()
            del self.expected[self.writing.claim.device, self.writing.claim.epoch][: len(gens(self.writing))]
        else:
            self.queue.postpone()
        self.writing = None

    @invariant()
    def bounds_hold(self) -> None:
        writing = self.writing is not None
        assert len(self.queue) <= self.most + writing
        assert (self.queue.size_bytes == 0) == (len(self.queue) == 0)
        for device in "abcdef":
            waits = any(lane for (of, _), lane in self.expected.items() if of == device)
            assert self.queue.holds(device) is waits


QueueWalk.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestQueueWalk = QueueWalk.TestCase
