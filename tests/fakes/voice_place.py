"""Every voice engine behind the real TtsService: one line each in a table, those that ask a service with its fake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from bench.upstreams.aliyun_tts import AliyunTts
from bench.upstreams.edge import Edge
from bench.upstreams.fake import Fake
from bench.upstreams.huoshan import Huoshan
from bench.upstreams.openai_speech import OpenAiSpeech
from shared.link.messages import OpenTts
from shared.settings import EngineChoice, TtsSettings
from shared.worker.service import Job
from tests.fakes.tone_server import ToneServer, build
from tests.fakes.tts_stream import RecordingStream
from workers.tts.service import TtsService

if find_spec("onnx"):
    from tests.fakes import tiny_voices


def _none(_: Path) -> dict[str, Any]:
    return {}


def _piper(directory: Path) -> dict[str, Any]:
    """Without the noise, which would make no two sounds alike."""
    return {"model": str(tiny_voices.piper_voice(directory)), "noise_scale": 0, "noise_w": 0}


def _sherpa(directory: Path) -> dict[str, Any]:
    return {"model_dir": str(tiny_voices.vits_voice(directory)), "noise_scale": 0, "noise_w": 0}


LOCAL: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "embedded": _none,
    "hibari": _none,
    "espeak": _none,
    "sine": _none,
    "piper": _piper,
    "sherpa": _sherpa,
}
"""Type → what makes the options of its section, in a directory of its own."""
NEEDED: Mapping[str, tuple[str, ...]] = {"piper": ("piper", "onnx"), "sherpa": ("sherpa_onnx", "onnx")}
"""Type → the packages of an extra that it runs with, and what makes its tiny voice."""
REMOTE: Mapping[str, type[Fake]] = {
    "tone": ToneServer,
    "aliyun_stream": AliyunTts,
    "huoshan_double_stream": Huoshan,
    "edge": Edge,
    "openai": OpenAiSpeech,
}
ALL = (*LOCAL, *REMOTE)

PATIENT = {"connect_timeout_s": 20, "first_timeout_s": 20, "idle_timeout_s": 20}
"""However busy the machine is: the fake is well."""
IMPATIENT = {"connect_timeout_s": 0.3, "first_timeout_s": 0.3, "idle_timeout_s": 0.3}
"""For those who test what happens when nothing comes, and expect no sound of the engine."""
SOON_IDLE = {"idle_timeout_s": 1.0}
"""For those who expect sound, and then nothing more."""


@dataclass
class VoicePlace:
    """One engine as a worker's default."""

    engine: str
    options: dict[str, Any]
    server: Fake | None = None
    """Of a remote engine."""

    @property
    def fake(self) -> Fake:
        assert self.server is not None
        return self.server

    def settings(self, options: Mapping[str, Any] | None = None, **more: Any) -> TtsSettings:
        choice = EngineChoice(name="Default", type=self.engine, options={**self.options, **(options or {})})
        return TtsSettings(engine=choice, **more)

    def service(self, options: Mapping[str, Any] | None = None, **more: Any) -> TtsService:
        return TtsService(self.settings(options, **more), build=build)

    def with_stand_in(self, options: Mapping[str, Any] | None = None, **more: Any) -> TtsService:
        """A tone of its own speaks when the engine does not: the section Beep."""
        beep = EngineChoice(name="Beep", type="sine")
        return self.service(options, engines={"Beep": beep}, fallbacks=("Beep",), **more)


@asynccontextmanager
async def voice_place(engine: str) -> AsyncIterator[VoicePlace]:
    """The engine, and the service that it asks, if it asks one."""
    missing = [package for package in NEEDED.get(engine, ()) if find_spec(package) is None]
    if missing:
        pytest.skip(f"{engine}: not installed: {', '.join(missing)}")
    if engine in LOCAL:
        with TemporaryDirectory(prefix="xz-voice-") as directory:
            yield VoicePlace(engine, LOCAL[engine](Path(directory)))
        return
    async with REMOTE[engine]() as fake:
        options = {**PATIENT, **fake.section(), "max_sessions": 0}
        yield VoicePlace(options.pop("type"), options, fake)


@asynccontextmanager
async def running(service: TtsService) -> AsyncIterator[TtsService]:
    try:
        await service.start()
        yield service
    finally:
        await service.close()


def speak(service: TtsService, text: str, **more: Any) -> tuple[RecordingStream, Job]:
    """Open a segment."""
    stream = RecordingStream()
    request = OpenTts(session="s", turn="t", segment=0, text=text, **more)
    return stream, service.open(stream, request.to_map())


async def spoken(service: TtsService, text: str, **more: Any) -> RecordingStream:
    """A segment that has ended."""
    stream, _ = speak(service, text, **({"window_frames": 100_000} | more))
    await stream.ended()
    return stream
