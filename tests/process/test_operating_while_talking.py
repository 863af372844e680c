"""Scaling, rolling restarts and reloads of a real cluster while people talk: no turn is broken."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from ops.device.client import Device
from ops.device.enrolment import DeviceError
from tests.fakes.cluster import Cluster
from tests.fakes.people import device, said, until
from tests.fakes.ports import free_cluster_ports
from tests.fakes.real_cluster import RealCluster

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

CONFIG = """
selected_module: {ASR: Script, LLM: Script, TTS: Tone}
ASR: {Script: {type: scripted}}
LLM: {Script: {type: scripted, reply: "You said {text}, and so it goes on for a while."}}
TTS: {Tone: {type: sine, ms_per_char: 40}}
"""
PEOPLE = 3
GOING_AWAY = "closed_1001"


@dataclass
class Tally:
    turns: list[int] = field(default_factory=lambda: [0] * PEOPLE)
    let_go: int = 0
    """Connections that a draining router closed before the device had finished its sentence."""
    broken: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """One worker in each pool, one router."""
    data_dir, run_dir = tmp_path_factory.mktemp("data"), Path(tempfile.mkdtemp(prefix="xzt-", dir="/tmp"))
    (data_dir / ".config.yaml").write_text(CONFIG)
    with RealCluster(data_dir, run_dir, free_cluster_ports()) as started:
        started.read_until("stop")
        yield started
    shutil.rmtree(run_dir, ignore_errors=True)


async def command(cluster: RealCluster, *words: str) -> str:
    """What it printed; it must have gone well."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ops", *words,
        env=cluster.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    logs = "\n".join(path.read_text()[-2000:] for path in sorted((cluster.data_dir / "logs").glob("*.log")))
    assert process.returncode == 0, f"{output.decode()}\n{logs}"
    return output.decode()


async def live(cluster: RealCluster, number: int, tally: Tally) -> None:
    """Turn after turn; connected again when the router lets it go."""
    while True:
        with suppress(ConnectionError):
            async with device(cast(Cluster, cluster), number + 1, mode="manual") as client:
                await _talk(client, number, tally)


async def _talk(client: Device, number: int, tally: Tally) -> None:
    while client.failure is None:
        try:
            report = await client.ask(said("tell me about the weather"))
        except DeviceError as error:
            if error.code != GOING_AWAY or client.microphone.is_quiet:
                tally.broken.append(str(error))
                return
            break
        if not report.stt or report.first_audio_ms is None:
            tally.broken.append(f"turn without {'an answer' if report.stt else 'a transcript'}")
        tally.turns[number] += 1
    assert client.failure is not None
    if client.failure.code == GOING_AWAY:
        tally.let_go += 1
    else:
        tally.broken.append(str(client.failure))


@asynccontextmanager
async def people(cluster: RealCluster) -> AsyncIterator[Tally]:
    """PEOPLE who talk all the time. Afterwards each has had a whole turn more, and none of theirs was broken."""
    tally = Tally()
    talks = [asyncio.create_task(live(cluster, number, tally), name=f"person-{number}") for number in range(PEOPLE)]
    try:
        await _one_more_turn_each(tally, talks)
        yield tally
        await _one_more_turn_each(tally, talks)
    finally:
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
    assert tally.broken == []


async def _one_more_turn_each(tally: Tally, talks: list[asyncio.Task[None]]) -> None:
    before = list(tally.turns)
    while not all(now > then for now, then in zip(tally.turns, before, strict=True)):
        for talk in talks:
            assert not talk.done(), talk.exception()
        await asyncio.sleep(0.05)


async def running(cluster: RealCluster) -> dict[str, str]:
    status = json.loads(await command(cluster, "status", "--json"))
    return {row["process"]: row["state"] for row in status["processes"]}


async def test_every_pool_grows_and_shrinks(cluster: RealCluster) -> None:
    """What a leaving worker did goes on at the one that stays."""
    async with people(cluster) as tally:
        for role in ("asr", "tts", "session"):
            assert f"{role}: 1 → 2" in await command(cluster, "scale", role, "2")
        assert set(await running(cluster)) >= {"asr_01", "tts_01", "session_01"}
        for role in ("asr", "tts", "session"):
            assert f"{role}: 2 → 1" in await command(cluster, "scale", role, "1")
    assert tally.let_go == 0
    assert set(await running(cluster)) == {"web_00", "router_00", "asr_00", "tts_00", "session_00"}


async def test_everything_is_restarted_one_after_the_other(cluster: RealCluster) -> None:
    """The only router too: a second one takes its devices between two turns, and gives them back."""
    async with people(cluster) as tally:
        told = await command(cluster, "restart", "--rolling")
    assert "restarted session_00, asr_00, tts_00, router_00, web_00" in told
    assert tally.let_go <= 2 * PEOPLE
    assert set(await running(cluster)) == {"web_00", "router_00", "asr_00", "tts_00", "session_00"}


async def test_a_session_takes_new_settings_over_between_two_turns(cluster: RealCluster) -> None:
    """In the middle of a conversation an ordinary sentence becomes a farewell; nothing is restarted."""
    async with device(cast(Cluster, cluster), 9, mode="manual") as client:
        assert "see you later" in (await client.ask_text("see you later")).reply.lower()
        (cluster.data_dir / ".config.yaml").write_text(f"{CONFIG}\nexit_commands: [see you later]\n")
        assert "exit_commands" in await command(cluster, "reload")
        farewell = await client.ask_text("see you later")
        assert "you said" not in farewell.reply.lower()
        await until(lambda: client.failure is not None, 60.0)
        assert client.failure is not None
        assert client.failure.code == "closed_1000"
    status = json.loads(await command(cluster, "status", "--json"))
    assert {row["epoch"] for row in status["processes"]} == {status["epoch"]} == {2}
