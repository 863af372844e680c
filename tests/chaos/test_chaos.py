"""Chaos in short: every kind of fault once or twice under eight talking devices. Invariants only, no times."""

from __future__ import annotations

import pytest

from bench.trial.faults import Act, Fault
from bench.trial.trial import Trial, TrialPlan, trial_config

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

COUNTS = {"session": 2, "asr": 2, "tts": 2}
FORWARDED = ("session-0", "asr-0", "tts-0")
FAULTS = [
    Fault(0.5, Act.WEDGE, "tts", 1, point="synthesising"),
    Fault(1.0, Act.KILL, "asr", 1),
    Fault(2.0, Act.KILL, "session", 1),
    Fault(4.5, Act.CUT, "asr", 0),
    Fault(6.0, Act.PAUSE, "asr", 1, 0.8),
    Fault(7.0, Act.DRAIN, "session", 0),
    Fault(8.0, Act.DELAY, "asr", 0, 2.0),
    Fault(11.0, Act.STOP, "asr", 1, 4.5),
    Fault(12.0, Act.DUPLICATE, "session", 0, 2.0, every=3),
    Fault(15.0, Act.KILL_POOL, "session", 0),
    Fault(17.0, Act.DRAIN, "tts", 0),
    Fault(17.5, Act.DROP, "asr", 0, 1.5, every=7),
]


async def test_talk_survives_every_kind_of_fault() -> None:
    """No stale frame, no cross talk, one stop a start, no lost utterance, one end an OPEN, no tool twice, no leak."""
    plan = TrialPlan(
        devices=8,
        seconds=20.0,
        seed="ci",
        counts=COUNTS,
        faults=FAULTS,
        forwarded=FORWARDED,
        config=trial_config(asr_fail_every=20, llm_fail_every=20, tts_fail_every=50),
        warm_up_s=4.0,
    )
    trial = Trial(plan)
    await trial.run()
    report = trial.report()
    assert not trial.complaints, "\n".join(map(str, trial.complaints[:40]))
    assert report["turns"]["answered"] >= 8, report
    assert {fault.act for fault in FAULTS} <= set(trial.mischief.done)
    assert trial.wire.opened == trial.wire.ended + trial.wire.lost > 0
