"""The log files of a cluster's processes, as far as they were written since this start."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ops.process import ProcessName

TAIL_LINES = 15
TAIL_BYTES = 16_384


class Logs:
    """Remembers how long each log was, so that the lines of an earlier run are never shown as this one's."""

    def __init__(self, log_dir: Path, names: Iterable[ProcessName]) -> None:
        self._log_dir = log_dir
        self.supervisord = log_dir / "supervisord.log"
        self.output = log_dir / "supervisord.out"
        self._start_bytes = {path: _size(path) for path in (self.supervisord, *map(self.of, names))}

    def of(self, name: ProcessName) -> Path:
        """As deploy/supervisord.conf names it."""
        return self._log_dir / f"{name}.log"

    def tail(self, path: Path) -> list[str]:
        """The last lines since the start; after a rotation, of the new file."""
        size, start = _size(path), self._start_bytes.get(path, 0)
        try:
            with path.open("rb") as file:
                file.seek(max(start if start <= size else 0, size - TAIL_BYTES))
                lines = file.read(TAIL_BYTES).decode(errors="replace").splitlines()
        except OSError:
            return []
        return lines[-TAIL_LINES:]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
