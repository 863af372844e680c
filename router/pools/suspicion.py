"""Which streams may have killed their workers. Pure.

A worker dies with everything it holds, and most of that is innocent. What was opened in its last second is suspect: it
is opened again on a worker where others of its kind are, apart from the rest. A suspect that is young again when that
worker dies is poison, and is refused. So one bad stream costs two workers, and nobody else more than one of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from shared.ids import Role, WorkerId

YOUNG_S: Final = 1.0
MAX_REMEMBERED: Final = 1_000


class Suspicion:
    """Remembers whose young streams died with which worker."""

    def __init__(self) -> None:
        self._suspects: dict[tuple[Role, str, WorkerId], None] = {}

    def __repr__(self) -> str:
        return f"Suspicion({len(self._suspects)} suspects)"

    def on_death(self, role: Role, device: str, worker: WorkerId, *, age_s: float, was_suspect: bool) -> bool:
        """A stream of this age died with its worker. True if it is poison."""
        if age_s >= YOUNG_S:
            return False
        if was_suspect:
            return True
        self._suspects[role, device, worker] = None
        if len(self._suspects) > MAX_REMEMBERED:
            del self._suspects[next(iter(self._suspects))]
        return False

    def falls_on(self, role: Role, device: str, left: Iterable[WorkerId]) -> bool:
        """Whether a stream of this device that comes from one of these workers was young when it died."""
        return any((role, device, worker) in self._suspects for worker in left)
