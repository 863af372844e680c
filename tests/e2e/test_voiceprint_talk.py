"""Who speaks, through the whole cluster: from the sound of a device to what the model is told and what is stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from bench.trial.marked_device import marked_speech
from bench.upstreams.script import Fault, Script
from bench.upstreams.voiceprint import KEY, Voiceprint
from ops.device.enrolment import simulated_mac
from ops.device.opus import Speech
from shared.marks import Mark
from shared.settings import StoreSettings
from shared.store.store import Store
from shared.voiceprint import UNKNOWN
from tests.fakes.cluster import Cluster, metric, off_loop
from tests.fakes.llm import FakeLlm
from tests.fakes.people import device, voice

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ZHANG, LI, STRANGER = Mark(1, 1), Mark(2, 1), Mark(3, 1)

CONFIG = """
selected_module: {{ASR: ScriptedASR, LLM: FakeLLM, TTS: SineTTS}}
ASR:
  ScriptedASR: {{type: scripted, text: "question {{mark}}"}}
LLM:
  FakeLLM: {{type: openai, url: "{llm}", model_name: fake}}
TTS:
  SineTTS: {{type: sine, ms_per_char: 10}}
voiceprint:
  url: "{url}"
  speakers: ["{zhang},张三,张三是一个程序员", "{li},李四,李四是一个老师"]
  max_wait_s: {max_wait_s}
"""


@dataclass
class Town:
    cluster: Cluster
    voiceprint: Voiceprint
    llm: FakeLlm

    def questions(self) -> list[str]:
        """What the model was asked last, each turn of the dialogue."""
        return [one["content"] for one in self.llm.requests[-1]["messages"] if one["role"] == "user"]

    def prompt(self) -> str:
        return str(self.llm.requests[-1]["messages"][0]["content"])


@asynccontextmanager
async def town(script: Script, max_wait_s: float) -> AsyncIterator[Town]:
    """The servers outside are there before the cluster looks at them."""
    llm = FakeLlm()
    await llm.start()
    try:
        async with Voiceprint(script) as fake:
            words = {"url": fake.url, "llm": llm.base_url, "zhang": ZHANG.word, "li": LI.word}
            cluster = Cluster(CONFIG.format(**words, max_wait_s=max_wait_s))
            await off_loop(cluster.__enter__)
            try:
                yield Town(cluster, fake, llm)
            except BaseException as error:
                await off_loop(cluster.__exit__, type(error), error, None)
                raise
            await off_loop(cluster.__exit__, None, None, None)
    finally:
        await llm.stop()


def spoken_by(mark: Mark) -> Speech:
    return marked_speech(voice().say("could you please tell me about the weather"), mark)


async def stored_speaker(cluster: Cluster, number: int) -> str | None:
    store = await Store.open(StoreSettings(), cluster.data_dir)
    try:
        return (await store.ownership.claim(simulated_mac("e2e", number), "test", 0.0)).facts.speaker
    finally:
        await store.close()


async def until_stored(cluster: Cluster, number: int, speaker: str) -> None:
    """A turn is written behind the talk."""
    async with asyncio.timeout(30):
        while await stored_speaker(cluster, number) != speaker:  # noqa: ASYNC110 - the store has no event
            await asyncio.sleep(0.1)


async def test_the_speaker_reaches_the_model_and_the_store() -> None:
    """Three people at one device: each is named with the first words, the list is in the prompt, the last is stored."""
    async with town(Script(), max_wait_s=5.0) as here:
        async with device(here.cluster, 1, mode="manual") as client:
            for mark in (ZHANG, ZHANG, STRANGER, LI):
                report = await client.ask(spoken_by(mark))
                assert report.stt == f"question {mark.word}"
        assert here.questions() == [
            json.dumps({"speaker": "张三", "content": f"question {ZHANG.word}"}, ensure_ascii=False),
            f"question {ZHANG.word}",
            json.dumps({"speaker": UNKNOWN, "content": f"question {STRANGER.word}"}, ensure_ascii=False),
            json.dumps({"speaker": "李四", "content": f"question {LI.word}"}, ensure_ascii=False),
        ]
        assert here.prompt().count("- 张三: 张三是一个程序员") == 1
        assert await metric(here.cluster, "asr", "xz_voiceprint_results_total", result="known") == 3
        await until_stored(here.cluster, 1, "李四")
        logs = here.cluster.logs()
        assert KEY not in logs and "张三" not in logs and UNKNOWN not in logs
        assert here.voiceprint.health_checks == 1


async def test_a_voiceprint_server_that_hangs_is_not_felt() -> None:
    """Every turn is answered, without a speaker; and no turn is asked twice."""
    async with town(Script(fault=Fault.parse("silent@start")), max_wait_s=0.2) as here:
        async with device(here.cluster, 1, mode="auto") as client:
            for _ in range(2):
                report = await client.ask(spoken_by(ZHANG))
                assert report.stt == f"question {ZHANG.word}"
                assert report.counters.tts_starts == report.counters.tts_stops
        assert here.questions() == [f"question {ZHANG.word}"] * 2
        assert await metric(here.cluster, "asr", "xz_voiceprint_results_total", result="late") == 2


async def test_a_voiceprint_server_that_is_away_is_not_felt() -> None:
    """A cluster that starts without it talks without it."""
    async with town(Script(fault=Fault.parse("error@connect")), max_wait_s=5.0) as here:
        async with device(here.cluster, 1, mode="manual") as client:
            await client.ask(spoken_by(ZHANG))
        assert here.questions() == [f"question {ZHANG.word}"] and here.voiceprint.sessions == []
