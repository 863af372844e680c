"""Each recogniser: mistakes, tail latency, real-time factor, memory.

An engine is asked as a worker asks it, one utterance at a time, and hears it as fast as it is spoken: the tail is what
a person waits from the end of speech to its text.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

from bench.engines import error_rate
from bench.engines.memory import children_mib
from bench.engines.plan import DEADLINE_S, Plan, Row
from bench.engines.speech import Sound, noisy, recorded, spoken
from shared.errors import ConfigError, EngineError
from shared.settings import EngineChoice
from workers.asr.engines.engine import Brief, Engine, Recogniser, RemoteEngine, Transcript
from workers.asr.engines.models import Models
from workers.asr.engines.registry import make_engine

FRAME_BYTES = 1920
FRAME_S = 0.06


@dataclass(slots=True)
class Score:
    """Of the utterances of one condition."""

    counts: list[tuple[int, int]] = field(default_factory=list)
    tails_s: list[float] = field(default_factory=list)
    firsts_s: list[float] = field(default_factory=list)
    """Beginning of the sound to the first partial."""
    factors: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)

    def row(self) -> Row:
        return {
            "utterances": len(self.counts) + len(self.failures),
            "failed": ", ".join(sorted(set(self.failures))) or 0,
            "errors_percent": round(100 * error_rate.rate(self.counts), 1),
            "tail_ms_p50": _ms(statistics.median(self.tails_s)) if self.tails_s else None,
            "tail_ms_max": _ms(max(self.tails_s)) if self.tails_s else None,
            "first_partial_ms_p50": _ms(statistics.median(self.firsts_s)) if self.firsts_s else None,
            "realtime_factor": round(statistics.fmean(self.factors), 3) if self.factors else None,
        }


async def measure(plan: Plan) -> list[Row]:
    sounds = list(_sounds(plan))
    rows: list[Row] = []
    for choice in plan.chosen(plan.settings.asr.engine, plan.settings.asr.engines):
        rows += await _measured(plan, choice, sounds)
    return rows


def _sounds(plan: Plan) -> Iterator[tuple[str, Sound]]:
    """Condition and sound."""
    clean = [*spoken(plan.languages, plan.count), *(recorded(plan.sounds) if plan.sounds else ())]
    for sound in clean:
        yield "clean", sound
        for db in plan.noise_db:
            yield f"{db:g} dB", noisy(sound, db)


async def _measured(plan: Plan, choice: EngineChoice, sounds: Iterable[tuple[str, Sound]]) -> list[Row]:
    before_mib, models, began_s = children_mib(), Models(), asyncio.get_running_loop().time()
    base = {"engine": choice.name, "type": choice.type}
    try:
        engine = make_engine(choice, models)
        listener = Listener(plan, engine, await engine.make(lambda error: None))
    except (ConfigError, EngineError) as error:
        return [base | {"failed": str(error)}]
    load_s = asyncio.get_running_loop().time() - began_s
    scores: dict[tuple[str, str, str], Score] = {}
    for condition, sound in plan.each(sounds, f"ASR.{choice.name}"):
        await listener.hear(sound, scores.setdefault((sound.name, sound.language, condition), Score()))
    cost = {"load_s": round(load_s, 1), "memory_mib": round(children_mib() - before_mib)}
    await listener.close()
    await models.close()
    if isinstance(engine, RemoteEngine):
        await engine.close()
    keys = ("sound", "language", "condition")
    return [
        base | dict(zip(keys, key, strict=True)) | score.row() | cost | ({"heard": score.heard} if plan.texts else {})
        for key, score in scores.items()
    ]


class Listener:
    """One recogniser of an engine, and another one when it has failed."""

    def __init__(self, plan: Plan, engine: Engine, recogniser: Recogniser) -> None:
        self._pace = plan.pace
        self._tells_language = plan.tells_language
        self._engine = engine
        self._recogniser = recogniser
        self._numbers = count(1)

    async def hear(self, sound: Sound, score: Score) -> None:
        try:
            async with asyncio.timeout(sound.seconds + DEADLINE_S):
                transcript = await self._timed(sound, score)
        except (EngineError, TimeoutError) as error:
            score.failures.append(error.code if isinstance(error, EngineError) else "timeout")
            await self._recogniser.close()
            self._recogniser = await self._engine.make(lambda error: None)
            return
        score.counts.append(error_rate.mistakes(sound.said, transcript.text, sound.language))
        score.heard.append(transcript.text)
        if transcript.compute_s is not None:
            score.factors.append(transcript.compute_s / sound.seconds)

    async def close(self) -> None:
        await self._recogniser.close()

    async def _timed(self, sound: Sound, score: Score) -> Transcript:
        loop = asyncio.get_running_loop()
        began_s, partials_s = loop.time(), list[float]()
        brief = Brief("bench", next(self._numbers), sound.language if self._tells_language else None)
        self._recogniser.begin(brief, lambda text: partials_s.append(loop.time() - began_s))
        pcm = sound.pcm.tobytes()
        for step, at in enumerate(range(0, len(pcm), FRAME_BYTES), start=1):
            self._recogniser.feed(pcm[at : at + FRAME_BYTES])
            await asyncio.sleep(max(0.0, began_s + step * FRAME_S / self._pace - loop.time()) if self._pace else 0.0)
        ended_s = loop.time()
        transcript = await self._recogniser.finish()
        score.tails_s.append(loop.time() - ended_s)
        score.firsts_s += partials_s[:1]
        return transcript


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
