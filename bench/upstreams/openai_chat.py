"""`/v1/chat/completions` of a fake OpenAI server: it repeats the mark of the question, word by word."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from aiohttp import web

from bench.upstreams.fake import Session
from bench.upstreams.script import Fault, Kind, Script, Stage
from shared.marks import marks_in

DONE: Final = b"data: [DONE]\n\n"
REPLY: Final = "I have heard {mark}."
GARBAGE: Final = b'data: {"choices": [{"delta": {"content": \n\n'
ERROR_EVENT: Final = b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n'


def event(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    """One `chat.completion.chunk` as a server-sent event."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "fake", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


def reply_to(messages: list[dict[str, Any]], reply: str = REPLY) -> str:
    """What the model answers to the last thing the person has said."""
    said = next((str(message.get("content")) for message in reversed(messages) if message.get("role") == "user"), "")
    marks = marks_in(said)
    return reply.replace("{mark}", marks[-1].word) if marks else "Hello there, nice to hear from you."


async def answer(
    request: web.Request, session: Session, script: Script, fault: Fault | None, reply: str = REPLY
) -> web.StreamResponse:
    """The answer to a request whose body is in `session.started`; the fault is of stage STREAM or FINISH, or None."""
    text = (
        ""
        if fault is not None and fault.kind in (Kind.NO_RESULT, Kind.NO_SPEECH)
        else reply_to(session.started["messages"], reply)
    )
    await asyncio.sleep(script.latency_ms / 1000)
    if not session.started.get("stream"):
        return web.json_response(_whole(text))
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number, word in enumerate(text.split(" ") if text else []):
        await response.write(event({"role": "assistant", "content": f" {word}" if number else word}))
        await asyncio.sleep(script.drip_ms / 1000)
        if number == 0 and await suffers(request, response, fault, Stage.STREAM):
            return response
    if await suffers(request, response, fault, Stage.FINISH):
        return response
    await response.write(event({}, "stop") + DONE)
    await response.write_eof()
    session.was_finished = True
    return response


async def suffers(request: web.Request, response: web.StreamResponse, fault: Fault | None, stage: Stage) -> bool:
    """Does the stream of events end here?"""
    if fault is None or fault.stage is not stage:
        return False
    match fault.kind:
        case Kind.SILENT:
            await asyncio.Event().wait()
        case Kind.ERROR | Kind.QUOTA:
            await response.write(ERROR_EVENT)
        case Kind.GARBAGE:
            await response.write(GARBAGE)
        case Kind.CLOSE:
            hang_up(request)
        case _:
            return False
    return True


def hang_up(request: web.Request) -> None:
    """Close the connection in the middle of the answer."""
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError


def _whole(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": "fake", "choices": [choice]}
