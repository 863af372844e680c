"""Keys of Volcengine's speech services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from shared.config.options.base import Deadline, Options
from shared.config.options.sound import RATE_EXPECTED, SampleRate

HOST = "wss://openspeech.bytedance.com"


class DoubaoAsrOptions(Options):
    """type: doubao_stream (large-model streaming recognition, "sauc")."""

    kind: ClassVar[str] = "ASR"

    appid: str = Field(description="the App ID at console.volcengine.com/speech/app", repr=False)
    access_token: str = Field(description="the Access Token of that App ID", repr=False)
    resource_id: str = Field(
        "volc.bigasr.sauc.duration",
        description="volc.bigasr.sauc.duration or .concurrent, volc.seedasr.sauc.duration or .concurrent",
    )
    enable_multilingual: bool = Field(False, description="true for languages beside Chinese and English: no partials")
    language: str = Field("", description="such as en-US or ja-JP; only with enable_multilingual")
    boosting_table_name: str = Field("", description="the name of a list of hot words")
    correct_table_name: str = Field("", description="the name of a list of replacements")
    end_window_size: int | None = Field(
        None, ge=200, le=10_000, description="the silence that ends a sentence, 200 to 10000 (ms)"
    )
    endpoint: Literal["own", "upstream"] = Field(
        "own", description="own (we find the end of speech and tell the service) or upstream (the service finds it)"
    )
    ws_url: str = Field(
        "", pattern=r"^wss?://", description="a wss:// address in place of the usual (ws:// only in one's own network)"
    )
    max_sessions: int = Field(0, ge=0, description="how many sessions the account may have at once; 0 = any number")
    connect_timeout_s: Deadline = 3.0
    first_timeout_s: Deadline = 3.0
    idle_timeout_s: Deadline = 3.0

    @property
    def url(self) -> str:
        """The variant that answers only when a result has changed, or the one that answers once, at the end."""
        if self.ws_url:
            return self.ws_url
        return f"{HOST}/api/v3/sauc/bigmodel_{'nostream' if self.enable_multilingual else 'async'}"

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.url,)


class HuoshanTtsOptions(Options):
    """type: huoshan_double_stream (bidirectional synthesis, v3). The voice decides the language."""

    kind: ClassVar[str] = "TTS"

    appid: str = Field(description="the App ID at console.volcengine.com/speech/app", repr=False)
    access_token: str = Field(description="the Access Token of that App ID", repr=False)
    resource_id: str = Field(
        "volc.service_type.10029", description="volc.service_type.10029, seed-tts-2.0, seed-icl-2.0 or another"
    )
    speaker: str = Field(
        description="the name of a voice that resource_id has, such as zh_female_wanwanxiaohe_moon_bigtts"
    )
    ws_url: str = Field(
        f"{HOST}/api/v3/tts/bidirection",
        pattern=r"^wss?://",
        description="a wss:// address (ws:// only in one's own network)",
    )
    sample_rate: SampleRate = Field(24_000, description=RATE_EXPECTED)
    speech_rate: int = Field(0, ge=-50, le=100, description="a whole number from -50 (half) to 100 (double speed)")
    loudness_rate: int = Field(0, ge=-50, le=100, description="a whole number from -50 (half) to 100 (twice as loud)")
    pitch: int = Field(0, ge=-12, le=12, description="a whole number from -12 to 12 (semitones)")
    audio_params: Mapping[str, Any] = Field({}, description="keys and values that the service documents")
    additions: Mapping[str, Any] = Field({}, description="keys and values that the service documents")
    mix_speaker: Mapping[str, Any] = Field({}, description="keys and values that the service documents")
    enable_ws_reuse: bool = Field(True, description="true or false")
    start_connection: bool = Field(
        True, description="true (the documented handshake) or false (as servers that do without it expect)"
    )
    pipelined: bool = Field(True, description="false to wait until the service has started before the text is sent")
    max_sessions: int = Field(10, ge=0, description="how many sessions the account may have at once; 0 = any number")
    tts_timeout: float = Field(60.0, gt=0, le=600, description="seconds for one segment, over 0 and up to 600")
    queue_timeout_s: Deadline = 2.0
    connect_timeout_s: Deadline = 3.0
    first_timeout_s: Deadline = 5.0
    idle_timeout_s: Deadline = 5.0
    cancel_timeout_s: float = Field(0.5, gt=0, le=10, description="seconds over 0 and up to 10")
    warm_s: float = Field(30.0, ge=0, le=600, description="seconds from 0 to 600")

    @property
    def kept_s(self) -> float:
        """How long an unused connection is kept."""
        return self.warm_s if self.enable_ws_reuse else 0.0

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.ws_url,)
