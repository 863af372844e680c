"""What is the same in all sections about the sound a service is asked for."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator

RATES_HZ: Final = (8000, 16_000, 24_000, 48_000)
"""What an Opus encoder takes as it is."""
RATE_EXPECTED: Final = "one of 8000, 16000, 24000 and 48000 (Hz)"


def _known(rate_hz: int) -> int:
    if rate_hz not in RATES_HZ:
        raise ValueError(RATE_EXPECTED)
    return rate_hz


SampleRate = Annotated[int, AfterValidator(_known)]
"""A number, or a text that is one."""
