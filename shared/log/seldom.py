"""What anybody outside can cause is logged at most once a minute, with how often it has happened since. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

INTERVAL_S = 60.0
MAX_KEYS = 64


@dataclass(slots=True)
class Seldom:
    """Counts occurrences by kind between two log lines."""

    interval_s: float = INTERVAL_S
    _told_s: dict[str, float] = field(default_factory=dict)
    _untold: dict[str, int] = field(default_factory=dict)

    def count(self, kind: str, now: float) -> int | None:
        """How often it happened since the last line, this time included; None = say nothing now."""
        if kind not in self._told_s and len(self._told_s) >= MAX_KEYS:
            kind = ""
        self._untold[kind] = self._untold.get(kind, 0) + 1
        told_s = self._told_s.get(kind)
        if told_s is not None and now - told_s < self.interval_s:
            return None
        self._told_s[kind] = now
        return self._untold.pop(kind)
