"""Keys of Microsoft Edge's read-aloud service. It needs no account; nothing here is a secret."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from shared.config.options.base import Deadline, Options

HOST_URL = "wss://speech.platform.bing.com"
"""Microsoft's; the whole address is the package's, which an update may change."""


def _with_sign(unit: str) -> BeforeValidator:
    """`10`, "10", "+10" and "+10%" all mean "+10%"."""

    def signed(value: Any) -> Any:
        number = str(value).strip().removesuffix(unit).strip()
        if isinstance(value, bool) or not number.lstrip("+-").isdecimal():
            return value
        return f"{int(number):+d}{unit}"

    return BeforeValidator(signed)


Percent = Annotated[str, _with_sign("%"), Field(pattern=r"^[+-]\d{1,3}%$", description="a change such as +10% or -20%")]
Hertz = Annotated[
    str, _with_sign("Hz"), Field(pattern=r"^[+-]\d{1,3}Hz$", description="a change such as +5Hz or -10Hz")
]


class EdgeTtsOptions(Options):
    """type: edge."""

    kind: ClassVar[str] = "TTS"

    voice: str = Field(
        "zh-CN-XiaoxiaoNeural",
        pattern=r"^[a-z]{2,3}(-[A-Za-z]+)+-[A-Za-z]+Neural$",
        description="a voice of `edge-tts --list-voices`, such as zh-CN-XiaoxiaoNeural",
    )
    rate: Percent = "+0%"
    volume: Percent = "+0%"
    pitch: Hertz = "+0Hz"
    url: str = Field("", pattern=r"^wss?://", description="a wss:// address in place of Microsoft's")
    max_sessions: int = Field(0, ge=0, description="how many requests may run at once; 0 = any number")
    connect_timeout_s: Deadline = 5.0
    first_timeout_s: Deadline = 5.0
    idle_timeout_s: Deadline = 5.0

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.url or HOST_URL,)
