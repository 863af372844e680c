"""What is to be measured, and who is told how far it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.progress import Progress

from shared.settings import EngineChoice, Settings

T = TypeVar("T")
Row = dict[str, Any]
"""One line of a table: figure → number or text. Rows of one kind have the same keys."""

DEADLINE_S = 60.0
"""For one answer: longer than any that a person would wait for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    settings: Settings
    progress: Progress
    sections: frozenset[str] = frozenset()
    """Names of sections; empty = all."""
    count: int = 0
    """Requests an engine; 0 = each kind's own number."""
    languages: tuple[str, ...] = ("en", "zh")
    noise_db: tuple[float, ...] = ()
    """ASR is measured clean, and with noise so far below the speech."""
    pace: float = 1.0
    """How fast sound is fed, in multiples of real time; 0 = all at once."""
    sounds: Path | None = None
    """A YAML list of recordings: file, text, language."""
    tells_language: bool = False
    """Whether recognisers are told the language that is spoken, as a session's profile may tell them."""
    texts: bool = False
    """Whether rows show what was heard."""

    def chosen(self, default: EngineChoice | None, engines: Mapping[str, EngineChoice]) -> list[EngineChoice]:
        """The configured sections that are asked for, the default first."""
        known = ({default.name: default} if default else {}) | dict(engines)
        return [choice for name, choice in known.items() if not self.sections or name in self.sections]

    def each(self, items: Iterable[T], what: str) -> Iterable[T]:
        """The items, with a bar that moves."""
        return self.progress.track(list(items), description=what)
