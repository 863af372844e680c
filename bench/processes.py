"""What the server's processes cost: CPU time, memory and threads, read from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PPID, _UTIME, _STIME, _THREADS = 1, 11, 12, 17
"""Places behind the command's name in /proc/PID/stat (proc(5) counts from 1 and from the pid)."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment."""

    pid: int
    name: str
    cpu_s: float
    memory_kib: int
    """Proportional set size: shared pages are counted once over all processes."""
    private_kib: int
    """Of this process alone. Growth is judged by it: a share of shared pages grows when others end."""
    threads: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process used between two moments."""

    name: str
    pid: int
    cpu_s: float
    memory_kib: int
    memory_growth_kib: int
    threads_before: int
    threads_after: int

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, without itself."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and (fields := _stat(int(path.name))):
            children.setdefault(int(fields[_PPID]), []).append(int(path.name))
    found = list(children.get(pid, ()))
    for child in found:
        found += children.get(child, ())
    return found


def cluster_pids(run_dir: Path) -> list[int]:
    """The processes that the supervisord of this run directory has started, and their children."""
    return descendants(int((run_dir / "supervisord.pid").read_text()))


def read_all(pids: Iterable[int]) -> dict[int, Process]:
    """Those that are still there."""
    processes = (read(pid) for pid in pids)
    return {process.pid: process for process in processes if process is not None}


def read(pid: int) -> Process | None:
    fields = _stat(pid)
    if not fields:
        return None
    cpu_s = (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS_PER_S
    memory_kib, private_kib = _memory_kib(pid)
    return Process(pid, _name(pid), cpu_s, memory_kib, private_kib, int(fields[_THREADS]))


def costs(before: dict[int, Process], after: dict[int, Process]) -> list[Cost]:
    """Of each process of `after`; one that has begun in between has its whole life counted."""
    found = []
    for pid, process in after.items():
        start = before.get(pid, Process(pid, process.name, 0.0, 0, 0, process.threads))
        found.append(
            Cost(
                name=process.name,
                pid=pid,
                cpu_s=round(process.cpu_s - start.cpu_s, 2),
                memory_kib=process.memory_kib,
                memory_growth_kib=process.private_kib - start.private_kib,
                threads_before=start.threads,
                threads_after=process.threads,
            )
        )
    return sorted(found, key=lambda cost: (cost.name, cost.pid))


def _stat(pid: int) -> list[str]:
    """Empty if the process has gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    # The name is in parentheses and may hold spaces and parentheses itself.
    return text.rpartition(")")[2].split()


def _name(pid: int) -> str:
    """`router --slot 0` out of `python -m router --slot 0 …`."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "?"
    if "-m" not in words:
        return Path(words[0]).name
    place = words.index("-m") + 1
    return " ".join(words[place : place + 3]).strip()


def _memory_kib(pid: int) -> tuple[int, int]:
    """(proportional, private)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0, 0
    kib = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    return kib.get("Pss", 0), kib.get("Private_Clean", 0) + kib.get("Private_Dirty", 0)
