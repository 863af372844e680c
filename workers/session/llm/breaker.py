"""Stops asking a model that keeps failing, so that people need not wait for its deadline at every turn.

After three failures in a row nothing is asked for a while; then one request at a time tries again. Pure: `now` in
seconds comes in.
"""

from __future__ import annotations

from dataclasses import dataclass

FAILURES = 3
OPEN_S = 15.0


@dataclass(slots=True)
class Breaker:
    failures: int = 0
    _retry_at: float = 0.0

    def allows(self, now: float) -> bool:
        """May a request be made? The first one after the pause holds the others back until it has ended."""
        if self.failures < FAILURES:
            return True
        if now < self._retry_at:
            return False
        self._retry_at = now + OPEN_S
        return True

    def on_success(self) -> None:
        self.failures = 0

    def on_failure(self, now: float) -> None:
        self.failures += 1
        self._retry_at = now + OPEN_S
