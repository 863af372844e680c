"""Measures the tts worker alone, in this process: python -m bench.tts.

* first frame and real-time factor of each engine, from OPEN to the packet on the stream;
* microseconds an Opus frame by application, bitrate and complexity;
* how late the event loop's timers are while a compute thread is busy, by `sys.setswitchinterval`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from shared.ids import StreamId
from shared.link.messages import Body, OpenTts
from shared.settings import EngineChoice, TtsSettings
from workers.tts.engine import Later, Pcm
from workers.tts.engines.embedded import EmbeddedEngine
from workers.tts.opus import FRAME_SAMPLES, OpusEncoder
from workers.tts.service import TtsService

SENTENCES = {
    "en": "The weather tomorrow will be sunny, with a light breeze from the west, number {n}.",
    "zh": "明天天气晴朗，西风微弱，最高气温二十度，第{n}号。",
}
SPOKEN_BY = (("hibari", "en"), ("espeak", "zh"), ("espeak", "en"), ("embedded", "en"), ("embedded", "zh"))
APPLICATIONS = {"audio": 2049, "voip": 2048}
LAG_STEP_S = 0.002


class TimedStream:
    """Keeps the numbers of one segment."""

    def __init__(self) -> None:
        self.id = StreamId(1)
        self.ended: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    @property
    def is_open(self) -> bool:
        return not self.ended.done()

    def audio(self, packet: bytes) -> None: ...

    def event(self, body: Body) -> None: ...

    def credit(self, body: Body) -> None: ...

    def done(self, **stats: Any) -> None:
        self.ended.set_result(stats)

    def error(self, code: str, *, retryable: bool = False, message: str = "") -> None:
        self.ended.set_exception(RuntimeError(code))


async def spoken(service: TtsService, text: str) -> dict[str, Any]:
    stream = TimedStream()
    request = OpenTts(session="bench", turn="1", segment=0, text=text, window_frames=100_000)
    service.open(stream, request.to_map())
    return await stream.ended


async def measure_engine(type_name: str, language: str, count: int) -> dict[str, Any]:
    """Segments one after the other, none cached."""
    service = await _started(type_name)
    stats = [await spoken(service, SENTENCES[language].format(n=n)) for n in range(count)]
    await service.close()
    first = [float(one["first_frame_ms"]) for one in stats]
    audio_ms = sum(int(one["audio_ms"]) for one in stats)
    synth_ms = sum(float(one["synth_ms"]) for one in stats)
    return {
        "engine": type_name,
        "language": language,
        "audio_ms_each": round(audio_ms / count),
        "first_frame_ms_p50": round(statistics.median(first), 1),
        "first_frame_ms_max": round(max(first), 1),
        "times_real_time": round(audio_ms / synth_ms),
    }


async def measure_lag(switch_interval_s: float, seconds: float) -> dict[str, Any]:
    """The loop ticks every 2 ms while one thread speaks without a pause."""
    sys.setswitchinterval(switch_interval_s)
    service = await _started("embedded")
    loop = asyncio.get_running_loop()
    speaking = asyncio.create_task(_speak_on(service), name="bench-speaker")
    late_ms: list[float] = []
    end_s = loop.time() + seconds
    while loop.time() < end_s:
        due_s = loop.time() + LAG_STEP_S
        await asyncio.sleep(LAG_STEP_S)
        late_ms.append((loop.time() - due_s) * 1000)
    speaking.cancel()
    await asyncio.gather(speaking, return_exceptions=True)
    await service.close()
    return {"switch_interval_ms": switch_interval_s * 1000} | _spread(late_ms)


def measure_encoder(pcm: Pcm) -> Iterable[dict[str, Any]]:
    frames = len(pcm) // FRAME_SAMPLES
    for name, application in APPLICATIONS.items():
        for bitrate in (16_000, 24_000, 32_000):
            for complexity in (0, 5, 10):
                encoder = OpusEncoder(complexity, application=application, bitrate=bitrate)
                began_s = time.perf_counter()
                size = sum(map(len, encoder.encode(pcm)))
                took_us = (time.perf_counter() - began_s) * 1e6
                yield {
                    "application": name,
                    "bitrate": bitrate,
                    "complexity": complexity,
                    "us_a_frame": round(took_us / frames),
                    "bytes_a_frame": round(size / frames),
                }


async def _started(type_name: str) -> TtsService:
    service = TtsService(TtsSettings(engine=EngineChoice(name="Bench", type=type_name), cache_bytes=0))
    await service.start()
    return service


async def _speak_on(service: TtsService) -> None:
    number = 0
    while True:
        number += 1
        await spoken(service, SENTENCES["en"].format(n=number))


def _spread(values: list[float]) -> dict[str, Any]:
    ordered = sorted(values)
    points = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {f"late_ms_{name}": round(ordered[int((len(ordered) - 1) * part)], 2) for name, part in points.items()}


def _speech() -> Pcm:
    engine = EmbeddedEngine("bench", {})
    engine.load()
    parts = [part for part in engine.synthesise(SENTENCES["en"] * 5, None, "en", 1) if not isinstance(part, Later)]
    return np.concatenate(parts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.tts", description=__doc__)
    parser.add_argument("--count", type=int, default=30, help="segments an engine")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each lag measurement")
    arguments = parser.parse_args()
    for type_name, language in SPOKEN_BY:
        print(json.dumps(asyncio.run(measure_engine(type_name, language, arguments.count))))
    for row in measure_encoder(_speech()):
        print(json.dumps(row))
    for interval_s in (0.005, 0.001, 0.0005, 0.0001):
        print(json.dumps(asyncio.run(measure_lag(interval_s, arguments.seconds))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
