"""Three times more people than there is room for: who hears what, and that all room is free again afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from functools import cache

import pytest

from tests.fakes.cluster import Cluster, off_loop
from tests.fakes.people import quiet, said, until
from tests.fakes.raw_device import RawDevice, raw_device

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ROOM = 4

CONFIG = """
selected_module: {ASR: ScriptedASR, LLM: ScriptedLLM, TTS: SineTTS}
ASR: {ScriptedASR: {type: scripted, text: "words of {session}", recognisers: 4, delay_ms: 4000}}
LLM: {ScriptedLLM: {type: scripted, reply: "You said {text}. Good day."}}
TTS: {SineTTS: {type: sine, ms_per_char: 20}}
cluster:
  asr: {final_timeout_s: 15}
  ear: {final_timeout_s: 15}
"""
FULL_HOUSE = """
selected_module: {ASR: ScriptedASR, LLM: ScriptedLLM, TTS: SineTTS}
ASR: {ScriptedASR: {type: scripted, text: "words of {session}"}}
LLM: {ScriptedLLM: {type: scripted, reply: "You said {text}. Good day.", first_token_ms: 300}}
TTS: {SineTTS: {type: sine, ms_per_char: 20}}
cluster: {session: {capacity: 4}}
"""
BUSY = "busy"


@cache
def utterance() -> tuple[bytes, ...]:
    return (*said("tell me about the weather").packets, *quiet()[:12])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    utterance()
    with Cluster(CONFIG) as running:
        yield running


async def ask(cluster: Cluster, number: int, together: asyncio.Barrier, mode: str) -> RawDevice:
    """One question, asked when all are there; nobody leaves before all have their answers, but who is let go."""
    async with raw_device(cluster, number) as device:
        await together.wait()
        device.listen("start", mode=mode)
        device.send_all(utterance())
        if mode == "manual":
            device.listen("stop")
        await device.turns_over()
        if not was_understood(device):
            await device.gone()
        await together.wait()
        assert device.is_gone != was_understood(device)
        return device


async def crowd(cluster: Cluster, count: int, first: int, mode: str) -> list[RawDevice]:
    together = asyncio.Barrier(count)
    return list(await asyncio.gather(*(ask(cluster, first + number, together, mode) for number in range(count))))


def was_understood(device: RawDevice) -> bool:
    """Its first sentence is an answer, which names its session."""
    return device.session in device.texts("tts", "sentence_start")[0]["text"]


def was_served(device: RawDevice) -> bool:
    """A whole turn; else what everybody hears for whom there is no room, once, and 1013."""
    assert len(device.texts("tts", "start")) == len(device.texts("tts", "stop")) == 1
    assert len(device.audio) > 5
    if was_understood(device):
        assert device.texts("stt")[0]["text"].endswith(f"of {device.session}") and device.close_code is None
        return True
    (sentence,) = device.texts("tts", "sentence_start")
    assert BUSY in sentence["text"].lower() and device.close_code == 1013
    return False


def late_frames(devices: list[RawDevice]) -> int:
    """Frames that came more than two durations after the one before."""
    gaps = [b - a for one in devices for a, b in zip(one.audio_times, one.audio_times[1:], strict=False)]
    return sum(gap > 0.125 for gap in gaps)


def is_at_rest(cluster: Cluster) -> bool:
    """No stream anywhere, no slot taken, no recogniser held."""
    page = json.loads(cluster.page("router", "/cluster"))
    workers = [worker for pool in page["pools"].values() for worker in pool]
    busy = [cluster.metric("asr", "xz_asr_recognisers_busy", slot) for slot in range(cluster.counts["asr"])]
    waiting = [cluster.metric("router", name) for name in ("xz_streams", "xz_streams_waiting", "xz_connections")]
    taken = [worker[key] for worker in workers for key in ("active", "reserved", "load", "ours")]
    return not any([*taken, *busy, *waiting])


async def at_rest(cluster: Cluster) -> None:
    """Until everything is free again; the workers' own word comes with their next BEAT."""
    await until(lambda: is_at_rest(cluster), 30.0)


@pytest.mark.parametrize("mode", ["manual", "auto"])
async def test_three_times_too_many_speak(cluster: Cluster, mode: str) -> None:
    """Those with a recogniser have their turn and keep pace; the rest hear "busy" once and are let go; all recovers."""
    first = 200 if mode == "manual" else 240
    rejected = await off_loop(cluster.metric, "router", 'xz_utterances_failed_total{reason="busy"}')
    storm = await crowd(cluster, 3 * ROOM, first + 10, mode)
    served = [device for device in storm if was_served(device)]
    excess = len(storm) - len(served)
    assert len(served) >= ROOM and excess >= ROOM
    assert await off_loop(cluster.metric, "router", 'xz_utterances_failed_total{reason="busy"}') == rejected + excess
    await at_rest(cluster)
    calm = await crowd(cluster, ROOM, first + 30, mode)
    assert all(map(was_served, calm))
    assert late_frames(served) <= 2 * late_frames(calm) * len(served) / ROOM + 10
    await at_rest(cluster)
    assert cluster.metric("router", "xz_worker_deaths_total") == 0


async def test_three_times_too_many_are_there() -> None:
    """No room for their conversations: busy when they have spoken, and whoever comes after they have left is served."""
    with Cluster(FULL_HOUSE) as cluster:
        storm = await crowd(cluster, 3 * ROOM, 300, "manual")
        served = [device for device in storm if was_served(device)]
        assert len(served) == ROOM
        await at_rest(cluster)
        again = await crowd(cluster, ROOM, 330, "manual")
        assert all(map(was_served, again))
        await at_rest(cluster)
