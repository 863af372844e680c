"""A plan of faults: the same for the same seed, and somebody of each pool stays whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.trial.faults import LINK_ACTS, Act, Fault, plan_faults

pytestmark = pytest.mark.unit

COUNTS = {"asr": 3, "tts": 2, "session": 3}


def plan(seed: str, **changes: object) -> list[Fault]:
    options: dict[str, object] = {"counts": COUNTS, "every_s": 1.0, "forwarded": [("asr", 0), ("tts", 0)]} | changes
    return plan_faults(seed, 300.0, **options)  # type: ignore[arg-type]


def test_a_seed_names_a_plan() -> None:
    """Equal seeds are equal plans, others are not."""
    assert plan("7") == plan("7") != plan("8")


def test_every_kind_of_fault_comes() -> None:
    """In a few plans of five minutes."""
    assert {fault.act for seed in "12345678" for fault in plan(seed)} == set(Act)


def test_links_are_disturbed_only_where_a_forwarder_stands() -> None:
    """And not at all without one."""
    assert all((f.pool, f.slot) in (("asr", 0), ("tts", 0)) for f in plan("7") if f.act in LINK_ACTS)
    assert not any(fault.act in LINK_ACTS for fault in plan("7", forwarded=[]))


@given(st.text(max_size=8))
def test_somebody_of_each_pool_stays_whole(seed: str) -> None:
    """At no moment are all workers of a pool hurt, unless by the fault that is meant to hurt all."""
    faults = plan(seed)
    for fault in faults:
        alike = [f for f in faults if f.pool == fault.pool and f.at_s <= fault.at_s < f.ends_s]
        if any(f.act is Act.KILL_POOL for f in alike):
            assert len(alike) == 1
        else:
            assert len({f.slot for f in alike}) < COUNTS[fault.pool]
    assert faults == sorted(faults, key=lambda fault: fault.at_s)
