"""Fifty devices, each with a mark of its own in its voice, are heard and answered as themselves, while workers die."""

from __future__ import annotations

import pytest

from bench.trial.faults import Act, Fault
from bench.trial.people import Habits
from bench.trial.trial import Trial, TrialPlan

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

DEVICES = 50
TURNS = 4
DEATHS = [
    Fault(3.0, Act.KILL, "asr", 0),
    Fault(5.0, Act.KILL, "tts", 1),
    Fault(7.0, Act.KILL, "session", 0),
    Fault(10.0, Act.DRAIN, "asr", 1),
]


async def test_fifty_devices_hear_only_themselves_while_workers_die() -> None:
    """Each transcript, each tool call and each frame of an answer belongs to the device and the turn that it reached.

    The recogniser reads the mark out of the sound that was said, and the voice puts the mark of its text into the sound
    that is heard, so the way in and the way out are both checked, sample by sample.
    """
    plan = TrialPlan(
        devices=DEVICES,
        seconds=14.0,
        seed="isolation",
        counts={"session": 2, "asr": 2, "tts": 2},
        faults=DEATHS,
        habits=Habits(abort=0.5, break_in=0.5),
        turns=TURNS,
        warm_up_s=4.0,
    )
    trial = Trial(plan)
    await trial.run()
    assert not trial.complaints, "\n".join(map(str, trial.complaints[:40]))
    assert trial.judge.outcomes["answered"] >= DEVICES, trial.report()
    assert trial.judge.frames["marked"] >= 10 * DEVICES, trial.report()
