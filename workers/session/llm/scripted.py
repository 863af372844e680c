"""A model whose answers and times are configured: for load tests and for tests of everything behind it.

Options: `reply` (a text with {text}, {session} and {device}), `first_token_ms`, `token_ms`, and `fail`: "connect" (at
once), "midstream" (behind half of the words) or "hang" (no word ever).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Final

from shared.errors import ConfigError, EngineError
from shared.settings import EngineChoice
from workers.session.llm.model import ModelRequest, ModelText, Piece

_TOKEN: Final = re.compile(r"\s*[^\s\u3400-\u9fff]+|\s*[\u3400-\u9fff]{1,2}|\s+")
_FAILURES: Final = ("", "connect", "midstream", "hang")


class ScriptedModel:
    """The same answer to the same question, word by word."""

    name = "scripted"

    def __init__(self, choice: EngineChoice) -> None:
        options = choice.options
        self._reply = str(options.get("reply", "You said: {text}."))
        self._first_token_s = float(options.get("first_token_ms", 0)) / 1000
        self._token_s = float(options.get("token_ms", 0)) / 1000
        self._fail = str(options.get("fail") or "")
        if self._fail not in _FAILURES:
            raise ConfigError(f"LLM.{choice.name}.fail", self._fail, f"one of {', '.join(_FAILURES[1:])}")

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        if self._fail == "connect":
            raise EngineError("scripted failure", code="llm_connect", retryable=True)
        tokens = _TOKEN.findall(self._text(request))
        await self._wait(self._first_token_s)
        for n, token in enumerate(tokens):
            if self._fail == "midstream" and n * 2 >= len(tokens):
                raise EngineError("scripted failure", code="llm_cut")
            yield ModelText(token)
            await self._wait(self._token_s)

    async def close(self) -> None:
        """It holds nothing."""

    def _text(self, request: ModelRequest) -> str:
        asked = next((message.text for message in reversed(request.messages) if message.role == "user"), "")
        text = self._reply.replace("{session}", request.session).replace("{device}", request.device)
        return text.replace("{text}", asked)

    async def _wait(self, seconds: float) -> None:
        if self._fail == "hang":
            await asyncio.Event().wait()
        await asyncio.sleep(seconds)
