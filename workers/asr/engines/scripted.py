"""A recogniser that says what its configuration tells it, after a fixed time: for load tests and for tests of faults.

The audio before it is real: packets, decoding, voice detection and endpointing are those of every engine.

Options: `text` (a template with {session}, {utterance}, {language} and {mark}: the mark that is heard in the sound, see
shared/marks.py, or "unmarked"; default "utterance {utterance} of {session}"),
`delay_ms` (end of speech to text, default 0), `partials` (true = a partial after every word's worth of audio),
`fail` (raise: each text is an error; sleep: each call takes 20 s), `fail_every` (only every n-th utterance, default 1),
`stage` (a directory of cues, see shared.rehearsal; the point is `recognising`).
"""

from __future__ import annotations

import asyncio
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import ConfigError, EngineError
from shared.marks import mark_of
from shared.rehearsal import LOOK_S, Stage
from shared.settings import EngineChoice
from workers.asr.engines.engine import Brief, OnLoss, OnPartial, Recogniser, Transcript
from workers.asr.engines.whole import WholeUtterance
from workers.asr.timeline import RATE_HZ

WORD_BYTES = RATE_HZ * 2 * 3 // 10
"""A spoken word takes about 300 ms."""

SLEEP_S = 20.0

UNMARKED = "unmarked"


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = "utterance {utterance} of {session}"
    delay_ms: int = Field(0, ge=0)
    partials: bool = False
    fail: Literal["raise", "sleep"] | None = None
    fail_every: int = Field(1, ge=1)
    stage: str | None = None


class Script:
    """What is said, and when; shared by the engine's recognisers."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stage = Stage(options.stage)
        self._asked = 0

    def text(self, brief: Brief, pcm: bytes = b"") -> str:
        template = self._options.text
        mark = mark_of(np.frombuffer(pcm, np.int16), RATE_HZ) if "{mark}" in template else None
        return template.format(
            session=brief.session,
            utterance=brief.utterance,
            language=brief.language or "",
            mark=mark.word if mark else UNMARKED,
        )

    async def recognise(self, pcm: bytes, brief: Brief) -> Transcript:
        await asyncio.sleep(self._options.delay_ms / 1000)
        while self._stage.holds("recognising", brief.session):  # noqa: ASYNC110 - files set no asyncio.Event
            await asyncio.sleep(LOOK_S)
        self._asked += 1
        if self._options.fail is not None and self._asked % self._options.fail_every == 0:
            await self._fail()
        return Transcript(self.text(brief, pcm), brief.language)

    async def _fail(self) -> None:
        if self._options.fail == "sleep":
            await asyncio.sleep(SLEEP_S)
        raise EngineError("scripted failure", code="scripted", retryable=True)


class ScriptedStream(WholeUtterance):
    """Also tells partials: one more word of the text for each WORD_BYTES of audio."""

    def __init__(self, script: Script) -> None:
        super().__init__(script.recognise)
        self._script = script
        self._words: list[str] = []
        self._told = self._fed_bytes = 0
        self._on_partial: OnPartial = lambda text: None

    def begin(self, brief: Brief, on_partial: OnPartial) -> None:
        super().begin(brief, on_partial)
        self._words, self._told, self._fed_bytes = self._script.text(brief).split(), 0, 0
        self._on_partial = on_partial

    def feed(self, pcm: bytes) -> None:
        super().feed(pcm)
        self._fed_bytes += len(pcm)
        words = min(len(self._words), self._fed_bytes // WORD_BYTES)
        if words > self._told:
            self._told = words
            self._on_partial(" ".join(self._words[:words]))


class ScriptedEngine:
    """type: scripted."""

    is_heavy = False

    def __init__(self, choice: EngineChoice) -> None:
        try:
            self._options = Options.model_validate(choice.options)
            self._script = Script(self._options)
            self._script.text(Brief("session", 0))
        except (ValidationError, KeyError, IndexError, ValueError) as error:
            raise ConfigError(f"ASR.{choice.name}", choice.options, "options of the scripted engine") from error

    async def make(self, on_loss: OnLoss) -> Recogniser:
        return ScriptedStream(self._script) if self._options.partials else WholeUtterance(self._script.recognise)
