"""Removes `<think>…</think>` from a stream of deltas, wherever the tags are cut."""

from __future__ import annotations

from typing import Final

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"


class ReasoningFilter:
    """Feed it deltas; it returns the text outside of the tags. What looks like the start of a tag is held back."""

    def __init__(self) -> None:
        self._held = ""
        self._is_inside = False

    def feed(self, delta: str) -> str:
        text = self._held + delta
        out: list[str] = []
        while True:
            tag = _CLOSE if self._is_inside else _OPEN
            before, found, after = text.partition(tag)
            if not found:
                break
            if not self._is_inside:
                out.append(before)
            self._is_inside = not self._is_inside
            text = after
        size = _started(text, tag)
        self._held = text[len(text) - size :]
        if not self._is_inside:
            out.append(text[: len(text) - size])
        return "".join(out)

    def finish(self) -> str:
        """What was held back and is no tag after all."""
        held, self._held = self._held, ""
        return "" if self._is_inside else held


def _started(text: str, tag: str) -> int:
    """How many characters at the end of `text` may begin `tag`."""
    return next((size for size in range(len(tag) - 1, 0, -1) if text.endswith(tag[:size])), 0)
