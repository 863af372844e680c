"""Each voice: the first sound, the whole segment, real-time factor, processor time, memory.

An engine is asked as a worker asks it: one that computes here on a compute thread, one segment at a time; a service
outside on the loop. Memory is what the process has come to hold with the engine: the first one of a
library pays for it.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from importlib import resources

import yaml

from bench.engines.memory import own_mib
from bench.engines.plan import DEADLINE_S, Plan, Row
from shared.errors import ConfigError, EngineError
from shared.settings import EngineChoice
from workers.tts.compute import ComputePool
from workers.tts.engine import Later, RemoteEngine, SpeechRequest, TtsEngine, is_local, is_remote, seed_of
from workers.tts.engines.registry import build
from workers.tts.text import speakable

LOAD_S = 120.0
Said = tuple[str, str]
"""Language and text."""


@dataclass(slots=True)
class Spoken:
    """One segment."""

    first_s: float | None = None
    """To the first sound; None if there was none."""
    total_s: float = 0.0
    sound_s: float = 0.0
    cpu_s: float = 0.0
    """Of the whole process."""


@dataclass(slots=True)
class Score:
    """Of the segments of one language."""

    segments: list[Spoken] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def row(self) -> Row:
        firsts = [one.first_s for one in self.segments if one.first_s is not None]
        sound_s = sum(one.sound_s for one in self.segments)
        return {
            "segments": len(self.segments) + len(self.failures),
            "failed": ", ".join(sorted(set(self.failures))) or 0,
            "first_ms_p50": _ms(statistics.median(firsts)) if firsts else None,
            "first_ms_max": _ms(max(firsts)) if firsts else None,
            "total_ms_p50": _ms(statistics.median(one.total_s for one in self.segments)) if firsts else None,
            "sound_s": round(sound_s, 1),
            "realtime_factor": _share(sum(one.total_s for one in self.segments), sound_s),
            "cpu_factor": _share(sum(one.cpu_s for one in self.segments), sound_s),
        }


async def measure(plan: Plan) -> list[Row]:
    pool = ComputePool("bench-tts", threads=1, spares=0, slow_after_s=DEADLINE_S)
    pool.start()
    rows: list[Row] = []
    for choice in plan.chosen(plan.settings.tts.engine, plan.settings.tts.engines):
        rows += await _measured(plan, choice, pool)
    await pool.close()
    return rows


async def _measured(plan: Plan, choice: EngineChoice, pool: ComputePool) -> list[Row]:
    base: Row = {"engine": choice.name, "type": choice.type}
    gc.collect()
    before_mib, began_s = own_mib(), asyncio.get_running_loop().time()
    try:
        engine = build(choice)
        if is_local(engine):
            await pool.call(choice.name, engine.load, slow_after_s=LOAD_S)
        elif is_remote(engine):
            await engine.start()
    except (ConfigError, EngineError) as error:
        return [base | {"failed": str(error)}]
    load_s = asyncio.get_running_loop().time() - began_s
    languages = [one for one in plan.languages if not engine.languages or one in engine.languages]
    speak: Callable[[Said], Awaitable[Spoken]]
    if is_local(engine):
        speak = partial(_computed, engine, pool)
    else:
        assert is_remote(engine)
        speak = partial(_asked, engine)
    scores = {language: await _scored(plan, choice, speak, _texts(plan, language)) for language in languages}
    if is_remote(engine):
        await engine.close()
    cost = {"load_s": round(load_s, 1), "memory_mib": round(own_mib() - before_mib)}
    return [base | {"language": language} | score.row() | cost for language, score in scores.items()]


def _texts(plan: Plan, language: str) -> list[Said]:
    file = resources.files("bench.engines").joinpath("sentences.yaml")
    texts: list[str] = yaml.safe_load(file.read_text("utf-8"))[language]
    return [(language, speakable(f"{text}.")) for text in texts[: plan.count or None]]


async def _scored(
    plan: Plan, choice: EngineChoice, speak: Callable[[Said], Awaitable[Spoken]], texts: Iterable[Said]
) -> Score:
    score = Score()
    for said in plan.each(texts, f"TTS.{choice.name}"):
        try:
            score.segments.append(await speak(said))
        except (EngineError, TimeoutError) as error:
            score.failures.append(error.code if isinstance(error, EngineError) else "timeout")
    return score


async def _computed(engine: TtsEngine, pool: ComputePool, said: Said) -> Spoken:
    spoken = Spoken()
    await pool.call("bench", partial(_compute, engine, said, spoken), slow_after_s=DEADLINE_S)
    return spoken


def _compute(engine: TtsEngine, said: Said, spoken: Spoken) -> None:
    """On the compute thread."""
    language, text = said
    began_s, cpu_s, samples = time.perf_counter(), time.process_time(), 0
    for piece in engine.synthesise(text, None, language, seed_of(text, None)):
        if isinstance(piece, Later):
            time.sleep(piece.wait_ms / 1000)
        elif len(piece):
            spoken.first_s = spoken.first_s or time.perf_counter() - began_s
            samples += len(piece)
    spoken.total_s, spoken.cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    spoken.sound_s = samples / engine.sample_rate


async def _asked(engine: RemoteEngine, said: Said) -> Spoken:
    language, text = said
    spoken, size = Spoken(), 0
    began_s, cpu_s = time.perf_counter(), time.process_time()
    async with asyncio.timeout(DEADLINE_S):
        async for piece in engine.speak(SpeechRequest(text, None, language, "bench")):
            spoken.first_s = spoken.first_s or time.perf_counter() - began_s
            size += len(piece)
    spoken.total_s, spoken.cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    spoken.sound_s = size / 2 / engine.sample_rate
    return spoken


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 3) if whole else None
