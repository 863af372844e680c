"""What an asr worker's parts cost: `python -m bench.asr [--seconds S] [--ears N]`.

* decoding: a frame by opuslib's wrapper and by the worker's own calls, in one run;
* voice detection: a window alone and in batches, in one run;
* end of speech to text, embedded recogniser, one speaker at a time;
* the loop's lag while every recogniser is at work and many ears listen: what a BEAT would wait.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import opuslib
import soxr
import uvloop
from hibari import Hibari
from rich.console import Console
from rich.table import Table

from shared.ids import StreamId
from shared.link.messages import Body, Final, OpenAsr
from shared.settings import AsrSettings, EngineChoice
from workers.asr.opus import OpusDecoder, Pcm
from workers.asr.service import AsrService
from workers.asr.timeline import RATE_HZ, WINDOW_SAMPLES
from workers.asr.vad import Silero, model_path

FRAME_SAMPLES = 960
FRAME_S = 0.06
TICK_S = 0.005
SENTENCES = ("what time is it", "tell me a joke", "set the volume to fifty", "the weather is nice today")
EMBEDDED = AsrSettings().engine.name
SPEAKERS = 2
"""Recognised by the embedded engine, without a pause."""
BATCHES = (1, 4, 8, 16, 32, 64)


def say(voice: Hibari, text: str) -> Pcm:
    sound = soxr.resample(np.asarray(voice(text, seed=0), np.float32), 24_000, RATE_HZ)
    silence = np.zeros(RATE_HZ // 2, np.float32)
    pcm: Pcm = (np.clip(np.concatenate((silence, sound, silence)), -1, 1) * 32767).astype(np.int16)
    return pcm


def packets(pcm: Pcm) -> list[bytes]:
    encoder = opuslib.Encoder(RATE_HZ, 1, opuslib.APPLICATION_AUDIO)
    whole = len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES
    return [
        encoder.encode(pcm[at : at + FRAME_SAMPLES].tobytes(), FRAME_SAMPLES) for at in range(0, whole, FRAME_SAMPLES)
    ]


def cpu_us(work: Callable[[], int], repeats: int = 5) -> float:
    """CPU time of one piece, the best of some runs; `work` returns how many pieces it did."""
    best = float("inf")
    for _ in range(repeats):
        began_s = time.process_time()
        pieces = work()
        best = min(best, (time.process_time() - began_s) / pieces)
    return best * 1e6


def decoding(sound: list[bytes]) -> Iterator[tuple[str, float]]:
    wrapped, own = opuslib.Decoder(RATE_HZ, 1), OpusDecoder(60)
    yield "opuslib, us a frame", cpu_us(lambda: len([wrapped.decode(one, 1920) for one in sound]))
    yield "own calls, us a frame", cpu_us(lambda: len([own.decode(one) for one in sound]))


def detecting(pcm: Pcm) -> Iterator[tuple[str, float]]:
    silero = Silero(max(BATCHES), model_path())
    windows = [pcm[at : at + WINDOW_SAMPLES] for at in range(0, len(pcm) - WINDOW_SAMPLES, WINDOW_SAMPLES)]
    for size in BATCHES:
        rows = list(range(size))

        def work(size: int = size, rows: list[int] = rows) -> int:
            for at in range(64):
                silero.infer(rows, [windows[(at + 7 * row) % len(windows)] for row in rows])
            return 64 * size

        yield f"batch of {size}, us a window", cpu_us(work, 3)


@dataclass
class Stream:
    """The runtime's side of a stream, reduced to waiting for its end."""

    id: StreamId = field(default_factory=lambda: StreamId(1))
    finals: list[Final] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    code: str = ""

    @property
    def is_open(self) -> bool:
        return not self.ended.is_set()

    def audio(self, packet: bytes) -> None: ...

    def credit(self, body: Body) -> None: ...

    def event(self, body: Body) -> None:
        if isinstance(body, Final):
            self.finals.append(body)

    def done(self, **stats: Any) -> None:
        self.ended.set()

    def error(self, code: str, *, retryable: bool = False, message: str = "") -> None:
        self.code = code
        self.ended.set()


async def listen(service: AsrService, sound: list[bytes], seconds: float, engine: str, mode: str) -> Stream:
    """An ear at real-time pace for so long, the sound over and over."""
    stream = Stream()
    spec = OpenAsr(session="bench", mode=mode, position=0, utterance=0, engine=engine)  # type: ignore[arg-type]
    job = service.open(stream, spec.to_map())
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for number in range(max(1, int(seconds / FRAME_S))):
        if not stream.is_open:
            return stream
        job.on_audio(sound[number % len(sound)])
        await asyncio.sleep(max(0.0, began_s + (number + 1) * FRAME_S - loop.time()))
    job.on_end()
    await stream.ended.wait()
    return stream


async def tails(service: AsrService, sounds: list[list[bytes]]) -> Iterator[tuple[str, float]]:
    ends = []
    for sound in sounds * 3:
        stream = await listen(service, sound, len(sound) * FRAME_S, EMBEDDED, "manual")
        ends += [final.engine_ms for final in stream.finals]
    return iter([("median, ms", float(np.median(ends))), ("worst, ms", max(ends))])


async def lag_ms(stop: asyncio.Event) -> list[float]:
    """How much later than asked for the loop wakes up."""
    loop = asyncio.get_running_loop()
    lags = []
    while not stop.is_set():
        due_s = loop.time() + TICK_S
        await asyncio.sleep(TICK_S)
        lags.append(max(0.0, loop.time() - due_s) * 1000)
    return lags


async def under_load(
    service: AsrService, sounds: list[list[bytes]], seconds: float, ears: int
) -> Iterator[tuple[str, float]]:
    """All recognisers at work without a pause, and `ears` more in conversation with a scripted one."""
    stop = asyncio.Event()
    watch = asyncio.create_task(lag_ms(stop), name="lag")
    speakers = [
        listen(service, sounds[number % len(sounds)], seconds, EMBEDDED, "manual") for number in range(SPEAKERS)
    ]
    others = [listen(service, sounds[number % len(sounds)], seconds, "Script", "auto") for number in range(ears)]
    began_s = time.process_time()
    streams = await asyncio.gather(*speakers, *others)
    used = time.process_time() - began_s
    stop.set()
    lags = await watch
    refused = sum(stream.code == "asr_busy" for stream in streams)
    return iter(
        [
            (f"{ears} ears: lag p50, ms", float(np.percentile(lags, 50))),
            ("lag p99, ms", float(np.percentile(lags, 99))),
            ("lag worst, ms", max(lags)),
            ("worker's CPU of one core, %", used / seconds * 100),
            ("refused as busy", float(refused)),
        ]
    )


def settings(ears: int) -> AsrSettings:
    script, sphinx = EngineChoice(name="Script", type="scripted"), AsrSettings().engine
    sections = {one.name: one for one in (script, sphinx)}
    return AsrSettings(engine=script, engines=sections, recognisers=min(64, ears + SPEAKERS), capacity=2 * ears + 10)


async def run(seconds: float, ears: int) -> dict[str, list[tuple[str, float]]]:
    voice = Hibari()
    pcms = [say(voice, sentence) for sentence in SENTENCES]
    sounds = [packets(pcm) for pcm in pcms]
    figures = {
        "decoding": list(decoding([one for sound in sounds for one in sound])),
        "voice detection": list(detecting(np.concatenate(pcms))),
    }
    service = AsrService(settings(ears))
    began_s = time.perf_counter()
    await service.start()
    figures["start"] = [("ms", (time.perf_counter() - began_s) * 1000)]
    figures["end of speech to text"] = list(await tails(service, sounds))
    figures["beat under load"] = list(await under_load(service, sounds, seconds, ears))
    await service.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.asr", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long the load lasts")
    parser.add_argument("--ears", type=int, default=40, help="streams besides the two that are recognised")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(run(options.seconds, options.ears))
    table = Table("part", "figure", "value")
    for part, rows in figures.items():
        for name, value in rows:
            table.add_row(part, name, f"{value:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
