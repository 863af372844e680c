"""How a model is told who speaks. Pure."""

from __future__ import annotations

import json


class Voices:
    """Who has spoken on one connection. Each is named with the first words; that is how today's prompts expect it."""

    __slots__ = ("_known", "last")

    def __init__(self) -> None:
        self._known: tuple[str, ...] = ()
        self.last: str | None = None
        """Who spoke last, as far as it is known."""

    def told(self, text: str, speaker: str | None) -> str:
        """The words as a model is told them: `{"speaker", "content"}` as JSON if the speaker is new here."""
        if speaker is None:
            return text
        self.last = speaker
        if speaker in self._known:
            return text
        self._known = (*self._known, speaker)
        return json.dumps({"speaker": speaker, "content": text}, ensure_ascii=False)
