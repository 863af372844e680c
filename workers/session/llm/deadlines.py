"""Bounds every wait for a model: for its first sign of life, for its first words, and between two signs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from shared.errors import EngineError
from workers.session.llm.model import ModelText, Piece

REASONING_FACTOR = 2.0
"""A model that streams its reasoning may take this many times as long to its first words as to its first sign."""


async def bounded(
    source: AsyncGenerator[Piece, None], *, first_timeout_s: float, next_timeout_s: float
) -> AsyncGenerator[Piece, None]:
    """The pieces of `source`. Raises EngineError `llm_first_token_timeout` or `llm_stalled`; closes the source."""
    loop = asyncio.get_running_loop()
    words_due = loop.time() + first_timeout_s * REASONING_FACTOR
    deadline = loop.time() + first_timeout_s
    has_words = False
    async with aclosing(source):
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    piece = await anext(source, None)
            except TimeoutError:
                code = "llm_stalled" if has_words else "llm_first_token_timeout"
                raise EngineError("the model did not go on in time", code=code) from None
            if piece is None:
                return
            yield piece
            has_words = has_words or not isinstance(piece, ModelText) or bool(piece.text)
            deadline = loop.time() + next_timeout_s
            if not has_words:
                deadline = min(deadline, words_due)
