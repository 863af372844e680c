"""Judges what devices heard. Pure: events and `now` in, complaints out.

Rules
- A device hears its own marks only, and within a reply only those of the turn whose transcript began it. A frame
  outside of `tts start` … `tts stop`, or of another turn, is sound of something dead.
- One `tts stop` a `tts start`. An `abort` may have one more, since it may cross the reply's own end.
- A turn is answered, or broken off by its person, or apologised for (a sentence or a prompt without a mark); anything
  else is a lost utterance. It is heard once. Where a voice always stands by (`always_sounds`) an apology that is shown
  and not heard is a complaint too.
- A sentence has no more frames than its text is long: else words were said twice.
- A tool runs once a turn, on the device that asked.
- Nobody is disconnected; but who was failed and told so may be let go with 1013, which is an outcome of its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import ceil

from bench.trial.events import (
    Aborted,
    DeviceEvent,
    Frame,
    Heard,
    HungUp,
    Interrupted,
    ReplyStarted,
    ReplyStopped,
    Sentence,
    Spoke,
    Tone,
    ToolRan,
    TurnOver,
)
from shared.marks import NUMBERS, Mark, marks_in

SPARE_FRAMES = 4
"""A sentence's last frame is filled up, and a voice that resamples may add one."""
LET_GO = 1013
FAILED = frozenset({"apologised", "cut"})
"""Outcomes of a turn that went wrong."""
TOOL_SIGN = "% "
"""The screen shows a running tool as a transcript that begins like this."""


@dataclass(frozen=True, slots=True)
class Complaint:
    code: str
    who: str
    at_s: float
    words: str = ""

    def __str__(self) -> str:
        return f"{self.at_s:8.2f} s  {self.code}: {self.who} {self.words}"


@dataclass(slots=True)
class _Reply:
    """From `tts start` to `tts stop`."""

    mark: Mark | None
    """Of the transcript that began it; None = the reply answers nothing that was said."""
    allowed_frames: int | None = None
    """Of the sentence being heard; None = not known."""


@dataclass(slots=True)
class _Turn:
    number: int
    heard: int = 0
    """How many transcripts of it came."""
    marked_frames: int = 0
    other_frames: int = 0
    apologies: int = 0
    """Sentences without a mark."""
    is_broken_off: bool = False
    has_ended_whole: bool = False
    tools: Counter[str] = field(default_factory=Counter)
    began_s: float = 0.0

    @property
    def has_sound(self) -> bool:
        return bool(self.marked_frames or self.other_frames)


@dataclass(slots=True)
class _Device:
    turn: _Turn | None = None
    reply: _Reply | None = None
    next_mark: Mark | None = None
    """Of a transcript whose reply has not begun."""
    spare_stops: int = 0
    last_sentence: str = ""
    failed_turns: int = 0
    """In a row, up to the last one."""


class Judge:
    """One for all devices of a run. `ms_per_char` is the scripted voice's; `last_word` ends every whole reply.

    Without marks (real engines neither hear nor sound them) what is left is: nothing outside of a reply, one stop a
    start, an answer or an apology to each utterance, nobody disconnected.
    """

    def __init__(
        self, *, ms_per_char: float, last_word: str, has_marks: bool = True, always_sounds: bool = False
    ) -> None:
        self.complaints: list[Complaint] = []
        self.outcomes: Counter[str] = Counter()
        self.frames: Counter[str] = Counter()
        self._ms_per_char = ms_per_char
        self._last_word = last_word
        self._has_marks = has_marks
        self._always_sounds = always_sounds
        self.sound_s: list[float] = []
        """From the first spoken word of each turn to the first sound of its reply."""
        self.turn_s: list[float] = []
        """To the turn's end, of those that were not broken off."""
        self._devices: dict[int, _Device] = {}

    def on(self, event: DeviceEvent, now: float) -> None:
        device = self._devices.setdefault(event.device, _Device())
        match event:
            case Spoke(turn=turn):
                device.turn = _Turn(turn % NUMBERS, began_s=now)
            case Heard(text=text):
                self._on_heard(device, event.device, text, now)
            case ReplyStarted():
                self._on_start(device, event.device, now)
            case Sentence(text=text):
                self._on_sentence(device, text)
            case Frame():
                self._on_frame(device, event, now)
            case ReplyStopped():
                self._on_stop(device, event.device, now)
            case Aborted():
                device.spare_stops += 1
                self._break_off(device)
            case Interrupted():
                self._break_off(device)
            case ToolRan(text=text):
                self._on_tool(device, event.device, text, now)
            case TurnOver():
                self._on_turn_over(device, event, now)
            case HungUp(code=code):
                self._on_hung_up(device, event.device, code, now)

    def finish(self, now: float) -> None:
        """The run is over: no reply is open any more."""
        for number, device in self._devices.items():
            if device.reply is not None:
                self._complain("open_turn", number, now, "its reply has begun and never ended")

    def _complain(self, code: str, device: int, now: float, words: str) -> None:
        self.complaints.append(Complaint(code, f"device {device}", round(now, 3), words))

    def _break_off(self, device: _Device) -> None:
        if device.turn is not None:
            device.turn.is_broken_off = True

    def _on_hung_up(self, device: _Device, number: int, code: int, now: float) -> None:
        was_failed = device.failed_turns > 0 or (device.turn is not None and _outcome(device.turn) in FAILED)
        if code == LET_GO and was_failed and device.reply is None:
            self.outcomes["let_go"] += 1
        else:
            self._complain("disconnected", number, now, f"close code {code}")
        device.reply, device.turn, device.failed_turns = None, None, 0

    def _on_heard(self, device: _Device, number: int, text: str, now: float) -> None:
        if text.startswith(TOOL_SIGN):
            return
        if not self._has_marks:
            if device.turn is not None:
                device.turn.heard += 1
            return
        marks = marks_in(text)
        if len(set(marks)) != 1:
            self._complain("unclear_transcript", number, now, f"{len(marks)} marks in {text[:60]!r}")
            return
        mark, turn = marks[0], device.turn
        device.next_mark = mark
        if mark.device != number % NUMBERS:
            self._complain("cross_talk_transcript", number, now, f"heard device {mark.device}")
        elif turn is None or mark.turn != turn.number:
            self._complain("old_transcript", number, now, f"of turn {mark.turn} in turn {turn and turn.number}")
        else:
            turn.heard += 1
            if turn.heard > 1:
                self._complain("heard_twice", number, now, f"turn {mark.turn}")

    def _on_start(self, device: _Device, number: int, now: float) -> None:
        if device.reply is not None:
            self._complain("start_in_reply", number, now, "a second tts start before the tts stop")
        device.reply = _Reply(device.next_mark)
        device.next_mark = None

    def _on_sentence(self, device: _Device, text: str) -> None:
        device.last_sentence = text
        has_mark = bool(marks_in(text)) or not self._has_marks
        if device.turn is not None:
            device.turn.apologies += not has_mark
            device.turn.has_ended_whole |= self._last_word in text and has_mark
        if device.reply is not None:
            spoken_frames = ceil(len(text) * self._ms_per_char / 60) + SPARE_FRAMES
            device.reply.allowed_frames = spoken_frames if has_mark and self._has_marks else None

    def _on_frame(self, device: _Device, frame: Frame, now: float) -> None:
        self.frames[frame.tone] += 1
        mark, reply = frame.mark, device.reply
        if mark is not None and mark.device != frame.device % NUMBERS:
            self._complain("cross_talk_audio", frame.device, now, f"heard device {mark.device}")
        elif reply is None:
            self._complain("stale_frame", frame.device, now, f"{frame.tone} outside of a reply")
        elif mark is not None and mark != reply.mark:
            self._complain("stale_frame", frame.device, now, f"of turn {mark.turn} in the reply to {reply.mark}")
        else:
            self._count_frame(device, reply, frame, now)

    def _count_frame(self, device: _Device, reply: _Reply, frame: Frame, now: float) -> None:
        is_answer = frame.tone is Tone.MARKED if self._has_marks else frame.tone is not Tone.PROMPT
        if device.turn is not None:
            if not device.turn.has_sound and frame.tone is not Tone.QUIET:
                self.sound_s.append(now - device.turn.began_s)
            device.turn.marked_frames += is_answer
            device.turn.other_frames += not is_answer and frame.tone is not Tone.QUIET
        if frame.tone is Tone.MARKED and reply.allowed_frames is not None:
            reply.allowed_frames -= 1
            if reply.allowed_frames == -1:
                self._complain(
                    "said_twice", frame.device, now, f"more frames than a text of {len(device.last_sentence)} has"
                )

    def _on_stop(self, device: _Device, number: int, now: float) -> None:
        if device.reply is not None:
            device.reply = None
        elif device.spare_stops:
            device.spare_stops -= 1
        else:
            self._complain("extra_stop", number, now, "a tts stop that ends nothing")

    def _on_tool(self, device: _Device, number: int, text: str, now: float) -> None:
        marks = marks_in(
            text
        )  # the last one: a model may be told a question that was broken off together with the next
        if not marks or marks[-1].device != number % NUMBERS:
            self._complain("cross_talk_tool", number, now, "a tool ran for somebody else")
            return
        if device.turn is not None:
            device.turn.tools[text] += 1
            if device.turn.tools[text] == 2:
                self._complain("tool_ran_twice", number, now, f"in turn {device.turn.number}")

    def _on_turn_over(self, device: _Device, event: TurnOver, now: float) -> None:
        turn, device.turn = device.turn, None
        if turn is None:
            return
        outcome = _outcome(turn)
        if event.has_given_up:
            self._complain("open_turn", event.device, now, f"turn {event.turn}: {event.stage}")
            outcome = "lost"
        elif outcome == "lost":
            self._complain("lost_utterance", event.device, now, f"turn {event.turn} ended without an answer")
        elif self._always_sounds and outcome == "apologised" and not turn.has_sound:
            self._complain("silent_turn", event.device, now, f"turn {event.turn} was apologised for without a sound")
        if outcome != "broken_off":
            self.turn_s.append(now - turn.began_s)
        self.outcomes[outcome] += 1
        device.failed_turns = device.failed_turns + 1 if outcome in FAILED else 0


def _outcome(turn: _Turn) -> str:
    if turn.is_broken_off:
        return "broken_off"
    if turn.marked_frames and turn.has_ended_whole:
        return "answered"
    if turn.marked_frames:
        return "cut"
    return "apologised" if turn.other_frames or turn.apologies else "lost"
