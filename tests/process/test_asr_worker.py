"""A real asr worker process behind a real socket: join, listen, survive faults, drain; nothing heard is logged."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shared.ids import Role
from shared.link.envelope import Kind, unpack_map
from shared.link.messages import Abort, OpenAsr
from shared.process.probes import thread_budget
from tests.fakes.link_rig import until
from tests.fakes.ports import ClusterPorts
from tests.fakes.speech import joined, packets, say, silence
from tests.fakes.worker_rig import WorkerRig, assert_clean, worker_process
from workers.asr.vad import VoiceDetector

pytestmark = pytest.mark.process

CONFIG = """
selected_module:
  ASR: PocketSphinxASR
ASR:
  Script:
    type: scripted
    text: "marmalade {utterance} of {session}"
  Stuck:
    type: scripted
    fail: sleep
cluster:
  asr:
    recognisers: 3  # one is stuck and one may still be leaving an aborted utterance
    final_timeout_s: 8  # audio comes faster than real time here, and the machine may be busy
log:
  log_level: DEBUG
"""
SENTENCE = "what time is it"
SECRET_WORDS = ("marmalade", SENTENCE)


@dataclass
class AsrRig(WorkerRig):
    sent: dict[int, int] = field(default_factory=dict)
    """The next sequence number of each stream."""

    def open(self, mode: str = "auto", **more: Any) -> int:
        stream = len(self.sent) + 1
        self.sent[stream] = 1
        body = OpenAsr(session=f"s{stream}", mode=mode, position=0, utterance=0, **more)  # type: ignore[arg-type]
        self.router.open(self.worker, stream, body)
        return stream

    def send(self, stream: int, sound: list[bytes]) -> None:
        for packet in sound:
            self.router.say(self.worker, Kind.AUDIO, stream, self._seq(stream), packet)

    def finish(self, stream: int) -> None:
        self.router.say(self.worker, Kind.END, stream, self._seq(stream))

    def abort(self, stream: int) -> None:
        self.router.say(self.worker, Kind.ABORT, stream, self._seq(stream), Abort("test"))

    def events(self, stream: int, name: str) -> list[dict[str, Any]]:
        maps = [unpack_map(body) for number, _, body in self.of(Kind.EVENT) if number == stream]
        return [one for one in maps if one["name"] == name]

    async def event(self, stream: int, name: str) -> dict[str, Any]:
        await until(lambda: self.events(stream, name), 30)
        return self.events(stream, name)[0]

    async def heard(self, sound: list[bytes], **more: Any) -> str:
        stream = self.open(**more)
        self.send(stream, sound)
        self.finish(stream)
        kind, body = await self.end(stream)
        assert kind is Kind.DONE, body
        return str(self.events(stream, "final")[0]["text"])

    def _seq(self, stream: int) -> int:
        self.sent[stream] += 1
        return self.sent[stream] - 1


def asr_process(run_dir: Path, data_dir: Path, ports: ClusterPorts) -> AbstractAsyncContextManager[AsrRig]:
    return worker_process(AsrRig, role=Role.ASR, config=CONFIG, run_dir=run_dir, data_dir=data_dir, ports=ports)


def spoken(text: str = SENTENCE) -> list[bytes]:
    return packets(joined(silence(600), say(text), silence(900)))


async def test_a_worker_listens_survives_faults_and_drains(
    run_dir: Path, tmp_path: Path, cluster_ports: ClusterPorts
) -> None:
    """One life of a process, from its join to exit 0."""
    async with asr_process(run_dir, tmp_path, cluster_ports) as rig:
        # Speech becomes text, in every mode, with partials on the way.
        for mode in ("auto", "realtime", "manual"):
            assert await rig.heard(spoken(), mode=mode) == SENTENCE
        assert rig.events(1, "partial") and rig.events(1, "speech_start")

        # An abort is answered once, and nothing follows it.
        aborted = rig.open()
        rig.send(aborted, spoken()[:25])
        await rig.event(aborted, "speech_start")
        rig.abort(aborted)
        assert (await rig.end(aborted))[1]["aborted"] is True

        # Sixty ears at once take no thread and no child more than none.
        threads, children = rig.threads(), rig.children()
        assert len(children) == 3 and threads <= thread_budget(link=True, extra=VoiceDetector.threads)
        ears = [rig.open(engine="Script") for _ in range(60)]
        for packet in packets(silence(1200)):
            for ear in ears:
                rig.send(ear, [packet])
        assert rig.threads() == threads and rig.children() == children
        for ear in ears:
            rig.finish(ear)
        assert {(await rig.end(ear))[0] for ear in ears} == {Kind.DONE}
        assert rig.threads() == threads

        # A recogniser that hangs fails its own stream; beats and the others go on.
        stuck, beats = rig.open(engine="Stuck"), rig.beats()
        rig.send(stuck, spoken())
        for number in range(3):
            assert (await rig.heard(spoken(), engine="Script")).startswith("marmalade 0"), number
        kind, body = await rig.end(stuck)
        assert (kind, body["code"], body["retryable"]) == (Kind.ERROR, "asr_timeout", True)
        assert rig.beats() >= beats + 3

        # A recogniser that is killed in an utterance fails that one only, and is replaced.
        victim = rig.open("manual")
        rig.send(victim, spoken())
        await rig.event(victim, "partial")
        for pid in rig.children():
            os.kill(pid, signal.SIGKILL)
        kind, body = await rig.end(victim)
        assert (kind, body["code"], body["retryable"]) == (Kind.ERROR, "engine_died", True)
        await until(lambda: len(rig.children()) == 3 and not set(rig.children()) & set(children), 30)
        await until_heard(rig)

        # A drain finishes what is open.
        last = rig.open("manual")
        rig.send(last, spoken())
        await rig.event(last, "partial")
        left = rig.children()
        rig.process.send_signal(signal.SIGTERM)
        rig.finish(last)
        assert (await rig.end(last))[0] is Kind.DONE
        assert rig.events(last, "final")[0]["text"] == SENTENCE
        assert await asyncio.wait_for(rig.process.wait(), 20) == 0
        assert not any(is_running(pid) for pid in left)
        assert_clean(rig.log.read_text(), SECRET_WORDS)


async def until_heard(rig: AsrRig) -> None:
    """A successor may not be warm yet."""
    async with asyncio.timeout(30):
        while True:
            stream = rig.open()
            rig.send(stream, spoken())
            rig.finish(stream)
            kind, _ = await rig.end(stream)
            if kind is Kind.DONE:
                assert rig.events(stream, "final")[0]["text"] == SENTENCE
                return


async def test_children_die_with_a_killed_worker(run_dir: Path, tmp_path: Path, cluster_ports: ClusterPorts) -> None:
    """kill -9 of the worker leaves no recogniser behind, not even one at work."""
    async with asr_process(run_dir, tmp_path, cluster_ports) as rig:
        stream = rig.open("manual")
        rig.send(stream, spoken() * 5)
        children = rig.children()
        assert len(children) == 3
        rig.process.kill()
        await rig.process.wait()
        await until(lambda: not any(is_running(pid) for pid in children), 10)


def is_running(pid: int) -> bool:
    """A zombie that nobody has waited for yet is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
