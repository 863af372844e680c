"""Streams chat completions from any OpenAI-compatible server.

Rules
- One client per configured model, shared by all sessions; its connections are pooled and closed at the end.
- No retry in the client: the turn decides, since it alone knows what has been said. No thread either: the client would
  ask for the platform's name in one.
- Every failure becomes an EngineError with a code. Its message never holds what the server said, which may repeat the
  conversation.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import httpx2
import openai
import openai.lib.streaming
from openai import AsyncOpenAI
from openai._base_client import get_platform

from shared.errors import EngineError
from workers.session.dialogue import Message
from workers.session.llm.chunks import ChunkReader
from workers.session.llm.endpoints import Endpoint
from workers.session.llm.model import ModelRequest, Piece

_STATUS_CODES: Final = {401: "llm_auth", 403: "llm_auth", 404: "llm_not_found", 429: "llm_rate_limited"}
_CHATTY_LOGGERS: Final = ("openai", "httpx", "httpcore", "httpx2", "httpcore2")
_IMPORTED_LATE: Final = "anyio._backends._asyncio"
"""By the client, during its first request, which would hold the loop for 0.1 s."""
_SERVER_ERROR: Final = 500
_TIMEOUT_STATUS: Final = 408
_DRAIN_S: Final = 0.2


class CompatibleModel:
    """One model on one server."""

    name = "llm"

    def __init__(self, endpoint: Endpoint) -> None:
        # Their debug logs hold whole requests: conversations and keys.
        for logger in _CHATTY_LOGGERS:
            logging.getLogger(logger).setLevel(logging.WARNING)
        importlib.import_module(_IMPORTED_LATE)
        self._endpoint = endpoint
        self._client = AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key,
            max_retries=0,
            timeout=openai.Timeout(endpoint.read_timeout_s, connect=endpoint.connect_timeout_s),
        )
        self._client._platform = get_platform()
        self._completions = self._client.chat.completions.with_streaming_response

    def __repr__(self) -> str:
        return f"CompatibleModel({self._endpoint!r})"

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        reader = ChunkReader()
        with _failures():
            async with self._lines(request) as lines:
                async for line in lines:
                    text = reader.feed(line)
                    if text is not None:
                        yield text
                    if reader.is_done:
                        await _drain(lines)
                        break
        for piece in reader.finish():
            yield piece

    async def close(self) -> None:
        await self._client.close()

    @asynccontextmanager
    async def _lines(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[str]]:
        options: dict[str, Any] = dict(self._endpoint.parameters)
        if request.tools:
            options["tools"] = request.tools
        if self._endpoint.extra_body:
            options["extra_body"] = self._endpoint.extra_body
        messages = [_wire(message) for message in request.messages]
        async with self._completions.create(
            model=self._endpoint.model, messages=messages, stream=True, **options
        ) as response:
            yield response.iter_lines()


async def _drain(lines: AsyncIterator[str]) -> None:
    """Read to the end, so that the connection can be used again; a server that holds it open loses it."""
    try:
        async with asyncio.timeout(_DRAIN_S):
            async for _ in lines:
                pass
    except TimeoutError:
        return


@contextmanager
def _failures() -> Iterator[None]:
    """Raises every failure of the client as an EngineError, without the text that came with it."""
    try:
        yield
    except (openai.APITimeoutError, httpx2.TimeoutException):
        raise EngineError("the server did not answer in time", code="llm_timeout", retryable=True) from None
    except (openai.APIConnectionError, httpx2.HTTPError):
        raise EngineError("the connection to the server failed", code="llm_connect", retryable=True) from None
    except openai.APIStatusError as error:
        raise _status_error(error.status_code) from None
    except openai.OpenAIError:
        raise EngineError("the client refused the request", code="llm_refused") from None


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
