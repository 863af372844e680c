"""A recogniser for engines that hear an utterance whole."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from workers.asr.engines.engine import Brief, OnPartial, Transcript

Recognise = Callable[[bytes, Brief], Awaitable[Transcript]]


class WholeUtterance:
    """Collects the audio and asks `recognise` once."""

    is_usable = True

    def __init__(self, recognise: Recognise) -> None:
        self._recognise = recognise
        self._pcm = bytearray()
        self._brief: Brief | None = None

    def begin(self, brief: Brief, on_partial: OnPartial) -> None:
        self._brief = brief
        self._pcm.clear()

    def feed(self, pcm: bytes) -> None:
        self._pcm += pcm

    async def finish(self) -> Transcript:
        assert self._brief is not None, "finish without begin"
        pcm = bytes(self._pcm)
        self._pcm.clear()
        began_s = time.monotonic()
        transcript = await self._recognise(pcm, self._brief)
        return replace(transcript, compute_s=time.monotonic() - began_s)

    async def cancel(self) -> None:
        self._pcm.clear()

    async def close(self) -> None:
        self._pcm.clear()
