"""Whole conversations over services outside: each recogniser and each voice, with their fakes behind real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from bench.upstreams.fake import Fake
from bench.upstreams.roster import made, merged, sections_of
from bench.upstreams.script import Fault, Script
from ops.device.client import Device
from tests.fakes.cluster import Cluster, metric, running
from tests.fakes.people import device, said, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

QUESTION = "could you please tell me about the weather"
REPLY = "It is sunny today. Take your hat with you. Have a good time outside."
PAIRS = (("aliyun_asr", "aliyun_tts"), ("doubao", "huoshan"), ("fun_asr", "edge"), ("openai", "openai"))


@dataclass
class Rig:
    """A cluster whose recogniser and voice are fakes, and one device that talks to it."""

    cluster: Cluster
    ear: Fake
    mouth: Fake
    device: Device


@asynccontextmanager
async def rig(ear_name: str, mouth_name: str, *, behind: str = "SpareTTS") -> AsyncIterator[Rig]:
    """`behind`: the section that speaks when the voice fails."""
    async with AsyncExitStack() as stack:
        ear = await stack.enter_async_context(made(ear_name, Script(), 0))
        mouth = ear if mouth_name == ear_name else await stack.enter_async_context(made(mouth_name, Script(), 0))
        config = json.dumps(_config({ear_name: ear, mouth_name: mouth}, behind))
        cluster = await stack.enter_async_context(running(Cluster(config)))
        client = await stack.enter_async_context(device(cluster, mode="manual"))
        yield Rig(cluster, ear, mouth, client)


def _config(fakes: dict[str, Fake], behind: str) -> dict[str, Any]:
    document = merged([sections_of(name, fake) for name, fake in fakes.items()])
    ear, mouth = next(iter(document["ASR"])), next(iter(document["TTS"]))
    document["TTS"]["SpareTTS"] = {"type": "sine", "ms_per_char": 25, "pitch_hz": 700}
    document["LLM"] = {"ScriptedLLM": {"type": "scripted", "reply": REPLY}}
    return document | {
        "selected_module": {"ASR": ear, "LLM": "ScriptedLLM", "TTS": [mouth, behind]},
        "cluster": {
            "asr": {"upstream_timeout_s": 20},
            "mouth": {"first_frame_timeout_s": 15, "segment_timeout_s": 30},
            "tts": {"cache_bytes": 0},  # each turn says the same, and each shall be asked for
        },
    }


@pytest.mark.parametrize(("ear_name", "mouth_name"), PAIRS)
async def test_a_conversation_over_each_pair(ear_name: str, mouth_name: str) -> None:
    """Heard whole, answered whole, once; a fault at either end costs no turn; an abort reaches the service."""
    async with rig(ear_name, mouth_name) as here:
        await _is_heard_and_answered(here)
        await _survives_a_fault_of_the_recogniser(here)
        await _tells_the_voice_of_an_abort(here)
        await _survives_the_loss_of_the_voice(here)


async def _is_heard_and_answered(here: Rig) -> None:
    report = await here.device.ask(said(QUESTION))
    assert report.stt == "hello" and report.reply.startswith("It is sunny today")
    counters = report.counters
    assert (counters.tts_starts, counters.tts_stops, counters.stale_frames) == (1, 1, 0)
    assert report.heard_s > 3.0
    spoken = "".join(text for session in here.mouth.sessions for text in session.texts)
    assert "sunny" in spoken and "outside" in spoken
    assert any(session.audio_bytes for session in here.ear.sessions)


async def _survives_a_fault_of_the_recogniser(here: Rig) -> None:
    """The one retry has the whole utterance again."""
    here.ear.script = Script(fault=Fault.parse("close@stream*1"))
    report = await here.device.ask(said(QUESTION))
    assert report.stt == "hello" and report.counters.tts_stops == 1
    here.ear.script = Script()


async def _tells_the_voice_of_an_abort(here: Rig) -> None:
    """Nothing is spoken, or paid for, that nobody hears."""
    before = len(here.mouth.sessions)
    here.mouth.script = Script(drip_ms=300)
    here.device.begin(said(QUESTION))
    await until(lambda: len(here.mouth.sessions) > before and here.device.firmware.counters.frames > 0, 30)
    here.device.abort()
    await here.device.turn_over()
    await until(lambda: all(_is_over(session) for session in here.mouth.sessions[before:]), 30)
    here.mouth.script = Script()


async def _survives_the_loss_of_the_voice(here: Rig) -> None:
    """The next in the list speaks instead."""
    here.mouth.script = Script(fault=Fault.parse("error@start"))
    report = await here.device.ask_text("how is the weather")
    assert report.heard_s > 1.0 and report.counters.tts_stops == 1
    assert await metric(here.cluster, "tts", "xz_tts_fallbacks_total") > 0


def _is_over(session: Any) -> bool:
    return bool(session.was_cancelled or session.was_closed or session.was_finished)
