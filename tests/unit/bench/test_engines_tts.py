"""python -m bench.engines tts: what a voice costs, measured on voices that are known."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from bench.engines.plan import Plan
from bench.engines.tts import Score, Spoken, measure
from shared.settings import EngineChoice, Settings, TtsSettings

pytestmark = pytest.mark.unit


def plan_of(*choices: EngineChoice, **others: Any) -> Plan:
    tts = TtsSettings(engine=choices[0], engines={choice.name: choice for choice in choices})
    return Plan(Settings(tts=tts), Progress(console=Console(quiet=True)), **others)


async def test_each_voice_and_language_has_a_row() -> None:
    """A voice that cannot be made says why, and the others are measured all the same."""
    voices = [
        EngineChoice(name="Tone", type="sine", options={"ms_per_char": 10}),
        EngineChoice(name="Espeak", type="espeak"),
        EngineChoice(name="Broken", type="espeak", options={"voice": "klingon"}),
    ]
    rows = await measure(plan_of(*voices, count=2))
    assert [(row["engine"], row.get("language")) for row in rows] == [
        ("Tone", "en"),
        ("Tone", "zh"),
        ("Espeak", "en"),
        ("Espeak", "zh"),
        ("Broken", None),
    ]
    for row in rows[:4]:
        assert row["segments"] == 2 and row["failed"] == 0 and row["sound_s"] > 0.1
        assert row["first_ms_p50"] <= row["first_ms_max"] and row["realtime_factor"] is not None
    assert "klingon" in rows[4]["failed"]


async def test_only_the_asked_sections_are_measured() -> None:
    """And only the asked languages."""
    voices = [EngineChoice(name=name, type="sine") for name in ("One", "Two")]
    rows = await measure(plan_of(*voices, count=1, sections=frozenset(["Two"]), languages=("zh",)))
    assert [(row["engine"], row["language"]) for row in rows] == [("Two", "zh")]


def test_figures_of_segments() -> None:
    """The median and the worst first sound; work and processor time by the sound that came of it."""
    segments = [Spoken(0.1, 0.5, 2.0, 0.4), Spoken(0.3, 0.5, 3.0, 0.6), Spoken(None, 0.2, 0.0, 0.0)]
    row = Score(segments, ["upstream_quota"]).row()
    assert row == {
        "segments": 4,
        "failed": "upstream_quota",
        "first_ms_p50": 200,
        "first_ms_max": 300,
        "total_ms_p50": 500,
        "sound_s": 5.0,
        "realtime_factor": 0.24,
        "cpu_factor": 0.2,
    }
    assert Score().row()["realtime_factor"] is None
