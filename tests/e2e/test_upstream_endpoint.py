"""`endpoint: upstream`: the service outside finds the end of speech, and our own silence, far longer here, does not."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from bench.upstreams.aliyun_asr import AliyunAsr
from bench.upstreams.doubao import Doubao
from bench.upstreams.fake import Fake
from bench.upstreams.sentence_ear import BYTES_PER_MS
from ops.device.opus import MIC_RATE, Speech, encode_speech
from shared.marks import Mark, sound_of
from tests.fakes.cluster import Cluster, metric, running
from tests.fakes.people import device, voice

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

QUESTION = "could you please tell me about the weather"
FIRST, SECOND = Mark(3, 1), Mark(3, 2)
OWN_SILENCE_MS = 5000
"""Longer than the service's, which is 800 ms, and than any net."""
PACKET_MS = 60
PATIENT = {"connect_timeout_s": 20, "first_timeout_s": 20, "idle_timeout_s": 20}
"""However busy the machine is: the fake is well."""


def asked(*marks: Mark, pause_s: float = 1.5) -> Speech:
    """The question once for each mark, which lies over it, with pauses between."""
    plain = voice().say(QUESTION)
    parts = []
    for mark in marks:
        tones = sound_of(mark, 0, len(plain), MIC_RATE, 0.05) * 32767
        parts += [np.zeros(int(pause_s * MIC_RATE), np.int16), np.clip(plain + tones, -32767, 32767).astype(np.int16)]
    return encode_speech(np.concatenate(parts[1:]))


def _config(fake: Fake) -> dict[str, Any]:
    return {
        "selected_module": {"ASR": "Ear", "VAD": "SileroVAD", "LLM": "ScriptedLLM", "TTS": "SineTTS"},
        "ASR": {"Ear": {**fake.section(), **PATIENT, "endpoint": "upstream"}},
        "VAD": {"SileroVAD": {"type": "silero", "min_silence_duration_ms": OWN_SILENCE_MS}},
        "LLM": {"ScriptedLLM": {"type": "scripted", "reply": "You said {text}."}},
        "TTS": {"SineTTS": {"type": "sine", "ms_per_char": 25}},
        "cluster": {"asr": {"upstream_timeout_s": 20}},
    }


@pytest.mark.parametrize("kind", [Doubao, AliyunAsr])
async def test_the_service_ends_each_utterance(kind: type[Fake]) -> None:
    """Its definite sentence is the turn's text, and nothing of what was said is lost or heard twice."""
    async with kind() as fake, running(Cluster(json.dumps(_config(fake)))) as cluster:
        await _is_one_turn_each(cluster, fake)
        fake.sessions.clear()
        await _keeps_what_was_said_behind_the_end(cluster, fake)
        assert await ended_by(cluster, "upstream") == 4
        assert await ended_by(cluster, "silence") == 0


async def _is_one_turn_each(cluster: Cluster, fake: Fake) -> None:
    """Two questions with an answer between them: a session and a turn each."""
    async with device(cluster, 1, mode="auto") as client:
        for mark in (FIRST, SECOND):
            report = await client.ask(asked(mark))
            counters = report.counters
            assert (report.stt, counters.tts_starts, counters.tts_stops) == (mark.word, 1, 1)
            assert mark.word in report.reply
    assert [session.texts for session in fake.sessions] == [[FIRST.word], [SECOND.word]]


async def _keeps_what_was_said_behind_the_end(cluster: Cluster, fake: Fake) -> None:
    """Two sentences in one breath, on one stream of a microphone that never closes."""
    async with device(cluster, 2, mode="realtime") as client:
        client.begin(asked(FIRST, SECOND))
        while SECOND.word not in (report := await client.turn_over()).stt:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert report.stt == f"{FIRST.word} {SECOND.word}"
    assert [session.texts for session in fake.sessions] == [[FIRST.word], [SECOND.word]]
    assert fake.sessions[1].audio_bytes > asked(SECOND).voiced_packets * PACKET_MS * BYTES_PER_MS


async def ended_by(cluster: Cluster, reason: str) -> int:
    return int(await metric(cluster, "asr", "xz_asr_utterances_total", reason=reason))
