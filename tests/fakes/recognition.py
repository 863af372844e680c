"""The recognition engines that the contract is checked on, and utterances that run on them as streams run them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.upstreams.aliyun_asr import AliyunAsr
from bench.upstreams.doubao import Doubao
from bench.upstreams.fake import Fake
from bench.upstreams.fun_asr import FunAsr
from bench.upstreams.openai_speech import OpenAiSpeech
from shared.errors import EngineError
from shared.marks import Mark, sound_of
from shared.settings import EngineChoice
from tests.fakes.speech import RATE_HZ, Pcm, joined, say, silence
from workers.asr.engines.engine import Brief, Engine
from workers.asr.engines.models import Models
from workers.asr.engines.registry import make_engine
from workers.asr.recognisers import Recognisers
from workers.asr.utterance import Recognition, Utterance

SEATS = 2
SENTENCES = ("what time is it", "tell me a joke", "thank you very much", "set the volume to fifty")
MARK_MS = 300
WHISPER = (("faster_whisper",), "tests.fakes.tiny_whisper")
SHERPA = (("sherpa_onnx", "onnx"), "tests.fakes.tiny_sherpa")
"""The packages that are needed, and the module that makes the models."""
Open = Callable[[Path], AbstractAsyncContextManager[tuple[EngineChoice, Fake | None]]]


def plain(type_name: str, **options: Any) -> Open:
    """An engine that needs nothing but its section."""

    @asynccontextmanager
    async def opened(directory: Path) -> AsyncIterator[tuple[EngineChoice, None]]:
        yield EngineChoice(name=type_name, type=type_name, options=options), None

    return opened


def local(type_name: str, packages: tuple[str, ...], module: str, write: str) -> Open:
    """A real library with the tiny model that `module.write` makes."""

    @asynccontextmanager
    async def opened(directory: Path) -> AsyncIterator[tuple[EngineChoice, None]]:
        for package in packages:
            if find_spec(package) is None:
                pytest.skip(f"{package} is not installed")
        write_model = getattr(import_module(module), write)
        options = {"model_dir": str(write_model(directory / "model")), "threads": 1}
        yield EngineChoice(name=type_name, type=type_name, options=options), None

    return opened


def upstream(fake_class: Callable[[], Fake], **options: Any) -> Open:
    """The real client, and a server with its provider's bytes."""

    @asynccontextmanager
    async def opened(directory: Path) -> AsyncIterator[tuple[EngineChoice, Fake]]:
        async with fake_class() as fake:
            section = (fake.asr_section() if isinstance(fake, OpenAiSpeech) else fake.section()) | options
            type_name = section.pop("type")
            yield EngineChoice(name=f"{type_name} {fake.port}", type=type_name, options=section), fake

    return opened


@dataclass(frozen=True)
class Entry:
    """One engine. What it should say is known, or is learned from its first hearing."""

    name: str
    open: Open
    says: str = "as before"
    """`the sentence`, `its number`, `its mark` or `as before`."""
    streams: bool = True
    has_children: bool = False
    unknown: tuple[str, ...] = ()
    """Faults that its service has no way to show."""
    many: int = 100
    """Utterances at once; fewer for one that computes for long."""

    def sound(self, sentence: str, number: int = 0) -> Pcm:
        if self.says == "its mark":
            tones = sound_of(mark_of(sentence, number), 0, MARK_MS * RATE_HZ // 1000, RATE_HZ, 0.2)
            return joined(silence(60), (np.clip(tones, -1, 1) * 32767).astype(np.int16), silence(120))
        return joined(silence(300), say(sentence), silence(500))


def mark_of(sentence: str, number: int) -> Mark:
    return Mark(1 + SENTENCES.index(sentence), number)


ENTRIES = (
    Entry("pocketsphinx", plain("pocketsphinx"), "the sentence", has_children=True, many=20),
    Entry("scripted whole", plain("scripted"), "its number", streams=False),
    Entry("scripted stream", plain("scripted", partials=True), "its number"),
    Entry("whisper", local("whisper", *WHISPER, "write_tiny_whisper"), streams=False, has_children=True),
    Entry("sherpa whole", local("sherpa", *SHERPA, "write_tiny_sense_voice"), streams=False, has_children=True),
    Entry("sherpa stream", local("sherpa", *SHERPA, "write_tiny_streaming_transducer"), has_children=True),
    Entry("aliyun_stream", upstream(AliyunAsr), "its mark"),
    Entry("doubao_stream", upstream(Doubao), "its mark"),
    Entry("fun_server", upstream(FunAsr), "its mark", unknown=("quota@start", "quota@stream", "quota@finish")),
    Entry("openai", upstream(OpenAiSpeech), "its mark", streams=False),
)
UPSTREAMS = tuple(entry for entry in ENTRIES if entry.says == "its mark")


@dataclass
class Ear:
    """Listens to an utterance's outcome."""

    partials: list[str] = field(default_factory=list)
    partials_after: int = 0
    texts: list[str] = field(default_factory=list)
    errors: list[EngineError] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ends(self) -> int:
        return len(self.texts) + len(self.errors)

    def on_partial(self, utterance: Utterance, text: str) -> None:
        if self.over.is_set():
            self.partials_after += 1
        self.partials.append(text)

    def on_endpoint(self, utterance: Utterance, at_ms: int | None) -> None:
        raise AssertionError("nobody has asked for it")

    def on_text(self, utterance: Utterance) -> None:
        assert utterance.transcript is not None
        self.texts.append(utterance.transcript.text)
        self.over.set()

    def on_failure(self, utterance: Utterance, error: EngineError) -> None:
        self.errors.append(error)
        utterance.cancel()
        self.over.set()


class Bench:
    """Utterances on one engine, as streams would run them."""

    def __init__(self, entry: Entry, engine: Engine, seats: int = SEATS, fake: Fake | None = None) -> None:
        self.entry = entry
        self.engine = engine
        self.fake = fake
        self.recognisers = Recognisers({entry.name: engine}, seats, wait_s=60)
        self.numbers = 0
        self._learned: dict[str, str] = {}

    def begin(self, deadline_s: float = 30.0) -> tuple[Utterance, Ear]:
        ear = Ear()
        self.numbers += 1
        brief = Brief(f"session-{self.numbers}", self.numbers)
        recognition = Recognition(self.recognisers, self.entry.name, deadline_s, upstream_deadline_s=deadline_s)
        return Utterance(brief, recognition, ear, 0), ear

    async def hear(self, pcm: Pcm | bytes, deadline_s: float = 30.0) -> Ear:
        utterance, ear = self.begin(deadline_s)
        sound = pcm if isinstance(pcm, bytes) else pcm.tobytes()
        for at in range(0, len(sound), 1920):
            utterance.feed(sound[at : at + 1920], at // 1920)
        utterance.end(len(sound) // 1920, 0)
        async with asyncio.timeout(60):
            await ear.over.wait()
        return ear

    def sound(self, sentence: str, number: int = 0) -> Pcm:
        return self.entry.sound(sentence, number)

    async def learn(self) -> None:
        """What it says to each sentence when it has nothing else to do."""
        if self.entry.says != "as before":
            return
        for sentence in SENTENCES:
            ear = await self.hear(self.sound(sentence))
            assert len(ear.texts) == 1, ear.errors
            self._learned[sentence] = ear.texts[0]
        assert len(set(self._learned.values())) == len(SENTENCES), "it cannot tell them apart"

    def expected(self, sentence: str, utterance: int | None = None, number: int = 0) -> str:
        """The text of a sentence, in the utterance of that number (the last one's if not given)."""
        utterance = utterance or self.numbers
        match self.entry.says:
            case "the sentence":
                return sentence
            case "its number":
                return f"utterance {utterance} of session-{utterance}"
            case "its mark":
                return mark_of(sentence, number).word
        return self._learned[sentence]


@asynccontextmanager
async def opened_bench(
    entry: Entry, directory: Path, *, seats: int = SEATS, options: dict[str, Any] | None = None
) -> AsyncIterator[Bench]:
    """With these options beside its section's own; everything is closed at the end."""
    models = Models()
    async with entry.open(directory) as (section, fake):
        choice = section.model_copy(update={"options": section.options | (options or {})})
        bench = Bench(entry, make_engine(choice, models), seats, fake)
        await bench.recognisers.start(entry.name)
        await bench.learn()
        try:
            yield bench
        finally:
            await bench.recognisers.close()
            close = getattr(bench.engine, "close", None)
            if close is not None:
                await close()
            await models.close()
