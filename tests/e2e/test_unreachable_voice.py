"""Services outside where nobody listens: people are answered, the operator is told, and one that comes back is used."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from bench.upstreams.doubao import Doubao
from bench.upstreams.fake import HOST, Fake
from bench.upstreams.huoshan import Huoshan
from ops.device.client import Device
from ops.device.opus import decode
from ops.device.turn import TurnReport
from tests.fakes.cluster import ROOT, Cluster, metric, off_loop, running
from tests.fakes.people import device, said
from tests.fakes.tts_stream import pitch_hz

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

QUESTION = "could you please tell me about the weather"
SPARE_HZ, SERVICE_HZ = 700, 440
OPEN, CLOSED = 2, 0
PATIENT = {"connect_timeout_s": 20, "first_timeout_s": 20, "idle_timeout_s": 20}
"""However busy the machine is: who refuses does so at once, and the fake is well."""
UPSTREAM = "TTS.Mine"


def config_of(kind: str, fake: Fake) -> dict[str, Any]:
    """The engine of `kind` asks the fake, others are scripted; behind a voice is a tone, behind a recogniser nobody."""
    document: dict[str, Any] = {
        "selected_module": {"ASR": "ScriptedASR", "LLM": "ScriptedLLM", "TTS": "SpareTTS"},
        "ASR": {"ScriptedASR": {"type": "scripted", "text": "hello"}},
        "LLM": {"ScriptedLLM": {"type": "scripted", "reply": "It is sunny today."}},
        "TTS": {"SpareTTS": {"type": "sine", "ms_per_char": 25, "pitch_hz": SPARE_HZ}},
        "cluster": {
            "mouth": {"first_frame_timeout_s": 25, "segment_timeout_s": 40},
            "tts": {"first_frame_timeout_s": 20, "cache_bytes": 0},  # each turn says the same, and each is asked for
        },
    }
    document[kind]["Mine"] = fake.section() | PATIENT
    document["selected_module"][kind] = ["Mine", "SpareTTS"] if kind == "TTS" else "Mine"
    return document


async def spoken_turn(client: Device) -> int:
    """The pitch of a whole reply, in Hz; there was sound, and one end."""
    client.played.clear()
    report = await client.ask_text("how is the weather")
    counters = report.counters
    assert (counters.tts_starts, counters.tts_stops, counters.stale_frames) == (1, 1, 0)
    assert report.reply == "It is sunny today"
    return round(pitch_hz(decode(client.played, 0.06).astype(np.float32)))


async def breaker_of(cluster: Cluster) -> float:
    return await metric(cluster, "tts", "xz_upstream_breaker_state", upstream=UPSTREAM)


async def asked_of(cluster: Cluster) -> float:
    """How often the service was asked so far."""
    return await metric(cluster, "tts", "xz_upstream_requests_total", upstream=UPSTREAM)


async def test_an_unreachable_voice_costs_no_turn_and_speaks_again_when_it_is_there() -> None:
    """The next one speaks each turn; from the third failure on nobody tries; a server on that port is found again."""
    with socket.socket() as reserved:
        reserved.bind((HOST, 0))
        mouth = Huoshan(port=reserved.getsockname()[1])
        async with running(Cluster(json.dumps(config_of("TTS", mouth)))) as cluster:
            await _doctor_names(cluster, f"ws://{HOST}:{mouth.port} (TTS.Mine): nothing listens there")
            async with device(cluster, mode="manual") as client:
                await _falls_silent_for(client, cluster)
                reserved.close()
                async with mouth:
                    await _speaks_again(client, cluster, mouth)


async def _falls_silent_for(client: Device, cluster: Cluster) -> None:
    while await breaker_of(cluster) != OPEN:
        assert await spoken_turn(client) == pytest.approx(SPARE_HZ, abs=20)
    asked = await asked_of(cluster)
    assert asked == 3
    # On a machine that stands still for 15 s the turn is the breaker's probe; the one behind it is not.
    while True:
        assert await spoken_turn(client) == pytest.approx(SPARE_HZ, abs=20)
        before, asked = asked, await asked_of(cluster)
        if asked == before:
            break
    name = "xz_upstream_errors_total"
    assert await metric(cluster, "tts", name, code="upstream_open", reason="", upstream=UPSTREAM) > 0


async def _speaks_again(client: Device, cluster: Cluster, mouth: Fake) -> None:
    """It is tried when its rest is over, and then it speaks."""
    while await breaker_of(cluster) != CLOSED:
        await spoken_turn(client)
    assert any(session.texts for session in mouth.sessions)
    assert await spoken_turn(client) == pytest.approx(SERVICE_HZ, abs=20)


async def test_an_unreachable_recogniser_is_apologised_for() -> None:
    """With nobody behind it: one spoken apology and one end for a question, and the connection stays."""
    with socket.socket() as reserved:
        reserved.bind((HOST, 0))
        ear = Doubao(port=reserved.getsockname()[1])
        async with running(Cluster(json.dumps(config_of("ASR", ear)))) as cluster:
            await _doctor_names(cluster, f"ws://{HOST}:{ear.port} (ASR.Mine): nothing listens there")
            async with device(cluster, mode="manual") as client:
                # Two failures in a row, and the device is asked to connect anew.
                for _ in range(2):
                    _is_apology(await client.ask(said(QUESTION)))
                    assert await spoken_turn(client) == pytest.approx(SPARE_HZ, abs=20)
                    assert client.failure is None


def _is_apology(report: TurnReport) -> None:
    counters = report.counters
    assert (report.stt, counters.tts_starts, counters.tts_stops) == ("", 1, 1)
    assert report.heard_s > 0.3


async def _doctor_names(cluster: Cluster, fault: str) -> None:
    """Section, host and port, why, and what to do."""
    command = [sys.executable, "-m", "ops", "doctor", "--json"]
    done = await off_loop(
        lambda: subprocess.run(
            command, env=cluster.environ, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
        )
    )
    assert done.returncode == 1, done.stdout
    (found,) = [one for one in json.loads(done.stdout)["findings"] if one["check"] == "upstream"]
    assert (found["level"], found["what"]) == ("fail", fault)
    assert "is it running" in found["remedy"]
