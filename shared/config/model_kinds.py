"""What makes a kind of speech model: its files, and what the chief one says about itself. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Metadata = Mapping[str, str]


def _says_nothing_else(metadata: Metadata) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of model."""

    name: str
    """As options and code call it."""
    title: str
    """As people call it."""
    parts: Mapping[str, tuple[str, ...]]
    """Part → patterns of its file's or directory's name, the best one first. The first part is the chief one."""
    is_it: Callable[[Metadata], bool] = _says_nothing_else
    """Whether the chief file's metadata are this kind's."""
    extras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Parts that may be missing."""
    source: str = ""
    """Where to get one."""

    @property
    def looked_for(self) -> str:
        return f"{self.title} ({', '.join(patterns[-1] for patterns in self.parts.values())})"
