"""A device's tools as a turn uses them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fakes.session import FakeMcpDevice
from workers.session.mcp import DeviceMcp, Outcome
from workers.session.tools import DeviceTools, TurnTools

pytestmark = pytest.mark.unit


class Bench:
    """A device behind its tools, and what the router would see."""

    def __init__(self, device: FakeMcpDevice, timeout_s: float = 5.0) -> None:
        self.device = device
        self.sent: list[dict[str, Any]] = []
        self.announced: list[int] = []
        self.acknowledges = True
        self.listed = 0
        self.tools = DeviceTools(DeviceMcp(timeout_s), self)
        self.tools.start()

    def on_listed(self) -> None:
        self.listed += 1

    def to_device(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        if message["type"] == "mcp" and (reply := self.device.answer(message["payload"])) is not None:
            loop = asyncio.get_running_loop()
            loop.call_soon(self.tools.on_message, {"type": "mcp", "payload": reply})

    async def announce(self, n: int) -> None:
        self.announced.append(n)
        if not self.acknowledges:
            await asyncio.Event().wait()

    def turn(self, effects_timeout_s: float = 5.0) -> TurnTools:
        return TurnTools(self.tools, self.announce, effects_timeout_s)


async def test_effects_are_announced_once_before_the_first_change() -> None:
    """Reading needs no leave; after the first change the router knows."""
    bench = Bench(FakeMcpDevice())
    turn = bench.turn()
    await turn.ready()
    await turn.call("self.get_device_status", {})
    assert bench.announced == []
    await turn.call("self.audio_speaker.set_volume", {"volume": 1})
    await turn.call("self.audio_speaker.set_volume", {"volume": 2})
    assert (bench.announced, bench.device.volume, turn.calls) == ([1], 2, 3)


async def test_nothing_changes_without_the_routers_word() -> None:
    """A redo of the turn elsewhere could do it twice."""
    bench = Bench(FakeMcpDevice())
    bench.acknowledges = False
    turn = bench.turn(effects_timeout_s=0.01)
    await turn.ready()
    result = await turn.call("self.audio_speaker.set_volume", {"volume": 1})
    assert result.outcome is Outcome.REFUSED
    assert bench.device.calls() == []
    assert not await turn.command({"type": "iot", "commands": []})


async def test_a_tool_that_never_returns_times_out() -> None:
    """Each call has its own timeout, and the next one is sent."""
    bench = Bench(FakeMcpDevice(silent=True), timeout_s=0.02)
    turn = bench.turn()
    await turn.ready()
    assert (await turn.call("self.get_device_status", {})).outcome is Outcome.TIMEOUT
    bench.device.silent = False
    assert (await turn.call("self.get_device_status", {})).outcome is Outcome.OK


async def test_a_cancelled_call_leaves_nothing_behind() -> None:
    """Its late reply reaches nobody, and the device is free again when it comes."""
    bench = Bench(FakeMcpDevice(silent=True))
    turn = bench.turn()
    await turn.ready()
    call = asyncio.create_task(turn.call("self.get_device_status", {}), name="call")
    await asyncio.wait_for(bench.device.called.wait(), 5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    bench.device.silent = False
    late = {"jsonrpc": "2.0", "id": bench.device.requests[-1]["id"], "result": {"content": []}}
    second = asyncio.create_task(bench.turn().call("self.get_device_status", {}), name="second")
    await asyncio.sleep(0)
    bench.tools.on_message({"type": "mcp", "payload": late})
    assert (await second).text.startswith("{")


async def test_a_device_without_tools_is_not_waited_for() -> None:
    """Without MCP nothing is listed and nobody waits."""
    tools = DeviceTools(DeviceMcp(5.0), lambda message: None)
    await asyncio.wait_for(tools.ready(), 1)
    assert TurnTools(tools, lambda n: asyncio.sleep(0)).specs() == []


async def test_closing_ends_every_wait() -> None:
    """A session that ends cancels the calls that wait, and its timer."""
    bench = Bench(FakeMcpDevice(silent=True))
    turn = bench.turn()
    await turn.ready()
    call = asyncio.create_task(turn.call("self.get_device_status", {}), name="call")
    await asyncio.wait_for(bench.device.called.wait(), 5)
    bench.tools.close()
    with pytest.raises(asyncio.CancelledError):
        await call
