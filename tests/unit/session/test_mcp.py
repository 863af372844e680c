"""The JSON-RPC client of a device's tools."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.session import DEFAULT_TOOLS, FakeMcpDevice
from workers.session.mcp import MAX_PAGES, DeviceMcp, Effects, Listed, Outcome, Phase, Returned, Send, ToolResult

pytestmark = pytest.mark.unit


def sent(effects: Effects) -> list[dict[str, Any]]:
    return [effect.payload for effect in effects if isinstance(effect, Send)]


def returned(effects: Effects) -> list[tuple[int, ToolResult]]:
    return [(effect.ticket, effect.result) for effect in effects if isinstance(effect, Returned)]


def discover(client: DeviceMcp, device: FakeMcpDevice) -> Effects:
    effects = client.start(0.0)
    while requests := sent(effects):
        reply = device.answer(requests[0])
        assert reply is not None
        effects = client.on_message(reply, 0.0)
    return effects


def ready(**tools: Any) -> DeviceMcp:
    client = DeviceMcp(30.0)
    discover(client, FakeMcpDevice(**tools))
    return client


def test_it_greets_then_lists_page_by_page() -> None:
    """initialize with the protocol version and the vision address, then pages until no cursor remains."""
    client, device = DeviceMcp(30.0, "http://host/vision"), FakeMcpDevice()
    effects = discover(client, device)
    assert effects == [Listed(2)]
    first, *pages = device.requests
    assert first["params"]["protocolVersion"] == "2024-11-05"
    assert first["params"]["capabilities"]["vision"]["url"] == "http://host/vision"
    assert [page["params"]["cursor"] for page in pages] == ["", "self.reboot"]
    assert all(page["params"]["withUserTools"] is False for page in pages)
    assert [request["id"] for request in device.requests] == [1, 2, 3]
    assert all(request["jsonrpc"] == "2.0" for request in device.requests)


def test_user_only_tools_are_not_offered() -> None:
    """Neither those marked for people nor those known by name."""
    client = ready()
    assert set(client.tools) == {"self.get_device_status", "self.audio_speaker.set_volume"}
    with pytest.raises(KeyError):
        client.call("self.reboot", {}, 1.0)


def test_function_names_are_what_models_allow() -> None:
    """Dots become underscores, names that collide get a number, and each finds its tool again."""
    tools = tuple({"name": name, "inputSchema": {}} for name in ("a.b", "a_b", "灯.开", "x" * 90))
    client = ready(tools=tools)
    functions = [tool.function for tool in client.tools.values()]
    assert functions == ["a_b", "a_b_2", "___", "x" * 64]
    assert [client.by_function(function) for function in functions] == list(client.tools.values())


def test_reading_tools_change_nothing() -> None:
    """Only tools whose name or note says so count as harmless."""
    tools = (*DEFAULT_TOOLS, {"name": "lamp.toggle"}, {"name": "lamp.state", "annotations": {"readOnlyHint": True}})
    changes = {name: tool.changes for name, tool in ready(tools=tools).tools.items()}
    assert changes == {
        "self.get_device_status": False,
        "self.audio_speaker.set_volume": True,
        "lamp.toggle": True,
        "lamp.state": False,
    }


def test_a_call_returns_its_text() -> None:
    """The texts of the content are the result; isError makes it an error."""
    client, device = ready(), FakeMcpDevice()
    for arguments, result in (
        ({"volume": 50}, ToolResult(Outcome.OK, "true")),
        ({}, ToolResult(Outcome.ERROR, "Missing valid argument")),
    ):
        ticket, effects = client.call("self.audio_speaker.set_volume", arguments, 1.0)
        reply = device.answer(sent(effects)[0])
        assert reply is not None
        assert returned(client.on_message(reply, 2.0)) == [(ticket, result)]


def test_an_error_needs_no_code() -> None:
    """The firmware's errors have a message only."""
    client = ready()
    ticket, effects = client.call("self.get_device_status", {}, 1.0)
    reply = {"jsonrpc": "2.0", "id": sent(effects)[0]["id"], "error": {"message": "Unknown tool"}}
    assert returned(client.on_message(reply, 1.0)) == [(ticket, ToolResult(Outcome.ERROR, "Unknown tool"))]


def test_one_call_at_a_time() -> None:
    """A device runs tools in its main loop: the second call leaves when the first has returned."""
    client, device = ready(), FakeMcpDevice()
    _, first = client.call("self.get_device_status", {}, 1.0)
    second, waiting = client.call("self.audio_speaker.set_volume", {"volume": 1}, 1.0)
    assert sent(waiting) == []
    reply = device.answer(sent(first)[0])
    assert reply is not None
    effects = client.on_message(reply, 1.5)
    assert sent(effects)[0]["params"]["name"] == "self.audio_speaker.set_volume"
    client.forget(second)
    reply = device.answer(sent(effects)[0])
    assert reply is not None
    assert client.on_message(reply, 2.0) == []


def test_a_late_reply_answers_nobody() -> None:
    """After a timeout ids go on, so that what comes late is no other call's result."""
    client = ready()
    ticket, effects = client.call("self.get_device_status", {}, 10.0)
    late = sent(effects)[0]["id"]
    assert client.next_deadline == 40.0
    assert returned(client.on_time(40.0))[0][0] == ticket
    _, effects = client.call("self.get_device_status", {}, 41.0)
    assert sent(effects)[0]["id"] == late + 1
    assert client.on_message({"jsonrpc": "2.0", "id": late, "result": {"tools": [{"name": "evil"}]}}, 42.0) == []
    assert "evil" not in client.tools


def test_a_forgotten_call_that_waits_is_never_sent() -> None:
    """A turn that died before its tool ran leaves no trace."""
    client = ready()
    _, effects = client.call("self.get_device_status", {}, 1.0)
    second, _ = client.call("self.audio_speaker.set_volume", {"volume": 1}, 1.0)
    client.forget(second)
    assert client.on_message({"id": sent(effects)[0]["id"], "result": {"content": []}}, 2.0)[1:] == []


def test_the_line_is_bounded() -> None:
    """Calls beyond it are refused at once, in words the model can use."""
    client = ready()
    results = [returned(client.call("self.get_device_status", {}, 1.0)[1]) for _ in range(12)]
    refused = [result for result in results if result]
    assert len(refused) == 3
    assert refused[0][0][1].outcome is Outcome.REFUSED


def test_a_device_that_never_answers_has_no_tools() -> None:
    """Discovery ends by itself; initialize that fails does not keep it from listing."""
    client = DeviceMcp(30.0)
    client.start(0.0)
    effects = client.on_time(10.0)
    assert sent(effects)[0]["method"] == "tools/list"
    assert client.on_time(20.0) == [Listed(0)]
    assert client.phase is Phase.READY


def test_a_list_without_end_is_cut() -> None:
    """A device whose cursor never ends is asked for a bounded number of pages."""
    client = DeviceMcp(30.0)
    effects = client.start(0.0)
    effects = client.on_message({"id": sent(effects)[0]["id"], "result": {}}, 0.0)
    pages = 0
    while requests := sent(effects):
        pages += 1
        result = {"tools": [{"name": f"tool{pages}"}], "nextCursor": "again"}
        effects = client.on_message({"id": requests[0]["id"], "result": result}, 0.0)
    assert pages == MAX_PAGES == len(client.tools)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["tools", "name", "id", "x"]), inner),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.sampled_from(["id", "result", "error", "method"]), JSON), max_size=20))
def test_garbage_never_raises(messages: list[dict[str, Any]]) -> None:
    """Whatever a device sends, ids grow by one per request and every call returns at most once."""
    client = DeviceMcp(5.0)
    effects = client.start(0.0)
    for message in messages:
        effects += client.on_message(message, 1.0)
    for name in list(client.tools):
        effects += client.call(name, {}, 2.0)[1]
    for now in (20.0, 40.0, 60.0, 80.0):
        effects += client.on_time(now)
    ids = [payload["id"] for payload in sent(effects)]
    assert ids == list(range(1, len(ids) + 1))
    tickets = [ticket for ticket, _ in returned(effects)]
    assert len(tickets) == len(set(tickets))
