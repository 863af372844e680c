"""Alibaba's real-time transcription (NLS, namespace SpeechTranscriber), one utterance a task. Pure.

Text messages are JSON: a header with name, task and status, and a payload. Sound goes out as plain binary messages,
only after TranscriptionStarted. StopTranscription makes the service end the open sentence; the task is over with
TranscriptionCompleted, which comes without any sentence if there was only silence.

Source: help.aliyun.com/document_detail/84428.html.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from shared.upstream.aliyun_codes import SUCCESS, gateway_codes
from shared.upstream.faults import Code, Kind, UpstreamError
from workers.asr.engines.dialogue import Message, News, Over, Partial, SentenceOver, Started, joined

NAMESPACE: Final = "SpeechTranscriber"
NO_SPEECH: Final = 40270002
"""Nothing in the sound was speech."""
DECODE_ERROR: Final = 40270003
PACKET_BYTES: Final = 3200
"""100 ms."""

CODES = gateway_codes(
    {
        "40270003": (Code.INPUT, Kind.INPUT),
        "41010120": (Code.IDLE_TIMEOUT, Kind.RETRYABLE),
        "41040201": (Code.IDLE_TIMEOUT, Kind.RETRYABLE),
    }
)
"""41010120 and 41040201 mean that no sound came for too long."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the configuration decides of a task."""

    appkey: str = field(repr=False)
    max_sentence_silence_ms: int
    vocabulary_id: str = ""
    customization_id: str = ""

    def payload(self) -> dict[str, Any]:
        lists = {"vocabulary_id": self.vocabulary_id, "customization_id": self.customization_id}
        return {
            "format": "pcm",
            "sample_rate": 16000,
            "enable_intermediate_result": True,
            "enable_punctuation_prediction": True,
            "enable_inverse_text_normalization": True,
            "max_sentence_silence": self.max_sentence_silence_ms,
            **{name: value for name, value in lists.items() if value},
        }


class AliyunDialogue:
    """One task."""

    packet_bytes = PACKET_BYTES

    def __init__(self, wishes: Wishes, task_id: str, new_id: Callable[[], str]) -> None:
        """`task_id` and what `new_id` makes are 32 hexadecimal digits."""
        self._wishes = wishes
        self._task_id = task_id
        self._new_id = new_id
        self._sentences: dict[int, str] = {}
        self._open: dict[int, str] = {}
        """What the service makes of a sentence that has not ended."""

    def opening(self) -> Message:
        return self._directive("StartTranscription", self._wishes.payload())

    def sound(self, pcm: bytes) -> Message:
        return pcm

    def closing(self) -> Message:
        return self._directive("StopTranscription")

    def read(self, message: Message) -> list[News]:
        header, payload = _parts(message)
        if header.get("task_id") not in (self._task_id, "", None):
            return []
        name, status = header.get("name"), header.get("status")
        if name == "TaskFailed" or status != SUCCESS:
            return self._on_failure(name, status)
        match name:
            case "TranscriptionStarted":
                return [Started()]
            case "TranscriptionResultChanged":
                return self._on_change(payload)
            case "SentenceEnd":
                return self._on_sentence(payload)
            case "TranscriptionCompleted":
                return [Over(self._text())]
        return []

    def _on_failure(self, name: object, status: object) -> list[News]:
        if name != "TaskFailed" and status in (NO_SPEECH, DECODE_ERROR):
            return []
        if status == NO_SPEECH:
            return [Over(self._text())]
        raise CODES.error(status, "the transcription failed")

    def _on_change(self, payload: Mapping[str, Any]) -> list[News]:
        self._open[_index(payload)] = _result(payload)
        return [Partial(self._text())]

    def _on_sentence(self, payload: Mapping[str, Any]) -> list[News]:
        index, at_ms = _index(payload), payload.get("time")
        self._open.pop(index, None)
        self._sentences[index] = _result(payload)
        said = joined(self._sentences[each] for each in sorted(self._sentences))
        return [Partial(self._text()), SentenceOver(at_ms if isinstance(at_ms, int) and at_ms >= 0 else None, said)]

    def _text(self) -> str:
        sentences = {**self._open, **self._sentences}
        return joined(sentences[index] for index in sorted(sentences))

    def _directive(self, name: str, payload: Mapping[str, Any] | None = None) -> str:
        header = {
            "namespace": NAMESPACE,
            "name": name,
            "message_id": self._new_id(),
            "task_id": self._task_id,
            "appkey": self._wishes.appkey,
        }
        return json.dumps({"header": header} if payload is None else {"header": header, "payload": payload})


def _parts(message: Message) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    try:
        content = json.loads(message) if isinstance(message, str) else None
    except (ValueError, RecursionError):
        content = None
    header = content.get("header") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(header, dict):
        raise UpstreamError("it sent what is no event", code=Code.MALFORMED)
    payload = content.get("payload")
    return header, payload if isinstance(payload, dict) else {}


def _index(payload: Mapping[str, Any]) -> int:
    index = payload.get("index")
    return index if isinstance(index, int) else 0


def _result(payload: Mapping[str, Any]) -> str:
    result = payload.get("result")
    return result if isinstance(result, str) else ""
