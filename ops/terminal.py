"""What a command shows while it works: one line that changes in place on a terminal, plain lines elsewhere.

A terminal that has gone away must not stop a cluster from being drained, nor spoil the exit code: what cannot be
written is dropped, for good.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
        with self._dropping():
            self._console.file.flush()

    def line(self, text: str = "") -> None:
        """One finished line."""
        with self._dropping():
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
        with self._dropping():
            self._show(text)

    def end_progress(self) -> None:
        self._progress = ""
        with self._dropping():
            if self._status is not None:
                self._status.stop()
        self._status = None

    def _show(self, text: str) -> None:
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        else:
            self._status.update(text)

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        """What fails here waits in Python's buffer and is flushed again at the end, where failing means status 120."""
        try:
            yield
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._console.file.fileno())
                os.close(nowhere)
