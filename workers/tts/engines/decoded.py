"""The sound of a service that answers with MP3, WAV and the like. Apart, since the decoders' library weighs 20 MiB."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shared.upstream.faults import Code, Kind, UpstreamError
from shared.upstream.upstream import Request
from workers.tts.decoding.sound import SoundDecoder, in_parts
from workers.tts.engines.attempts import Pieces


async def decoded(
    piece: bytes, next_piece: Callable[[], Awaitable[bytes]], decoder: SoundDecoder, request: Request
) -> Pieces:
    """The samples of a request's pieces as they come; `piece` is the first, an empty one the end.

    Raises UpstreamError, also if nothing was heard.
    """
    has_sound = False
    while piece:
        request.on_first_byte()
        for part in in_parts(piece):
            if sound := decoder.feed(part):
                has_sound = True
                yield sound
            await asyncio.sleep(0)
        async with request.waits.next():
            piece = await next_piece()
    if rest := decoder.finish():
        yield rest
    elif not has_sound:
        raise UpstreamError("it ended without sound", code=Code.NO_RESULT, kind=Kind.INPUT)
