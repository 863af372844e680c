"""Those who are asked in turn when one fails, and what it comes to when all have. Pure.

Who asks makes a subclass of it: it adds how long each may take, and whether another worker might fare better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from shared.errors import EngineError

C = TypeVar("C")


@dataclass(slots=True)
class Chain(Generic[C]):
    """Of one request; the first candidate is asked first, and there is at least one."""

    candidates: Sequence[C]
    _position: int = field(default=0, kw_only=True)
    _errors: list[EngineError] = field(default_factory=list, kw_only=True)

    @property
    def current(self) -> C:
        return self.candidates[self._position]

    @property
    def is_first(self) -> bool:
        return self._position == 0

    @property
    def is_last(self) -> bool:
        return self._position == len(self.candidates) - 1

    @property
    def behind(self) -> int:
        """How many may still take over."""
        return len(self.candidates) - self._position - 1

    def fail(self, error: EngineError) -> bool:
        """The current one has failed. True: `current` is the next one; False: there is none, and all are told."""
        self._errors.append(error)
        if self.is_last:
            return False
        self._position += 1
        return True
