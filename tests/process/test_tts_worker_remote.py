"""A real tts worker process whose voice is a service outside: well, silent, away and back; nothing said is logged."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from bench.upstreams.aliyun_tts import AliyunTts
from bench.upstreams.script import Fault, Script
from shared.ids import Role
from shared.link.envelope import Kind, unpack_map
from shared.link.messages import Abort
from tests.fakes.link_rig import until
from tests.fakes.ports import ClusterPorts
from tests.fakes.worker_rig import assert_clean, worker_process
from tests.process.test_tts_worker import TtsRig

pytestmark = pytest.mark.process

SECRET_WORDS = ("marmalade", "fake-token", "fake-appkey")


def config(fake: AliyunTts) -> str:
    document = {
        "selected_module": {"TTS": ["Cloud", "Beep"]},
        "TTS": {"Cloud": {**fake.section(), "first_timeout_s": 0.5}, "Beep": {"type": "sine"}},
        "log": {"log_level": "DEBUG"},
    }
    return json.dumps(document)


def substitutes(rig: TtsRig) -> list[str]:
    return [unpack_map(body)["engine"] for _, _, body in rig.of(Kind.EVENT)]


async def test_a_worker_speaks_with_a_service_and_without_it(
    run_dir: Path, tmp_path: Path, cluster_ports: ClusterPorts
) -> None:
    """It becomes ready while the service is away; each segment is spoken by whoever can, and an abort reaches it."""
    async with AliyunTts(Script(fault=Fault.parse("close@connect"))) as fake:
        process = worker_process(
            TtsRig, role=Role.TTS, config=config(fake), run_dir=run_dir, data_dir=tmp_path, ports=cluster_ports
        )
        async with process as rig:
            assert await rig.spoken("The service is away.")
            assert substitutes(rig) == ["Beep"]

            fake.script = Script()
            threads = rig.threads()
            assert await rig.spoken(f"The word is {SECRET_WORDS[0]}.")
            assert substitutes(rig) == ["Beep"]
            assert fake.sessions[-1].texts == [f"The word is {SECRET_WORDS[0]}."]

            fake.script = Script(drip_ms=50)
            long = rig.open(f"{SECRET_WORDS[0]} " * 300)
            await rig.first_packet(long)
            rig.say(Kind.ABORT, long, 1, Abort(reason="barge_in"))
            assert (await rig.end(long))[1]["aborted"] is True
            await until(lambda: fake.sessions[-1].was_closed, 20)

            fake.script = Script(fault=Fault.parse("silent@start"))
            waiting = [rig.open(f"silence {n}") for n in range(20)]
            ends = [await rig.end(stream) for stream in waiting]
            assert all(kind is Kind.DONE for kind, _ in ends)
            assert substitutes(rig) == ["Beep"] * 21
            assert rig.threads() == threads

            fake.script = Script()
            rig.process.send_signal(signal.SIGTERM)
            assert await rig.process.wait() == 0
            assert_clean(rig.log.read_text(), SECRET_WORDS)
