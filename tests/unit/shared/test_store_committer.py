"""The task that writes commits: it never makes talk wait, tries again, and ends in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from shared.store.commit_queue import CommitQueue
from shared.store.committer import Committer
from shared.store.faults import StoreDownError, StoreRefusedError, SupersededError
from shared.store.model import Claim, Commit, StoredTurn
from tests.fakes.stores import commit_of

pytestmark = pytest.mark.unit

LONG_S = 30.0


class FakeDialogues:
    """Takes commits, or fails as it is told."""

    def __init__(self) -> None:
        self.taken: list[Commit] = []
        self.failure: Callable[[Commit], Exception | None] = lambda commit: None
        self.attempts = asyncio.Semaphore(0)
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, device: str, now: float, window_s: float, limit: int) -> list[StoredTurn]:
        return []

    async def commit(self, commit: Commit, now: float) -> None:
        self.attempts.release()
        await self.gate.wait()
        failure = self.failure(commit)
        if failure is not None:
            raise failure
        self.taken.append(commit)

    @property
    def gens(self) -> list[int]:
        return [turn.gen for commit in self.taken for turn in commit.turns]


def claim(device: str = "d", epoch: int = 1) -> Claim:
    return Claim(device, epoch, "w")


def started(dialogues: FakeDialogues, **parts: object) -> Committer:
    committer = Committer(dialogues, first_pause_s=0.001, longest_pause_s=0.002, **parts)  # type: ignore[arg-type]
    committer.start()
    return committer


def count(outcome: str) -> float:
    return REGISTRY.get_sample_value("xz_store_commits_total", {"outcome": outcome}) or 0.0


async def test_putting_never_waits_however_slow_the_store_is() -> None:
    """A turn ends on time; what is put meanwhile joins what waits."""
    dialogues = FakeDialogues()
    committer = started(dialogues)
    dialogues.gate.clear()
    for gen in range(50):
        committer.put(commit_of(claim(), gen))
        await asyncio.sleep(0)
    assert len(committer) == 2
    dialogues.gate.set()
    assert await committer.settled("d", LONG_S)
    assert dialogues.gens == list(range(50))
    assert await committer.close(LONG_S) == 0


async def test_a_store_that_is_down_is_tried_again_and_told_of_once() -> None:
    """One line when it goes, one when it comes, none for each try."""
    dialogues = FakeDialogues()
    dialogues.failure = lambda commit: StoreDownError("gone")
    committer = started(dialogues)
    with capture_logs() as logs:
        committer.put(commit_of(claim(), 1))
        for _ in range(5):
            await dialogues.attempts.acquire()
        assert committer.is_down
        dialogues.failure = lambda commit: None
        assert await committer.settled("d", LONG_S)
    assert not committer.is_down
    assert [line["event"] for line in logs] == ["store_down", "store_back"]
    assert dialogues.gens == [1]
    await committer.close(LONG_S)


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (SupersededError(1, 2), "superseded"),
        (StoreRefusedError("no"), "refused"),
        (RuntimeError("a bug"), "refused"),
    ],
)
async def test_a_commit_that_can_never_be_written_holds_up_nothing(failure: Exception, outcome: str) -> None:
    """It is counted, and the next one is written."""
    dialogues = FakeDialogues()
    dialogues.failure = lambda commit: failure if commit.claim.device == "bad" else None
    superseded: list[tuple[Claim, int | None]] = []
    committer = started(dialogues, on_superseded=lambda *told: superseded.append(told))
    before = count(outcome)
    committer.put(commit_of(claim("bad"), 1))
    committer.put(commit_of(claim("good"), 2))
    assert await committer.close(LONG_S) == 0
    assert dialogues.gens == [2]
    assert count(outcome) - before == 1
    assert superseded == ([(claim("bad"), 2)] if outcome == "superseded" else [])


async def test_settled_tells_when_a_device_may_be_claimed_anew() -> None:
    """At once if nothing waits, false if the time is over; other devices do not matter."""
    dialogues = FakeDialogues()
    committer = started(dialogues)
    assert await committer.settled("d", 0)
    dialogues.failure = lambda commit: StoreDownError("gone") if commit.claim.device == "d" else None
    committer.put(commit_of(claim(), 1))
    assert not await committer.settled("d", 0.01)
    assert await committer.settled("other", 0)
    waiting = asyncio.create_task(committer.settled("d", LONG_S))
    await asyncio.sleep(0)
    dialogues.failure = lambda commit: None
    assert await waiting
    await committer.close(LONG_S)


async def test_what_is_dropped_is_counted_and_said() -> None:
    """And nobody waits for it any more."""
    dialogues = FakeDialogues()
    dialogues.gate.clear()
    committer = started(dialogues, queue=CommitQueue(most_commits=2))
    before = count("dropped")
    committer.put(commit_of(claim("a"), 1))
    await dialogues.attempts.acquire()
    committer.put(commit_of(claim("b"), 2))
    waiting = asyncio.create_task(committer.settled("b", LONG_S))
    await asyncio.sleep(0)
    with capture_logs() as logs:
        committer.put(commit_of(claim("c"), 3))
    assert await waiting
    assert count("dropped") - before == 1
    assert [line["event"] for line in logs] == ["commits_dropped"]
    dialogues.gate.set()
    assert await committer.close(LONG_S) == 0
    assert dialogues.gens == [1, 3]


async def test_closing_writes_what_waits() -> None:
    """Even if the store comes back only then."""
    dialogues = FakeDialogues()
    dialogues.failure = lambda commit: StoreDownError("gone")
    committer = Committer(dialogues, first_pause_s=1000.0, longest_pause_s=1000.0)
    committer.start()
    committer.put(commit_of(claim(), 1))
    await dialogues.attempts.acquire()
    dialogues.failure = lambda commit: None
    assert await committer.close(LONG_S) == 0
    assert dialogues.gens == [1]


async def test_closing_gives_up_at_its_deadline_and_says_how_much_is_lost() -> None:
    """A process must end."""
    dialogues = FakeDialogues()
    dialogues.failure = lambda commit: StoreDownError("gone")
    committer = started(dialogues)
    before = count("left_at_exit")
    for device in "abc":
        committer.put(commit_of(claim(device), 1))
    with capture_logs() as logs:
        assert await committer.close(0.05) == 3
    assert count("left_at_exit") - before == 3
    assert {"event": "commits_left_at_exit", "commits": 3, "log_level": "error"} in logs


async def test_an_idle_committer_ends_at_once() -> None:
    """Nothing waits, nothing is waited for."""
    committer = started(FakeDialogues())
    assert await committer.close(0.0) == 0


async def test_the_queue_is_seen_from_outside() -> None:
    """Length, bytes and age of the oldest."""
    dialogues = FakeDialogues()
    dialogues.gate.clear()
    times = iter([10.0, 25.0])
    committer = started(dialogues, now=lambda: next(times, 25.0))
    committer.put(commit_of(claim(), 1))
    await dialogues.attempts.acquire()
    assert REGISTRY.get_sample_value("xz_store_queued_commits") == 1
    assert (REGISTRY.get_sample_value("xz_store_queued_bytes") or 0) > 0
    assert REGISTRY.get_sample_value("xz_store_oldest_commit_seconds") == 15.0
    dialogues.gate.set()
    await committer.close(LONG_S)
    assert REGISTRY.get_sample_value("xz_store_oldest_commit_seconds") == 0.0
