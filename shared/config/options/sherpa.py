"""Keys of the models that sherpa-onnx computes on this machine."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from shared.config.asr_models import FAMILIES
from shared.config.options.base import Options

MODEL_TYPES = "one of " + ", ".join(sorted(FAMILIES)) + ", or nothing to have it found out"


class SherpaAsrOptions(Options):
    """type: sherpa; fun_local and sherpa_onnx_local of existing files mean it too."""

    kind: ClassVar[str] = "ASR"
    is_outside: ClassVar[bool] = False

    model_dir: str = Field(description="a directory with a model for sherpa-onnx")
    model_type: str = Field("", description=MODEL_TYPES)
    language: str = Field(
        "", max_length=16, description="a language such as en or zh, or auto to have it found out each time"
    )
    use_itn: bool = Field(True, description="true to have numbers and punctuation written (SenseVoice), or false")
    decoding_method: Literal["greedy_search", "modified_beam_search"] = Field(
        "greedy_search", description="greedy_search or modified_beam_search"
    )
    hotwords_file: str = Field("", description="a file of words to prefer (transducers with modified_beam_search)")
    threads: int = Field(
        0, ge=0, le=64, alias="num_threads", description="threads to compute with, 0 to 64; 0 = one a core, at most 4"
    )
    provider: Literal["cpu", "cuda", "coreml"] = Field("cpu", description="cpu, cuda or coreml")

    @field_validator("model_type")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value and value not in FAMILIES:
            raise ValueError(MODEL_TYPES)
        return value


class SherpaTtsOptions(Options):
    """type: sherpa, of a voice."""

    kind: ClassVar[str] = "TTS"
    is_outside: ClassVar[bool] = False

    model_dir: str = Field(description="a directory with a VITS, Kokoro or Matcha voice for sherpa-onnx")
    model_type: Literal["", "vits", "kokoro", "matcha"] = Field(
        "", description="vits, kokoro or matcha, or nothing to have it found out"
    )
    language: str = Field(
        "", max_length=64, description="the languages it speaks, such as zh or zh,en, if its files do not say so"
    )
    speaker: int = Field(
        0, ge=0, le=10_000, alias="speaker_id", description="the number of one of its speakers, from 0"
    )
    speed: float = Field(1.0, ge=0.5, le=2.0, description="how fast it speaks, 0.5 to 2")
    noise_scale: float | None = Field(None, ge=0, le=2, description="how much it varies, 0 to 2, or nothing")
    noise_w: float | None = Field(None, ge=0, le=2, description="how much its rhythm varies, 0 to 2 (VITS), or nothing")
    threads: int = Field(1, ge=1, le=64, alias="num_threads", description="threads to compute a piece with, 1 to 64")
    provider: Literal["cpu", "cuda", "coreml"] = Field("cpu", description="cpu, cuda or coreml")
