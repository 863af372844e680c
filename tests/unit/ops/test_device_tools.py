"""The simulated device as an MCP server, as the firmware answers."""

from __future__ import annotations

from typing import Any

import pytest

from ops.device.tools import DeviceTools, Tool

pytestmark = pytest.mark.unit


def request(method: str, params: dict[str, Any] | None = None, number: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return request("tools/call", {"name": name, "arguments": arguments})


def test_initialize_names_the_board() -> None:
    """Protocol version and server info."""
    answer = DeviceTools("board", "2.4.2").answer(request("initialize"))
    assert answer is not None
    assert answer["result"]["protocolVersion"] == "2024-11-05"
    assert answer["result"]["serverInfo"] == {"name": "board", "version": "2.4.2"}


@pytest.mark.parametrize(
    "broken",
    [
        {**request("initialize"), "id": "1"},
        {**request("initialize"), "id": True},
        {**request("initialize"), "jsonrpc": "1.0"},
        {**request("initialize"), "params": []},
        {**request("initialize"), "method": 3},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {**request("notifications/x"), "id": 4},
        [],
    ],
)
def test_broken_request_gets_no_answer(broken: object) -> None:
    """The firmware drops it; the server has to time out."""
    assert DeviceTools().answer(broken) is None


def test_pages_hold_every_tool_once() -> None:
    """`nextCursor` leads through all pages, and the last one has none."""
    tools = DeviceTools(page_bytes=500)
    names: list[str] = []
    cursor = ""
    pages = 0
    while True:
        answer = tools.answer(request("tools/list", {"cursor": cursor}))
        assert answer is not None
        names += [tool["name"] for tool in answer["result"]["tools"]]
        pages += 1
        cursor = answer["result"].get("nextCursor", "")
        if not cursor:
            break
    assert pages > 1
    assert names == [name for name, tool in tools.tools.items() if not tool.is_user_only]


def test_user_only_tools_are_listed_on_request_and_callable_always() -> None:
    """`withUserTools` shows them; a call by name works without."""
    tools = DeviceTools()
    plain = tools.answer(request("tools/list"))
    full = tools.answer(request("tools/list", {"withUserTools": True}))
    assert plain is not None and full is not None
    assert "self.reboot" not in [tool["name"] for tool in plain["result"]["tools"]]
    assert "self.reboot" in [tool["name"] for tool in full["result"]["tools"]]
    answer = tools.answer(call("self.reboot"))
    assert answer is not None and answer["result"]["content"][0]["text"] == "true"


def test_tool_too_big_for_a_page_is_an_error() -> None:
    """As is an unknown cursor; errors have a message and no code."""
    answer = DeviceTools(page_bytes=50).answer(request("tools/list"))
    assert answer is not None
    assert "payload size limit" in answer["error"]["message"]
    assert "code" not in answer["error"]
    unknown = DeviceTools().answer(request("tools/list", {"cursor": "nobody"}))
    assert unknown is not None and "error" in unknown


def test_volume_is_set_and_told() -> None:
    """A call changes the device, and the status shows it."""
    tools = DeviceTools()
    tools.answer(call("self.audio_speaker.set_volume", volume=35.9, unknown=1))
    assert tools.volume == 35
    status = tools.answer(call("self.get_device_status"))
    assert status is not None and '"volume": 35' in status["result"]["content"][0]["text"]
    assert tools.calls[0] == ("self.audio_speaker.set_volume", {"volume": 35})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Missing valid argument: volume"),
        ({"volume": "50"}, "Missing valid argument: volume"),
        ({"volume": 101}, "Value exceeds maximum allowed: 100"),
        ({"volume": -1}, "Value is below minimum allowed: 0"),
    ],
)
def test_bad_argument_is_an_error_and_changes_nothing(arguments: dict[str, Any], message: str) -> None:
    """A wrong type counts as missing."""
    tools = DeviceTools()
    answer = tools.answer(call("self.audio_speaker.set_volume", **arguments))
    assert answer is not None and answer["error"]["message"] == message
    assert tools.volume == 70
    assert tools.calls == []


def test_unknown_tool_and_method_are_errors() -> None:
    """Both name what was asked for."""
    tools = DeviceTools()
    for wrong in (call("self.fly"), request("resources/list")):
        answer = tools.answer(wrong)
        assert answer is not None and answer["error"]["message"]


def test_added_tool_is_called_with_its_default() -> None:
    """A board's own tool, with an optional argument."""
    tools = DeviceTools()
    tools.add(Tool("self.lamp.set", "Lamp", lambda given: given["on"], {"on": {"type": "boolean", "default": True}}))
    answer = tools.answer(call("self.lamp.set"))
    assert answer is not None and answer["result"]["content"][0]["text"] == "true"
