"""Volcengine's bidirectional synthesis, v3, one segment a session. Pure.

A connection carries one session at a time and the next one only after the end of the last; every message of a session,
sound included, carries the session's id, and what carries another is dropped.

Source: www.volcengine.com/docs/6561/1329505 (protocol), docs/6561/2534853 (codes).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, Final

from shared.upstream.faults import Code, CodeTable, Kind, UpstreamError
from workers.tts.engines.huoshan_frames import OF_CONNECTION, Event, Frame, MessageType, of_session

SUCCESS: Final = 20000000
MAX_PIECE_CHARS: Final = 1000
"""Of one TaskRequest. The service joins the pieces again."""

CODES = CodeTable(
    MappingProxyType(
        {
            "quota": (Code.QUOTA, Kind.QUOTA),
            "denied": (Code.AUTH, Kind.FATAL),
            "speaker": (Code.REFUSED, Kind.FATAL),
            "no_text": (Code.INPUT, Kind.INPUT),
            "40402003": (Code.INPUT, Kind.INPUT),
            "40402004": (Code.REFUSED, Kind.FATAL),
            "45000000": (Code.REFUSED, Kind.RETRYABLE),
            "45000001": (Code.REFUSED, Kind.RETRYABLE),
            "45000010": (Code.AUTH, Kind.FATAL),
            "45000292": (Code.QUOTA, Kind.QUOTA),
            "45002000": (Code.REFUSED, Kind.FATAL),
            "45002001": (Code.INPUT, Kind.INPUT),
            "55000000": (Code.FAILED, Kind.RETRYABLE),
            "55000001": (Code.FAILED, Kind.RETRYABLE),
        }
    )
)
"""The named reasons are read from the message, as 45000000 and 55000000 stand for many things, some of which pass."""

_SAID = (
    ("quota", ("quota exceeded",)),
    ("denied", ("access denied", "permission denied", "grant", "unauthorized")),
    ("speaker", ("mismatched with speaker", "speaker not found", "invalid speaker")),
    ("no_text", ("no readable text", "illegal input text")),
)


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a session is to sound."""

    speaker: str
    audio_params: Mapping[str, Any]
    additions: Mapping[str, Any] = field(default_factory=dict)
    mix_speaker: Mapping[str, Any] = field(default_factory=dict)

    def params(self) -> dict[str, Any]:
        params: dict[str, Any] = {"speaker": self.speaker, "audio_params": dict(self.audio_params)}
        if self.additions:
            params["additions"] = json.dumps(dict(self.additions))
        if self.mix_speaker:
            params["mix_speaker"] = dict(self.mix_speaker)
        return params


class State(Enum):
    ASKED = auto()
    SPEAKING = auto()
    OVER = auto()


_NEXT: Mapping[tuple[State, int], State] = MappingProxyType(
    {
        (State.ASKED, Event.SESSION_STARTED): State.SPEAKING,
        (State.ASKED, Event.SESSION_CANCELED): State.OVER,
        (State.ASKED, Event.SESSION_FINISHED): State.OVER,
        (State.SPEAKING, Event.SESSION_CANCELED): State.OVER,
        (State.SPEAKING, Event.SESSION_FINISHED): State.OVER,
    }
)
"""Whatever is not here changes nothing."""


class Session:
    """One session on one connection."""

    def __init__(self, session_id: str) -> None:
        """`session_id` was never used before."""
        self._id = session_id
        self._state = State.ASKED
        self._has_spoken = False
        self._is_cancelled = False
        self.strays = 0
        """Frames of other sessions."""

    @property
    def is_started(self) -> bool:
        return self._state is not State.ASKED

    @property
    def is_over(self) -> bool:
        return self._state is State.OVER

    def opening(self, wishes: Wishes) -> bytes:
        return of_session(Event.START_SESSION, self._id, _request(Event.START_SESSION, wishes.params()))

    def text(self, text: str, wishes: Wishes) -> Iterator[bytes]:
        """All of it and the end of it."""
        for start in range(0, len(text), MAX_PIECE_CHARS):
            params = {"text": text[start : start + MAX_PIECE_CHARS], **wishes.params()}
            yield of_session(Event.TASK_REQUEST, self._id, _request(Event.TASK_REQUEST, params))
        yield of_session(Event.FINISH_SESSION, self._id)

    def cancel(self) -> bytes:
        self._is_cancelled = True
        return of_session(Event.CANCEL_SESSION, self._id)

    def take(self, frame: Frame) -> bytes:
        """The session's sound in a frame, if there is any. Raises UpstreamError."""
        if frame.type is MessageType.ERROR or frame.event == Event.CONNECTION_FAILED:
            raise _error(frame)
        if frame.event == Event.CONNECTION_FINISHED:
            raise UpstreamError("it has finished the connection", code=Code.CLOSED)
        if frame.event in OF_CONNECTION:
            return b""
        if frame.id != self._id:
            self.strays += 1
            return b""
        return self._on_frame(frame)

    def _on_frame(self, frame: Frame) -> bytes:
        if frame.event == Event.SESSION_FAILED or (frame.event == Event.SESSION_FINISHED and not _is_good(frame)):
            raise _error(frame)
        self._state = _NEXT.get((self._state, frame.event), self._state)
        if frame.event == Event.SOUND:
            self._has_spoken = self._has_spoken or bool(frame.payload)
            return frame.payload
        if self.is_over and not self._has_spoken and not self._is_cancelled:
            raise UpstreamError("it finished without a sound", code=Code.NO_RESULT)
        return b""


def _request(event: Event, params: Mapping[str, Any]) -> bytes:
    request = {"user": {"uid": "xiaozhi"}, "event": int(event), "namespace": "BidirectionalTTS", "req_params": params}
    return json.dumps(request).encode()


def _is_good(end: Frame) -> bool:
    return bool(end.meta.get("status_code", SUCCESS) == SUCCESS)


def _error(frame: Frame) -> UpstreamError:
    """What the frame says has failed."""
    status = frame.error_code or frame.meta.get("status_code")
    return CODES.error(_reason(status, frame.payload), "the synthesis failed")


def _reason(status: object, message: bytes) -> str:
    said = message.decode("utf-8", "replace").lower()
    for reason, words in _SAID:
        if any(word in said for word in words):
            return reason
    return str(status)
