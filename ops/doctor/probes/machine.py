"""Cores and memory, as far as the container's limits leave them."""

from __future__ import annotations

import os
import re
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def cores() -> float:
    """Those this process may use; a quota counts as a part of one."""
    usable = float(len(os.sched_getaffinity(0)))
    quota, _, period = _read(_CGROUP / "cpu.max").partition(" ")
    return min(usable, int(quota) / int(period)) if quota.isdigit() and period.strip().isdigit() else usable


def free_bytes() -> int:
    """What may still be taken: of the machine, and of the container's limit."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB", _read(Path("/proc/meminfo")), re.MULTILINE)
    available = int(match[1]) * 1024 if match else 1 << 40
    limit, used = _read(_CGROUP / "memory.max").strip(), _read(_CGROUP / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        return max(0, min(available, int(limit) - int(used)))
    return available


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
