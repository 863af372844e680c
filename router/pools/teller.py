"""Tells the owners of streams what has happened: later, in order, and never more than once too often.

Rules
- What is posted while owners are being told is told in the next turn of the loop.
- A ref that its owner has aborted is told nothing more.
- An owner's exception is its own: it must not stop the socket that all others share.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog

from router.pools.metrics import OWNER_ERRORS
from router.pools.stream_ref import StreamRef

log = structlog.get_logger(__name__)


class Teller:
    """The callbacks that are still to be made."""

    def __init__(self) -> None:
        self._untold: deque[tuple[StreamRef, Callable[..., None], tuple[Any, ...]]] = deque()

    def post(self, ref: StreamRef, call: Callable[..., None], *arguments: Any) -> None:
        """Tell it from the loop, soon."""
        if not self._untold:
            asyncio.get_running_loop().call_soon(self.tell)
        self._untold.append((ref, call, arguments))

    def tell(self) -> None:
        """Tell now what was posted before. Not to be called from an owner's callback."""
        for _ in range(len(self._untold)):
            ref, call, arguments = self._untold.popleft()
            self.call(ref, call, *arguments)
        if self._untold:
            asyncio.get_running_loop().call_soon(self.tell)

    def call(self, ref: StreamRef, call: Callable[..., None], *arguments: Any) -> None:
        """Tell one thing that is happening now."""
        if ref.is_silenced:
            return
        try:
            call(*arguments)
        except Exception:
            OWNER_ERRORS.labels(ref.role).inc()
            log.exception("stream_owner_raised", stream=ref.id, role=ref.role)
