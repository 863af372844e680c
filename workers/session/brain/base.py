"""What a brain is to a turn: a stream of outputs in answer to a question.

A brain ends by returning, or raises EngineError. It knows nothing of generations: whoever runs it drops what it yields
once its turn is dead, and cancels it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from workers.session.dialogue import Message, ToolRound
from workers.session.language import Tongue
from workers.session.tools import TurnTools


@dataclass(frozen=True, slots=True)
class Question:
    """One input, with all that a brain may use to answer it."""

    text: str
    tongue: Tongue
    messages: list[Message]
    """The dialogue so far, this question last."""
    tools: TurnTools
    last_reply: str = ""
    turns: int = 0
    """How many turns this dialogue has had: picks among answers of the same meaning."""
    session: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class Say:
    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """The tools of one round have run, so the model will know them in later turns."""

    round: ToolRound


@dataclass(frozen=True, slots=True)
class Pause:
    """What was said so far is complete: tools run now."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Close the connection after this reply."""


Output = Say | Called | Pause | Leave


class Brain(Protocol):
    name: str

    def reply(self, question: Question) -> AsyncGenerator[Output, None]: ...
