"""Keys of Piper's voices, computed on this machine by piper-tts."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from shared.config.options.base import Options
from shared.config.tts_models import PIPER_EXPECTED


class PiperTtsOptions(Options):
    """type: piper."""

    kind: ClassVar[str] = "TTS"
    is_outside: ClassVar[bool] = False

    model: str = Field(description=PIPER_EXPECTED)
    speaker: str | int = Field("", description="the name or number of one of the voice's speakers, or nothing")
    speed: float = Field(1.0, ge=0.5, le=2.0, description="how fast it speaks, 0.5 to 2")
    noise_scale: float | None = Field(None, ge=0, le=2, description="how much it varies, 0 to 2, or nothing")
    noise_w: float | None = Field(None, ge=0, le=2, description="how much its rhythm varies, 0 to 2, or nothing")
