"""Reads the chunks of a streamed chat completion.

Pure: lines of the event stream in, pieces out. Chunks are read as they stand on the wire: building the client library's
objects for each costs seven times as much, for three fields.
"""

from __future__ import annotations

import json
from typing import Any, Final

from shared.errors import EngineError
from workers.session.llm.model import ModelCalls, ModelText, Piece
from workers.session.llm.reasoning import ReasoningFilter
from workers.session.llm.tool_calls import ToolCallMerger

_FIELD: Final = "data:"
_DONE: Final = "[DONE]"


class ChunkReader:
    """Feed it the lines of one answer, then take what is left."""

    def __init__(self) -> None:
        self.is_done = False
        """The server has said that nothing follows."""
        self._has_finished = False
        self._reasoning = ReasoningFilter()
        self._calls = ToolCallMerger()

    def feed(self, line: str) -> ModelText | None:
        """What a line says: empty text while the model reasons, None if the line is no chunk. Raises EngineError."""
        if not line.startswith(_FIELD):
            return None
        data = line.removeprefix(_FIELD).strip()
        if data == _DONE:
            self.is_done = True
            return None
        try:
            return self._read(json.loads(data))
        except (ValueError, TypeError, AttributeError, LookupError):
            raise EngineError("the server's answer is malformed", code="llm_malformed", retryable=True) from None

    def finish(self) -> list[Piece]:
        """The last pieces. Raises EngineError if the answer has no end."""
        rest, calls = self._reasoning.finish(), self._calls.calls()
        pieces: list[Piece] = [ModelText(rest)] if rest else []
        if calls:
            return [*pieces, ModelCalls(calls)]
        if not (self.is_done or self._has_finished):
            raise EngineError("the answer has no end", code="llm_cut", retryable=True)
        return pieces

    def _read(self, chunk: dict[str, Any]) -> ModelText | None:
        if chunk.get("error"):
            raise EngineError("the server reported an error in its answer", code="llm_upstream")
        if not chunk.get("choices"):
            return None
        choice = chunk["choices"][0]
        self._has_finished = self._has_finished or choice.get("finish_reason") is not None
        delta = choice.get("delta") or {}
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            self._calls.feed(call.get("index"), call.get("id"), function.get("name"), function.get("arguments"))
        return ModelText(self._reasoning.feed(delta.get("content") or ""))
