"""One session's hold on its device: claimed once, then every turn is written under it.

Rules
- Turns that end before the device is claimed wait here, within a bound, and are written when it is.
- What is known of the device is written when it differs from what is stored, never again for every turn.
- Superseded is final.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import Any, Protocol

import structlog

from shared.store.faults import StoreError, SupersededError
from shared.store.model import Claim, Claimant, Commit, DeviceFacts
from workers.session import metrics
from workers.session.dialogue import PastTurn
from workers.session.keeper import Keeper
from workers.session.records import stored_turn

log = structlog.get_logger(__name__)

MOST_UNCLAIMED = 64
"""Turns of one session that wait for its claim; the oldest goes first."""


class Holder(Protocol):
    """The session."""

    def on_claimed(self, epoch: int, facts: DeviceFacts) -> None: ...

    def on_restored(self, past: list[PastTurn]) -> None: ...

    def on_superseded(self) -> None: ...


class Holding:
    __slots__ = ("_claim", "_device", "_facts", "_holder", "_keeper", "_marks", "_task", "_unclaimed", "is_over")

    def __init__(self, keeper: Keeper, device: str, holder: Holder) -> None:
        self._keeper = keeper
        self._device = device
        self._holder = holder
        self._claim: Claim | None = None
        self._facts: DeviceFacts | None = None
        """To be written with the claim."""
        self._marks: tuple[int, ...] = ()
        """Of the facts as they are stored: they are too large to be kept."""
        self._unclaimed: list[PastTurn] | None = None
        self._task: asyncio.Task[None] | None = None
        self.is_over = False
        """Superseded, or given up."""

    def __repr__(self) -> str:
        return f"Holding(epoch {self.epoch}, over={self.is_over})"

    @property
    def epoch(self) -> int:
        """0 = not claimed yet."""
        return 0 if self._claim is None else self._claim.epoch

    def begin(
        self, name: str, by: Claimant, inherited: list[PastTurn], ended: Callable[[], Awaitable[None]] | None
    ) -> None:
        """Claim the device and load its dialogue, behind the talk.

        `inherited`: what the device's session before this one could not commit; `ended` waits until that is over.
        """
        self._unclaimed = inherited or None
        self._task = asyncio.create_task(self._begin(by, ended), name=name)

    def take_unclaimed(self) -> list[PastTurn]:
        taken, self._unclaimed = self._unclaimed or [], None
        return taken

    async def _begin(self, by: Claimant, ended: Callable[[], Awaitable[None]] | None) -> None:
        try:
            if ended is not None:
                await ended()
            self._on_claimed(await self._keeper.claim(self._device, by))
            past = await self._keeper.load(self._device)
            if not self.is_over:
                self._holder.on_restored(past)
        except SupersededError:
            self.lose()
        except Exception as error:  # the root of a task: the session talks on, without its history
            code = error.code if isinstance(error, StoreError) else type(error).__name__
            metrics.CLAIM_FAILURES.inc()
            log.error("claim_failed", device=self._device, error=code)  # noqa: TRY400 - no trace of what was stored
        finally:
            self._task = None

    def _on_claimed(self, claim: Claim) -> None:
        facts = claim.facts
        # Without its facts: a list of tools is the largest thing an idle session could hold.
        self._claim = Claim(claim.device, claim.epoch, claim.holder)
        self._marks = tuple(_mark(getattr(facts, one.name)) for one in fields(facts))
        self._holder.on_claimed(claim.epoch, facts)
        known, self._facts = self._facts, None
        if known is not None:
            self.tell(known)
        for turn in self.take_unclaimed():
            self.commit(turn)

    def on_lost(self, epoch: int) -> None:
        """Somebody has claimed the device under `epoch`."""
        if self._claim is not None and self._claim.epoch < epoch:
            self.lose()

    def lose(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._holder.on_superseded()

    def commit(self, turn: PastTurn) -> None:
        """Write it, as soon as the device is claimed and the store can."""
        if self.is_over:
            return
        if self._claim is None:
            self._unclaimed = [*(self._unclaimed or []), turn]
            if len(self._unclaimed) > MOST_UNCLAIMED:
                del self._unclaimed[0]
                metrics.TURNS_DROPPED.inc()
            return
        self._keeper.commit(Commit(self._claim, turns=(stored_turn(turn, self._keeper.now()),)))

    def tell(self, facts: DeviceFacts) -> None:
        """What is known of the device now; None = nothing new."""
        if self._claim is None:
            self._facts = _merged(self._facts, facts)
            return
        marks = list(self._marks)
        news: dict[str, Any] = {}
        for n, one in enumerate(fields(facts)):
            value = getattr(facts, one.name)
            if value is not None and (mark := _mark(value)) != marks[n]:
                marks[n], news[one.name] = mark, value
        self._marks = tuple(marks)
        if news and not self.is_over:
            self._keeper.commit(Commit(self._claim, facts=DeviceFacts(**news)))

    async def end(self, timeout_s: float) -> None:
        """Wait until what was committed is written, but not for ever; then let go."""
        try:
            async with asyncio.timeout(timeout_s):
                if self._task is not None and self._unclaimed:
                    await asyncio.wait((self._task,))
                if self._claim is not None and not self.is_over:
                    await self._keeper.settled(self._device, timeout_s)
        except TimeoutError:
            pass
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._unclaimed:
            metrics.TURNS_DROPPED.inc(len(self._unclaimed))
        self._unclaimed = None


def _mark(value: Any) -> int:
    return hash(json.dumps(value, sort_keys=True))


def _merged(first: DeviceFacts | None, second: DeviceFacts) -> DeviceFacts:
    if first is None:
        return second
    known = {one.name: value for one in fields(second) if (value := getattr(second, one.name)) is not None}
    return DeviceFacts(**{one.name: getattr(first, one.name) for one in fields(first)} | known)
