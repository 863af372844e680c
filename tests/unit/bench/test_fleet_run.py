"""A small fleet against a scripted server, end to end: the report says what happened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bench.fleet import Fleet, make_parser, measure, plan_of, watched_pids
from bench.report import show
from bench.tally import Tally
from ops.device.opus import encode_speech, silence
from tests.fakes.voice_server import Script, voice_server

pytestmark = pytest.mark.link

CONFIG = Path(__file__).parents[3] / "bench" / "fleet.config.yaml"
MARKED = Script(
    transcript="utterance 1 of {session}", sentences=("You said: utterance 1 of {session}.",), frames_per_sentence=8
)


async def fleet_report(script: Script, *words: str) -> dict[str, Any]:
    noise = np.random.default_rng(1).normal(0, 6000, 960 * 6).astype(np.int16)
    async with voice_server(script) as server:
        args = make_parser().parse_args(
            ["--url", server.url, "--devices", "4", "--seconds", "1", "--ramp", "0", *words]
        )
        fleet = Fleet(plan_of(args), encode_speech(noise), silence(), Tally())
        return await measure(fleet, [os.getpid()])


async def test_mixed_fleet_has_no_failures(capsys: pytest.CaptureFixture[str]) -> None:
    """Every device gets its own answer; the server's and its own cost are told."""
    report = await fleet_report(MARKED, "--mode", "mixed")
    assert report["failures"] == {}
    assert report["turns"] >= 4
    assert report["connected_at_end"] == 4
    assert report["stop_to_first_audio_ms"]["p50"] > 0
    assert report["server"]["cpu_s_per_device_minute"] > 0
    assert report["fleet"]["loop_lag_ms"]["max"] is not None
    show(report)
    assert "stop → first audio" in capsys.readouterr().out


async def test_wrong_marker_is_a_failure() -> None:
    """A server that says the same to everybody."""
    report = await fleet_report(Script(frames_per_sentence=4))
    assert report["failures"]["own_marker_missing_in_reply"] == report["turns"]


async def test_refused_devices_are_counted_not_hidden() -> None:
    """Each attempt is one failure, with an example of its message."""
    report = await fleet_report(Script(status=401))
    assert report["failures"]["refused"] >= 4
    assert report["turns"] == 0
    assert "401" in report["failure_examples"]["refused"]


async def test_aborted_turns_are_counted_apart() -> None:
    """Every turn is interrupted, none has stale frames."""
    script = Script(transcript="{session}", sentences=("{session}",), frames_per_sentence=40)
    report = await fleet_report(script, "--abort-every", "1", "--abort-after", "0.1")
    assert report["aborted"] == report["turns"] > 0
    assert report["stale_frames"] == 0
    assert report["abort_to_tts_stop_ms"]["p50"] is not None


def test_watched_processes() -> None:
    """Given by number, or found under a run directory's supervisord."""
    assert watched_pids(make_parser().parse_args(["--pids", "1,2"])) == [1, 2]
    assert watched_pids(make_parser().parse_args([])) == []


def test_config_selects_what_it_defines() -> None:
    """Every selected module of the fleet's configuration has its section."""
    config = yaml.safe_load(CONFIG.read_text())
    for module, name in config["selected_module"].items():
        assert "type" in config[module][name]
