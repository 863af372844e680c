"""A router for one session stream, and a device with MCP tools behind it; no sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shared.ids import StreamId
from shared.link.messages import (
    Body,
    CloseAfter,
    Effects,
    EffectsOk,
    Emotion,
    FromDevice,
    Input,
    ReplyEnd,
    Segment,
    ToDevice,
    TurnOver,
)
from shared.worker.service import Job

DEFAULT_TOOLS: tuple[dict[str, Any], ...] = (
    {"name": "self.get_device_status", "description": "status", "inputSchema": {"type": "object", "properties": {}}},
    {
        "name": "self.audio_speaker.set_volume",
        "description": "volume",
        "inputSchema": {
            "type": "object",
            "properties": {"volume": {"type": "integer", "minimum": 0, "maximum": 100}},
            "required": ["volume"],
        },
    },
    {"name": "self.reboot", "description": "reboot", "inputSchema": {"type": "object", "properties": {}}},
    {
        "name": "self.screen.set_theme",
        "description": "for people",
        "annotations": {"audience": ["user"]},
        "inputSchema": {"type": "object", "properties": {}},
    },
)


@dataclass
class FakeMcpDevice:
    """Answers JSON-RPC as the firmware does. `tools` are told in pages of `page` tools."""

    tools: tuple[dict[str, Any], ...] = DEFAULT_TOOLS
    page: int = 2
    volume: int = 40
    silent: bool = False
    """It answers no call."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    called: asyncio.Event = field(default_factory=asyncio.Event)

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        self.requests.append(request)
        method, params = request["method"], request["params"]
        if method == "initialize":
            return self._result(request, {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}})
        if method == "tools/list":
            return self._result(request, self._page(params.get("cursor", "")))
        self.called.set()
        return None if self.silent else self._result(request, self._call(params["name"], params["arguments"]))

    def calls(self) -> list[str]:
        return [request["params"]["name"] for request in self.requests if request["method"] == "tools/call"]

    def _page(self, cursor: str) -> dict[str, Any]:
        names = [tool["name"] for tool in self.tools]
        first = names.index(cursor) if cursor else 0
        page: dict[str, Any] = {"tools": list(self.tools[first : first + self.page])}
        if first + self.page < len(names):
            page["nextCursor"] = names[first + self.page]
        return page

    def _call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if name == "self.get_device_status":
            return _text(json.dumps({"audio_speaker": {"volume": self.volume}, "screen": {"brightness": 70}}))
        if name == "self.audio_speaker.set_volume" and isinstance(arguments.get("volume"), int):
            self.volume = arguments["volume"]
            return _text("true")
        return {"content": [{"type": "text", "text": "Missing valid argument"}], "isError": True}

    def _result(self, request: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": request["id"], "result": result}


def _text(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": False}


@dataclass
class FakeRouter:
    """A Stream of shared.worker.service that collects what the session says and answers Effects and MCP requests."""

    id: StreamId
    device: FakeMcpDevice | None = None
    acknowledges: bool = True
    events: list[Body] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    """Every end that was tried: "done" or an error's code. The first one counts."""
    job: Job | None = None
    is_open: bool = True
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    # shared.worker.service.Stream

    def audio(self, packet: bytes) -> None:
        raise AssertionError("a session sends no audio")

    def credit(self, body: Body) -> None:
        raise AssertionError("a session sends no credit")

    def event(self, body: Body) -> None:
        if not self.is_open:
            return
        assert body.to_map()["name"] == body.name
        self.events.append(body)
        self._changed.set()
        if isinstance(body, Effects) and self.acknowledges:
            self.send(EffectsOk(body.gen, body.n))
        if isinstance(body, ToDevice) and body.message.get("type") == "mcp" and self.device is not None:
            reply = self.device.answer(body.message["payload"])
            if reply is not None:
                self.send(FromDevice({"type": "mcp", "payload": reply}))

    def done(self, **stats: Any) -> None:
        self._end("done")

    def error(self, code: str, *, retryable: bool = False, message: str = "") -> None:
        self._end(code)

    def _end(self, how: str) -> None:
        self.ends.append(how)
        self.is_open = False
        self._changed.set()

    # what a test does

    def send(self, body: Body) -> None:
        """As the link does it: later, as a decoded map."""
        asyncio.get_running_loop().call_soon(self._deliver, body.to_map())

    def ask(self, gen: int, text: str, source: Any = "text") -> None:
        self.send(Input(gen, text, source))

    def over(self, gen: int, outcome: Any = "complete", played: int = 99, part: float = 0.0) -> None:
        self.send(TurnOver(gen, outcome, "test", played, part))

    def end(self) -> None:
        """END, behind everything that was sent before."""
        assert self.job is not None
        asyncio.get_running_loop().call_soon(self.job.on_end)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def reply(self, gen: int) -> str:
        """Wait for the reply's end; what was said, segments joined by a bar."""
        await self.until(lambda: self.reply_ends(gen))
        return "|".join(segment.text for segment in self.segments(gen))

    async def turn(self, gen: int, text: str, source: Any = "text") -> str:
        """One whole turn, heard to its end."""
        self.ask(gen, text, source)
        said = await self.reply(gen)
        self.over(gen, played=len(self.segments(gen)))
        return said

    def of(self, kind: type[Body]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def segments(self, gen: int) -> list[Segment]:
        return [event for event in self.of(Segment) if event.gen == gen]

    def reply_ends(self, gen: int) -> list[ReplyEnd]:
        return [event for event in self.of(ReplyEnd) if event.gen == gen]

    def closes(self, gen: int) -> bool:
        return any(event.gen == gen for event in self.of(CloseAfter))

    def emotions(self, gen: int) -> list[str]:
        return [event.emotion for event in self.of(Emotion) if event.gen == gen]

    def to_device(self, kind: str) -> list[dict[str, Any]]:
        return [event.message for event in self.of(ToDevice) if event.message.get("type") == kind]

    def _deliver(self, body: dict[str, Any]) -> None:
        if self.is_open and self.job is not None:
            self.job.on_event(body)
