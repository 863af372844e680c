"""What the processes say of the services outside, look by look: counts, breakers, who stood in. Pure.

Counters are those of processes that come and go: what a process counted between its last look and its death is not
seen. A breaker counts as opened when a look finds it open and the one before did not; it rests for fifteen seconds at
least, so few are missed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

RETRIES: Final = "xz_upstream_retries_total"
ERRORS: Final = "xz_upstream_errors_total"
CANCELS: Final = "xz_upstream_cancels_total"
REQUESTS: Final = "xz_upstream_requests_total"
STATE: Final = "xz_upstream_breaker_state"
FALLBACKS: Final = ("xz_asr_fallbacks_total", "xz_tts_fallbacks_total")
METRICS: Final = frozenset({RETRIES, ERRORS, CANCELS, REQUESTS, STATE, *FALLBACKS})
OPEN: Final = 2

_LABEL = re.compile(r'(\w+)="([^"]*)"')

Series = tuple[str, str, float]
"""(metric, labels as they stand on the page, value)."""


@dataclass(frozen=True, slots=True)
class Page:
    """One process at one moment."""

    name: str
    pid: int
    series: tuple[Series, ...]


@dataclass(slots=True)
class UpstreamBook:
    """Of one run."""

    opens: Counter[str] = field(default_factory=Counter)
    """Breakers that were seen to open, by upstream."""
    _counts: dict[tuple[str, str], float] = field(default_factory=dict)
    """By (metric, labels), over all processes."""
    _last: dict[tuple[int, str, str], float] = field(default_factory=dict)
    _states: dict[tuple[int, str], int] = field(default_factory=dict)
    """By process and upstream, at the last look."""

    def on_pages(self, pages: Iterable[Page]) -> None:
        """One look at all processes that answered."""
        states: dict[tuple[int, str], int] = {}
        for page in pages:
            for metric, labels, value in page.series:
                if metric == STATE:
                    states[page.pid, _labels(labels)["upstream"]] = int(value)
                else:
                    self._count(page.pid, metric, labels, value)
        for who, state in states.items():
            if state == OPEN and self._states.get(who) != OPEN:
                self.opens[who[1]] += 1
        self._states = states

    def _count(self, pid: int, metric: str, labels: str, value: float) -> None:
        key = (metric, labels)
        self._counts[key] = self._counts.get(key, 0.0) + value - self._last.get((pid, *key), 0.0)
        self._last[pid, metric, labels] = value

    def not_closed(self, upstreams: Iterable[str]) -> list[str]:
        """Of these, once for each process in which its breaker was not closed at the last look."""
        wanted = set(upstreams)
        return sorted(upstream for (_, upstream), state in self._states.items() if upstream in wanted and state)

    @property
    def fallbacks(self) -> int:
        return sum(self._by(metric, "engine").total() for metric in FALLBACKS)

    def to_json(self) -> Mapping[str, Mapping[str, int]]:
        return {
            "requests": self._by(REQUESTS, "upstream"),
            "retries": self._by(RETRIES, "upstream"),
            "fallbacks_from": Counter({name: count for metric in FALLBACKS for name, count in self._left(metric)}),
            "breaker_opens": self.opens,
            "cancels": self._by(CANCELS, "upstream"),
            "errors": self._by(ERRORS, "code"),
        }

    def _left(self, metric: str) -> list[tuple[str, int]]:
        kind = metric.split("_")[1].upper()
        return [(f"{kind}.{engine}", count) for engine, count in self._by(metric, "engine").items()]

    def _by(self, metric: str, label: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for (name, labels), value in self._counts.items():
            if name == metric and value:
                found[_labels(labels)[label]] += int(value)
        return found


def _labels(text: str) -> dict[str, str]:
    return dict(_LABEL.findall(text))
