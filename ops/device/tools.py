"""The MCP side of a device: it is the server (78/xiaozhi-esp32, main/mcp_server.cc). Pure.

- A request needs `jsonrpc` "2.0", a string method and a number as id; else it is dropped without an answer.
- Errors carry a message and no code. `tools/list` pages are cut at 8,000 bytes; `nextCursor` names the next tool.
- User-only tools are listed only if `withUserTools` is true, but can be called by name at any time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PAGE_BYTES = 8000

JsonMap = dict[str, Any]


class ToolError(Exception):
    """Becomes the error message of the answer."""


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    call: Callable[[JsonMap], object]
    properties: JsonMap = field(default_factory=dict)
    is_user_only: bool = False

    def listed(self) -> JsonMap:
        schema: JsonMap = {"type": "object", "properties": self.properties}
        required = [name for name, kind in self.properties.items() if "default" not in kind]
        if required:
            schema["required"] = required
        entry: JsonMap = {"name": self.name, "description": self.description, "inputSchema": schema}
        if self.is_user_only:
            entry["annotations"] = {"audience": ["user"]}
        return entry


class DeviceTools:
    """A board with a speaker and a screen. `calls` keeps the names and arguments of what was called."""

    def __init__(self, board: str = "xiaozhi-simulator", version: str = "2.4.2", page_bytes: int = PAGE_BYTES) -> None:
        self.board = board
        self.version = version
        self.volume = 70
        self.brightness = 80
        self.theme = "light"
        self.calls: list[tuple[str, JsonMap]] = []
        self._page_bytes = page_bytes
        self.tools = {tool.name: tool for tool in self._built_in()}

    def add(self, tool: Tool) -> None:
        """One more tool, as a board with a lamp or a motor has."""
        self.tools[tool.name] = tool

    def answer(self, request: object) -> JsonMap | None:
        """The JSON-RPC answer; None = the firmware sends none."""
        if not isinstance(request, dict) or not _is_request(request):
            return None
        envelope: JsonMap = {"jsonrpc": "2.0", "id": int(request["id"])}
        params = request.get("params") or {}
        try:
            return {**envelope, "result": self._result(request["method"], params)}
        except ToolError as error:
            return {**envelope, "error": {"message": str(error)}}

    def _result(self, method: str, params: JsonMap) -> JsonMap:
        if method == "initialize":
            return {
                "protocolVersion": "2024-11-05",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": self.board, "version": self.version},
            }
        if method == "tools/list":
            return self._page(str(params.get("cursor", "")), params.get("withUserTools") is True)
        if method == "tools/call":
            return self._call(params)
        raise ToolError(f"Method not implemented: {method}")

    def _page(self, cursor: str, with_user_tools: bool) -> JsonMap:
        names = [name for name, tool in self.tools.items() if with_user_tools or not tool.is_user_only]
        first = names.index(cursor) if cursor in names else 0
        if cursor and cursor not in names:
            raise ToolError(f"Failed to add tool {cursor} because of payload size limit")
        page: list[JsonMap] = []
        size = 0
        for name in names[first:]:
            entry = self.tools[name].listed()
            size += len(json.dumps(entry))
            if size > self._page_bytes:
                if not page:
                    raise ToolError(f"Failed to add tool {name} because of payload size limit")
                return {"tools": page, "nextCursor": name}
            page.append(entry)
        return {"tools": page}

    def _call(self, params: JsonMap) -> JsonMap:
        name = params.get("name")
        if not isinstance(name, str):
            raise ToolError("Missing name")
        tool = self.tools.get(name)
        if tool is None:
            raise ToolError(f"Unknown tool: {name}")
        arguments = _checked(tool, params.get("arguments") or {})
        self.calls.append((name, arguments))
        value = tool.call(arguments)
        text = value if isinstance(value, str) else json.dumps(value)
        return {"content": [{"type": "text", "text": text}], "isError": False}

    def _built_in(self) -> list[Tool]:
        percent: JsonMap = {"type": "integer", "minimum": 0, "maximum": 100}
        return [
            Tool(
                "self.get_device_status",
                "Provides the real-time information of the device, including the current status of the audio speaker,"
                " screen, battery, network, etc.",
                lambda _: self.status(),
            ),
            Tool(
                "self.audio_speaker.set_volume",
                "Set the volume of the audio speaker.",
                lambda given: self._set("volume", given["volume"]),
                {"volume": percent},
            ),
            Tool(
                "self.screen.set_brightness",
                "Set the brightness of the screen.",
                lambda given: self._set("brightness", given["brightness"]),
                {"brightness": percent},
            ),
            Tool(
                "self.screen.set_theme",
                "Set the theme of the screen. The theme can be `light` or `dark`.",
                lambda given: self._set("theme", given["theme"]),
                {"theme": {"type": "string"}},
            ),
            Tool("self.get_system_info", "Get the system information", lambda _: self.status(), is_user_only=True),
            Tool("self.reboot", "Reboot the system", lambda _: True, is_user_only=True),
        ]

    def status(self) -> JsonMap:
        return {
            "audio_speaker": {"volume": self.volume},
            "screen": {"brightness": self.brightness, "theme": self.theme},
            "network": {"type": "wifi", "ssid": "simulator", "signal": "strong"},
        }

    def _set(self, name: str, value: object) -> bool:
        setattr(self, name, value)
        return True


def _is_request(request: JsonMap) -> bool:
    method, number = request.get("method"), request.get("id")
    return (
        request.get("jsonrpc") == "2.0"
        and isinstance(method, str)
        and not method.startswith("notifications")
        and isinstance(number, int | float)
        and not isinstance(number, bool)
        and isinstance(request.get("params", {}), dict)
    )


def _checked(tool: Tool, given: object) -> JsonMap:
    """Arguments as the firmware takes them: unknown ones ignored, a wrong type counts as missing."""
    values = given if isinstance(given, dict) else {}
    checked: JsonMap = {}
    for name, kind in tool.properties.items():
        value = values.get(name)
        if not _fits(value, kind["type"]):
            if "default" not in kind:
                raise ToolError(f"Missing valid argument: {name}")
            value = kind["default"]
        checked[name] = _in_range(value, kind)
    return checked


def _fits(value: object, kind: str) -> bool:
    if kind == "integer":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, bool if kind == "boolean" else str)


def _in_range(value: Any, kind: JsonMap) -> Any:
    if kind["type"] != "integer":
        return value
    number = int(value)
    if "maximum" in kind and number > kind["maximum"]:
        raise ToolError(f"Value exceeds maximum allowed: {kind['maximum']}")
    if "minimum" in kind and number < kind["minimum"]:
        raise ToolError(f"Value is below minimum allowed: {kind['minimum']}")
    return number
