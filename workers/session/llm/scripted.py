"""A model whose answers and times are configured: for load tests and for tests of everything behind it.

Options: `reply` (a text with {text}, {session} and {device}), `first_token_ms`, `token_ms`; `fail`: "connect" (at
once), "midstream" (behind half of the words), "hang" (no word ever) or a list of these that are taken in turn;
`fail_every` (only every n-th request, 1); `tool`, the name of a tool that is called first with {"text": what was said},
if that matches the regular expression `tool_if`; and `stage`: a directory of cues (see shared.rehearsal); the points
are `thinking`, before the first word, and `answering`, behind half of them.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from typing import Final

from shared.errors import ConfigError, EngineError
from shared.rehearsal import LOOK_S, Stage
from shared.settings import EngineChoice
from workers.session.dialogue import ToolCall
from workers.session.llm.model import ModelCalls, ModelRequest, ModelText, Piece

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
        fail = options.get("fail") or ""
        self._failures = [str(one) for one in fail] if isinstance(fail, list) else [str(fail)]
        self._fail_every = max(1, int(options.get("fail_every", 1)))
        self._tool = str(options.get("tool") or "")
        self._tool_if = re.compile(str(options.get("tool_if") or ""))
        self._asked = 0
        self._stage = Stage(options.get("stage"))
        if not self._failures or not set(self._failures) <= set(_FAILURES):
            raise ConfigError(f"LLM.{choice.name}.fail", fail, f"one of {', '.join(_FAILURES[1:])}")

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        fail = self._next_failure()
        if fail == "connect":
            raise EngineError("scripted failure", code="llm_connect", retryable=True)
        if fail == "hang":
            await asyncio.Event().wait()
        await asyncio.sleep(self._first_token_s)
        await self._be_held("thinking", request)
        if self._calls_tool(request):
            yield ModelCalls((ToolCall("call_0", self._tool, json.dumps({"text": self._asked_in(request)})),))
            return
        tokens = _TOKEN.findall(self._text(request))
        for n, token in enumerate(tokens):
            if n * 2 >= len(tokens):
                await self._be_held("answering", request)
            if fail == "midstream" and n * 2 >= len(tokens):
                raise EngineError("scripted failure", code="llm_cut")
            yield ModelText(token)
            await asyncio.sleep(self._token_s)

    async def close(self) -> None:
        """It holds nothing."""

    def _text(self, request: ModelRequest) -> str:
        asked = self._asked_in(request)
        text = self._reply.replace("{session}", request.session).replace("{device}", request.device)
        return text.replace("{text}", asked)

    async def _be_held(self, point: str, request: ModelRequest) -> None:
        while self._stage.holds(point, request.session):  # noqa: ASYNC110 - files set no asyncio.Event
            await asyncio.sleep(LOOK_S)

    @staticmethod
    def _asked_in(request: ModelRequest) -> str:
        """The last question. Questions that got no answer stand before it, each in a line of its own."""
        asked = next((message.text for message in reversed(request.messages) if message.role == "user"), "")
        return asked.rpartition("\n")[2]

    def _calls_tool(self, request: ModelRequest) -> bool:
        """Once a turn, and only if the device has it."""
        is_returned = bool(request.messages) and request.messages[-1].role == "tool"
        names = {tool["function"]["name"] for tool in request.tools}
        return self._tool in names and not is_returned and bool(self._tool_if.search(self._asked_in(request)))

    def _next_failure(self) -> str:
        self._asked += 1
        count, rest = divmod(self._asked, self._fail_every)
        return "" if rest else self._failures[(count - 1) % len(self._failures)]
