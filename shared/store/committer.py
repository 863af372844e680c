"""Writes commits behind the talk's back: whoever puts one never waits for the store.

Rules
- One task writes one commit after the other. A store that is down is tried again with growing pauses; talk goes on and
  the queue's bounds say what is dropped. It is said once that the store is down, and once that it is back.
- A superseded commit, and one that the store refuses for good, is given up and counted.
- At the end what waits is written until the deadline; what is left is counted and said.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential, wait_random

from shared.store import metrics
from shared.store.commit_queue import CommitQueue
from shared.store.faults import StoreDownError, StoreRefusedError, SupersededError
from shared.store.model import Claim, Commit, Dialogues

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0

_COMMITTED = metrics.COMMITS.labels("committed")
_SUPERSEDED = metrics.COMMITS.labels("superseded")
_REFUSED = metrics.COMMITS.labels("refused")
_DROPPED = metrics.COMMITS.labels("dropped")
_LEFT = metrics.COMMITS.labels("left_at_exit")


def _nobody_asks(claim: Claim, now_at: int | None) -> None:
    """For owners to whom `lost` tells the same."""


def _nobody_waits(commit: Commit) -> None:
    """For owners who need not know."""


class Committer:
    """Start and close it on the loop that puts."""

    def __init__(
        self,
        dialogues: Dialogues,
        *,
        queue: CommitQueue | None = None,
        now: Callable[[], float] = time.time,
        on_superseded: Callable[[Claim, int | None], None] = _nobody_asks,
        on_committed: Callable[[Commit], None] = _nobody_waits,
        first_pause_s: float = FIRST_PAUSE_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        """`on_superseded` is told the claim that counts no more and the device's epoch (None = forgotten).

        `on_committed` is told what was written: one or more of the commits that were put, in one.
        """
        self._dialogues = dialogues
        self._queue = queue if queue is not None else CommitQueue()
        self._now = now
        self._on_superseded = on_superseded
        self._on_committed = on_committed
        self._wait = wait_exponential(multiplier=first_pause_s, max=longest_pause_s) + wait_random(0, first_pause_s)
        self._changed = asyncio.Event()
        self._settling: list[tuple[str, asyncio.Future[None]]] = []
        self._closing = asyncio.Event()
        self._is_down = False
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Commits that are not written yet."""
        return len(self._queue)

    def __repr__(self) -> str:
        return f"Committer({self._queue!r}, down={self._is_down})"

    @property
    def is_down(self) -> bool:
        """Did the store fail at the last try?"""
        return self._is_down

    def start(self) -> None:
        metrics.QUEUED_COMMITS.set_function(lambda: len(self._queue))
        metrics.QUEUED_BYTES.set_function(lambda: self._queue.size_bytes)
        metrics.OLDEST_COMMIT_SECONDS.set_function(self._oldest_age_s)
        self._task = asyncio.create_task(self._run(), name="store-commits")

    def put(self, commit: Commit) -> None:
        """At once, whatever the store does."""
        put = self._queue.put(commit, self._now())
        metrics.COMMITS_MERGED.inc(put.joined)
        if put.dropped:
            _DROPPED.inc(len(put.dropped))
            log.error("commits_dropped", commits=len(put.dropped), queued=len(self._queue))
            self._note_settled()
        self._changed.set()

    async def settled(self, device: str, timeout_s: float) -> bool:
        """Wait until nothing of the device waits: before it is claimed anew, which would supersede what does."""
        if self._queue.holds(device):
            waiter = asyncio.get_running_loop().create_future()
            self._settling.append((device, waiter))
            await asyncio.wait((waiter,), timeout=timeout_s)
            self._settling.remove((device, waiter))
        return not self._queue.holds(device)

    async def close(self, deadline_s: float) -> int:
        """Write what waits, for so long; returns how many commits are lost."""
        self._closing.set()
        self._changed.set()
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=deadline_s)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        left = len(self._queue)
        if left:
            _LEFT.inc(left)
            log.error("commits_left_at_exit", commits=left)
        return left

    async def _run(self) -> None:
        while len(self._queue) or not self._closing.is_set():
            self._changed.clear()
            if not len(self._queue):
                await self._changed.wait()
                continue
            retrying = AsyncRetrying(
                retry=retry_if_exception_type(StoreDownError),
                wait=self._wait,
                sleep=self._pause,
                before_sleep=self._note_down,
            )
            await retrying(self._write_first)
            self._note_settled()

    async def _write_first(self) -> None:
        """Raises StoreDownError; the commit stays the first then."""
        commit = self._queue.begin()
        assert commit is not None
        is_over = False
        try:
            is_over = await self._write(commit)
        finally:
            if is_over:
                self._queue.end()
            else:
                self._queue.postpone()

    async def _write(self, commit: Commit) -> bool:
        try:
            await self._dialogues.commit(commit, self._now())
        except SupersededError as error:
            _SUPERSEDED.inc()
            self._on_superseded(commit.claim, error.now_at)
        except StoreRefusedError as error:
            _REFUSED.inc()
            log.warning("commit_refused", device=commit.claim.device, error=str(error))
        except StoreDownError:
            raise
        except Exception as error:
            _REFUSED.inc()
            log.warning("commit_failed", device=commit.claim.device, error=type(error).__name__)
        else:
            _COMMITTED.inc()
            self._on_committed(commit)
        self._note_up()
        return True

    async def _pause(self, seconds: float) -> None:
        """Shorter at the end: its deadline is near."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
                await asyncio.sleep(FIRST_PAUSE_S)

    def _note_settled(self) -> None:
        for device, waiter in self._settling:
            if not waiter.done() and not self._queue.holds(device):
                waiter.set_result(None)

    def _note_down(self, state: RetryCallState) -> None:
        metrics.COMMIT_RETRIES.inc()
        if not self._is_down:
            error = state.outcome.exception() if state.outcome is not None else None
            log.warning("store_down", error=str(error), queued=len(self._queue))
        self._is_down = True

    def _note_up(self) -> None:
        if self._is_down:
            log.info("store_back", queued=len(self._queue))
        self._is_down = False

    def _oldest_age_s(self) -> float:
        return max(0.0, self._now() - (self._queue.oldest_s or self._now()))
