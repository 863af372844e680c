"""What a session worker does with the store: claims devices, writes turns, learns of claims by others.

Rules
- Nobody's talk waits for it. Claims are tried until the store answers, commits go through a queue.
- What still waits to be written of a device is written before the device is claimed again, which would supersede it.
- A claim lost to another worker is learnt at the next commit, or at the next look at the losses.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential_jitter

from shared.settings import StoreSettings
from shared.store.committer import Committer
from shared.store.faults import StoreDownError, StoreError
from shared.store.model import Claim, Claimant, Commit
from workers.session import metrics
from workers.session.dialogue import PastTurn
from workers.session.late_store import LateStore
from workers.session.records import past_turn

log = structlog.get_logger(__name__)

LOSSES_EVERY_S = 2.0
AT_ONCE = 2
"""Claims and loads under way: when all devices come back together they wait here, where it costs least."""

SETTLE_S = 60.0
"""How long one wait for the queue is; it is waited again."""

CLOSE_S = 2.0
"""What is left unwritten then is lost, and counted."""


class Owner(Protocol):
    """Who holds the claims."""

    def on_committed(self, commit: Commit) -> None: ...

    def on_lost(self, device: str, epoch: int) -> None:
        """Claims of the device older than `epoch` are worth nothing."""


class Keeper:
    """One for all sessions of a process."""

    def __init__(
        self,
        settings: StoreSettings,
        data_dir: Path,
        owner: Owner,
        *,
        window_s: float,
        most_turns: int,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives seconds since 1970."""
        self._store = LateStore(settings, data_dir)
        self._owner = owner
        self._window_s = window_s
        self._most_turns = most_turns
        self._clock = clock
        self._holder = f"session-{secrets.token_hex(8)}"
        self._committer = Committer(
            self._store, now=clock, on_superseded=self._on_superseded, on_committed=owner.on_committed
        )
        self._watcher: asyncio.Task[None] | None = None
        self._gate = asyncio.Semaphore(AT_ONCE)

    def __repr__(self) -> str:
        return f"Keeper({self._store!r}, {self._committer!r})"

    async def start(self) -> None:
        """Raises ConfigError, EngineError."""
        await self._store.start()
        self._committer.start()
        self._watcher = asyncio.create_task(self._watch(), name="store-losses")

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await self._committer.close(CLOSE_S)
        await self._store.close()

    async def claim(self, device: str, by: Claimant) -> Claim:
        """As soon as the store can. Raises SupersededError."""
        while not await self._committer.settled(device, SETTLE_S):
            log.debug("claim_waits_for_commits")
        return await _patiently()(self._claim, device, by)

    async def load(self, device: str) -> list[PastTurn]:
        """The dialogue that goes on, as soon as the store can."""
        turns: list[PastTurn] = await _patiently()(self._load, device)
        return turns

    def commit(self, commit: Commit) -> None:
        self._committer.put(commit)

    async def settled(self, device: str, timeout_s: float) -> bool:
        """Is everything that was committed of the device written?"""
        return await self._committer.settled(device, timeout_s)

    def now(self) -> float:
        """Seconds since 1970."""
        return self._clock()

    async def _claim(self, device: str, by: Claimant) -> Claim:
        async with self._gate:
            return await self._store.claim(device, self._holder, self._clock(), by=by)

    async def _load(self, device: str) -> list[PastTurn]:
        async with self._gate:
            turns = await self._store.load(device, self._clock(), self._window_s, self._most_turns)
        return [past_turn(turn) for turn in turns]

    def _on_superseded(self, claim: Claim, now_at: int | None) -> None:
        self._owner.on_lost(claim.device, claim.epoch + 1 if now_at is None else now_at)

    async def _watch(self) -> None:
        since: int | None = None
        while True:
            try:
                since = await self._look(since)
            except StoreError:
                metrics.LOSS_POLL_FAILURES.inc()
            except Exception as error:  # the root of a task: without it no claim of another is ever seen
                metrics.LOSS_POLL_FAILURES.inc()
                log.error("losses_failed", error=type(error).__name__)  # noqa: TRY400 - a trace could quote what was said
            await asyncio.sleep(LOSSES_EVERY_S)

    async def _look(self, since: int | None) -> int:
        if since is None:
            return await self._store.latest()
        losses = await self._store.lost(self._holder, since)
        for lost in losses.lost:
            self._owner.on_lost(lost.device, lost.epoch)
        return losses.until


def _patiently() -> AsyncRetrying:
    return AsyncRetrying(
        retry=retry_if_exception_type(StoreDownError),
        wait=wait_exponential_jitter(multiplier=0.1, max=5.0, jitter=0.5),
        sleep=asyncio.sleep,
        reraise=True,
    )
