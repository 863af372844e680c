"""Alibaba's streaming synthesis (NLS, namespace FlowingSpeechSynthesizer), one segment a task. Pure.

Text messages are JSON: a header with name, task and status, and a payload. The sound comes in binary messages that name
no task, between the task's SynthesisStarted and its SynthesisCompleted; what comes before the former is an older task's
and is dropped. There is no way to cancel a task but to close the connection.

Source: help.aliyun.com/zh/isi/user-guide/websocket-protocol-description-for-cosyvoice-tts (protocol), help.aliyun.com/
zh/isi/developer-reference/cosyvoice-api-details (lengths).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, Final

from shared.upstream.aliyun_codes import SUCCESS, gateway_codes
from shared.upstream.faults import Code, Kind, UpstreamError

NAMESPACE: Final = "FlowingSpeechSynthesizer"
MAX_PIECE_CHARS: Final = 1000
"""Of one RunSynthesis; the service takes 2000, with each Chinese character as two. It joins the pieces again."""
NO_SUCH_VOICE: Final = "error code: 418"
"""In the text of status 41020001."""

CODES = gateway_codes(
    {
        "403": (Code.AUTH, Kind.FATAL),
        "40010002": (Code.REFUSED, Kind.FATAL),
        "41020001": (Code.REFUSED, Kind.RETRYABLE),
        "41020001_418": (Code.REFUSED, Kind.FATAL),
    }
)
"""41020001 stands for many things, some of which pass: only its number opens the breaker. 41020001_418 is a voice that
the service does not have."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a task is to sound."""

    voice: str
    sample_rate: int = 24_000
    volume: int = 50
    speech_rate: int = 0
    pitch_rate: int = 0

    def payload(self) -> dict[str, Any]:
        return {
            "voice": self.voice,
            "format": "pcm",
            "sample_rate": self.sample_rate,
            "volume": self.volume,
            "speech_rate": self.speech_rate,
            "pitch_rate": self.pitch_rate,
        }


class State(Enum):
    ASKED = auto()
    SPEAKING = auto()
    OVER = auto()


_NEXT: Mapping[tuple[State, str], State] = MappingProxyType(
    {
        (State.ASKED, "SynthesisStarted"): State.SPEAKING,
        (State.SPEAKING, "SynthesisCompleted"): State.OVER,
        (State.ASKED, "SynthesisCompleted"): State.OVER,
    }
)
"""SentenceBegin, SentenceSynthesis, SentenceEnd and whatever is not here change nothing."""


class Task:
    """One task on one connection."""

    def __init__(self, appkey: str, task_id: str, new_id: Callable[[], str]) -> None:
        """`task_id` and what `new_id` makes are 32 hexadecimal digits."""
        self._appkey = appkey
        self._task_id = task_id
        self._new_id = new_id
        self._state = State.ASKED
        self._has_spoken = False
        self.strays = 0
        """Messages of other tasks."""

    @property
    def is_started(self) -> bool:
        return self._state is not State.ASKED

    @property
    def is_over(self) -> bool:
        return self._state is State.OVER

    def opening(self, wishes: Wishes) -> str:
        return self._directive("StartSynthesis", wishes.payload())

    def text(self, text: str) -> Iterator[str]:
        """All of it and the end of it."""
        for start in range(0, len(text), MAX_PIECE_CHARS):
            yield self._directive("RunSynthesis", {"text": text[start : start + MAX_PIECE_CHARS]})
        yield self._directive("StopSynthesis")

    def take(self, message: str | bytes) -> bytes:
        """The task's sound in a message, if there is any. Raises UpstreamError."""
        if isinstance(message, bytes):
            return self._sound(message)
        header = _header(message)
        if header.get("task_id") not in (self._task_id, "", None):
            self.strays += 1
            return b""
        self._on_event(str(header.get("name")), header)
        return b""

    def _sound(self, message: bytes) -> bytes:
        if self._state is not State.SPEAKING:
            self.strays += 1
            return b""
        self._has_spoken = self._has_spoken or bool(message)
        return message

    def _on_event(self, name: str, header: Mapping[str, Any]) -> None:
        status = header.get("status")
        if name == "TaskFailed" or status not in (SUCCESS, None):
            raise CODES.error(_reason(status, header.get("status_text")), "the synthesis failed")
        self._state = _NEXT.get((self._state, name), self._state)
        if self.is_over and not self._has_spoken:
            raise UpstreamError("it finished without a sound", code=Code.NO_RESULT)

    def _directive(self, name: str, payload: Mapping[str, Any] | None = None) -> str:
        header = {
            "message_id": self._new_id(),
            "task_id": self._task_id,
            "namespace": NAMESPACE,
            "name": name,
            "appkey": self._appkey,
        }
        return json.dumps({"header": header} if payload is None else {"header": header, "payload": payload})


def _reason(status: object, text: object) -> str:
    has_no_voice = isinstance(text, str) and NO_SUCH_VOICE in text
    return "41020001_418" if has_no_voice else str(status)


def _header(message: str) -> Mapping[str, Any]:
    try:
        content = json.loads(message)
    except (ValueError, RecursionError):
        content = None
    header = content.get("header") if isinstance(content, dict) else None
    if not isinstance(header, dict):
        raise UpstreamError("it sent what is no event", code=Code.MALFORMED)
    return header
