"""The judge of a trial: a right trace is not complained of, and each rule is broken by a trace of its own."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

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
from bench.trial.judge import SPARE_FRAMES, Judge
from shared.marks import Mark

pytestmark = pytest.mark.unit

OWN, OTHER, OLD = Mark(1, 5), Mark(2, 5), Mark(1, 4)
SAID = f"You said {OWN.word}, it is over."
SAID_FRAMES = len(SAID)  # 60 ms a character


def frames(count: int, mark: Mark = OWN) -> list[DeviceEvent]:
    return [Frame(1, Tone.MARKED, mark)] * count


def turn(*inside: DeviceEvent, text: str = SAID) -> list[DeviceEvent]:
    """A turn with its answer, and what else happens within the reply."""
    return [
        Spoke(1, 5), Heard(1, OWN.word), ReplyStarted(1), Sentence(1, text), *frames(8), *inside, ReplyStopped(1),
        TurnOver(1, 5),
    ]  # fmt: skip


def judged(events: Iterable[DeviceEvent]) -> Judge:
    judge = Judge(ms_per_char=60, last_word="over")
    for second, event in enumerate(events):
        judge.on(event, float(second))
    judge.finish(99.0)
    return judge


def codes(events: Iterable[DeviceEvent]) -> list[str]:
    return [complaint.code for complaint in judged(events).complaints]


SORRY: list[DeviceEvent] = [
    Spoke(1, 5), Heard(1, OWN.word), ReplyStarted(1), Frame(1, Tone.PROMPT), ReplyStopped(1), TurnOver(1, 5),
]  # fmt: skip

GOOD = {
    "let go behind an apology": [*SORRY, HungUp(1, 1013)],
    "let go before the device is done with it": [*SORRY[:-1], HungUp(1, 1013)],
    "answered": [*turn(), *turn()],
    "with a tool": turn(Heard(1, "% note"), ToolRan(1, OWN.word)),
    "quiet at the end": turn(Frame(1, Tone.QUIET)),
    "aborted": [Spoke(1, 5), Heard(1, OWN.word), ReplyStarted(1), *frames(2), Aborted(1), *frames(2), ReplyStopped(1)],
    "abort in silence": [Spoke(1, 5), Aborted(1), ReplyStopped(1), TurnOver(1, 5)],
    "abort crossed the end": [*turn(), Aborted(1), ReplyStopped(1)],
    "interrupted": [*turn()[:-2], Interrupted(1), TurnOver(1, 5), Spoke(1, 6), *frames(1), ReplyStopped(1)],
    "a question that was broken off is told with the next": turn(text=f"You said {OLD.word} {OWN.word} over"),
}

BAD: dict[str, tuple[str, list[DeviceEvent]]] = {
    "another device's sound": ("cross_talk_audio", turn(*frames(1, OTHER))),
    "an older turn's sound": ("stale_frame", turn(*frames(1, OLD))),
    "sound behind the stop": ("stale_frame", [*turn(), *frames(1)]),
    "a prompt outside of a reply": ("stale_frame", [*turn(), Frame(1, Tone.PROMPT)]),
    "sound behind an abort's stop": ("stale_frame", [*turn()[:5], Aborted(1), ReplyStopped(1), *frames(1)]),
    "two starts": ("start_in_reply", turn(ReplyStarted(1))),
    "two stops": ("extra_stop", [*turn(), ReplyStopped(1)]),
    "three stops for a reply and an abort": (
        "extra_stop",
        [*turn()[:5], Aborted(1), ReplyStopped(1), ReplyStopped(1), ReplyStopped(1)],
    ),
    "no stop": ("open_turn", turn()[:-2]),
    "waited in vain": ("open_turn", [Spoke(1, 5), TurnOver(1, 5, has_given_up=True)]),
    "ended without a word": ("lost_utterance", [Spoke(1, 5), Heard(1, OWN.word), TurnOver(1, 5)]),
    "silence for an answer": (
        "lost_utterance",
        [Spoke(1, 5), Heard(1, OWN.word), ReplyStarted(1), Frame(1, Tone.QUIET), ReplyStopped(1), TurnOver(1, 5)],
    ),
    "no transcript": ("stale_frame", [event for event in turn() if not isinstance(event, Heard | TurnOver)]),
    "another device's words": ("cross_talk_transcript", [Spoke(1, 5), Heard(1, OTHER.word)]),
    "an older turn's words": ("old_transcript", [Spoke(1, 5), Heard(1, OLD.word)]),
    "words when nobody spoke": ("old_transcript", [Heard(1, OWN.word)]),
    "nothing understood": ("unclear_transcript", [Spoke(1, 5), Heard(1, "unmarked")]),
    "heard twice": ("heard_twice", turn(Heard(1, OWN.word))),
    "a tool twice": ("tool_ran_twice", turn(ToolRan(1, OWN.word), ToolRan(1, OWN.word))),
    "another device's tool": ("cross_talk_tool", turn(ToolRan(1, OTHER.word))),
    "words said twice": ("said_twice", turn(*frames(SAID_FRAMES + SPARE_FRAMES))),
    "hung up": ("disconnected", [HungUp(1, 1011)]),
    "hung up behind an answer": ("disconnected", [*turn(), HungUp(1, 1013)]),
    "hung up behind an apology, but not let go": ("disconnected", [*SORRY, HungUp(1, 1011)]),
    "hung up in the middle of an apology": ("disconnected", [*SORRY[:-2], HungUp(1, 1013)]),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_right_trace_is_not_complained_of(name: str) -> None:
    """Nothing but what the rules allow."""
    assert codes([*GOOD[name]]) == []


@pytest.mark.parametrize("name", BAD)
def test_each_rule_is_broken_by_a_trace(name: str) -> None:
    """A check that cannot fail checks nothing."""
    code, events = BAD[name]
    assert set(codes(events)) == {code}


def test_outcomes_are_told_apart() -> None:
    """Answered to its end, cut, apologised for, broken off."""
    cut = turn(text=f"You said {OWN.word}")
    in_words = [
        Spoke(1, 5),
        Heard(1, OWN.word),
        ReplyStarted(1),
        Sentence(1, "Sorry."),
        ReplyStopped(1),
        TurnOver(1, 5),
    ]
    broken_off = [Spoke(1, 5), Aborted(1), ReplyStopped(1), TurnOver(1, 5)]
    outcomes = judged([*turn(), *cut, *SORRY, *in_words, *broken_off]).outcomes
    assert outcomes == {"answered": 1, "cut": 1, "apologised": 2, "broken_off": 1}


def test_devices_are_judged_apart() -> None:
    """What one hears is nothing to another."""
    mine, hers = turn(), [Spoke(2, 5), Heard(2, OTHER.word), ReplyStarted(2), Frame(2, Tone.MARKED, OTHER)]
    mixed = [*mine[:3], *hers, *mine[3:], ReplyStopped(2), TurnOver(2, 5)]
    assert codes(mixed) == []


def test_without_marks_the_frame_and_the_end_still_count() -> None:
    """Real engines: any sound inside a reply is an answer, outside of one it is stale; a prompt is an apology."""
    judge = Judge(ms_per_char=60, last_word="", has_marks=False)
    said = [Spoke(1, 5), Heard(1, "what time is it"), ReplyStarted(1)]
    answered = [*said, Sentence(1, "It is noon."), Frame(1, Tone.QUIET), Frame(1, Tone.PLAIN), ReplyStopped(1)]
    sorry = [*said, Frame(1, Tone.PROMPT), ReplyStopped(1), TurnOver(1, 5)]
    for event in (
        *answered,
        TurnOver(1, 5),
        *sorry,
        Spoke(1, 6),
        Heard(1, "well"),
        TurnOver(1, 6),
        Frame(1, Tone.PLAIN),
    ):
        judge.on(event, 0.0)
    assert judge.outcomes == {"answered": 1, "apologised": 1, "lost": 1}
    assert [complaint.code for complaint in judge.complaints] == ["lost_utterance", "stale_frame"]


def test_where_a_voice_always_stands_by_an_apology_is_heard() -> None:
    """Shown and not spoken is not enough; the sound of a prompt is."""
    shown = [Spoke(1, 5), Heard(1, OWN.word), ReplyStarted(1), Sentence(1, "Sorry."), ReplyStopped(1), TurnOver(1, 5)]
    judge = Judge(ms_per_char=60, last_word="over", always_sounds=True)
    for event in (*shown, *SORRY, *turn()):
        judge.on(event, 0.0)
    assert [complaint.code for complaint in judge.complaints] == ["silent_turn"]


def test_how_long_people_waited_is_noted() -> None:
    """From their first word to the first sound, and to the end; quiet is no sound."""
    judge = judged([*SORRY[:3], Frame(1, Tone.QUIET), *SORRY[3:]])
    assert judge.sound_s == [4.0]
    assert judge.turn_s == [6.0]
