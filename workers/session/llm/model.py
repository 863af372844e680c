"""What a language model is to the rest: a stream of text and tool calls in answer to messages."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Protocol

from workers.session.dialogue import Message, ToolCall


@dataclass(frozen=True, slots=True)
class ModelRequest:
    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list)
    session: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class ModelText:
    """Words to say; empty while the model reasons, which shows that it lives."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelCalls:
    """The last piece of an answer that calls tools."""

    calls: tuple[ToolCall, ...]


Piece = ModelText | ModelCalls


class ChatModel(Protocol):
    """One configured model, shared by all sessions of the process."""

    name: str
    """"llm" or "scripted"; goes into metrics and statistics."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[Piece, None]:
        """Raises EngineError. Closing or cancelling it ends the upstream request at once."""
        ...

    async def close(self) -> None: ...
