"""Finds processes that keep dying soon after their start.

supervisord gives up (FATAL) only on a program that dies within startsecs. One that needs two seconds of imports before
it fails counts as started each time and would be restarted for ever: those are counted here. A life that is not short
clears the count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ops.process import ProcessInfo, ProcessName

SHORT_LIFE_S = 7
"""Four such lives fit into half a minute."""


@dataclass(slots=True)
class _Life:
    pid: int
    uptime_s: int
    short_lives: int = 0


class CrashLoops:
    """Observations of supervisord's table in, names of processes that have just begun to count as broken out."""

    def __init__(self, short_life_s: int = SHORT_LIFE_S) -> None:
        self._short_life_s = short_life_s
        self._lives: dict[ProcessName, _Life] = {}

    def __repr__(self) -> str:
        counts = {str(name): life.short_lives for name, life in self._lives.items()}
        return f"CrashLoops({counts})"

    def observe(self, infos: Iterable[ProcessInfo], limit: int) -> list[ProcessName]:
        """Processes whose `limit`-th short life in a row has ended since the last call."""
        return [info.name for info in infos if self._has_died(info) and self._lives[info.name].short_lives == limit]

    def forget(self, name: ProcessName) -> None:
        """Count this process from nothing again."""
        self._lives.pop(name, None)

    def _has_died(self, info: ProcessInfo) -> bool:
        life = self._lives.setdefault(info.name, _Life(info.pid, info.uptime_s))
        died = life.pid not in (0, info.pid) and life.uptime_s < self._short_life_s
        if died:
            life.short_lives += 1
        if info.pid and info.uptime_s >= self._short_life_s:
            life.short_lives = 0
        life.pid, life.uptime_s = info.pid, info.uptime_s
        return died
