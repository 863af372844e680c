"""The things of an old device: what it said of their state, and the commands that set one.

Firmware up to 1.7 describes `{"type":"iot"}` things instead of MCP tools, tells their states before it listens, and
answers no command. Later firmware logs such a message and goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAX_THINGS = 32


@dataclass(slots=True)
class DeviceThings:
    """The things by name: their methods with their parameters, and their latest states."""

    _methods: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    _states: dict[str, dict[str, Any]] = field(default_factory=dict)

    def on_message(self, message: dict[str, Any]) -> None:
        for thing in _entries(message.get("descriptors")):
            if len(self._methods) < MAX_THINGS:
                self._methods[thing["name"]] = {
                    method: list(about.get("parameters") or ()) if isinstance(about, dict) else []
                    for method, about in (thing.get("methods") or {}).items()
                }
        for thing in _entries(message.get("states")):
            if isinstance(thing.get("state"), dict) and len(self._states) < MAX_THINGS:
                self._states.setdefault(thing["name"], {}).update(thing["state"])

    def describe(self) -> dict[str, Any] | None:
        """All that is known, as JSON values; None = nothing."""
        return {"methods": self._methods, "states": self._states} if self._methods else None

    def restore(self, described: dict[str, Any]) -> None:
        self._methods = dict(described.get("methods") or {})
        self._states = {name: dict(state) for name, state in (described.get("states") or {}).items()}

    def state(self, thing: str, prop: str) -> int | None:
        value = self._states.get(thing, {}).get(prop)
        return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def command(self, thing: str, method: str, value: int) -> dict[str, Any] | None:
        """The message that calls a method with one parameter; None if the device has not described it."""
        parameters = self._methods.get(thing, {}).get(method)
        if not parameters:
            return None
        command = {"name": thing, "method": method, "parameters": {parameters[0]: value}}
        return {"type": "iot", "commands": [command]}

    def remember(self, thing: str, prop: str, value: int) -> None:
        """What a command has set: the device tells its states only before it listens again."""
        self._states.setdefault(thing, {})[prop] = value


def _entries(value: object) -> list[dict[str, Any]]:
    entries = value if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("name"), str)]
