"""How much memory a process and its children hold, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_RESIDENT_FIELD = 1
"""Of /proc/PID/statm, in pages (proc(5))."""


def resident_mib(pid: int) -> float:
    """Resident set of the process and of all its descendants; what they share is counted for each. 0 = it has ended."""
    return sum(map(_resident_bytes, family_of(pid))) / 2**20


def family_of(pid: int) -> Iterator[int]:
    """The process and its descendants."""
    yield pid
    for child in _children_of(pid):
        yield from family_of(child)


def _children_of(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[_RESIDENT_FIELD]) * _PAGE_BYTES
    except OSError:
        return 0
