"""A stream owner that writes down what it is told, and lets a test wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from router.pools.stream_ref import StreamRef
from shared.link.messages import Done

PATIENCE_S = 10.0


@dataclass
class RecordingOwner:
    """Records every callback as a tuple whose first item names it."""

    told: list[tuple[Any, ...]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def on_opened(self, ref: StreamRef) -> None:
        self._tell("opened")

    def on_audio(self, ref: StreamRef, packet: bytes) -> None:
        self._tell("audio", packet)

    def on_event(self, ref: StreamRef, body: dict[str, Any]) -> None:
        self._tell("event", body)

    def on_credit(self, ref: StreamRef, body: dict[str, Any]) -> None:
        self._tell("credit", body)

    def on_done(self, ref: StreamRef, done: Done) -> None:
        self._tell("done", done)

    def on_lost(self, ref: StreamRef, cause: str, retryable: bool) -> None:
        self._tell("lost", cause, retryable)

    def on_draining(self, ref: StreamRef) -> None:
        self._tell("draining")

    def names(self) -> list[str]:
        return [one[0] for one in self.told]

    @property
    def ends(self) -> list[tuple[Any, ...]]:
        return [one for one in self.told if one[0] in {"done", "lost"}]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_told(self, name: str) -> tuple[Any, ...]:
        await self.until(lambda: name in self.names())
        return next(one for one in self.told if one[0] == name)

    async def until_ended(self) -> tuple[Any, ...]:
        await self.until(lambda: self.ends)
        return self.ends[0]

    def _tell(self, *what: Any) -> None:
        self.told.append(what)
        self._changed.set()
