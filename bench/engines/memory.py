"""What processes hold, pages that they share with others counted in part."""

from __future__ import annotations

import os
import re
from pathlib import Path

_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


def own_mib() -> float:
    return _pss_mib(os.getpid())


def children_mib() -> float:
    """All processes that this one has started."""
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    return sum(_pss_mib(pid) for task in tasks for pid in _children(task))


def _children(task: Path) -> list[int]:
    try:
        return [int(pid) for pid in (task / "children").read_text().split()]
    except OSError:  # the thread has ended
        return []


def _pss_mib(pid: int) -> float:
    try:
        found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0
