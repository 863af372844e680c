"""Volume and brightness of a device, over its MCP tools or its old things."""

from __future__ import annotations

import json
from dataclasses import dataclass

from workers.session.mcp import Outcome
from workers.session.tools import TurnTools

STATUS_TOOL = "self.get_device_status"


@dataclass(frozen=True, slots=True)
class Control:
    """One value from 0 to 100: where it stands in the status, what sets it, and the same of the old things."""

    tool: str
    argument: str
    part: str
    thing: str
    method: str


CONTROLS = {
    "volume": Control("self.audio_speaker.set_volume", "volume", "audio_speaker", "Speaker", "SetVolume"),
    "brightness": Control("self.screen.set_brightness", "brightness", "screen", "Screen", "SetBrightness"),
}


async def read(tools: TurnTools, control: Control) -> int | None:
    """None if the device does not tell it."""
    if not tools.has(STATUS_TOOL):
        return tools.things.state(control.thing, control.argument)
    result = await tools.call(STATUS_TOOL, {})
    if result.outcome is not Outcome.OK:
        return None
    try:
        value = json.loads(result.text)[control.part][control.argument]
    except (ValueError, LookupError, TypeError):
        return None
    return int(value) if isinstance(value, int | float) else None


async def write(tools: TurnTools, control: Control, value: int) -> bool:
    """False if the device cannot, or did not, do it."""
    if tools.has(control.tool):
        result = await tools.call(control.tool, {control.argument: value})
        return result.outcome is Outcome.OK
    command = tools.things.command(control.thing, control.method, value)
    if command is None or not await tools.command(command):
        return False
    tools.things.remember(control.thing, control.argument, value)
    return True


def can_write(tools: TurnTools, control: Control) -> bool:
    return tools.has(control.tool) or tools.things.command(control.thing, control.method, 0) is not None
