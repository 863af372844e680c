"""A device's tools as a turn uses them: it asks, waits, and may be cancelled.

Rules
- Before the first tool of a turn that changes something, the router is told and must have acknowledged; otherwise the
  tool is not run. So a turn that is asked again elsewhere never does the same thing twice.
- The device's screen shows which tool runs.
- A turn that dies stops waiting; what its tool returns afterwards reaches nobody.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from workers.session import mcp, metrics
from workers.session.iot import DeviceThings
from workers.session.mcp import DeviceMcp, Listed, Outcome, Phase, Returned, Send, Tool, ToolResult

EFFECTS_TIMEOUT_S: Final = 2.0
LISTING_TIMEOUT_S: Final = 1.5
"""From the session's beginning; later nobody waits for a device that does not tell its tools."""

_CALLS = {outcome: metrics.TOOL_CALLS.labels(outcome.value) for outcome in Outcome}


class Line(Protocol):
    """The way to the device, and who wants to know what it can do."""

    def to_device(self, message: dict[str, Any]) -> None: ...

    def on_listed(self) -> None: ...


class DeviceTools:
    """Runs one device's MCP client over its session: messages out, timers, and futures for the results."""

    __slots__ = ("_is_listed", "_line", "_listed", "_listed_by", "_results", "_things", "_timer", "client")

    def __init__(self, client: DeviceMcp, line: Line) -> None:
        self.client = client
        self._line = line
        self._things: DeviceThings | None = None
        self._is_listed = False
        self._listed: asyncio.Event | None = None
        """For who waits for that."""
        self._listed_by = 0.0
        self._results: dict[int, asyncio.Future[ToolResult]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def things(self) -> DeviceThings:
        if self._things is None:
            self._things = DeviceThings()
        return self._things

    def start(self) -> None:
        """Ask for the device's tools, if they are not known and it was not asked before."""
        if self.client.phase is Phase.OFF:
            self._listed_by = self._now() + LISTING_TIMEOUT_S
            self._run(self.client.start(self._now()))

    def describe(self) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """MCP tools, and the things of an old device, as JSON values."""
        return self.client.describe(), None if self._things is None else self._things.describe()

    def restore(self, records: list[Any], things: dict[str, Any] | None) -> None:
        """What `describe` gave to another worker of the same connection."""
        self.client.restore(records)
        if things is not None:
            self.things.restore(things)

    def send(self, message: dict[str, Any]) -> None:
        self._line.to_device(message)

    def on_message(self, message: dict[str, Any]) -> None:
        """An `mcp` or `iot` message of the device; what is malformed is ignored."""
        if message.get("type") == "iot":
            self.things.on_message(message)
        elif isinstance(payload := message.get("payload"), dict):
            self._run(self.client.on_message(payload, self._now()))

    async def ready(self) -> None:
        """Wait for the device's tools, if it has not been asked for them too long ago."""
        if self._listed_by <= self._now() or self._is_listed:
            return
        if self._listed is None:
            self._listed = asyncio.Event()
        try:
            async with asyncio.timeout_at(self._listed_by):
                await self._listed.wait()
        except TimeoutError:
            return

    async def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """Call a listed tool by the device's own name. Raises KeyError if it is not listed."""
        ticket, effects = self.client.call(name, arguments, self._now())
        result: asyncio.Future[ToolResult] = asyncio.get_running_loop().create_future()
        self._results[ticket] = result
        self._run(effects)
        try:
            return await result
        finally:
            if self._results.pop(ticket, None) is not None:
                self.client.forget(ticket)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for result in self._results.values():
            result.cancel()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _run(self, effects: mcp.Effects) -> None:
        for effect in effects:
            match effect:
                case Send(payload):
                    self.send({"type": "mcp", "payload": payload})
                case Listed():
                    self._on_listed()
                case Returned(ticket, result):
                    self._return(ticket, result)
        self._set_timer()

    def _on_listed(self) -> None:
        self._is_listed = True
        if self._listed is not None:
            self._listed.set()
            self._listed = None
        self._line.on_listed()

    def _return(self, ticket: int, result: ToolResult) -> None:
        future = self._results.pop(ticket, None)
        if future is not None and not future.done():
            future.set_result(result)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = self.client.next_deadline
        loop = asyncio.get_running_loop()
        self._timer = None if deadline is None else loop.call_at(deadline, self._on_time)

    def _on_time(self) -> None:
        self._run(self.client.on_time(self._now()))


class TurnTools:
    """The device's tools, for one turn."""

    def __init__(
        self,
        device: DeviceTools,
        announce: Callable[[int], Awaitable[None]],
        effects_timeout_s: float = EFFECTS_TIMEOUT_S,
    ) -> None:
        """`announce(n)` tells the router that tool `n` of the turn changes something, and waits for its word."""
        self._device = device
        self._announce = announce
        self._effects_timeout_s = effects_timeout_s
        self._has_announced = False
        self.calls = 0

    @property
    def things(self) -> DeviceThings:
        return self._device.things

    async def ready(self) -> None:
        await self._device.ready()

    def specs(self) -> list[dict[str, Any]]:
        """The tools as an OpenAI-compatible model wants them."""
        return [_spec(tool) for tool in self._device.client.tools.values()]

    def has(self, name: str) -> bool:
        return name in self._device.client.tools

    async def call_function(self, function: str, arguments: str) -> ToolResult:
        """A model's call: its name for the tool, and the JSON text it wrote. Every fault is told as a result."""
        tool = self._device.client.by_function(function)
        if tool is None:
            return self._count(ToolResult(Outcome.REFUSED, f"there is no tool {function}"))
        try:
            values = json.loads(arguments or "{}")
        except ValueError:
            return self._count(ToolResult(Outcome.REFUSED, "the arguments are not valid JSON"))
        if not isinstance(values, dict):
            return self._count(ToolResult(Outcome.REFUSED, "the arguments must be a JSON object"))
        return await self.call(tool.name, values)

    async def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """Call a listed tool by the device's own name."""
        tool = self._device.client.tools[name]
        if tool.changes and not await self.may_change():
            return self._count(ToolResult(Outcome.REFUSED, "the tool was not run"))
        self._device.send({"type": "stt", "text": f"% {tool.function}"})
        with metrics.TOOL_SECONDS.time():
            return self._count(await self._device.call(name, arguments))

    async def command(self, message: dict[str, Any]) -> bool:
        """Send an `iot` command; False if it must not be sent."""
        if not await self.may_change():
            return False
        self._device.send(message)
        return True

    async def may_change(self) -> bool:
        """Has the router taken note that this turn changes something?"""
        if not self._has_announced:
            try:
                async with asyncio.timeout(self._effects_timeout_s):
                    await self._announce(self.calls)
            except TimeoutError:
                return False
            self._has_announced = True
        return True

    def _count(self, result: ToolResult) -> ToolResult:
        self.calls += 1
        _CALLS[result.outcome].inc()
        return result


def _spec(tool: Tool) -> dict[str, Any]:
    about = {"name": tool.function, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": about}
