"""The record of one turn, and one segment on its way to the device.

The record is what is needed to begin a turn again with another worker, to commit it, and to measure it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, Final

from router.talk.effects import Effect, StreamKey
from router.talk.pacing import Pacer
from shared.ids import WorkerId
from shared.link.messages import Adopt, Input, Segment, TurnOver

MAX_ADOPTED_CHARS: Final = 4096
"""Of the input: with a reply of 16 KiB the record stays far below what one message may hold."""


@dataclass(slots=True)
class TurnRecord:
    """What is needed to begin a turn again elsewhere, to commit it, and to measure it."""

    gen: int
    input: Input
    began_at: float
    ended_at: float
    """When the person's speech (or text) was over: the zero point of the answer's latency."""
    segments: list[Segment] = field(default_factory=list)
    complete: bool = False
    text_bytes: int = 0
    effects: set[int] = field(default_factory=set)
    resumes: int = 0
    """How often it was asked again elsewhere."""
    told: bool = False
    """The session worker knows of this turn and must hear how it ended."""
    close_after: bool = False
    first_segment_at: float | None = None
    first_frame_at: float | None = None
    failed_segments: int = 0
    clipped_segments: int = 0
    apology: str | None = None
    filler_said: bool = False
    stats: dict[str, Any] = field(default_factory=dict)
    asr: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """For the conversation: tell the session, re-arm the ear."""

    turn_over: TurnOver
    turn: TurnRecord


MouthOut = list[Effect | TurnEnded]


@dataclass(slots=True)
class Job:
    """One segment on its way: synthesised by a worker, or a canned prompt with its frames at hand."""

    n: int
    """Segment number; -1 for a canned prompt."""
    display: str
    key: StreamKey | None
    placed_at: float | None = None
    worker: WorkerId | None = None
    """Who has it, or had it last."""
    is_substituted: bool = False
    """Its worker speaks it with another engine than was asked."""
    segment: Segment | None = None
    frames: deque[bytes] = field(default_factory=deque)
    received: int = 0
    sent: int = 0
    uncredited: int = 0
    finished: bool = False
    last_frame_at: float | None = None
    deaths: int = 0
    errors: int = 0

    @property
    def exhausted(self) -> bool:
        return self.finished and not self.frames


def adoption(turn: TurnRecord, over: TurnOver) -> Adopt:
    """What a worker needs to commit a turn that it did not answer itself."""
    segments = [segment.text for segment in turn.segments]
    asked = turn.input
    if len(asked.text) > MAX_ADOPTED_CHARS:
        asked = replace(asked, text=asked.text[:MAX_ADOPTED_CHARS])
    return Adopt(asked, over, segments, is_complete=turn.complete and turn.apology is None)


def turn_line(turn: TurnRecord, over: TurnOver, pacer: Pacer, now: float) -> dict[str, Any]:
    """What the log says of a turn: numbers and words of ours, never what was said."""

    def since(at: float | None) -> int | None:
        return None if at is None else round((at - turn.ended_at) * 1000)

    return {
        "gen": turn.gen,
        "source": turn.input.source,
        "mode": turn.input.mode,
        "outcome": over.outcome,
        "reason": over.reason,
        "accepted_ms": since(turn.began_at),
        "first_segment_ms": since(turn.first_segment_at),
        "first_audio_ms": since(turn.first_frame_at),
        "turn_ms": since(now),
        "segments": len(turn.segments),
        "frames": pacer.sent_frames,
        "underruns": pacer.underruns,
        "clipped": turn.clipped_segments,
        **{key: value for key, value in turn.stats.items() if isinstance(value, int | float | bool)},
        **turn.asr,
    }


def heard_share(sent: list[tuple[int, int, int]], unplayed_frames: int) -> tuple[int, float]:
    """(segments heard whole, heard part of the next) of (segment, frames sent, frames it has), in order.

    The last `unplayed_frames` sent are still in the device. Canned prompts have numbers below 0 and do not count.
    """
    heard: list[tuple[int, int, int]] = []
    for n, frames, total in reversed(sent):
        missing = min(unplayed_frames, frames)
        unplayed_frames -= missing
        heard.append((n, frames - missing, total))
    whole = 0
    for n, frames, total in reversed(heard):
        if n < 0:
            continue
        if frames < total:
            return whole, round(frames / total, 3)
        whole = n + 1
    return whole, 0.0
