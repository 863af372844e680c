"""Stage directions for scripted engines, by files: a test holds a worker at a point, and then does something to it.

A file `<point>~<name>` on the stage (a directory) is a cue. A scripted engine that comes to this point with a text that
holds the name leaves `<point>~<name>@<pid>` beside it, and waits as long as the cue is there. A cue may hold an order:

    hang      this thread never comes back
    hold_gil  nor does any other thread of the process: the call keeps the interpreter's lock
    exit      the process dies at once, and so does each one that comes after it

The first two are obeyed by the first engine that sees them, which takes the cue away.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

LOOK_S = 0.01
"""How often an engine that waits looks again."""

FOREVER_S = 600
EXIT_CODE = 70


def _hang() -> None:
    time.sleep(FOREVER_S)


def _hold_gil() -> None:
    # A PyDLL's functions, unlike a CDLL's, are called without giving the lock away.
    ctypes.PyDLL(None).sleep(FOREVER_S)


def _exit() -> NoReturn:
    os._exit(EXIT_CODE)


ORDERS: Mapping[str, Callable[[], None]] = MappingProxyType({"hang": _hang, "hold_gil": _hold_gil, "exit": _exit})


class Stage:
    """Where an engine looks for its cues. Without a directory there are none."""

    def __init__(self, directory: str | None) -> None:
        self._directory = Path(directory) if directory else None

    def holds(self, point: str, text: str) -> bool:
        """One look: True if the engine has to wait. Obeys an order instead of returning."""
        cues = [cue for cue in self._cues(point) if cue.name.partition("~")[2] in text]
        return any(self._obey(cue) for cue in cues)

    def _cues(self, point: str) -> Iterator[Path]:
        if self._directory is not None:
            yield from (path for path in self._directory.glob(f"{point}~*") if "@" not in path.name)

    def _obey(self, cue: Path) -> bool:
        with suppress(FileNotFoundError):
            order = cue.read_text().strip()
            note = cue.with_name(f"{cue.name}@{os.getpid()}")
            if not note.exists():
                note.touch()
            if order:
                if order != "exit":
                    # Whoever can take it away is the one; a second engine at the same point finds it gone.
                    cue.unlink()
                ORDERS[order]()
            return not order
        return False
