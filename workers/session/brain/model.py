"""The brain that asks a language model, lets it call the device's tools, and asks again with what they returned.

Rules
- One retry, and only if nothing was streamed and the failure may pass. A model that keeps failing is not asked for a
  while.
- At most five rounds of tools; then the model must answer without. All calls of one answer get a result, even those
  that cannot be run.
- Tools run one after the other: a device can do no more than one thing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from shared.errors import EngineError
from shared.upstream.faults import Code
from shared.upstream.upstream import Limits, Request, Upstream
from workers.session import metrics
from workers.session.brain.base import Called, Output, Pause, Question, Say
from workers.session.dialogue import Message, ToolCall, ToolRound
from workers.session.llm.deadlines import bounded
from workers.session.llm.model import ChatModel, ModelCalls, ModelRequest, ModelText, Piece

MAX_ROUNDS: Final = 5
TRIES: Final = 2
RETRY_PAUSE_S: Final = 0.2
_NO_MORE_TOOLS: Final = "You have called tools often enough. Answer now with what you know."


class ModelBrain:
    """One for all sessions of a process."""

    def __init__(
        self,
        model: ChatModel,
        *,
        prompt: Callable[[], str],
        first_timeout_s: float,
        offers_tools: bool = True,
        section: str = "LLM",
    ) -> None:
        """`prompt` makes the system prompt of a turn; `section` is where the model is configured, for the metrics."""
        self.name = model.name
        self._model = model
        self._prompt = prompt
        self._first_timeout_s = first_timeout_s
        self._offers_tools = offers_tools
        self._upstream = Upstream(section, Limits())

    async def reply(self, question: Question) -> AsyncGenerator[Output, None]:
        if self._offers_tools:
            await question.tools.ready()
        messages = [Message("system", self._prompt()), *question.messages]
        with metrics.LLM_TURN.time():
            for turn in range(MAX_ROUNDS + 1):
                said: list[str] = []
                calls: tuple[ToolCall, ...] = ()
                request = self._request(messages, question, has_tools=turn < MAX_ROUNDS)
                async with aclosing(self._ask(request)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, ModelCalls):
                            calls = piece.calls
                        else:
                            said.append(piece.text)
                            yield Say(piece.text)
                if not calls or turn == MAX_ROUNDS or not self._offers_tools:
                    return
                yield Pause()
                done = await self._run("".join(said), calls, question)
                yield Called(done)
                messages += done.messages(done.text)

    def _request(self, messages: list[Message], question: Question, *, has_tools: bool) -> ModelRequest:
        if has_tools:
            tools = question.tools.specs() if self._offers_tools else []
            return ModelRequest(messages, tools, question.session, question.device)
        return ModelRequest([*messages, Message("system", _NO_MORE_TOOLS)], [], question.session, question.device)

    async def _run(self, said: str, calls: tuple[ToolCall, ...], question: Question) -> ToolRound:
        results = {call.id: await self._result(call, question) for call in calls}
        return ToolRound(said, calls, results)

    async def _result(self, call: ToolCall, question: Question) -> str:
        result = await question.tools.call_function(call.name, call.arguments)
        return f"{result.outcome.value}: {result.text}"

    async def _ask(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        """One answer of the model, with the retry and the breaker around it."""
        for attempt in range(1, TRIES + 1):
            has_streamed = False
            try:
                async with (
                    self._upstream.request(request.session) as asked,
                    aclosing(self._timed(request, asked)) as pieces,
                ):
                    async for piece in pieces:
                        has_streamed = True
                        yield piece
                return
            except EngineError as error:
                if error.code == Code.OPEN:
                    raise EngineError("the model has failed too often", code="llm_resting") from None
                metrics.LLM_ERRORS.labels(error.code).inc()
                if has_streamed or not error.retryable or attempt == TRIES:
                    raise
            await asyncio.sleep(RETRY_PAUSE_S)

    async def _timed(self, request: ModelRequest, asked: Request) -> AsyncGenerator[Piece, None]:
        """The pieces that say or call something, within the deadlines."""
        now = asyncio.get_running_loop().time
        began, has_begun = now(), False
        source = bounded(
            self._model.stream(request), first_timeout_s=self._first_timeout_s, next_timeout_s=self._first_timeout_s
        )
        async with aclosing(source):
            async for piece in source:
                if isinstance(piece, ModelText) and not piece.text:
                    continue
                if not has_begun:
                    has_begun = True
                    asked.on_first_byte()
                    metrics.LLM_FIRST_TOKEN.observe(now() - began)
                yield piece
