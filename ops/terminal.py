"""What a command shows while it works: one line that changes in place on a terminal, plain lines elsewhere.

A terminal that has gone away must not stop a cluster from being drained, so a line that cannot be written is dropped.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from types import TracebackType

from rich.console import Console
from rich.status import Status


class Terminal:
    """Standard output of `xiaozhi up`."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._progress = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_progress()

    def line(self, text: str = "") -> None:
        """One finished line."""
        with suppress(OSError, ValueError):
            self._console.print(text, markup=False)
            self._console.file.flush()

    def progress(self, text: str) -> None:
        """What is being waited for; repeated calls with the same text show nothing new."""
        if text == self._progress:
            return
        self._progress = text
        if not self._console.is_terminal:
            self.line(text)
            return
        with suppress(OSError, ValueError):
            self._show(text)

    def end_progress(self) -> None:
        self._progress = ""
        with suppress(OSError, ValueError):
            if self._status is not None:
                self._status.stop()
        self._status = None

    def _show(self, text: str) -> None:
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        else:
            self._status.update(text)
