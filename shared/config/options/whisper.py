"""Keys of Whisper, computed on this machine by faster-whisper."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from shared.config.asr_models import WHISPER_REPOSITORIES
from shared.config.options.base import Options

SIZES = "a size (tiny, base, small, medium, large-v3, turbo …) or a directory"


class WhisperAsrOptions(Options):
    """type: whisper."""

    kind: ClassVar[str] = "ASR"
    is_outside: ClassVar[bool] = False

    model: str = Field("base", description=SIZES)
    model_dir: str = Field("", description="a directory with a model, in place of model")
    download: bool = Field(
        False, description="true, if a model that is not on this machine may be fetched from huggingface.co, or false"
    )
    download_dir: str = Field("", description="the directory that fetched models are kept in")
    language: str = Field(
        "", max_length=16, description="a language such as en or zh, or auto to have it found out each time"
    )
    beam_size: int = Field(1, ge=1, le=10, description="1 (fastest) to 10")
    compute_type: Literal["default", "auto", "int8", "int8_float32", "int8_float16", "int16", "float16", "float32"] = (
        Field("int8", description="int8, int8_float32, int8_float16, int16, float16, float32, auto or default")
    )
    device: Literal["cpu", "cuda", "auto"] = Field("cpu", description="cpu, cuda or auto")
    threads: int = Field(0, ge=0, le=64, description="threads to compute with, 0 to 64; 0 = one a core, at most 4")
    initial_prompt: str = Field("", max_length=800, description="up to 800 characters that show how names are written")

    @model_validator(mode="after")
    def _names_a_model(self) -> Self:
        if not self.model_dir and not self.is_directory and self.model not in WHISPER_REPOSITORIES:
            raise ValueError(f"model: {SIZES}")
        return self

    @property
    def is_directory(self) -> bool:
        return "/" in self.model or self.model.startswith(".")

    @property
    def directory(self) -> str:
        """Where the model lies; "" if only its size is given."""
        return self.model_dir or (self.model if self.is_directory else "")
