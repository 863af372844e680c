"""What the router's metrics make of a finished turn."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import REGISTRY

from router import metrics, wire
from router.talk.pacing import GRID_S
from tests.fakes.world import World

pytestmark = pytest.mark.unit


def spent(stage: str) -> tuple[float, float]:
    """(number, seconds) of a stage so far."""
    values = [REGISTRY.get_sample_value(f"xz_turn_stage_seconds_{end}", {"stage": stage}) for end in ("count", "sum")]
    return (values[0] or 0.0, values[1] or 0.0)


def added(fields: dict[str, Any]) -> dict[str, float]:
    """Seconds that a turn added to each stage; a stage it did not reach is left out."""
    stages = ("recognising", "thinking", "synthesising", "speaking")
    before = {stage: spent(stage) for stage in stages}
    metrics.observe_turn(fields)
    after = {stage: spent(stage) for stage in stages}
    return {s: round(after[s][1] - before[s][1], 6) for s in stages if after[s][0] > before[s][0]}


def test_a_whole_turn_has_four_stages() -> None:
    """Each stage is what lies between two moments of the turn's line."""
    turn = {"accepted_ms": 20, "first_segment_ms": 320, "first_audio_ms": 400, "turn_ms": 2900}
    assert added(turn) == {"recognising": 0.02, "thinking": 0.3, "synthesising": 0.08, "speaking": 2.5}


def test_a_stage_that_was_not_reached_or_was_overtaken_is_left_out() -> None:
    """Nothing was said; and a filler that was heard before the first segment says nothing about synthesis."""
    silent = {"accepted_ms": 20, "first_segment_ms": None, "first_audio_ms": None, "turn_ms": 900}
    filled = {"accepted_ms": 20, "first_segment_ms": 6020, "first_audio_ms": 4080, "turn_ms": 9080}
    assert added(silent) == {"recognising": 0.02}
    assert added(filled) == {"recognising": 0.02, "thinking": 6.0, "speaking": 5.0}


def test_a_steady_reply_keeps_its_lead() -> None:
    """When a frame leaves, the device has two more of a lead of three in hand, to within a step of the grid."""
    world = World().hello().say(wire.ListenStart("auto")).frames(10)
    world.hears("hi").replies("Hello.").speaks(40).advance(5.0)
    (lead_s,) = world.observed["egress_lead"]
    assert lead_s == pytest.approx(0.12, abs=GRID_S + 1e-6)


def test_a_reply_that_ran_dry_had_nothing_in_hand() -> None:
    """The least counts, not the mean; each reply is measured anew, and one too short for a lead is not."""
    world = World().hello().say(wire.ListenStart("auto")).frames(10)
    world.hears("hi").replies("Hello.").speaks(10, finish=False).advance(1.5)
    world.speaks(20).advance(5.0)
    assert world.observed["egress_lead"] == [0.0]
    assert world.counts["egress_underruns"] == 1
    world.frames(5).hears("hi").replies("Hello.").speaks(2).advance(5.0)
    assert len(world.turns) == 2
    assert len(world.observed["egress_lead"]) == 1
