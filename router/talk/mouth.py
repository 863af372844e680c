"""The mouth of a conversation: which reply may speak, what of it was heard, and how it ends.

Rules
- Only this module raises the generation. A frame, segment or request of a dead one has no effect.
- `tts stop` is the effect of entering `silent` and of nothing else (an `abort` with no open reply is answered by the
  conversation). One `tts start`, one `tts stop`, one TurnOver per turn, whatever fails.
- A kill is one call: it raises the generation, forgets what was queued, computes what was played, and returns the
  effects in the order in which they must leave.
- At most two tts jobs: the segment that plays and the next one.
- Pure: no clock, no sockets.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from router import wire
from router.talk.deadlines import Deadlines, Late, MouthTimeouts
from router.talk.effects import (
    AbortStream,
    Count,
    LogTurn,
    Observe,
    OpenStream,
    SendAudio,
    SendPing,
    SendText,
    StreamCredit,
    StreamKey,
)
from router.talk.pacing import Pacer
from router.talk.prompts import Prompt
from router.talk.turn import Job, MouthOut, TurnEnded, TurnRecord, heard_share, turn_line
from shared.errors import TransitionError
from shared.ids import Role, WorkerId
from shared.link.messages import Emotion, Input, OpenTts, Outcome, Segment, TtsCredit, TurnOver

START_GAP_S = 0.065
"""Entering Speaking clears the device's decode queue a moment after `tts start`; frames within 60 ms are lost.
Counted from the event that `tts start` answers, so the rest covers the time until it is written."""

STOP_MARGIN_S = 0.24
"""The device's playback queue and output buffer, behind its decode queue."""

STOP_PATIENCE_S = 1.5
"""`tts stop` leaves at the latest so long after the schedule's end, pong or no pong."""

MAX_SEGMENTS = 64
MAX_TEXT_BYTES = 16 * 1024
CREDIT_LOT_FRAMES = 32
WINDOW_FRAMES = 256
"""Of one job: credit is given only for frames that have left, so no more than these can be here."""
MAX_JOB_DEATHS = 2
MAX_JOB_ERRORS = 1

Prompts = Mapping[tuple[str, str], Prompt]
"""By name and language."""


class MouthState(StrEnum):
    SILENT = "silent"
    THINKING = "thinking"
    SPEAKING = "speaking"
    DRAINING = "draining"


class MouthEvent(StrEnum):
    BEGIN = "begin"
    FRAME = "frame"
    EXHAUSTED = "exhausted"
    STOP = "stop"


_S, _T, _P, _D = MouthState.SILENT, MouthState.THINKING, MouthState.SPEAKING, MouthState.DRAINING

TRANSITIONS: dict[MouthState, dict[MouthEvent, MouthState]] = {
    _S: {MouthEvent.BEGIN: _T},
    _T: {MouthEvent.FRAME: _P, MouthEvent.EXHAUSTED: _D, MouthEvent.STOP: _S},
    _P: {MouthEvent.FRAME: _P, MouthEvent.EXHAUSTED: _D, MouthEvent.STOP: _S},
    _D: {MouthEvent.STOP: _S},
}


@dataclass(slots=True)
class Mouth:
    session: str
    prompts: Prompts
    timeouts: MouthTimeouts = field(default_factory=MouthTimeouts)
    pacer: Pacer = field(default_factory=Pacer)
    state: MouthState = MouthState.SILENT
    generation: int = 0
    turn: TurnRecord | None = None
    engine: str | None = None
    voice: str | None = None
    language: str = "en"
    """Of canned prompts, see router.talk.tongue."""
    deterministic: bool = False
    """The tts worker's engines give the same frames for the same text again."""
    _jobs: list[Job] = field(default_factory=list)
    _waiting: list[Segment] = field(default_factory=list)
    _spoken: list[tuple[int, int, int]] = field(default_factory=list)
    """(segment, frames sent, frames it has) of the segments that left the job queue, in order."""
    _key_count: int = 0
    _ping_token: int = 0
    _pong_at: float | None = None
    _progress_at: float = 0.0
    _least_lead_s: float = math.inf
    """The least that the device had in hand when a frame left, once it had its lead."""
    _hold_until: float | None = None
    _resume_pending: bool = False
    _worker: WorkerId | None = None

    def __repr__(self) -> str:
        return f"<Mouth {self.state} gen={self.generation} jobs={len(self._jobs)} waiting={len(self._waiting)}>"

    @property
    def buffered_frames(self) -> int:
        """Frames that are here and have not left yet."""
        return sum(len(job.frames) for job in self._jobs)

    @property
    def speaks(self) -> bool:
        return self.state in (_P, _D)

    @property
    def heard_nothing(self) -> bool:
        """No sound of the reply itself has left yet; that of a canned prompt does not count."""
        was_spoken = any(n >= 0 and sent for n, sent, _ in self._spoken)
        return not was_spoken and not any(job.sent for job in self._jobs if job.segment is not None)

    @property
    def spoken_text(self) -> str:
        """What the device says now, for the self-echo guard."""
        return " ".join(job.display for job in self._jobs) if self.turn else ""

    # A turn begins and grows

    def begin(self, source_input: Input, *, shown: str | None, now: float, ended_at: float) -> MouthOut:
        """Accept a turn. `shown` is the person's text for the screen. The caller has killed the turn before."""
        self._move(MouthEvent.BEGIN)
        self.turn = TurnRecord(self.generation, source_input, began_at=now, ended_at=ended_at)
        self.pacer.start(now, now + START_GAP_S)
        self._progress_at = now
        self._spoken.clear()
        self._least_lead_s = math.inf
        self._pong_at = None
        self._hold_until = None
        out: MouthOut = [] if shown is None else [SendText(wire.stt(shown))]
        out.append(SendText(wire.tts("start")))
        return out

    def next_generation(self) -> int:
        """Raise the generation for the turn that `begin` will be called with."""
        if self.state != _S:
            raise TransitionError(f"mouth: a new generation in {self.state}")
        self.generation += 1
        return self.generation

    def emotion(self, emotion: Emotion) -> MouthOut:
        if not self._alive(emotion.gen):
            return [Count("stale", "emotion")]
        return [SendText(wire.llm(emotion.emoji, emotion.emotion))]

    def segment(self, segment: Segment, now: float) -> MouthOut:
        """The session's next piece of text."""
        turn = self.turn
        if turn is None or not self._alive(segment.gen) or turn.complete:
            return [Count("stale", "segment")]
        turn.text_bytes += len(segment.text.encode())
        if len(turn.segments) >= MAX_SEGMENTS or turn.text_bytes > MAX_TEXT_BYTES:
            return [Count("reply_truncated")]
        turn.segments.append(segment)
        if turn.first_segment_at is None:
            turn.first_segment_at = now
        self._progress_at = now
        self._waiting.append(segment)
        return self._advance(now)

    def reply_end(self, gen: int, stats: dict[str, Any], now: float) -> MouthOut:
        turn = self.turn
        if turn is None or not self._alive(gen):
            return [Count("stale", "reply_end")]
        turn.complete = True
        turn.stats = stats
        self._progress_at = now
        return self._advance(now)

    def begin_again(self, now: float) -> MouthOut:
        """The session worker died before anything was heard: the turn starts over with another one."""
        turn = self.turn
        if turn is None:
            return []
        out = [effect for job in self._jobs for effect in self._abandon(job, "session_lost")]
        self._jobs = [job for job in self._jobs if job.segment is None]
        self._waiting.clear()
        turn.segments.clear()
        turn.text_bytes = 0
        turn.first_segment_at = None
        self._progress_at = now
        return out

    def close_after(self, gen: int) -> None:
        """Close the connection at this turn's `tts stop`; a dead generation's wish is void."""
        if self.turn is not None and self._alive(gen):
            self.turn.close_after = True

    def say_prompt(self, name: str, now: float) -> MouthOut:
        """Speak a canned prompt behind what is queued, as the last thing of this turn's sound so far."""
        prompt = self.prompts.get((name, self.language)) or self.prompts.get((name, "en"))
        if prompt is None or self.turn is None:
            return []
        job = Job(-1, prompt.text, None, frames=deque(prompt.frames), finished=True, received=len(prompt.frames))
        self._jobs.append(job)
        return [Count("prompts", name), *self._advance(now)]

    def apologise(self, reason: str, now: float, *, prompt: str = "apology") -> MouthOut:
        """The turn cannot go on: finish what is buffered, say so, and end. Never silence."""
        turn = self.turn
        if turn is None or turn.apology is not None or self.state == _D:
            return []
        turn.apology = reason
        turn.complete = True
        self._waiting.clear()
        silent = [job for job in self._jobs if not job.frames]
        out = [effect for job in silent for effect in self._abandon(job, reason)]
        self._jobs = [job for job in self._jobs if job.frames]
        return [*out, *self.say_prompt(prompt, now), *self._advance(now)]

    # From the tts workers

    def opened(self, key: StreamKey, worker: WorkerId, now: float, *, deterministic: bool) -> None:
        """A worker has the job; from now on it has a deadline."""
        job = self._job_of(key)
        if job is not None:
            job.placed_at = now
            job.worker = self._worker = worker
            self.deterministic = deterministic

    def substituted(self, key: StreamKey, now: float) -> MouthOut:
        """Another engine speaks the segment: it gets the time of a first frame again."""
        job = self._job_of(key)
        if job is None or job.received:
            return [Count("stale", "substituted")]
        job.is_substituted = True
        job.placed_at = now
        return []

    def frame(self, key: StreamKey, packet: bytes, now: float) -> MouthOut:
        job = self._job_of(key)
        if job is None:
            return [Count("stale", "frame")]
        job.frames.append(packet)
        job.received += 1
        job.last_frame_at = self._progress_at = now
        return self.tick(now) if len(job.frames) <= WINDOW_FRAMES else self._overrun(job, now)

    def _overrun(self, job: Job, now: float) -> MouthOut:
        """The worker has sent more than it may: what is here is spoken, the rest is not wanted."""
        assert job.key is not None
        out: MouthOut = [Count("credit_violations", "tts"), AbortStream(job.key, "credit")]
        return [*out, *self._give_up(job, now)]

    def job_done(self, key: StreamKey, now: float) -> MouthOut:
        job = self._job_of(key)
        if job is None:
            return []
        job.finished = True
        self._progress_at = now
        return self._advance(now)

    def job_lost(self, key: StreamKey, cause: str, *, retryable: bool, worker: WorkerId | None, now: float) -> MouthOut:
        """A tts stream is gone: speak the segment again elsewhere, or go on without the rest of it."""
        job = self._job_of(key)
        if job is None:
            return []
        if cause == "dead":
            job.deaths += 1
        elif cause != "drained":
            job.errors += 1
        again = retryable and job.deaths <= MAX_JOB_DEATHS and job.errors <= MAX_JOB_ERRORS
        exclude = frozenset({worker} if worker else ())
        if again and self._can_go_on(job):
            return [Count("stream_retries", "tts"), *self._issue_again(job, exclude, now)]
        has_no_room = cause in ("busy", "full")
        prompt = "busy" if has_no_room or cause == "no_worker" else "apology"
        return self._give_up(job, now, prompt=prompt, reason="tts_busy" if has_no_room else "tts")

    def _can_go_on(self, job: Job) -> bool:
        """Another worker's frames fit behind what was heard."""
        return job.sent == 0 or (self.deterministic and not job.is_substituted)

    def _issue_again(self, job: Job, exclude: frozenset[WorkerId], now: float) -> MouthOut:
        if job.sent == 0:
            job.frames.clear()
            job.received = 0
        return [self._open(job, now, exclude=exclude, skip_frames=job.received)]

    def _give_up(self, job: Job, now: float, *, prompt: str = "apology", reason: str = "tts") -> MouthOut:
        assert self.turn is not None
        job.finished = True
        job.key = None
        if job.received:
            self.turn.clipped_segments += 1
            return [Count("segments_clipped"), *self._advance(now)]
        self.turn.failed_segments += 1
        out: MouthOut = [Count("segments_failed")]
        is_hopeless = prompt == "busy" or self.turn.failed_segments > 1
        if is_hopeless or len(self.turn.segments) == self.turn.failed_segments:
            # The next segments would fare no better: say that instead of skipping through the reply in silence.
            out += self.apologise(reason, now, prompt=prompt)
        return [*out, *self._advance(now)]

    # The end

    def pong(self, token: int, now: float) -> None:
        if token == self._ping_token and self.state == _D:
            self._pong_at = now

    def kill(self, reason: str, now: float, *, outcome: Outcome = "interrupted") -> MouthOut:
        """End the turn this instant. Empty if there is none."""
        if self.state == _S:
            return []
        out: MouthOut = []
        turn_over = self._turn_over(outcome, reason, now)
        for job in self._jobs:
            out += self._abandon(job, reason)
        stop = self._stop(turn_over, now)
        return [*stop, *out, Count("generation_bumps", reason)]

    def hold(self, now: float, limit_s: float = 0.4) -> None:
        """Somebody may have begun to speak: wait a moment with the next frames."""
        if self.state == _P and self._hold_until is None:
            self._hold_until = now + limit_s
            self.pacer.hold()

    def resume(self) -> None:
        self._hold_until = None
        self.pacer.resume()

    # Time

    def next_due(self, now: float) -> float | None:
        """When `tick` has something to do."""
        match self.state:
            case MouthState.SILENT:
                return None
            case MouthState.DRAINING:
                return self._stop_at()
        due = [self._deadlines().next_due()]
        if self._hold_until is not None:
            due.append(self._hold_until)
        job = self._jobs[0] if self._jobs else None
        if job is not None and job.frames:
            at = self.pacer.next_due(now)
            if at is not None:
                due.append(at)
        return min(due)

    def tick(self, now: float) -> MouthOut:
        """Send what is due; notice what is late."""
        if self.state == _S:
            return []
        if self.state == _D:
            return self._finish(now) if now >= self._stop_at() else []
        if self._hold_until is not None and now >= self._hold_until:
            self.resume()
        out = self._send_due(now)
        if self.state in (_T, _P):
            out += self._check_deadlines(now)
        return out

    def _send_due(self, now: float) -> MouthOut:
        out: MouthOut = []
        while self._jobs and self._jobs[0].frames and self.pacer.may_send(now):
            out += self._send_frame(self._jobs[0], now)
            if self._jobs[0].exhausted:
                out += self._advance_jobs(now)
        if not self._jobs and self.state in (_T, _P):
            out += self._exhausted(now)
        return out

    def _send_frame(self, job: Job, now: float) -> MouthOut:
        assert self.turn is not None
        out: MouthOut = []
        if job.sent == 0:
            out.append(SendText(wire.sentence_start(job.display)))
        if self.turn.first_frame_at is None:
            self.turn.first_frame_at = now
            out.append(Observe("turn_response", now - self.turn.ended_at))
        underruns = self.pacer.underruns
        if self.pacer.sent_frames >= self.pacer.lead_frames:
            self._least_lead_s = min(self._least_lead_s, max(0.0, self.pacer.playhead_s - now))
        self.pacer.sent(now)
        self._progress_at = now
        self._move(MouthEvent.FRAME)
        job.sent += 1
        job.uncredited += 1
        out.append(SendAudio(job.frames.popleft()))
        if self.pacer.underruns > underruns:
            out.append(Count("egress_underruns"))
        if job.uncredited >= CREDIT_LOT_FRAMES and job.key is not None and not job.finished:
            out.append(StreamCredit(job.key, TtsCredit(job.uncredited)))
            job.uncredited = 0
        return out

    def _check_deadlines(self, now: float) -> MouthOut:
        assert self.turn is not None
        match self._deadlines().late(now):
            case None:
                return []
            case Late.REPLY:
                self._progress_at = now
                return [Count("turn_timeouts", "reply"), *self.apologise("reply_timeout", now), *self._force_end(now)]
            case Late.FRAME:
                return self._job_late(self._jobs[0], now)
            case Late.SEGMENT:
                return [Count("turn_timeouts", "segment"), *self.apologise("segment_timeout", now)]
            case Late.FILLER:
                self.turn.filler_said = True
                return self.say_prompt("filler", now)

    def _deadlines(self) -> Deadlines:
        assert self.turn is not None
        job = self._jobs[0] if self._jobs else None
        return Deadlines(self.timeouts, self.turn, job, self._progress_at, self.pacer.playhead_s)

    def _force_end(self, now: float) -> MouthOut:
        """The router's last resort: nothing moved, and the apology could not be queued."""
        return self.kill("reply_timeout", now, outcome="failed") if not self._jobs and self.state != _D else []

    def _job_late(self, job: Job, now: float) -> MouthOut:
        out: MouthOut = [Count("turn_timeouts", "frame")]
        if job.key is None:
            return [*out, *self._give_up(job, now)]
        key, job.errors = job.key, job.errors + 1
        abort = AbortStream(key, "late")
        if job.errors <= MAX_JOB_ERRORS and self._can_go_on(job):
            return [*out, abort, *self._issue_again(job, frozenset(filter(None, [job.worker])), now)]
        return [*out, abort, *self._give_up(job, now)]

    # Within

    def _move(self, event: MouthEvent) -> None:
        target = TRANSITIONS[self.state].get(event)
        if target is None:
            raise TransitionError(f"mouth: {event} in {self.state}")
        self.state = target

    def _alive(self, gen: int) -> bool:
        return self.state != _S and gen == self.generation

    def _job_of(self, key: StreamKey) -> Job | None:
        return next((job for job in self._jobs if job.key == key), None)

    def _advance(self, now: float) -> MouthOut:
        """Open what may be opened, send what is due, end what is over."""
        if self.state not in (_T, _P):
            return []
        out = self._advance_jobs(now)
        return out + self._send_due(now)

    def _advance_jobs(self, now: float) -> MouthOut:
        while self._jobs and self._jobs[0].exhausted:
            job = self._jobs.pop(0)
            self._spoken.append((job.n, job.sent, job.sent))
        out: MouthOut = []
        while len(self._jobs) < 2 and self._waiting:
            segment = self._waiting.pop(0)
            job = Job(segment.n, segment.display, None, segment=segment)
            self._jobs.append(job)
            out.append(self._open(job, now))
        return out

    def _open(
        self, job: Job, now: float, *, exclude: frozenset[WorkerId] = frozenset(), skip_frames: int = 0
    ) -> OpenStream:
        assert job.segment is not None
        self._key_count += 1
        job.key = StreamKey(Role.TTS, self._key_count)
        job.placed_at = job.last_frame_at = None
        job.is_substituted = False
        dry_s = max(0.0, self.pacer.playhead_s - now) + sum(len(other.frames) for other in self._jobs) * 0.06
        body = OpenTts(
            session=self.session,
            turn=f"{self.session}:{self.generation}",
            segment=job.n,
            text=job.segment.text,
            voice=self.voice,
            language=job.segment.language,
            engine=self.engine,
            window_frames=WINDOW_FRAMES,
            dry_ms=int(dry_s * 1000),
            skip_frames=skip_frames,
        )
        prefer = None if self._worker in exclude else self._worker
        return OpenStream(job.key, body, prefer=prefer, exclude=exclude, engine=self.engine)

    def _abandon(self, job: Job, reason: str) -> MouthOut:
        if job.key is None or job.finished:
            return []
        return [AbortStream(job.key, reason)]

    def _exhausted(self, now: float) -> MouthOut:
        """No sound is left. If no text will come either, wait for the device to play it out."""
        assert self.turn is not None
        if not self.turn.complete or self._waiting:
            return []
        self._move(MouthEvent.EXHAUSTED)
        if self.pacer.sent_frames == 0:
            return self._finish(now)
        self._ping_token += 1
        return [SendPing(self._ping_token)]

    def _stop_at(self) -> float:
        """max(schedule's end, pong + lead) + margin, but not long after the schedule."""
        end = self.pacer.playhead_s
        if self._pong_at is None:
            return end + STOP_PATIENCE_S
        played = max(end, self._pong_at + self.pacer.lead_frames * self.pacer.frame_s)
        return min(played + STOP_MARGIN_S, end + STOP_PATIENCE_S)

    def _finish(self, now: float) -> MouthOut:
        assert self.turn is not None
        turn = self.turn
        if turn.apology is not None:
            turn_over = self._turn_over("failed", turn.apology, now)
        elif self.pacer.sent_frames == 0:
            turn_over = self._turn_over("empty", "no_sound", now)
        else:
            turn_over = self._turn_over("complete", "played", now)
        return self._stop(turn_over, now)

    def _stop(self, turn_over: TurnOver, now: float) -> MouthOut:
        turn = self.turn
        assert turn is not None
        self._move(MouthEvent.STOP)
        self._jobs.clear()
        self._waiting.clear()
        self._hold_until = None
        self.turn = None
        out: MouthOut = [SendText(wire.tts("stop")), TurnEnded(turn_over, turn)]
        if self._least_lead_s < math.inf:
            out.append(Observe("egress_lead", self._least_lead_s))
        out.append(LogTurn(turn_line(turn, turn_over, self.pacer, now)))
        return out

    def _turn_over(self, outcome: Outcome, reason: str, now: float) -> TurnOver:
        segments, part = self._played(now)
        return TurnOver(self.generation, outcome, reason, segments, part)

    def _played(self, now: float) -> tuple[int, float]:
        """(segments heard whole, heard part of the next), by the schedule."""
        sent = [*self._spoken]
        for job in self._jobs:
            if job.sent or job.finished:
                sent.append((job.n, job.sent, job.received if job.finished else job.received + 1))
        return heard_share(sent, self.pacer.unplayed_frames(now))
