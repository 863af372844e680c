"""Turns and tools as the store keeps them, and back. Pure."""

from __future__ import annotations

from typing import Any

from shared.store.model import StoredCall, StoredMessage, StoredTurn
from workers.session.dialogue import Message, PastTurn, ToolCall


def stored_turn(turn: PastTurn, at_s: float) -> StoredTurn:
    """`at_s`: seconds since 1970."""
    return StoredTurn(turn.session, turn.gen, at_s, tuple(_stored(message) for message in turn.messages))


def past_turn(turn: StoredTurn) -> PastTurn:
    return PastTurn(turn.session, turn.gen, tuple(_message(message) for message in turn.messages))


def _stored(message: Message) -> StoredMessage:
    calls = tuple(StoredCall(call.id, call.name, call.arguments) for call in message.calls)
    return StoredMessage(message.role, message.text, calls, message.call_id)


def _message(message: StoredMessage) -> Message:
    calls = tuple(ToolCall(call.id, call.name, call.arguments) for call in message.calls)
    return Message(message.role, message.text, calls, message.call_id)


def tool_records(mcp: list[dict[str, Any]], things: dict[str, Any] | None) -> list[Any]:
    """What a device can do: its MCP tools, and the things of an old one as a last entry without a name."""
    return [*mcp, {"things": things}] if things else list(mcp)


def things_of(records: list[Any]) -> dict[str, Any] | None:
    last = records[-1] if records else None
    things = last.get("things") if isinstance(last, dict) else None
    return things if isinstance(things, dict) else None
