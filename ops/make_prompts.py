"""Makes the router's canned prompts with the project's own voices: python -m ops.make_prompts [DIRECTORY].

Run it when a sentence, a voice or the encoder changes, and commit the files. The voices are deterministic, so an
unchanged prompt is an unchanged file on the same kind of processor.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import router.talk.prompts
from router.talk.prompts import SUFFIX, Prompt, write_prompt
from workers.tts.engine import Later, Pcm, TtsEngine, seed_of
from workers.tts.engines.embedded import EmbeddedEngine
from workers.tts.opus import FRAME_MS, SAMPLE_RATE, OpusEncoder
from workers.tts.resample import resampled

DIRECTORY = Path(router.talk.prompts.__file__).with_name("canned")
COMPLEXITY = 10
"""Encoded once, so the best the encoder can do."""

TEXTS = {
    ("busy", "en"): "Sorry, I'm busy right now. Please try again in a moment.",
    ("busy", "zh"): "不好意思，我现在有点忙，请稍后再试。",
    ("apology", "en"): "Sorry, something went wrong. Please say that again.",
    ("apology", "zh"): "抱歉，刚才出了点问题，请再说一遍。",
    ("filler", "en"): "One moment, please.",
    ("filler", "zh"): "请稍等。",
    ("goodbye", "en"): "Goodbye, talk to you soon.",
    ("goodbye", "zh"): "再见，下次再聊。",
}


def make_prompt(engine: TtsEngine, text: str, language: str) -> Prompt:
    """The text as a device plays it: Opus 24 kHz mono in frames of 60 ms."""
    encoder = OpusEncoder(COMPLEXITY)
    packets = [packet for pcm in _speech(engine, text, language) for packet in encoder.encode(pcm)]
    return Prompt(text, (*packets, *encoder.finish()))


def _speech(engine: TtsEngine, text: str, language: str) -> Iterator[Pcm]:
    speech = engine.synthesise(text, None, language, seed_of(text, None))
    return (item for item in resampled(speech, engine.sample_rate, SAMPLE_RATE) if not isinstance(item, Later))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.make_prompts", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=DIRECTORY)
    directory = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    engine = EmbeddedEngine("prompts", {})
    engine.load()
    for (name, language), text in TEXTS.items():
        prompt = make_prompt(engine, text, language)
        path = directory / f"{name}.{language}{SUFFIX}"
        path.write_bytes(write_prompt(prompt))
        print(f"{path.name}: {len(prompt.frames)} frames, {len(prompt.frames) * FRAME_MS / 1000:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
