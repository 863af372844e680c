"""Whether a service is worth asking: looked at seldom, by one for all.

What is known is believed for `keep_s`, good or bad. Then the next one who asks sets off one new look; who asks in the
meantime is told what was known, and waits only while nothing is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger(__name__)

KEEP_S = 600.0


class Health:
    """`look` says whether the service is well, within a time of its own; it does not raise."""

    def __init__(self, look: Callable[[], Awaitable[bool]], *, name: str, keep_s: float = KEEP_S) -> None:
        self._look = look
        self._name = name
        self._keep_s = keep_s
        self._known: bool | None = None
        self._seen_s = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def known(self) -> bool | None:
        """None until the first look is over."""
        return self._known

    def refresh(self) -> None:
        """Set off a look if what is known is too old and nobody looks yet."""
        now_s = asyncio.get_running_loop().time()
        if self._task is None and (self._known is None or now_s - self._seen_s >= self._keep_s):
            self._task = asyncio.create_task(self._update(), name=f"{self._name}-health")

    async def is_good(self) -> bool:
        self.refresh()
        if self._known is None and self._task is not None:
            await asyncio.wait((self._task,))
        return bool(self._known)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _update(self) -> None:
        try:
            self._known = await self._look()
        except Exception as error:  # the root of a task: what cannot be looked at is not asked
            self._known = False
            log.exception("health_failed", service=self._name, error=type(error).__name__)
        finally:
            self._seen_s = asyncio.get_running_loop().time()
            self._task = None
