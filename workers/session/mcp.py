"""The tools of one device: the client half of JSON-RPC as the firmware speaks it, without any I/O.

Rules
- initialize, then tools/list page by page, then tools/call; one request at a time, because a device runs its tools in
  its main loop. Further calls wait in line.
- Request ids are small integers that only grow, over all methods, so that a late reply answers nobody. The firmware
  reads an int32 and drops a request without a numeric id, without a reply: every request has its own timeout.
- A list that fails or does not end leaves the tools that came so far.
- Only listed tools are called. Those meant for people (audience "user", or known by name) never are: the firmware
  runs them although it does not list them (78/xiaozhi-esp32, main/mcp_server.cc).
- An error may come without a code, and a tool's own failure as `isError`.
- Pure: `now` in seconds comes in, effects go out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from typing import Any, Final

PROTOCOL_VERSION: Final = "2024-11-05"
USER_ONLY: Final = frozenset(
    {
        "self.reboot",
        "self.upgrade_firmware",
        "self.screen.snapshot",
        "self.get_system_info",
        "self.screen.preview_image",
        "self.assets.set_download_url",
        "self.screen.get_info",
    }
)
MAX_PAGES: Final = 32
MAX_TOOLS: Final = 128
MAX_WAITING: Final = 8
_MAX_FUNCTION_NAME = 64
_SETUP_TIMEOUT_S: Final = 10.0
_NO_FUNCTION_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]")
_READS: Final = re.compile(r"(^|[._])(get|list|query|read|is|has|find|search)(_|$)")


@dataclass(frozen=True, slots=True)
class Tool:
    """`function` is its name for a model: letters, digits, `_` and `-` only."""

    name: str
    function: str
    description: str
    parameters: dict[str, Any]
    changes: bool
    """It may change something in the world, so it must not be run twice."""


class Outcome(Enum):
    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ToolResult:
    outcome: Outcome
    text: str


@dataclass(frozen=True, slots=True)
class Send:
    """Effect: this JSON-RPC object goes to the device."""

    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listed:
    """Effect: discovery is over, whatever it found."""

    tools: int


@dataclass(frozen=True, slots=True)
class Returned:
    """Effect: call `ticket` has its result; each has exactly one, unless it was forgotten."""

    ticket: int
    result: ToolResult


Effects = list[Send | Listed | Returned]


class Phase(Enum):
    OFF = auto()
    GREETING = auto()
    LISTING = auto()
    READY = auto()


@dataclass(slots=True)
class _Request:
    ticket: int
    method: str
    params: dict[str, Any]
    timeout_s: float
    deadline: float
    id: int = 0


@dataclass(slots=True)
class DeviceMcp:
    """One device's MCP client."""

    call_timeout_s: float
    vision_url: str | None = None
    _last_id: int = 0
    """Request ids count on from here."""
    phase: Phase = Phase.OFF
    tools: dict[str, Tool] = field(default_factory=dict)
    """By the device's own name."""
    _last_ticket: int = 0
    _pages: int = 0
    _running: _Request | None = None
    _waiting: list[_Request] = field(default_factory=list)

    def start(self, now: float) -> Effects:
        if self.phase is not Phase.OFF:
            return []
        self.phase = Phase.GREETING
        vision = {"vision": {"url": self.vision_url}} if self.vision_url else {}
        client = {"name": "xiaozhi-cluster", "version": "1.0.0"}
        params = {"protocolVersion": PROTOCOL_VERSION, "capabilities": vision, "clientInfo": client}
        return self._ask("initialize", params, now)

    def describe(self) -> list[dict[str, Any]]:
        """The tools as JSON values that `restore` understands."""
        return [_described(tool) for tool in self.tools.values()]

    def restore(self, entries: list[Any]) -> None:
        """Know the device's tools without asking it: it has told them to another worker of the same connection."""
        for entry in entries:
            self._add(entry)
        if self.tools:
            self.phase = Phase.READY

    def by_function(self, function: str) -> Tool | None:
        return next((tool for tool in self.tools.values() if tool.function == function), None)

    def call(self, name: str, arguments: dict[str, Any], now: float) -> tuple[int, Effects]:
        """The ticket under which the result will be returned. Raises KeyError if no such tool is listed."""
        tool = self.tools[name]
        self._last_ticket += 1
        request = _Request(
            self._last_ticket,
            "tools/call",
            {"name": tool.name, "arguments": arguments},
            self.call_timeout_s,
            now + self.call_timeout_s,
        )
        if len(self._waiting) >= MAX_WAITING:
            return request.ticket, [Returned(request.ticket, ToolResult(Outcome.REFUSED, "the device is busy"))]
        self._waiting.append(request)
        return request.ticket, self._next(now)

    def forget(self, ticket: int) -> None:
        """Nobody waits for this call any more; one that runs on the device still keeps its place in the line."""
        self._waiting = [request for request in self._waiting if request.ticket != ticket]
        if self._running is not None and self._running.ticket == ticket:
            self._running.ticket = 0

    def on_message(self, payload: dict[str, Any], now: float) -> Effects:
        """A JSON-RPC message of the device. Requests and replies to nobody are ignored."""
        request = self._running
        if request is None or payload.get("id") != request.id or not ("result" in payload or "error" in payload):
            return []
        self._running = None
        error = payload.get("error")
        result = payload.get("result")
        if error is not None or not isinstance(result, dict):
            return self._failed(request, ToolResult(Outcome.ERROR, _error_text(error)), now)
        return self._succeeded(request, result, now)

    def on_time(self, now: float) -> Effects:
        """Call it when `next_deadline` has come."""
        effects: Effects = []
        if self._running is not None and now >= self._running.deadline:
            request, self._running = self._running, None
            effects += self._failed(request, ToolResult(Outcome.TIMEOUT, "the device did not answer in time"), now)
        for request in [request for request in self._waiting if now >= request.deadline]:
            self._waiting.remove(request)
            effects.append(Returned(request.ticket, ToolResult(Outcome.TIMEOUT, "the device is busy")))
        return effects + self._next(now)

    @property
    def next_deadline(self) -> float | None:
        requests = [*self._waiting, *([self._running] if self._running else [])]
        return min((request.deadline for request in requests), default=None)

    def _ask(self, method: str, params: dict[str, Any], now: float) -> Effects:
        """Setup goes before what waits."""
        self._waiting.insert(0, _Request(0, method, params, _SETUP_TIMEOUT_S, now + _SETUP_TIMEOUT_S))
        return self._next(now)

    def _next(self, now: float) -> Effects:
        if self._running is not None or not self._waiting:
            return []
        request = self._running = self._waiting.pop(0)
        request.deadline = now + request.timeout_s
        self._last_id += 1
        request.id = self._last_id
        return [Send({"jsonrpc": "2.0", "id": request.id, "method": request.method, "params": request.params})]

    def _succeeded(self, request: _Request, result: dict[str, Any], now: float) -> Effects:
        if request.method == "initialize":
            return self._list("", now)
        if request.method == "tools/list":
            return self._page(result, now)
        outcome = Outcome.ERROR if result.get("isError") else Outcome.OK
        return self._return(request, ToolResult(outcome, _content_text(result)), now)

    def _failed(self, request: _Request, result: ToolResult, now: float) -> Effects:
        if request.method == "initialize":
            return self._list("", now)  # the firmware lists and calls without it, too
        if request.method == "tools/list":
            return self._ready(now)
        return self._return(request, result, now)

    def _return(self, request: _Request, result: ToolResult, now: float) -> Effects:
        returned: Effects = [Returned(request.ticket, result)] if request.ticket else []
        return returned + self._next(now)

    def _list(self, cursor: str, now: float) -> Effects:
        self.phase = Phase.LISTING
        self._pages += 1
        return self._ask("tools/list", {"cursor": cursor, "withUserTools": False}, now)

    def _page(self, result: dict[str, Any], now: float) -> Effects:
        entries = result.get("tools")
        for entry in entries if isinstance(entries, list) else []:
            self._add(entry)
        cursor = result.get("nextCursor")
        if isinstance(cursor, str) and cursor and self._pages < MAX_PAGES and len(self.tools) < MAX_TOOLS:
            return self._list(cursor, now)
        return self._ready(now)

    def _ready(self, now: float) -> Effects:
        self.phase = Phase.READY
        return [Listed(len(self.tools)), *self._next(now)]

    def _add(self, entry: object) -> None:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or len(self.tools) >= MAX_TOOLS:
            return
        name = entry["name"]
        notes = entry["annotations"] if isinstance(entry.get("annotations"), dict) else {}
        if not name or name in USER_ONLY or notes.get("audience") == ["user"]:
            return
        schema = entry.get("inputSchema")
        tool = _tool(
            name,
            self._function_name(name),
            str(entry.get("description") or ""),
            json.dumps(schema if isinstance(schema, dict) else {"type": "object", "properties": {}}),
            not (notes.get("readOnlyHint") is True or _READS.search(name)),
        )
        self.tools[tool.name] = tool

    def _function_name(self, name: str) -> str:
        base = _NO_FUNCTION_NAME.sub("_", name)[:_MAX_FUNCTION_NAME]
        taken = {tool.function for tool in self.tools.values() if tool.name != name}
        function, n = base, 2
        while function in taken:
            function, n = f"{base[: _MAX_FUNCTION_NAME - 4]}_{n}", n + 1
        return function


@lru_cache(maxsize=1024)
def _tool(name: str, function: str, description: str, schema: str, changes: bool) -> Tool:
    """One object for all devices with the same tool, which is most of them: a tool list is the largest thing an idle
    session holds. So nobody may change its parameters."""
    return Tool(name, function, description, json.loads(schema), changes)


def _described(tool: Tool) -> dict[str, Any]:
    notes = {"readOnlyHint": not tool.changes}
    return {"name": tool.name, "description": tool.description, "inputSchema": tool.parameters, "annotations": notes}


def _error_text(error: object) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or "the device refused the call")


def _content_text(result: dict[str, Any]) -> str:
    """The texts of the content; anything else as JSON."""
    content = result.get("content")
    items = [item for item in content if isinstance(item, dict)] if isinstance(content, list) else []
    texts = [item["text"] for item in items if isinstance(item.get("text"), str)]
    return "\n".join(texts) if texts else json.dumps(result, ensure_ascii=False)
