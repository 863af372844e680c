"""The one retry: only what may be repeated, once, after a moment that is not the same for everybody."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from shared.upstream import metrics
from shared.upstream.faults import Code, Kind, UpstreamError

T = TypeVar("T")

PAUSE_S: Final = (0.05, 0.25)
_NOT_ASKED: Final = (Code.OPEN, Code.BUSY)


async def with_one_retry(
    attempt: Callable[[], Awaitable[T]], *, is_safe: Callable[[], bool] = lambda: True, upstream: str = "other"
) -> T:
    """`attempt`, and once more if it raised a RETRYABLE UpstreamError and `is_safe()` then still holds.

    If the second attempt does not even get to ask, the first one's error is raised: it says what is wrong.
    `upstream` is the name under which retries are counted.
    """
    try:
        return await attempt()
    except UpstreamError as error:
        if error.kind is not Kind.RETRYABLE or not is_safe():
            raise
        first = error
    await asyncio.sleep(random.uniform(*PAUSE_S))
    if not is_safe():
        raise first
    metrics.RETRIES.labels(upstream).inc()
    try:
        return await attempt()
    except UpstreamError as error:
        if error.code in _NOT_ASKED:
            raise first from None
        raise
