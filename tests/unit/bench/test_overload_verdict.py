"""The verdict on an overload: everybody is served or let go, the served keep pace, the cluster recovers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.overload import Guest, verdict
from bench.trial.events import Frame, HungUp, ReplyStarted, Sentence, Tone
from ops.device.effects import Counters

pytestmark = pytest.mark.unit

PACE = Counters(frames=1000, late_frames=2)


def served(number: int = 1) -> Guest:
    guest = Guest(number, counters=PACE)
    guest.on(ReplyStarted(number))
    guest.on(Sentence(number, "it is over"))
    return guest


def let_go(number: int = 2) -> Guest:
    guest = Guest(number)
    for event in (ReplyStarted(number), Frame(number, Tone.PROMPT), Frame(number, Tone.PROMPT), HungUp(number, 1013)):
        guest.on(event)
    return guest


def codes(storm: list[Guest], *, calm: Guest | None = None, recovery_s: float | None = 0.5) -> list[str]:
    return [one.code for one in verdict([calm or served()], storm, 1, recovery_s, 0.0)]


def test_served_or_let_go_is_right() -> None:
    """One of them is in, two hear that there is no room."""
    assert codes([served(1), let_go(2), let_go(3)]) == []


@pytest.mark.parametrize(
    ("code", "storm"),
    [
        ("neither_served_nor_let_go", [served(), let_go(), replace(let_go(), close_code=1011)]),
        ("neither_served_nor_let_go", [served(), let_go(), replace(let_go(), prompts=2)]),
        ("neither_served_nor_let_go", [served(), let_go(), replace(let_go(), prompts=0)]),
        ("neither_served_nor_let_go", [served(), let_go(), replace(served(), error="no_answer")]),
        ("room_left_empty", [let_go(), let_go()]),
        ("no_overload", [served(), served()]),
        ("served_fell_behind", [replace(served(), counters=Counters(frames=1000, late_frames=30)), let_go()]),
    ],
)
def test_each_fault_is_seen(code: str, storm: list[Guest]) -> None:
    """A check that cannot fail checks nothing."""
    assert codes(storm) == [code]


def test_refusing_with_room_and_not_recovering_are_seen() -> None:
    """Before the storm and after it."""
    assert codes([served(), let_go()], calm=let_go()) == ["refused_with_room"]
    assert codes([served(), let_go()], recovery_s=None) == ["did_not_recover"]
