"""An OpenAI-compatible chat server with scripted answers, times and faults, on a free port of this machine."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from bench.upstreams.openai_chat import DONE, ERROR_EVENT, GARBAGE, event

Fault = Literal["", "malformed", "cut", "hang", "hang_midstream", "error_event"]


@dataclass(frozen=True)
class Script:
    """One answer. `cut`, `hang_midstream`, `malformed` and `error_event` happen behind the tokens."""

    tokens: tuple[str, ...] = ("Hello", " there", ".")
    first_token_s: float = 0.0
    token_s: float = 0.0
    calls: tuple[tuple[str, str], ...] = ()
    """Tool calls as (name, arguments)."""
    status: int = 200
    fault: Fault = ""
    reasoning: int = 0
    """So many chunks of reasoning_content before the first token."""


@dataclass
class FakeLlm:
    """Answers with the next script of the queue, else with the default one."""

    default: Script = field(default_factory=Script)
    scripts: deque[Script] = field(default_factory=deque)
    requests: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """A request has arrived."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """A client has gone away in the middle of an answer."""
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json())
        self.authorizations.append(request.headers.get("Authorization", ""))
        self.asked.set()
        script = self.scripts.popleft() if self.scripts else self.default
        if script.status != 200:
            return web.json_response({"error": {"message": "refused: the prompt was ..."}}, status=script.status)
        try:
            return await self._stream(request, script)
        except (asyncio.CancelledError, ConnectionResetError):
            self.left.set()
            raise

    async def _stream(self, request: web.Request, script: Script) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if script.fault == "hang":
            await asyncio.Event().wait()
        await asyncio.sleep(script.first_token_s)
        for _ in range(script.reasoning):
            await _send(response, {"role": "assistant", "reasoning_content": "hmm"})
        for token in script.tokens:
            await _send(response, {"role": "assistant", "content": token})
            await asyncio.sleep(script.token_s)
        await self._fail(request, response, script.fault)
        for index, (name, arguments) in enumerate(script.calls):
            head, tail = arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :]
            function = {"name": name, "arguments": head}
            call = {"index": index, "id": f"call_{index}", "type": "function", "function": function}
            await _send(response, {"tool_calls": [call]})
            await _send(response, {"tool_calls": [{"index": index, "function": {"arguments": tail}}]})
        await _send(response, {}, "tool_calls" if script.calls else "stop")
        await response.write(DONE)
        await response.write_eof()
        return response

    async def _fail(self, request: web.Request, response: web.StreamResponse, fault: Fault) -> None:
        if fault == "malformed":
            await response.write(GARBAGE)
        elif fault == "error_event":
            await response.write(ERROR_EVENT)
        elif fault == "hang_midstream":
            await asyncio.Event().wait()
        elif fault == "cut" and request.transport is not None:
            request.transport.abort()
            raise ConnectionResetError


async def _send(response: web.StreamResponse, delta: dict[str, Any], finish_reason: str | None = None) -> None:
    await response.write(event(delta, finish_reason))
