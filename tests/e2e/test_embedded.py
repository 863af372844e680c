"""Whole conversations with the embedded engines: real speech in, real recognition, a real answer, real speech out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from difflib import SequenceMatcher

import pytest

from shared.listening import Mode
from tests.fakes.cluster import Cluster
from tests.fakes.people import ListedTools, device, heard_as, said, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CONFIG = """
cluster:
  asr: {recognisers: 3, final_timeout_s: 15}
  ear: {final_timeout_s: 15}
  mouth: {segment_timeout_s: 30, first_frame_timeout_s: 10, next_frame_timeout_s: 10}
"""
"""What is asked here is whether the engines understand each other, not how fast this machine is."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(CONFIG, counts={"asr": 2, "tts": 1, "session": 1}) as running:
        yield running


def resembles(heard: str, meant: str) -> float:
    return SequenceMatcher(None, heard.lower().split(), meant.lower().replace(".", "").split()).ratio()


@pytest.mark.parametrize("mode", ["manual", "auto", "realtime"])
async def test_the_time_is_asked_for_and_told(cluster: Cluster, mode: Mode) -> None:
    """In every mode the question is recognised, answered, and the answer that is heard is the answer that was meant."""
    async with device(cluster, mode=mode) as client:
        report = await client.ask(said("what time is it"))
    assert "time" in report.stt
    assert report.reply.startswith("It is")
    assert report.counters.tts_starts == report.counters.tts_stops == 1
    assert report.counters.stale_frames == 0 and report.counters.overflow_frames == 0
    assert report.heard_s > 1.0
    understood = heard_as(client.played)
    assert resembles(understood, report.reply) > 0.5, f"meant {report.reply!r}, heard {understood!r}"


async def test_two_turns_in_a_row(cluster: Cluster) -> None:
    """The second question is heard on the same connection, after the device plays out the first answer."""
    async with device(cluster, 2) as client:
        first = await client.ask(said("what time is it"))
        second = await client.ask(said("tell me a joke"))
    assert first.session == second.session
    assert "time" in first.stt and "joke" in second.stt
    assert second.counters.tts_starts == 1


async def test_text_input_is_answered(cluster: Cluster) -> None:
    """Typed text is a turn; the answer in Chinese is spoken too."""
    async with device(cluster, 3) as client:
        report = await client.ask_text("你好")
    assert report.reply and report.heard_s > 0.5


async def test_a_tool_of_the_device_is_called(cluster: Cluster) -> None:
    """Volume through device MCP: listed, called, and confirmed aloud."""
    tools = ListedTools()
    async with device(cluster, 4, tools=tools) as client:
        async with asyncio.timeout(10):
            await tools.listed.wait()
        report = await client.ask_text("set the volume to 35")
    assert client.tools.volume == 35
    assert report.reply and report.counters.tts_stops == 1


async def test_three_devices_at_once_hear_their_own_answers(cluster: Cluster) -> None:
    """Real recognition of three people speaking at the same time."""
    questions = ["what time is it", "tell me a joke", "tell me a story"]

    async def converse(number: int, question: str) -> tuple[str, str]:
        async with device(cluster, 10 + number, mode="manual") as client:
            report = await client.ask(said(question))
            return report.stt, report.reply

    answers = await asyncio.gather(*(converse(number, question) for number, question in enumerate(questions)))
    for (stt, reply), word in zip(answers, ["time", "joke", "story"], strict=True):
        assert word in stt and reply
    assert answers[0][1].startswith("It is")
    assert len({reply for _, reply in answers}) == 3


async def test_goodbye_is_heard_and_then_the_line_is_closed(cluster: Cluster) -> None:
    """close 1000 after the last word."""
    async with device(cluster, 20, mode="manual") as client:
        report = await client.ask_text("goodbye")
        await until(lambda: client.failure is not None)
    assert report.heard_s > 0.3 and report.counters.tts_stops == 1
    assert "1000" in str(client.failure)
