"""What a fake upstream does wrong, and when. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Stage(Enum):
    """Where in a session."""

    CONNECT = "connect"
    START = "start"
    STREAM = "stream"
    FINISH = "finish"


class Kind(Enum):
    """What happens there."""

    SILENT = "silent"
    """Nothing any more: no answer, no close."""
    ERROR = "error"
    """The provider's error event or frame."""
    QUOTA = "quota"
    """The provider's refusal for too many sessions."""
    CLOSE = "close"
    """The connection is closed."""
    GARBAGE = "garbage"
    """Bytes that are no message of the protocol."""
    WRONG_SESSION = "wrong_session"
    """A message of another session."""
    LATE_AUDIO = "late_audio"
    """Audio that goes on after a cancel (or an end), or into the next session."""
    NO_RESULT = "no_result"
    """It says it has finished, without a result."""
    NO_SPEECH = "no_speech"
    """The provider's way of saying that it heard nothing (1013)."""


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    stage: Stage = Stage.STREAM
    times: int = 0
    """For so many sessions; 0 = for all."""

    @classmethod
    def parse(cls, text: str) -> Fault:
        """`error@start` or `error@start*2`. Raises ValueError."""
        what, _, times = text.partition("*")
        kind, _, stage = what.partition("@")
        return cls(Kind(kind), Stage(stage or "stream"), int(times or 0))

    def __str__(self) -> str:
        """Without the number of times."""
        return f"{self.kind.value}@{self.stage.value}"


@dataclass(frozen=True, slots=True)
class Script:
    """How a fake behaves; a running fake may be given another one at any time."""

    latency_ms: int = 0
    """From the request to the first result."""
    drip_ms: int = 0
    """Between two pieces of a result: a slow drip."""
    fault: Fault | None = None


class Faults:
    """The fault of a script, counted down session by session."""

    def __init__(self, script: Script) -> None:
        self._left = script.fault.times if script.fault else 0
        self._fault = script.fault

    def next(self) -> Fault | None:
        """The next session's fault."""
        fault = self._fault
        if fault is None:
            return None
        if fault.times:
            if self._left == 0:
                return None
            self._left -= 1
        return fault
