"""The FunASR runtime's WebSocket protocol, one utterance a connection. Pure.

The client sends a JSON message, sound as binary messages, and a JSON message when it has ended. The server answers with
JSON messages: `2pass-online` texts are pieces of the open sentence, `2pass-offline` and `offline` texts are whole
sentences. It says nothing until there is something to say.

Which answer is the last one differs between servers, and `is_final` means two things:
* the C++ server of mode 2pass sets it in its last answer only;
* the Python server sets it as long as the client speaks, so that its last answer does not have it;
* the C++ server of mode offline answers once and never sets it.
Newer Python servers, asked with `is_end`, also confirm the end when they have recognised nothing
(modelscope/FunASR#3440).

Source: runtime/docs/websocket_protocol.md, runtime/websocket/bin/ and runtime/python/websocket/ of modelscope/FunASR.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from shared.upstream.faults import Code, UpstreamError
from workers.asr.engines.dialogue import Message, News, Over, Partial, SentenceOver, joined

PACKET_BYTES: Final = 1920
"""60 ms: what the Python server takes for one unit of `chunk_size`."""
CHUNK_INTERVAL: Final = 10
"""So many packets to a step of the online model, for the Python server."""
RATE_HZ: Final = 16_000

_TAG: Final = re.compile(r"<\|[^|]*\|>")
"""SenseVoice models put language, mood and kind of sound before the text."""


class Meaning(Enum):
    """What a server's `is_final` says."""

    OVER = "over"
    SPEAKING = "speaking"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the configuration decides of a session."""

    mode: str = "offline"
    chunk_size: tuple[int, int, int] = (5, 10, 5)
    hotwords: str = ""
    itn: bool = False


class FunDialogue:
    """One session."""

    packet_bytes = PACKET_BYTES

    def __init__(self, wishes: Wishes, name: str) -> None:
        """The server repeats `name` in all its answers."""
        self._wishes = wishes
        self._name = name
        self._sentences: list[str] = []
        self._pieces: list[str] = []
        """Of the open sentence."""
        self._is_closing = False
        self._is_final_means: Meaning | None = None

    def opening(self) -> Message:
        wishes = self._wishes
        message = {
            "mode": wishes.mode,
            "chunk_size": list(wishes.chunk_size),
            "chunk_interval": CHUNK_INTERVAL,
            "wav_name": self._name,
            "is_speaking": True,
            "audio_fs": RATE_HZ,
            "wav_format": "pcm",
            "itn": wishes.itn,
        }
        return json.dumps(message | ({"hotwords": wishes.hotwords} if wishes.hotwords else {}), ensure_ascii=False)

    def sound(self, pcm: bytes) -> Message:
        """The last packet is filled with silence: the Python server divides by a packet's length in ms."""
        return pcm.ljust(PACKET_BYTES, b"\0")

    def closing(self) -> Message:
        self._is_closing = True
        return json.dumps({"is_speaking": False, "is_end": True})

    def read(self, message: Message) -> list[News]:
        answer = _answer(message)
        if answer.get("wav_name", self._name) != self._name:
            return []
        if answer.get("error"):
            raise UpstreamError("the server could not recognise it", code=Code.FAILED)
        text = _TAG.sub("", _text(answer)).strip()
        is_piece = str(answer.get("mode", "")).endswith("online")
        if is_piece:
            self._pieces.append(text)
        elif text:
            self._sentences.append(text)
            self._pieces.clear()
        if self._is_last(answer, is_piece=is_piece):
            return [Over(self._heard())]
        partial: list[News] = [Partial(self._heard())] if text else []
        return partial if is_piece or not text else [*partial, SentenceOver(None, joined(self._sentences))]

    def _is_last(self, answer: Mapping[str, Any], *, is_piece: bool) -> bool:
        is_final = answer.get("is_final") is True
        if not self._is_closing:
            self._is_final_means = Meaning.SPEAKING if is_final else Meaning.OVER
            return False
        if answer.get("is_end") is True:
            return True
        if self._is_final_means is None and is_piece and is_final:
            self._is_final_means = Meaning.SPEAKING
        if self._is_final_means is Meaning.SPEAKING:
            return not is_final and not is_piece
        return is_final or answer.get("mode") == "offline" or (self._is_final_means is None and not is_piece)

    def _heard(self) -> str:
        return joined([*self._sentences, joined(self._pieces)])


def _answer(message: Message) -> Mapping[str, Any]:
    try:
        answer = json.loads(message)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise UpstreamError("it sent what is no answer", code=Code.MALFORMED)
    return answer


def _text(answer: Mapping[str, Any]) -> str:
    text = answer.get("text", "")
    if not isinstance(text, str):
        raise UpstreamError("it sent a text that is none", code=Code.MALFORMED)
    return text
