"""Timing and isolation with scripted engines behind real Opus, voice detection, endpointing and encoding."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from ops.device.client import Device
from ops.device.turn import TurnReport
from shared.listening import Mode
from tests.fakes.cluster import Cluster, off_loop
from tests.fakes.people import device, said, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CONFIG = """
cluster: {asr: {recognisers: 32}}
selected_module: {ASR: ScriptedASR, LLM: ScriptedLLM, TTS: SineTTS}
ASR:
  ScriptedASR: {type: scripted, text: "utterance {utterance} of {session}", delay_ms: 300}
LLM:
  ScriptedLLM:
    type: scripted
    reply: "You said {text}. That is all there is to say about it. Good day."
    first_token_ms: 300
TTS:
  SineTTS: {type: sine, ms_per_char: 25, first_chunk_ms: 300}
"""

QUESTION = "could you please tell me about the weather"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(CONFIG, counts={"asr": 2, "tts": 2, "session": 2}) as running:
        yield running


def is_clean(report: TurnReport) -> bool:
    counters = report.counters
    return counters.tts_starts == counters.tts_stops and counters.stale_frames == counters.overflow_frames == 0


async def test_twenty_devices_hear_only_themselves(cluster: Cluster) -> None:
    """Every answer names the session it belongs to, in all three modes at once."""
    modes: tuple[Mode, ...] = ("manual", "auto", "realtime")

    async def converse(number: int) -> None:
        async with device(cluster, number, mode=modes[number % 3]) as client:
            for _ in range(2):
                report = await client.ask(said(QUESTION))
                assert client.session in report.stt and client.session in report.reply
                assert is_clean(report)

    await asyncio.gather(*(converse(number) for number in range(20)))


@pytest.mark.parametrize("stage", ["listening", "recognising", "thinking", "synthesising", "speaking"])
async def test_abort_is_answered_in_every_stage(cluster: Cluster, stage: str) -> None:
    """One `tts stop` a `tts start` (and one for an abort in silence), no stale frame, and the next turn works."""
    async with device(cluster, 40, mode="manual") as client:
        client.begin(said(QUESTION))
        await STAGES[stage](client)
        before = client.firmware.counters.copy()
        client.abort()
        await until(lambda: client.firmware.counters.tts_stops > before.tts_stops, 5)
        await asyncio.sleep(0.8)
        counters = client.firmware.counters
        assert counters.stale_frames == 0
        assert counters.tts_stops == max(counters.tts_starts, 1)
        report = await client.ask(said(QUESTION))
        assert client.session in report.reply and is_clean(report)


async def _listening(client: Device) -> None:
    await until(lambda: client.firmware.counters.uplink_frames > 15)


async def _recognising(client: Device) -> None:
    await until(lambda: client.microphone.is_quiet)
    await asyncio.sleep(0.1)


async def _thinking(client: Device) -> None:
    await until(lambda: client.firmware.counters.tts_starts > 0)
    await asyncio.sleep(0.1)


async def _synthesising(client: Device) -> None:
    await until(lambda: client.firmware.counters.tts_starts > 0)
    await asyncio.sleep(0.45)


async def _speaking(client: Device) -> None:
    await until(lambda: client.firmware.counters.frames > 5)


STAGES = {
    "listening": _listening,
    "recognising": _recognising,
    "thinking": _thinking,
    "synthesising": _synthesising,
    "speaking": _speaking,
}


async def test_barge_in_by_voice_in_realtime(cluster: Cluster) -> None:
    """Speech during the answer ends it, and what was said becomes the next turn."""
    async with device(cluster, 41, mode="realtime") as client:
        client.begin(said(QUESTION))
        await _speaking(client)
        client.microphone.hear(said(QUESTION))
        await until(lambda: client.firmware.counters.tts_stops >= 2)
        counters = client.firmware.counters
    assert counters.tts_starts == 2 and counters.stale_frames == 0


async def test_start_at_every_sentence_changes_nothing(cluster: Cluster) -> None:
    """A client that sends `listen start` at each sentence_start hears its answer to the end."""
    async with device(cluster, 42) as client:
        client.begin(said(QUESTION))
        await _speaking(client)
        for _ in range(3):
            client.send({"type": "listen", "state": "start", "mode": "auto"})
            await asyncio.sleep(0.1)
        report = await client.turn_over()
    assert report.reply.endswith("Good day") and is_clean(report)


async def test_detect_followed_by_start_is_one_turn(cluster: Cluster) -> None:
    """The firmware sends `start` at once behind `detect`; the answer to the wake word is not cancelled."""
    async with device(cluster, 43) as client:
        report = await client.ask_text("tell me something")
    assert report.counters.tts_starts == 1 and "You said tell me something" in report.reply and is_clean(report)


async def test_frames_come_in_time(cluster: Cluster) -> None:
    """Paced in real time with a small lead: the device's queue neither overflows nor runs dry."""
    async with device(cluster, 44, mode="manual") as client:
        report = await client.ask(said(QUESTION))
    assert report.counters.overflow_frames == report.counters.underruns == report.counters.early_frames == 0
    assert report.heard_s == pytest.approx(report.counters.frames * 0.06, abs=0.2)


@pytest.mark.parametrize("protocol", [1, 2, 3])
async def test_every_binary_protocol_version_carries_a_turn(cluster: Cluster, protocol: int) -> None:
    """v1 raw, v2 with timestamps, v3 with a short header."""
    async with device(cluster, 50 + protocol, mode="manual", protocol=protocol) as client:
        report = await client.ask(said(QUESTION))
    assert client.session in report.reply and is_clean(report) and not client.faults


async def test_threads_do_not_grow_with_devices(cluster: Cluster) -> None:
    """The same number with none and with forty connected, within the budget, in every process."""

    def threads() -> dict[str, tuple[float, float]]:
        programs = [("router", 0), ("web", 0), ("asr", 0), ("asr", 1), ("tts", 0), ("session", 0)]
        return {
            f"{program}-{slot}": (
                cluster.metric(program, "xz_process_threads", slot),
                cluster.metric(program, "xz_thread_budget", slot),
            )
            for program, slot in programs
        }

    async with device(cluster, 60, mode="manual") as one:
        await one.ask(said(QUESTION))
        before = await off_loop(threads)
    async with asyncio.TaskGroup() as group:
        gate = asyncio.Event()
        ready = 0

        async def hold(number: int) -> None:
            nonlocal ready
            async with device(cluster, 100 + number):
                ready += 1
                await gate.wait()

        for number in range(40):
            group.create_task(hold(number))
        await until(lambda: ready == 40)
        after = await off_loop(threads)
        gate.set()
    assert after == before
    assert all(count <= budget for count, budget in after.values()), after


async def test_a_second_connection_of_a_device_replaces_the_first(cluster: Cluster) -> None:
    """The newer wins, the older is closed, and the newer one talks."""
    async with device(cluster, 70, mode="manual") as older, device(cluster, 70, mode="manual") as newer:
        await until(lambda: older.failure is not None)
        report = await newer.ask(said(QUESTION))
    assert newer.session in report.reply


async def test_nothing_that_was_said_is_in_any_log(cluster: Cluster) -> None:
    """A whole DEBUG run, libraries included: no transcript, no reply, no token, no key."""
    async with device(cluster, 80, mode="manual") as client:
        await client.ask(said(QUESTION))
        await client.ask_text("zanzibar marmalade")
    logs = cluster.logs()
    key = (cluster.data_dir / ".auth_key").read_text().strip()
    for secret in ("zanzibar", "marmalade", "You said", "utterance 0 of", "Good day", key):
        assert secret not in logs
    assert "Bearer" not in logs
    assert json.dumps("turn") in logs or " turn " in logs
