"""Puts the tool calls of a streamed answer together from their deltas.

Deltas of one call share an index. Some servers give every call index 0 and a new id, others none: a new id at a known
index is another call. A call without an id gets one, for its result must name it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from workers.session.dialogue import ToolCall

MAX_CALLS = 16
MAX_ARGUMENT_CHARS = 16 * 1024


@dataclass(slots=True)
class _Call:
    index: int
    id: str
    name: str
    arguments: list[str] = field(default_factory=list)
    size: int = 0


class ToolCallMerger:
    def __init__(self) -> None:
        self._calls: list[_Call] = []

    def feed(self, index: int | None, call_id: str | None, name: str | None, arguments: str | None) -> None:
        call = self._find(index or 0, call_id or "")
        if call is None:
            return
        call.name = call.name or (name or "")
        text = (arguments or "")[: MAX_ARGUMENT_CHARS - call.size]
        call.arguments.append(text)
        call.size += len(text)

    def calls(self) -> tuple[ToolCall, ...]:
        """All calls that have a name, in the order in which they began."""
        named = [call for call in self._calls if call.name]
        return tuple(
            ToolCall(call.id or f"call_{n}", call.name, "".join(call.arguments)) for n, call in enumerate(named)
        )

    def _find(self, index: int, call_id: str) -> _Call | None:
        known = next((call for call in reversed(self._calls) if call.index == index), None)
        if known is not None and (not call_id or not known.id or known.id == call_id):
            known.id = known.id or call_id
            return known
        if len(self._calls) >= MAX_CALLS:
            return None
        self._calls.append(_Call(index, call_id, ""))
        return self._calls[-1]
