"""Programs that die soon after each start."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.cluster.crash_loop import SHORT_LIFE_S, CrashLoops
from ops.process import ProcessInfo, ProcessName, State

pytestmark = pytest.mark.unit

ASR = ProcessName("asr", 0)


def info(pid: int, uptime_s: int = 0, state: State = "RUNNING") -> ProcessInfo:
    return ProcessInfo(ASR, state, pid, uptime_s, message="", log=Path())


def test_the_nth_short_life_is_told_once() -> None:
    """A caller acts on the moment at which a process begins to count as broken."""
    loops = CrashLoops()
    told = [loops.observe([info(pid, 2)], limit=3) for pid in (1, 1, 2, 3, 4, 5)]
    assert told == [[], [], [], [], [ASR], []]


def test_a_death_is_seen_also_between_two_starts() -> None:
    """supervisord tells pid 0 while it waits before the next attempt."""
    loops = CrashLoops()
    told = [loops.observe([info(pid)], limit=2) for pid in (1, 0, 2, 0, 0)]
    assert told == [[], [], [], [ASR], []]


def test_a_long_life_clears_the_count() -> None:
    """A worker that is killed once a day is not broken."""
    loops = CrashLoops()
    lives = [(1, 1), (2, 1), (2, SHORT_LIFE_S), (3, 1), (4, 1)]
    assert [loops.observe([info(pid, uptime_s)], limit=2) for pid, uptime_s in lives] == [[], [], [], [], []]
    assert loops.observe([info(5, 1)], limit=2) == [ASR]


def test_the_death_of_a_process_that_lived_long_does_not_count() -> None:
    """Only deaths soon after the start say that the start is what fails."""
    loops = CrashLoops()
    loops.observe([info(1, SHORT_LIFE_S)], limit=1)
    assert loops.observe([info(2, 0)], limit=1) == []


def test_a_process_that_never_started_has_not_died() -> None:
    """The first observation is not a change."""
    loops = CrashLoops()
    assert loops.observe([info(0, state="STOPPED")], limit=1) == []
    assert loops.observe([info(7)], limit=1) == []
