"""Which process is replaced because it is old or large."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.cluster.recycling import JITTER, Age, Due, Recycling, spread_of
from ops.cluster.resident import family_of, resident_mib
from ops.process import ProcessName

pytestmark = pytest.mark.unit

HOUR_S = 3600.0


def age(slot: int, hours: float = 0.0, rss_mib: float = 10.0, pid: int = 1) -> Age:
    return Age(ProcessName("asr", slot), pid, hours * HOUR_S, rss_mib)


def test_without_limits_nothing_is_due() -> None:
    """Off by default."""
    assert not Recycling().is_on
    assert Recycling().due([age(0, 1000.0, 1e6)], is_well=lambda: True) is None


def test_the_oldest_over_its_age_is_due() -> None:
    """One at a time: the others at the next look."""
    ages = [age(0, 1.0), age(1, 2.0), age(2, 3.0)]
    assert Recycling(after_h=1.5).due(ages, is_well=lambda: True) == Due(ProcessName("asr", 2), "age")


def test_the_largest_is_due_before_the_oldest() -> None:
    """Memory runs out sooner than patience."""
    ages = [age(0, 9.0), age(1, 1.0, 500.0), age(2, 1.0, 600.0)]
    assert Recycling(after_h=1.0, rss_mib=400.0).due(ages, is_well=lambda: True) == Due(ProcessName("asr", 2), "memory")


def test_a_process_that_is_large_from_the_start_is_left_alone_for_a_while() -> None:
    """Another life would be just as large; replacing it again and again helps nobody."""
    recycling = Recycling(rss_mib=400.0, rest_s=600.0)
    assert recycling.due([age(0, 599 / HOUR_S, 500.0)], is_well=lambda: True) is None
    assert recycling.due([age(0, 601 / HOUR_S, 500.0)], is_well=lambda: True) is not None


def test_nothing_is_due_while_something_is_wrong() -> None:
    """The others carry the load of what is missing."""
    assert Recycling(after_h=1.0).due([age(0, 9.0)], is_well=lambda: False) is None


@given(st.integers(0, 40), st.integers(1, 4_000_000))
def test_the_age_at_which_a_life_ends_is_its_own(slot: int, pid: int) -> None:
    """Between the configured age and a fifth more, always the same for one life."""
    recycling = Recycling(after_h=1.0)
    limit_h = 1.0 + JITTER * spread_of(age(slot, pid=pid))
    assert 1.0 <= limit_h <= 1.0 + JITTER
    assert recycling.due([age(slot, limit_h - 0.001, pid=pid)], is_well=lambda: True) is None
    assert recycling.due([age(slot, limit_h + 0.001, pid=pid)], is_well=lambda: True) is not None


def test_processes_that_were_started_together_are_not_due_together() -> None:
    assert len({round(spread_of(age(slot, pid=100 + slot)), 2) for slot in range(20)}) > 10


def test_memory_is_that_of_the_process_and_its_children() -> None:
    """Recognisers are children of their worker."""
    hungry = "import os, sys; held = bytearray(64 * 2**20); print(flush=True); sys.stdin.read()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hungry!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(list(family_of(process.pid))) == 2
        assert resident_mib(process.pid) > 64.0
        assert process.stdin is not None
        process.stdin.close()
    assert resident_mib(process.pid) == 0.0
    assert resident_mib(os.getpid()) > 0.0
