"""Streams chat completions from any OpenAI-compatible server.

Rules
- One client per configured model, shared by all sessions; its connections are pooled and closed at the end.
- No retry in the client: the turn decides, since it alone knows what has been said. No thread either: the client would
  ask for the platform's name in one.
- Every failure becomes an EngineError with a code. Its message never holds what the server said, which may repeat the
  conversation.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import openai
from openai import AsyncOpenAI
from openai._base_client import get_platform

from shared.errors import EngineError
from workers.session.dialogue import Message
from workers.session.llm.endpoints import Endpoint
from workers.session.llm.model import ModelCalls, ModelRequest, ModelText, Piece
from workers.session.llm.reasoning import ReasoningFilter
from workers.session.llm.tool_calls import ToolCallMerger

_STATUS_CODES: Final = {401: "llm_auth", 403: "llm_auth", 404: "llm_not_found", 429: "llm_rate_limited"}
_CHATTY_LOGGERS: Final = ("openai", "httpx", "httpcore", "httpx2", "httpcore2")
_SERVER_ERROR = 500
_TIMEOUT_STATUS = 408


class CompatibleModel:
    """One model on one server."""

    name = "llm"

    def __init__(self, endpoint: Endpoint) -> None:
        # Their debug logs hold whole requests: conversations and keys.
        for logger in _CHATTY_LOGGERS:
            logging.getLogger(logger).setLevel(logging.WARNING)
        self._endpoint = endpoint
        self._client = AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key,
            max_retries=0,
            timeout=openai.Timeout(endpoint.read_timeout_s, connect=endpoint.connect_timeout_s),
        )
        self._client._platform = get_platform()

    def __repr__(self) -> str:
        return f"CompatibleModel({self._endpoint!r})"

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        reasoning, calls = ReasoningFilter(), ToolCallMerger()
        has_ended = False
        with _failures():
            async with self._chunks(request) as chunks:
                async for chunk in chunks:
                    choice = chunk.choices[0] if chunk.choices else None
                    if choice is None:
                        continue
                    has_ended = has_ended or choice.finish_reason is not None
                    if choice.delta is None:
                        continue
                    for call in choice.delta.tool_calls or ():
                        function = call.function
                        calls.feed(call.index, call.id, function and function.name, function and function.arguments)
                    yield ModelText(reasoning.feed(choice.delta.content or ""))
        if rest := reasoning.finish():
            yield ModelText(rest)
        if merged := calls.calls():
            yield ModelCalls(merged)
        elif not has_ended:
            raise EngineError("the answer has no end", code="llm_cut", retryable=True)

    async def close(self) -> None:
        await self._client.close()

    @asynccontextmanager
    async def _chunks(self, request: ModelRequest) -> AsyncIterator[Any]:
        options: dict[str, Any] = dict(self._endpoint.parameters)
        if request.tools:
            options["tools"] = request.tools
        if self._endpoint.extra_body:
            options["extra_body"] = self._endpoint.extra_body
        stream = await self._client.chat.completions.create(
            model=self._endpoint.model,
            messages=[_wire(message) for message in request.messages],
            stream=True,
            **options,
        )
        try:
            yield stream
        finally:
            await stream.close()


@contextmanager
def _failures() -> Iterator[None]:
    """Raises every failure of the client as an EngineError, without the text that came with it."""
    try:
        yield
    except openai.APITimeoutError:
        raise EngineError("the server did not answer in time", code="llm_timeout", retryable=True) from None
    except openai.APIConnectionError:
        raise EngineError("the server cannot be reached", code="llm_connect", retryable=True) from None
    except openai.APIStatusError as error:
        raise _status_error(error.status_code) from None
    except openai.APIError:
        raise EngineError("the server reported an error in its answer", code="llm_upstream") from None
    except (ValueError, TypeError, AttributeError, LookupError, json.JSONDecodeError):
        raise EngineError("the server's answer is malformed", code="llm_malformed", retryable=True) from None


def _status_error(status: int) -> EngineError:
    is_server_error = status >= _SERVER_ERROR or status == _TIMEOUT_STATUS
    code = "llm_server" if is_server_error else _STATUS_CODES.get(status, "llm_refused")
    return EngineError(f"the server answered {status}", code=code, retryable=is_server_error)


def _wire(message: Message) -> Any:
    body: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.call_id:
        body["tool_call_id"] = message.call_id
    if message.calls:
        body["content"] = message.text or None
        body["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.calls
        ]
    return body
