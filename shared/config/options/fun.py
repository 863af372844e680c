"""Keys of a FunASR runtime: the WebSocket server that comes with modelscope/FunASR."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from shared.config.options.base import Deadline, Options


class FunServerAsrOptions(Options):
    """type: fun_server. The server's models decide the language."""

    kind: ClassVar[str] = "ASR"

    host: str = Field("127.0.0.1", pattern=r"^[^/:@?#\s]+$", description="the name or IPv4 address of a host")
    port: int = Field(10095, ge=1, le=65_535, description="a port, 1 to 65535")
    is_ssl: bool = Field(
        True, description="true (wss://, with a certificate that this machine trusts) or false (ws://)"
    )
    api_key: str = Field("", description="the key that a proxy before the server asks for, or none", repr=False)
    mode: Literal["offline", "2pass"] = Field(
        "offline", description="offline (the text at the end) or 2pass (partial texts too, corrected at the end)"
    )
    endpoint: Literal["own", "upstream"] = Field(
        "own",
        description="own (we find the end of speech and tell the server) or, with mode 2pass, upstream (it finds it)",
    )
    hotwords: str | Mapping[str, int] = Field("", description="words, or a map of words to weights")
    itn: bool = Field(False, description="true to have numbers written in digits")
    chunk_size: tuple[int, int, int] = Field(
        (5, 10, 5), description="three whole numbers: what the online model sees at once, in units of 60 ms"
    )
    max_sessions: int = Field(0, ge=0, description="how many sessions the server may have at once; 0 = any number")
    connect_timeout_s: Deadline = 3.0
    first_timeout_s: Deadline = 5.0
    idle_timeout_s: Deadline = 5.0

    @field_validator("endpoint")
    @classmethod
    def _is_found_only_online(cls, value: str, info: ValidationInfo) -> str:
        if value == "upstream" and info.data.get("mode") != "2pass":
            raise ValueError("offline")
        return value

    @property
    def url(self) -> str:
        return f"{'wss' if self.is_ssl else 'ws'}://{self.host}:{self.port}"

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.url,)

    @property
    def key(self) -> str:
        """Empty if there is none: "none" is what example files say."""
        return "" if self.api_key == "none" else self.api_key

    @property
    def hotword_text(self) -> str:
        """As the server takes them: a JSON object in a string, or plain words."""
        return self.hotwords if isinstance(self.hotwords, str) else json.dumps(dict(self.hotwords), ensure_ascii=False)
