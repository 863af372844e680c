"""How a device is listened to: words that settings, links and cores share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["auto", "manual", "realtime"]
"""`auto`: the server finds the end of speech. `manual`: the device says it. `realtime`: the microphone never closes."""

Interruption = Literal["off", "vad", "transcript"]
"""What ends a reply: nothing said, speech that lasts, or recognised words."""


@dataclass(frozen=True, slots=True)
class VadProfile:
    """How one device's speech is found. Probabilities 0..1, all times in ms of audio."""

    threshold: float = 0.5
    threshold_low: float = 0.3
    end_silence_ms: int = 500
    min_speech_ms: int = 96
    pre_roll_ms: int = 300
    max_utterance_ms: int = 30_000
