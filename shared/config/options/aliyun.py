"""Keys of Alibaba Cloud's speech service (NLS)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from shared.config.options.base import Deadline, Options
from shared.config.options.sound import RATE_EXPECTED, SampleRate

ENDPOINT = "own (we find the end of speech and tell the service) or upstream (the service finds it)"


class AliyunAccess(Options):
    """What recognition and speech share: whose account, and where."""

    appkey: str = Field(description="the Appkey of a project at nls-portal.console.aliyun.com", repr=False)
    token: str = Field("", description="a token, which lasts a day at most, in place of an AccessKey", repr=False)
    access_key_secret: str = Field("", description="the secret of access_key_id", repr=False)
    access_key_id: str = Field(
        "",
        description="an AccessKey ID together with its access_key_secret, or a token in place of both",
        repr=False,
        validate_default=True,
    )
    token_url: str = Field(
        "https://nls-meta.cn-shanghai.aliyuncs.com/",
        pattern=r"^https?://[^?#]+/$",
        description="the https:// address of the token service",
    )
    host: str = Field(
        "nls-gateway-cn-shanghai.aliyuncs.com",
        pattern=r"^[A-Za-z0-9.-]+(:\d+)?$",
        description="a gateway's name without wss://",
    )
    ws_url: str = Field(
        "", pattern=r"^wss?://", description="a wss:// address in place of host (ws:// only in one's own network)"
    )
    max_sessions: int = Field(0, ge=0, description="how many sessions the account may have at once; 0 = any number")
    connect_timeout_s: Deadline = 3.0
    first_timeout_s: Deadline = 5.0
    idle_timeout_s: Deadline = 5.0

    @field_validator("access_key_id")
    @classmethod
    def _is_complete(cls, value: str, info: ValidationInfo) -> str:
        if not info.data.get("token") and not (value and info.data.get("access_key_secret")):
            raise ValueError("no credential")
        return value

    @property
    def url(self) -> str:
        """Gateways inside Alibaba's own network speak no TLS (port 80)."""
        if self.ws_url:
            return self.ws_url
        if "-internal." in self.host:
            return f"ws://{self.host if ':' in self.host else self.host + ':80'}/ws/v1"
        return f"wss://{self.host}/ws/v1"

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.url, self.token_url) if self.access_key_id else (self.url,)


class AliyunAsrOptions(AliyunAccess):
    """type: aliyun_stream. The project's model decides the language."""

    kind: ClassVar[str] = "ASR"

    max_sentence_silence: int | None = Field(
        None, ge=200, le=6000, description="the silence that ends a sentence, 200 to 6000 (ms)"
    )
    endpoint: Literal["own", "upstream"] = Field("own", description=ENDPOINT)
    vocabulary_id: str = Field("", description="the id of a list of hot words")
    customization_id: str = Field("", description="the id of a trained model")
    first_timeout_s: Deadline = 3.0
    idle_timeout_s: Deadline = 3.0


class AliyunTtsOptions(AliyunAccess):
    """type: aliyun_stream (CosyVoice, whose gateway is in Beijing)."""

    kind: ClassVar[str] = "TTS"

    host: str = Field(
        "nls-gateway-cn-beijing.aliyuncs.com",
        pattern=r"^[A-Za-z0-9.-]+(:\d+)?$",
        description="a gateway's name without wss://",
    )
    voice: str = Field("longxiaochun", description="the name of a CosyVoice voice, such as longxiaochun")
    sample_rate: SampleRate = Field(24_000, description=RATE_EXPECTED)
    volume: int = Field(50, ge=0, le=100, description="a whole number from 0 to 100")
    speech_rate: int = Field(0, ge=-500, le=500, description="a whole number from -500 (half) to 500 (double speed)")
    pitch_rate: int = Field(0, ge=-500, le=500, description="a whole number from -500 to 500")
    pipelined: bool = Field(False, description="true to send the text without waiting until the service has started")
    tts_timeout: float = Field(60.0, gt=0, le=600, description="seconds for one segment, over 0 and up to 600")
    queue_timeout_s: Deadline = 2.0
    warm_s: float = Field(8.0, ge=0, lt=10, description="seconds from 0 to under 10, when the service hangs up")
