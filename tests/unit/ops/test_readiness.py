"""What the web process's answers mean to somebody who waits."""

from __future__ import annotations

import pytest

from ops.cluster.readiness import absent_workers, describe
from ops.process import ProcessName

pytestmark = pytest.mark.unit

NAMES = [ProcessName("web", 0), ProcessName("router", 0), ProcessName("asr", 0), ProcessName("asr", 1)]


def worker(role: str, slot: int) -> dict[str, object]:
    return {"role": role, "slot": slot}


def test_a_pool_is_complete_when_every_started_slot_has_joined() -> None:
    """One worker of two is enough for the router, not for the start."""
    assert absent_workers(NAMES, {"workers": [worker("asr", 1)]}) == "asr 1/2"
    assert absent_workers(NAMES, {"workers": [worker("asr", 1), worker("asr", 0)]}) is None


def test_a_worker_known_in_two_lives_counts_once() -> None:
    """A router may still list the dead one."""
    assert absent_workers(NAMES, {"workers": [worker("asr", 1), worker("asr", 1)]}) == "asr 1/2"


def test_workers_of_other_machines_do_no_harm() -> None:
    """More than we started is not less."""
    assert absent_workers(NAMES[:2], {"workers": [worker("tts", 7)]}) is None


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"reasons": ["router 0 (no answer)", "asr"]}, "router 0 (no answer), asr"),
        ({"reasons": []}, "the pools"),
        ({}, "the pools"),
        (None, "web"),
    ],
)
def test_reasons_are_told_on_one_line(body: object, text: str) -> None:
    """Whatever came back, the person sees what is waited for."""
    assert describe(body) == text
