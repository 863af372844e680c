"""kill -9 of the web process under the real supervisor: it comes back, and who talks notices nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import aiohttp
import pytest

from ops.process import ProcessName
from ops.supervisor import Supervisor
from tests.fakes.cluster import Cluster, off_loop
from tests.fakes.people import device, said, until
from tests.fakes.ports import ClusterPorts
from tests.fakes.real_cluster import READY, RealCluster

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

CONFIG = """
selected_module: {ASR: Script, LLM: Script, TTS: Tone}
ASR: {Script: {type: scripted}}
LLM: {Script: {type: scripted, reply: "You said {text}, and a story of some length follows. Good day."}}
TTS: {Tone: {type: sine, ms_per_char: 40}}
"""
WEB = ProcessName("web", 0)
PATIENCE_S = 60.0


@pytest.fixture
def cluster(tmp_path: Path, run_dir: Path, cluster_ports: ClusterPorts) -> Iterator[RealCluster]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".config.yaml").write_text(CONFIG)
    with RealCluster(tmp_path / "data", run_dir, cluster_ports) as started:
        yield started


async def test_the_web_process_comes_back_and_no_talk_is_touched(cluster: RealCluster) -> None:
    """Killed in the middle of an answer: the answer is heard whole, its device stays connected, a new one may come."""
    await off_loop(cluster.read_until, READY)
    supervisor = Supervisor(cluster.run_dir)
    (before,) = supervisor.infos([WEB])
    (router,) = supervisor.infos([ProcessName("router", 0)])
    place = cast(Cluster, cluster)
    async with device(place, 1, mode="manual") as talker:
        turn = asyncio.create_task(talker.ask(said("tell me about the weather")), name="turn")
        await until(lambda: talker.firmware.counters.frames > 10)
        os.kill(before.pid, signal.SIGKILL)
        await _back(cluster, before.pid)
        report = await turn
        assert talker.session in report.reply and report.reply.endswith("Good day")
        assert report.counters.tts_starts == report.counters.tts_stops == 1
        assert report.counters.stale_frames == 0
        async with device(place, 2, mode="manual") as newcomer:
            assert newcomer.session in (await newcomer.ask(said("tell me about the weather"))).reply
    assert supervisor.infos([ProcessName("router", 0)])[0].pid == router.pid


async def _back(cluster: RealCluster, old_pid: int) -> float:
    """Seconds until another process answers."""
    began_s = time.monotonic()
    supervisor = Supervisor(cluster.run_dir)
    url = f"http://127.0.0.1:{cluster.ports.http}/healthz"
    async with aiohttp.ClientSession() as http, asyncio.timeout(PATIENCE_S):
        async with http.get(url) as answer:
            assert answer.status == 200
        while (await off_loop(supervisor.infos, [WEB]))[0].pid in (0, old_pid):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return time.monotonic() - began_s
