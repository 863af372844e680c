"""What the recovery bench makes of what it saw."""

from __future__ import annotations

import pytest

from bench.recovery import Findings, missing, table
from tests.fakes.sounds import Run, runs_of

pytestmark = pytest.mark.unit


def test_the_table_has_a_row_for_each_case_with_median_and_worst() -> None:
    """Seconds by fault, role and phase; turns by fault; replay by the utterance's length."""
    findings = Findings()
    findings.seconds["kill", "asr", "hearing"] += [0.1, 0.3, 0.2]
    findings.turns["kill"], findings.lost["kill"], findings.missing_frames["kill"] = 18, 1, 7
    findings.replay[5] += [0.5]
    lines = [line.split() for line in table(findings).splitlines()]
    assert ["kill", "asr", "hearing", "3", "0.200", "0.300"] in lines
    assert ["kill", "18", "1", "0", "7"] in lines
    assert ["5", "0.500", "0.500"] in lines


def test_a_sound_that_breaks_off_or_comes_twice_is_seen() -> None:
    """Packet for packet: this is what the judgement of the recovery tests rests on."""
    sounds = {"first": (b"a", b"b", b"c"), "second": (b"d", b"e")}
    assert runs_of([b"a", b"b", b"c", b"d", b"e"], sounds) == [Run("first", 3, 3), Run("second", 2, 2)]
    broken = runs_of([b"a", b"b", b"d", b"e"], sounds)
    assert broken == [Run("first", 2, 3), Run("second", 2, 2)] and missing(broken) == 1
    assert runs_of([b"a", b"b", b"b", b"c"], sounds) == [Run("first", 2, 3), Run("?", 1, 0), Run("?", 1, 0)]
    assert runs_of([b"d", b"e", b"d", b"e"], sounds) == [Run("second", 2, 2)] * 2
