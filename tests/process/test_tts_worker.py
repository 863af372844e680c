"""A real tts worker process behind a real socket: join, speak, survive a hang, drain; nothing said is logged."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from shared.ids import Role
from shared.link.envelope import Kind, unpack_map
from shared.link.messages import Abort, Body, OpenTts, TtsCredit
from tests.fakes.ports import ClusterPorts
from tests.fakes.tts_stream import decoded
from tests.fakes.worker_rig import WorkerRig, assert_clean, worker_process

pytestmark = pytest.mark.process

SECRET_WORDS = ("marmalade", "tangerine")

CONFIG = """
selected_module:
  TTS: EmbeddedTTS
TTS:
  Beep:
    type: sine
  Hanging:
    type: sine
    fail: hang
    hang_s: 3
tts_timeout: 2
log:
  log_level: DEBUG
"""


@dataclass
class TtsRig(WorkerRig):
    streams: int = 0

    def open(self, text: str, **more: object) -> int:
        self.streams += 1
        body = OpenTts(session="s", turn="t", segment=0, text=text, **more)  # type: ignore[arg-type]
        self.router.open(self.worker, self.streams, body)
        return self.streams

    def say(self, kind: Kind, stream: int, seq: int, body: Body) -> None:
        self.router.say(self.worker, kind, stream, seq, body)

    def packets(self, stream: int) -> list[bytes]:
        return [body for number, _, body in self.of(Kind.AUDIO) if number == stream]

    async def spoken(self, text: str, **more: object) -> list[bytes]:
        stream = self.open(text, **more)
        kind, body = await self.end(stream)
        assert kind is Kind.DONE, body
        return self.packets(stream)

    async def first_packet(self, stream: int) -> None:
        async with asyncio.timeout(20):
            while not self.packets(stream):
                await self.router.inboxes[self.worker].until_has(Kind.AUDIO, self._audio() + 1)

    def _audio(self) -> int:
        return len(self.router.inboxes[self.worker].of(Kind.AUDIO))


def tts_process(run_dir: Path, data_dir: Path, ports: ClusterPorts) -> AbstractAsyncContextManager[TtsRig]:
    return worker_process(TtsRig, role=Role.TTS, config=CONFIG, run_dir=run_dir, data_dir=data_dir, ports=ports)


async def test_a_worker_speaks_is_interrupted_survives_a_hang_and_drains(
    run_dir: Path, tmp_path: Path, cluster_ports: ClusterPorts
) -> None:
    """One life of a process, from its join to exit 0."""
    async with tts_process(run_dir, tmp_path, cluster_ports) as rig:
        # It speaks two languages, the same twice, and only against credit.
        english = await rig.spoken(f"The word is {SECRET_WORDS[0]}.")
        sound = decoded(english)
        assert len(english) > 15
        assert np.sqrt(np.mean(sound**2)) > 0.01
        assert await rig.spoken(f"The word is {SECRET_WORDS[0]}.", skip_frames=5) == english[5:]
        assert len(await rig.spoken("今天天气很好。")) > 20
        held = rig.open("This is held back by its window.", window_frames=3)
        await rig.spoken("Beep", engine="Beep")
        assert len(rig.packets(held)) == 3
        rig.say(Kind.CREDIT, held, 1, TtsCredit(frames=500))
        assert (await rig.end(held))[0] is Kind.DONE

        # An abort is answered once, and nothing follows it.
        long = rig.open(f"{SECRET_WORDS[1]} " * 400, window_frames=100_000)
        await rig.router.inboxes[rig.worker].until_has(Kind.AUDIO, len(english) + 100)
        rig.say(Kind.ABORT, long, 1, Abort(reason="barge_in"))
        assert (await rig.end(long))[1]["aborted"] is True
        heard = len(rig.packets(long))
        await rig.spoken("Something else.")
        assert len(rig.packets(long)) == heard

        # Fifty segments at once take no thread more than one.
        threads = rig.threads()
        crowd = [rig.open(f"segment {n}", engine="Beep") for n in range(50)]
        ends = await asyncio.gather(*(rig.end(stream) for stream in crowd))
        assert all(kind is Kind.DONE for kind, _ in ends)
        assert rig.threads() == threads

        # A hanging engine's segment is spoken by the default; beats and the other engines go on.
        stuck = rig.open("stuck", engine="Hanging")
        beats = rig.beats()
        for n in range(10):
            await rig.spoken(f"number {n}", engine="Beep")
        kind, body = await rig.end(stuck)
        assert kind is Kind.DONE, body
        told = [unpack_map(event) for number, _, event in rig.of(Kind.EVENT) if number == stuck]
        assert told == [{"name": "substituted", "engine": "EmbeddedTTS"}]
        assert rig.beats() >= beats + 3

        # A drain finishes what is open.
        last = rig.open("The last words, spoken while the worker is told to stop.")
        await rig.first_packet(last)
        rig.process.send_signal(signal.SIGTERM)
        kind, body = await rig.end(last)
        assert kind is Kind.DONE, body
        assert await asyncio.wait_for(rig.process.wait(), 20) == 0
        assert_clean(rig.log.read_text(), SECRET_WORDS)
