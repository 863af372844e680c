"""Keys of servers that speak OpenAI's HTTP API, its own or any other."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from shared.config.llm_section import is_local_url
from shared.config.options.base import Deadline, Options

OPENAI_URL = "https://api.openai.com/v1"

HttpUrl = Annotated[str, Field(pattern=r"^https?://[^/?#\s]+", description="an https:// or http:// address")]


def _without_slash(url: str) -> str:
    return url.rstrip("/")


class OpenAiAccess(Options):
    """What recognition and speech share: where the server is, and who asks."""

    api_url: HttpUrl = ""
    """The whole address of the one thing that is asked; wins over base_url."""
    base_url: Annotated[HttpUrl, AfterValidator(_without_slash)] = OPENAI_URL
    api_key: str = Field(
        "",
        description="the server's API key; only servers of the local network may go without",
        repr=False,
        validate_default=True,
    )
    max_sessions: int = Field(0, ge=0, description="how many requests the account may have at once; 0 = any number")
    connect_timeout_s: Deadline = 3.0
    first_timeout_s: Deadline = 10.0
    idle_timeout_s: Deadline = 5.0
    warm_s: float = Field(30.0, ge=0, le=600, description="how long an unused connection is kept: seconds, 0 up to 600")

    @field_validator("api_key")
    @classmethod
    def _is_needed(cls, value: str, info: ValidationInfo) -> str:
        if not value and not is_local_url(info.data.get("api_url") or info.data.get("base_url")):
            raise ValueError("no key")
        return value


class OpenAiTtsOptions(OpenAiAccess):
    """type: openai (`/audio/speech`)."""

    kind: ClassVar[str] = "TTS"

    model: str = "tts-1"
    voice: str = "alloy"
    speed: float = Field(1.0, ge=0.25, le=4.0, description="a number from 0.25 to 4.0")
    format: Literal["wav", "pcm", "mp3", "opus", "flac", "aac"] | None = Field(
        None,
        alias="response_format",
        description="wav, pcm, mp3, opus, flac or aac: what the server is asked for; without it wav, or what it takes",
    )
    sample_rate: int = Field(24_000, ge=8000, le=96_000, description="the rate of raw pcm: 8000 to 96000 (Hz)")
    instructions: str = Field("", description="how to speak, for models that take it")

    @property
    def url(self) -> str:
        return self.api_url or f"{self.base_url}/audio/speech"

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.url,)


class OpenAiAsrOptions(OpenAiAccess):
    """type: openai (`/audio/transcriptions`). `base_url` may be that whole address, as in today's files."""

    kind: ClassVar[str] = "ASR"

    model_name: str = Field(description="the name of a model that the server has, such as whisper-1")
    language: str = Field("", description="such as en or zh; without it the device's language, or none")
    prompt: str = Field("", description="words that are likely to be said, for models that take them")
    first_timeout_s: Deadline = 8.0

    @property
    def url(self) -> str:
        if self.api_url or self.base_url.endswith("/transcriptions"):
            return self.api_url or self.base_url
        return f"{self.base_url}/audio/transcriptions"

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.url,)
