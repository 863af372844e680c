"""The turn core: what is said of which generation, and when a reply ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import TransitionError
from shared.link.messages import CloseAfter, Emotion, Input, ReplyEnd, Segment, TurnOver
from workers.session.turn import MAX_SEGMENTS, Ask, Cancel, Commit, Effects, Event, State, Turns

pytestmark = pytest.mark.unit


def begun(gen: int = 1, text: str = "hello") -> Turns:
    turns = Turns()
    turns.on_input(Input(gen, text, "asr"))
    return turns


def texts(effects: Effects) -> list[str]:
    return [effect.text for effect in effects if isinstance(effect, Segment)]


def kinds(effects: Effects) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def test_input_asks_the_brain() -> None:
    """A turn begins with asking, and nothing is said yet."""
    turns = Turns()
    event = Input(1, "hello", "asr")
    assert turns.on_input(event) == [Ask(event)]
    assert turns.state is State.THINKING


def test_a_reply_is_face_segments_end() -> None:
    """The face leaves before the first segment, once; the reply ends exactly once."""
    turns = begun()
    assert turns.on_text(1, "Hi") == []
    effects = turns.on_text(1, ", there is more. And") + turns.on_end(1, brain="llm")
    assert kinds(effects) == ["Emotion", "Segment", "Segment", "Segment", "ReplyEnd"]
    assert [effect.n for effect in effects if isinstance(effect, Segment)] == [0, 1, 2]
    assert texts(effects) == ["Hi,", "there is more.", "And"]
    assert effects[-1] == ReplyEnd(1, {"brain": "llm"})
    assert turns.on_end(1) == []
    assert turns.on_text(1, "late. ") == []


def test_the_first_emoji_is_the_face() -> None:
    """It leaves as soon as it is seen, and is said nowhere."""
    turns = begun()
    effects = turns.on_text(1, "😭Oh no. 😂") + turns.on_end(1)
    assert [effect for effect in effects if isinstance(effect, Emotion)] == [Emotion(1, "😭", "crying")]
    assert texts(effects) == ["Oh no."]


def test_a_device_without_emoji_gets_no_face() -> None:
    """features.emoji false switches the face off."""
    turns = Turns(shows_emotion=False)
    turns.on_input(Input(1, "hello", "asr"))
    assert kinds(turns.on_text(1, "😂Ha. ")) == ["Segment"]


def test_an_empty_reply_ends_without_segments() -> None:
    """Nothing said is an end, too."""
    assert begun().on_end(1) == [ReplyEnd(1, {})]


def test_close_comes_before_the_end() -> None:
    """The router must know of the closing when the reply ends."""
    turns = begun()
    assert kinds(turns.on_text(1, "Bye. ") + turns.on_end(1, close=True))[-2:] == [CloseAfter.__name__, "ReplyEnd"]


def test_turn_over_cancels_and_commits_what_was_heard() -> None:
    """An interrupted turn is cancelled at once and commits its segments with the heard part; nothing is said of it."""
    turns = begun()
    turns.on_text(1, "One. Two. Three")
    effects = turns.on_turn_over(TurnOver(1, "interrupted", "abort", 1, 0.5))
    assert effects == [Cancel(1), Commit(1, ("One.", "Two."), 1, 0.5, is_complete=False)]
    assert turns.on_text(1, "Four. ") == turns.on_end(1) == turns.on_failure(1) == []
    assert turns.on_turn_over(TurnOver(1, "interrupted", "abort", 1)) == []


def test_a_complete_turn_is_committed_as_complete() -> None:
    """After the reply's end nothing is left to cancel."""
    turns = begun()
    turns.on_text(1, "One. ")
    turns.on_end(1)
    assert turns.on_turn_over(TurnOver(1, "complete", "", 1)) == [Commit(1, ("One.",), 1, 0.0, is_complete=True)]


def test_a_new_input_ends_the_turn_before_it() -> None:
    """Two turns never run at once; a stale input is ignored."""
    turns = begun(5)
    effects = turns.on_input(Input(6, "next", "asr"))
    assert kinds(effects) == ["Cancel", "Commit", "Ask"]
    assert turns.on_input(Input(6, "again", "asr")) == turns.on_input(Input(2, "old", "asr")) == []


def test_a_failure_before_a_segment_can_begin_again() -> None:
    """What was said of an unfinished sentence is forgotten; the face that left is not sent twice."""
    turns = begun()
    turns.on_text(1, "😂The answer is n")
    assert turns.on_restart(1)
    effects = turns.on_text(1, "😭Sorry. ") + turns.on_end(1)
    assert kinds(effects) == ["Segment", "ReplyEnd"]
    assert texts(effects) == ["Sorry."]


def test_a_failure_behind_a_segment_drops_the_unfinished_sentence() -> None:
    """Half a sentence may say the contrary of the whole one."""
    turns = begun()
    turns.on_text(1, "It is safe. But not")
    assert not turns.on_restart(1)
    assert turns.on_failure(1, error="llm_cut") == [ReplyEnd(1, {"error": "llm_cut"})]
    assert turns.on_turn_over(TurnOver(1, "complete", "", 1)) == [
        Commit(1, ("It is safe.",), 1, 0.0, is_complete=False)
    ]


def test_a_reply_is_bounded() -> None:
    """At most 64 segments and 16 KB, then it is full."""
    turns = begun()
    effects = turns.on_text(1, "Words of no end. " * 5000)
    assert turns.is_full(1)
    effects += turns.on_end(1)
    assert 20 < len(texts(effects)) <= MAX_SEGMENTS
    assert sum(len(text.encode()) for text in texts(effects)) <= 16 * 1024


def test_text_before_a_tool_is_said_at_once() -> None:
    """A tool round completes the sentence, and segments go on counting behind it."""
    turns = begun()
    effects = turns.on_text(1, "Let me see") + turns.on_round(1) + turns.on_text(1, "It is on. ") + turns.on_end(1)
    assert texts(effects) == ["Let me see", "It is on."]


def test_segments_name_their_language() -> None:
    """Each segment says in which language it is spoken; numbers follow the question's."""
    turns = begun(text="现在几点")
    effects = turns.on_text(1, "好的，3点。Hello there. 42") + turns.on_end(1)
    assert [effect.language for effect in effects if isinstance(effect, Segment)] == ["zh", "zh", "en", "zh"]


def test_an_illegal_event_changes_nothing() -> None:
    """The table refuses what a state does not allow."""
    turns = Turns()
    with pytest.raises(TransitionError):
        turns._go(Event.SEGMENT)
    assert turns.state is State.OVER


STEPS = st.sampled_from(["input", "text", "end", "failure", "restart", "over", "stale_text", "stale_end", "round"])


@given(st.lists(st.tuples(STEPS, st.sampled_from(["Hi. ", "a, b", "😂", "no end", ""])), max_size=60))
def test_random_walk(steps: list[tuple[str, str]]) -> None:
    """Whatever comes: only the current generation speaks, numbers have no gap, one end at most, nothing behind it."""
    turns, gen = Turns(), 0
    segments: dict[int, int] = {}
    ended: set[int] = set()
    over: set[int] = set()
    for step, text in steps:
        if step == "input":
            over.add(gen)
            gen += 1
        for effect in step_effects(turns, step, gen, text):
            if isinstance(effect, Commit):
                assert effect.gen not in over or step == "input"
                over.add(effect.gen)
                assert len(effect.segments) == segments.get(effect.gen, 0)
            elif isinstance(effect, Segment | ReplyEnd):
                assert effect.gen == gen
                assert gen not in ended
                assert gen not in over
            if isinstance(effect, Segment):
                assert effect.n == segments.get(gen, 0)
                segments[gen] = effect.n + 1
            if isinstance(effect, ReplyEnd):
                ended.add(gen)
    if turns.is_alive(gen):
        assert kinds(turns.on_end(gen))[-1] == "ReplyEnd"


def step_effects(turns: Turns, step: str, gen: int, text: str) -> Effects:
    if step == "restart":
        turns.on_restart(gen)
        return []
    steps: dict[str, Callable[[], Effects]] = {
        "input": lambda: turns.on_input(Input(gen, text, "asr")),
        "text": lambda: turns.on_text(gen, text),
        "end": lambda: turns.on_end(gen),
        "failure": lambda: turns.on_failure(gen),
        "over": lambda: turns.on_turn_over(TurnOver(gen, "interrupted", "", 0)),
        "stale_text": lambda: turns.on_text(gen - 1, "Old words. "),
        "stale_end": lambda: turns.on_end(gen - 1),
        "round": lambda: turns.on_round(gen),
    }
    return steps[step]()
