"""A shared.worker.service.Stream that keeps what an asr job sends, for a test to wait for."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any, TypeVar

from shared.ids import StreamId
from shared.link.messages import AsrCredit, Body, Final

_numbers = itertools.count(1)
B = TypeVar("B", bound=Body)


@dataclass(frozen=True)
class End:
    """How a stream ended: code None = DONE."""

    code: str | None
    retryable: bool = False
    stats: dict[str, Any] | None = None


class AsrStream:
    """Counts what comes after the end; the runtime would drop it."""

    def __init__(self) -> None:
        self.id = StreamId(next(_numbers))
        self.bodies: list[Body] = []
        self.ends: list[End] = []
        self.after_end = 0
        self._is_aborted = False
        self._changed = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return not self.ends and not self._is_aborted

    def audio(self, packet: bytes) -> None:
        raise AssertionError("asr sends no audio")

    def event(self, body: Body) -> None:
        self._add(body)

    def credit(self, body: Body) -> None:
        self._add(body)

    def done(self, **stats: Any) -> None:
        self._end(End(None, stats=stats))

    def error(self, code: str, *, retryable: bool = False, message: str = "") -> None:
        self._end(End(code, retryable))

    def abort(self) -> None:
        """What the runtime does before it tells the job."""
        self._is_aborted = True

    def of(self, kind: type[B]) -> list[B]:
        return [body for body in self.bodies if isinstance(body, kind)]

    @property
    def events(self) -> list[Body]:
        return [body for body in self.bodies if not isinstance(body, AsrCredit)]

    @property
    def texts(self) -> list[str]:
        return [final.text for final in self.of(Final)]

    @property
    def end(self) -> End:
        assert len(self.ends) == 1, self.ends
        return self.ends[0]

    async def ended(self, timeout_s: float = 30.0) -> End:
        async with asyncio.timeout(timeout_s):
            while self.is_open:
                await self._change()
        return self.end

    async def has(self, kind: type[Body], count: int = 1, timeout_s: float = 30.0) -> None:
        async with asyncio.timeout(timeout_s):
            while len(self.of(kind)) < count and self.is_open:
                await self._change()
        assert len(self.of(kind)) >= count, self.ends

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _add(self, body: Body) -> None:
        if self.is_open:
            self.bodies.append(body)
        else:
            self.after_end += 1
        self._changed.set()

    def _end(self, end: End) -> None:
        self.ends.append(end)
        self._changed.set()
