"""What a fleet counts, and what it calls wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench import processes
from bench.tally import Tally, percentile, spread
from ops.device.effects import Counters
from ops.device.turn import TurnReport

pytestmark = pytest.mark.unit

OWN = "0b9f5a52-aaaa"
OTHER = "77777777-bbbb"

GOOD = TurnReport(
    turn=1,
    session=OWN,
    stt=f"utterance 1 of {OWN}",
    reply=f"You said: utterance 1 of {OWN.replace('-', '')}",
    emotion=None,
    stt_ms=60.0,
    tts_start_ms=61.0,
    first_audio_ms=180.0,
    tts_stop_ms=3000.0,
    abort_stop_ms=None,
    counters=Counters(frames=50, played_frames=50, tts_starts=1, tts_stops=1),
    heard_s=3.0,
    sentences=(),
)


def faults(report: TurnReport) -> list[str]:
    return Tally().faults_of(report, [OWN, OTHER])


def test_good_turn_has_no_fault() -> None:
    """Its own marker in both texts, punctuation apart."""
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda: replace(GOOD, stt=f"utterance 1 of {OWN} {OTHER}"), ["cross_talk_transcript"]),
        (lambda: replace(GOOD, reply=f"You said {OTHER}"), ["cross_talk_reply", "own_marker_missing_in_reply"]),
        (lambda: replace(GOOD, stt=""), ["no_transcript", "own_marker_missing_in_transcript"]),
        (lambda: replace(GOOD, first_audio_ms=None), ["no_audio"]),
        (lambda: replace(GOOD, counters=Counters(tts_starts=1, tts_stops=2)), ["extra_tts_stop"]),
        (lambda: replace(GOOD, reply="", abort_stop_ms=1.0, counters=Counters(aborts=1, tts_stops=1)), []),
    ],
)
def test_wrong_turn_is_named(change: Callable[[], TurnReport], expected: list[str]) -> None:
    """Someone else's words, no words, no sound, one stop too many; an aborted reply may lack its marker."""
    assert faults(change()) == expected


def test_sums_and_shares() -> None:
    """Counters add up, stages are taken off, late frames are a share of all frames."""
    tally = Tally(stages_ms=100)
    tally.add(GOOD, [OWN])
    tally.add(replace(GOOD, counters=replace(GOOD.counters, late_frames=1)), [OWN])
    tally.fail("refused", "no token")
    report = tally.to_json()
    assert (report["turns"], report["frames"], report["late_percent"]) == (2, 100, 1.0)
    assert report["first_audio_minus_stages_ms"]["p50"] == 80.0
    assert report["failures"] == {"refused": 1}
    assert report["failure_examples"] == {"refused": "no token"}


def test_percentiles_are_nearest_ranks() -> None:
    """And nothing of nothing."""
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, percent) for percent in (50, 95, 99)] == [50, 95, 99]
    assert spread([]) == {"p50": None, "p95": None, "p99": None, "max": None}


def test_own_process_is_read() -> None:
    """Name, CPU time, memory and threads of a process that certainly exists."""
    process = processes.read(os.getpid())
    assert process is not None
    assert process.cpu_s > 0 and process.memory_kib > 1000 and process.threads >= 1
    assert os.getpid() in processes.descendants(os.getppid())


def test_gone_process_is_left_out(tmp_path: Path) -> None:
    """A pid that nobody has."""
    assert processes.read_all([2**22 + 1]) == {}


def test_new_process_counts_from_its_birth() -> None:
    """A worker that was restarted while we looked."""
    after = {5: processes.Process(5, "router", 2.0, 300, 100, 3)}
    before = {5: processes.Process(5, "router", 0.5, 295, 90, 3)}
    assert processes.costs(before, after)[0].cpu_s == 1.5
    assert processes.costs({}, after)[0].cpu_s == 2.0
