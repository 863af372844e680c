"""What engines that ask a service outside share: the one retry of a segment, and whose fault a refusal is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from shared.upstream.faults import Code, Kind, UpstreamError
from shared.upstream.retry import with_one_retry

Pieces = AsyncGenerator[bytes, None]


async def retried(attempt: Callable[[], Pieces], upstream: str) -> Pieces:
    """The pieces of `attempt`, or of a second one if the first failed before its first piece: no word is heard twice.

    Closing it closes the attempt. `upstream` is the name that retries are counted under.
    """

    async def begun() -> tuple[bytes, Pieces]:
        pieces = attempt()
        return await anext(pieces, b""), pieces

    first, pieces = await with_one_retry(begun, upstream=upstream)
    async with aclosing(pieces):
        if first:
            yield first
        async for piece in pieces:
            yield piece


def blamed_on(voice: str | None, error: UpstreamError) -> UpstreamError:
    """`voice` is what a device asked for: if it is refused, the service and the other devices are not at fault."""
    if voice is None or error.code != Code.REFUSED:
        return error
    return UpstreamError(str(error), code=Code.INPUT, kind=Kind.INPUT, reason=error.reason)
