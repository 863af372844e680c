"""What a device should hear, packet for packet: the scripted voice, the encoder and the prompts repeat themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from router.talk.prompts import load_prompts
from workers.tts.engine import Later, seed_of
from workers.tts.engines.sine import SineEngine
from workers.tts.opus import OpusEncoder
from workers.tts.text import speakable

COMPLEXITY = 5
"""The default of `tts.opus_complexity`."""

Sound = tuple[bytes, ...]


def sine_sound(text: str, options: Mapping[str, Any]) -> Sound:
    """The packets of one segment of a `sine` voice."""
    engine = SineEngine("expected", {key: value for key, value in options.items() if key != "stage"})
    encoder = OpusEncoder(COMPLEXITY)
    packets: list[bytes] = []
    for item in engine.synthesise(speakable(text), None, "en", seed_of(text, None)):
        if not isinstance(item, Later):
            packets += encoder.encode(item)
    return (*packets, *encoder.finish())


@cache
def prompt_sounds() -> Mapping[str, Sound]:
    """The canned prompts by name and language, such as `apology.en`."""
    return {f"{name}.{language}": prompt.frames for (name, language), prompt in load_prompts().items()}


@dataclass(frozen=True, slots=True)
class Run:
    """Packets of one sound heard without a gap, from its first one on."""

    name: str
    frames: int
    of: int

    @property
    def is_whole(self) -> bool:
        return self.frames == self.of


def runs_of(packets: Sequence[bytes], sounds: Mapping[str, Sound]) -> list[Run]:
    """What was heard, in order. A packet that does not begin or continue a known sound is a run named `?`."""
    runs: list[Run] = []
    at = 0
    while at < len(packets):
        heard = {name: _common(packets[at:], sound) for name, sound in sounds.items()}
        name = max(heard, key=lambda name: heard[name], default="?")
        frames = heard.get(name, 0)
        runs.append(Run(name, frames, len(sounds[name])) if frames else Run("?", 1, 0))
        at += max(1, frames)
    return runs


def _common(packets: Sequence[bytes], sound: Sound) -> int:
    """How many packets at the beginning are the same."""
    count = 0
    for one, other in zip(packets, sound, strict=False):
        if one != other:
            break
        count += 1
    return count
