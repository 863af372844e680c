"""What the turns of a fleet add up to. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ops.device.effects import Counters
from ops.device.turn import TurnReport

PERCENTILES = (50, 95, 99)


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Nearest rank; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """p50, p95, p99 and the maximum, to a tenth."""
    ranks = {f"p{percent}": percentile(values, percent) for percent in PERCENTILES}
    ranks["max"] = max(values, default=None)
    return {name: None if value is None else round(value, 1) for name, value in ranks.items()}


def marker(text: str) -> str:
    """Letters and digits only: a screen text has lost some punctuation."""
    return "".join(char for char in text.lower() if char.isalnum())


@dataclass(slots=True)
class Tally:
    """Collects turns; `stages_ms` are the scripted engines' own times, which are taken off the server's share."""

    has_markers: bool = True
    stages_ms: float = 0.0
    turns: int = 0
    aborted: int = 0
    let_go: int = 0
    """Connections that a draining router closed between two turns."""
    failures: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    stt_ms: list[float] = field(default_factory=list)
    first_audio_ms: list[float] = field(default_factory=list)
    abort_stop_ms: list[float] = field(default_factory=list)
    heard_s: float = 0.0
    counters: Counters = field(default_factory=Counters)
    _examples: dict[str, str] = field(default_factory=dict)

    def add(self, report: TurnReport, sessions: Iterable[str]) -> None:
        """One turn that has ended; `sessions` are all that are open now."""
        self.turns += 1
        self.heard_s += report.heard_s
        self.counters.add(report.counters)
        for fault in self.faults_of(report, sessions):
            self.failures[fault] += 1
        if report.stt_ms is not None:
            self.stt_ms.append(report.stt_ms)
        if report.first_audio_ms is not None:
            self.first_audio_ms.append(report.first_audio_ms)
        if report.was_aborted:
            self.aborted += 1
            if report.abort_stop_ms is not None:
                self.abort_stop_ms.append(report.abort_stop_ms)

    def fail(self, code: str, example: str = "") -> None:
        """A turn or a connection that did not come to its end."""
        self.failures[code] += 1
        self._examples.setdefault(code, example)

    def faults_of(self, report: TurnReport, sessions: Iterable[str]) -> list[str]:
        """What is wrong with a turn that did end."""
        found = []
        if not report.stt:
            found.append("no_transcript")
        if report.first_audio_ms is None:
            found.append("no_audio")
        # An abort may meet the reply's own end; then both are answered.
        if report.counters.tts_stops > report.counters.tts_starts + report.counters.aborts:
            found.append("extra_tts_stop")
        return found + (self._marker_faults(report, sessions) if self.has_markers else [])

    def _marker_faults(self, report: TurnReport, sessions: Iterable[str]) -> list[str]:
        said = {"transcript": marker(report.stt), "reply": marker(report.reply)}
        own = marker(report.session)
        others = [marker(session) for session in sessions if session != report.session]
        found = [f"cross_talk_{name}" for name, text in said.items() if any(other in text for other in others)]
        if own not in said["transcript"]:
            found.append("own_marker_missing_in_transcript")
        if own not in said["reply"] and not report.was_aborted:
            found.append("own_marker_missing_in_reply")
        return found

    def to_json(self) -> dict[str, Any]:
        counters = self.counters
        frames = counters.frames
        share = [value - self.stages_ms for value in self.first_audio_ms]
        return {
            "turns": self.turns,
            "aborted": self.aborted,
            "let_go": self.let_go,
            "failures": dict(self.failures),
            "failure_examples": {code: text for code, text in self._examples.items() if text},
            "device_faults": dict(self.faults),
            "stop_to_first_audio_ms": spread(self.first_audio_ms),
            "stages_ms": self.stages_ms,
            "first_audio_minus_stages_ms": spread(share),
            "stt_ms": spread(self.stt_ms),
            "abort_to_tts_stop_ms": spread(self.abort_stop_ms),
            "frames": frames,
            "late_frames": counters.late_frames,
            "late_percent": round(100 * counters.late_frames / frames, 3) if frames else None,
            "underruns": counters.underruns,
            "pauses": counters.pauses,
            "overflow_frames": counters.overflow_frames,
            "early_frames": counters.early_frames,
            "stale_frames": counters.stale_frames,
            "uplink_frames": counters.uplink_frames,
            "heard_s": round(self.heard_s, 1),
        }
