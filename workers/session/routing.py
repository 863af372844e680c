"""Which inputs need no brain: exit commands, wake words, greetings and farewells without a prompt.

Pure: an input and the settings in, a route out.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import Enum

from shared.link.messages import Input
from shared.settings import SessionSettings


class Route(Enum):
    BRAIN = "brain"
    """Ask the brain; the text is the person's words."""
    PROMPT = "prompt"
    """Ask the brain; the text is our own prompt."""
    GREET = "greet"
    LEAVE = "leave"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Plan:
    route: Route
    close: bool = False
    """Close the connection after the reply."""


class Routing:
    def __init__(self, settings: SessionSettings, *, has_model: bool) -> None:
        self._exits = frozenset(bare(command) for command in settings.exit_commands)
        self._wake_words = frozenset(bare(word) for word in settings.wakeup_words)
        self._greets = settings.enable_greeting
        self._has_model = has_model

    def plan(self, event: Input) -> Plan:
        has_prompt = self._has_model and bool(event.text.strip())
        match event.source:
            case "farewell":
                return Plan(Route.PROMPT if has_prompt else Route.LEAVE, close=True)
            case "greeting":
                return Plan(Route.PROMPT if has_prompt else Route.GREET)
        words = bare(event.text)
        if not words:
            return Plan(Route.NOTHING)
        if words in self._exits:
            return Plan(Route.LEAVE, close=True)
        if words in self._wake_words:
            return Plan(Route.GREET if self._greets else Route.NOTHING)
        return Plan(Route.BRAIN)


def bare(text: str) -> str:
    """Letters and digits only, lower case: how commands are compared."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(char for char in folded if char.isalnum())
