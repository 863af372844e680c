"""What a device, or whoever watches a process, tells the judge. Pure; times are the judge's argument."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shared.marks import Mark


class Tone(StrEnum):
    """What one frame sounds like."""

    MARKED = "marked"
    """It names a device and a turn."""
    PROMPT = "prompt"
    """One of the router's canned prompts, packet for packet."""
    PLAIN = "plain"
    """Any other sound: a sentence without a mark."""
    QUIET = "quiet"
    """The silence at a segment's end, or too little sound in it to tell."""


@dataclass(frozen=True, slots=True)
class Spoke:
    """The person began a turn."""

    device: int
    turn: int


@dataclass(frozen=True, slots=True)
class Heard:
    """`stt`."""

    device: int
    text: str


@dataclass(frozen=True, slots=True)
class ReplyStarted:
    device: int


@dataclass(frozen=True, slots=True)
class Sentence:
    device: int
    text: str


@dataclass(frozen=True, slots=True)
class Frame:
    device: int
    tone: Tone
    mark: Mark | None = None


@dataclass(frozen=True, slots=True)
class ReplyStopped:
    device: int


@dataclass(frozen=True, slots=True)
class Aborted:
    """The device sent `abort`."""

    device: int


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The person spoke into the reply, which may now end early."""

    device: int


@dataclass(frozen=True, slots=True)
class ToolRan:
    device: int
    text: str
    """What the tool was called with."""


@dataclass(frozen=True, slots=True)
class TurnOver:
    """The device has heard the end of its turn, or has given up waiting for it."""

    device: int
    turn: int
    has_given_up: bool = False
    stage: str = ""


@dataclass(frozen=True, slots=True)
class HungUp:
    """The connection ended, and it was not the device that ended it."""

    device: int
    code: int


DeviceEvent = (
    Spoke | Heard | ReplyStarted | Sentence | Frame | ReplyStopped | Aborted | Interrupted | ToolRan | TurnOver | HungUp
)
