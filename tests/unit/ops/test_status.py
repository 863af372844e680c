"""Rows of `xiaozhi status`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ops.process import ProcessInfo, ProcessName
from ops.status import by_process, make_rows, threads_of

pytestmark = pytest.mark.unit

CLUSTER = {
    "routers": [{"slot": 0, "pid": 1, "connections": 7, "sessions": 7, "threads": 5, "draining": False}],
    "workers": [{"role": "asr", "slot": 1, "capacity": 400, "active": 3, "draining": True, "lag_ms": 0.4, "pid": 2}],
    "processes": [{"program": "asr", "slot": 1, "answers": True, "threads": 9, "thread_budget": 12}],
}


def info(program: str, slot: int) -> ProcessInfo:
    return ProcessInfo(ProcessName(program, slot), "RUNNING", 0, 61, "", Path())


def test_a_worker_shows_its_load_threads_and_drain() -> None:
    """supervisord, the router and the process itself each know a part."""
    (row,) = make_rows([info("asr", 1)], by_process(CLUSTER))
    assert (row.process, row.state, row.active, row.capacity) == ("asr_01", "DRAINING", 3, 400)
    assert (row.threads, row.lag_ms, row.uptime_s) == (9, 0.4, 61)


def test_a_router_shows_its_connections() -> None:
    """It has no capacity of its own."""
    (row,) = make_rows([info("router", 0)], by_process(CLUSTER))
    assert (row.state, row.active, row.capacity) == ("RUNNING", 7, None)


def test_without_the_web_process_the_processes_are_still_shown() -> None:
    """A dead web process hides nothing but the loads."""
    (row,) = make_rows([info("asr", 1)], by_process(None))
    assert (row.process, row.state, row.active) == ("asr_01", "RUNNING", None)


def test_threads_are_counted_by_the_kernel_where_nobody_tells() -> None:
    """supervisord and a starting process have no metrics."""
    assert threads_of(os.getpid()) == len(list(Path("/proc/self/task").iterdir()))
    assert threads_of(0) is None
