"""What a model is told of the conversation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.session.dialogue import Dialogue, Message, PastTurn, ToolCall, ToolRound, heard_text

pytestmark = pytest.mark.unit


def said(dialogue: Dialogue, gen: int, question: str, answer: str) -> None:
    dialogue.begin(gen, question)
    dialogue.said(gen, answer)
    dialogue.commit(gen, [answer], 1, 0.0, is_complete=True)


def pairs(dialogue: Dialogue) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in dialogue.messages()]


def test_a_heard_reply_is_told_as_it_was_written() -> None:
    """The model sees its own words again, emoji and all."""
    dialogue = Dialogue(40)
    dialogue.begin(1, "hello")
    dialogue.said(1, "😂 Hi **there**. How are you?")
    dialogue.commit(1, ["Hi there.", "How are you?"], 2, 0.0, is_complete=True)
    assert pairs(dialogue) == [("user", "hello"), ("assistant", "😂 Hi **there**. How are you?")]


def test_an_interrupted_reply_is_cut_to_what_was_heard() -> None:
    """Whole segments, and the next one back to a word's end."""
    dialogue = Dialogue(40)
    dialogue.begin(1, "tell me")
    dialogue.commit(1, ["First one.", "The second sentence."], 1, 0.6, is_complete=False)
    assert pairs(dialogue)[1] == ("assistant", "First one. The second")
    assert dialogue.last_reply == "First one. The second"


def test_a_reply_nobody_heard_is_not_told() -> None:
    """Two questions in a row become one message, which every chat template takes."""
    dialogue = Dialogue(40)
    dialogue.begin(1, "first")
    dialogue.commit(1, ["Never heard."], 0, 0.0, is_complete=False)
    dialogue.begin(2, "second")
    assert pairs(dialogue) == [("user", "first\nsecond")]


@pytest.mark.parametrize(
    ("segments", "played", "part", "heard"),
    [
        (["One two three"], 0, 0.0, ""),
        (["One two three"], 0, 0.4, "One"),
        (["One two three"], 0, 0.99, "One two"),
        (["One two three"], 0, 1.0, "One two three"),
        (["One two three"], 1, 0.0, "One two three"),
        (["今天天气不错", "你呢"], 0, 0.5, "今天天"),
        (["今天天气不错", "你呢"], 1, 0.0, "今天天气不错"),
        (["One.", "Two."], 5, 0.0, "One. Two."),
        (["One."], 0, 7.5, "One."),
        ([], 0, 0.5, ""),
    ],
)
def test_what_was_heard(segments: list[str], played: int, part: float, heard: str) -> None:
    """Cut at a word's end, between any two ideographs."""
    assert heard_text(segments, played, part) == heard


def test_tool_calls_keep_their_results() -> None:
    """A round of tools is told as calls and answers, in order."""
    dialogue = Dialogue(40)
    call = ToolCall("c1", "set_volume", '{"volume": 5}')
    dialogue.begin(1, "quieter")
    dialogue.called(1, ToolRound("One moment. ", (call,), {"c1": "ok: true"}))
    dialogue.said(1, "Done.")
    dialogue.commit(1, ["One moment.", "Done."], 2, 0.0, is_complete=True)
    user, asked, answer, last = dialogue.messages()
    assert (user.role, asked.calls, answer.call_id, last.text) == ("user", (call,), "c1", "Done.")


def test_dangling_tool_calls_are_not_told() -> None:
    """A call without a result would make the server refuse every later request."""
    dialogue = Dialogue(40)
    calls = (ToolCall("c1", "a", "{}"), ToolCall("c2", "b", "{}"))
    dialogue.begin(1, "do both")
    dialogue.called(1, ToolRound("", calls, {"c2": "ok"}))
    dialogue.commit(1, [], 0, 0.0, is_complete=False)
    told = [call.id for message in dialogue.messages() for call in message.calls]
    assert told == [message.call_id for message in dialogue.messages() if message.role == "tool"] == ["c2"]
    dialogue.begin(2, "again")
    dialogue.called(2, ToolRound("", calls, {}))
    dialogue.commit(2, [], 0, 0.0, is_complete=False)
    assert sum(len(message.calls) for message in dialogue.messages()) == 1


def test_an_interrupted_tool_turn_is_cut_in_the_right_message() -> None:
    """What was heard before the tool and behind it are different messages."""
    dialogue = Dialogue(40)
    call = ToolCall("c1", "a", "{}")
    dialogue.begin(1, "go")
    dialogue.called(1, ToolRound("Let me see. ", (call,), {"c1": "ok"}))
    dialogue.commit(1, ["Let me see.", "It is warm outside."], 1, 0.5, is_complete=False)
    assert [message.text for message in dialogue.messages()] == ["go", "Let me see.", "ok", "It is"]


def test_our_prompts_are_not_the_persons_words() -> None:
    """A farewell's prompt is asked once, and later only what was said is told."""
    dialogue = Dialogue(40)
    dialogue.begin(1, "Say goodbye.", is_prompt=True)
    assert pairs(dialogue) == [("user", "Say goodbye.")]
    dialogue.said(1, "Bye!")
    dialogue.commit(1, ["Bye!"], 1, 0.0, is_complete=True)
    assert pairs(dialogue) == [("assistant", "Bye!")]


def test_a_foreign_generation_changes_nothing() -> None:
    """Results of a dead turn are dropped."""
    dialogue = Dialogue(40)
    dialogue.begin(2, "now")
    dialogue.said(1, "old")
    dialogue.called(1, ToolRound("", (ToolCall("c", "a", "{}"),), {"c": "ok"}))
    dialogue.commit(1, ["old"], 1, 0.0, is_complete=True)
    assert pairs(dialogue) == [("user", "now")]


def test_the_store_comes_first_and_what_it_does_not_know_follows() -> None:
    """A store that answers late is put before what was said meanwhile; another session's turns are its own business."""
    known = Dialogue(40, "s1")
    said(known, 1, "old question", "old answer")
    dialogue = Dialogue(40, "s2", known)
    assert dialogue.last_reply == "old answer"
    said(dialogue, 1, "new question", "new answer")
    dialogue.begin(2, "now")
    stored = [PastTurn("s1", n, (Message("user", f"q{n}"), Message("assistant", f"a{n}"))) for n in (1, 2)]
    dialogue.restore(stored)
    assert [text for _, text in pairs(dialogue)] == ["q1", "a1", "q2", "a2", "new question", "new answer", "now"]
    dialogue.restore([*stored, PastTurn("s2", 1, (Message("user", "new question"),))])
    assert [text for _, text in pairs(dialogue)] == ["q1", "a1", "q2", "a2", "new question\nnow"]


def test_a_restored_dialogue_knows_its_last_reply() -> None:
    """A person who comes back may say "say that again"."""
    dialogue = Dialogue(40, "s2")
    assert dialogue.last_reply == ""
    dialogue.restore([PastTurn("s1", 1, (Message("user", "q"), Message("assistant", "a")))])
    assert (dialogue.last_reply, dialogue.turns) == ("a", 1)


def test_a_record_counts_once() -> None:
    """It may come again, and for a turn that the store has given back already."""
    dialogue = Dialogue(40, "s1")
    turn = dialogue.adopt(3, "question", "as far as", is_prompt=False)
    dialogue.adopt(3, "question", "as far as", is_prompt=False)
    dialogue.restore([turn])
    assert pairs(dialogue) == [("user", "question"), ("assistant", "as far as")]
    assert turn.key == ("s1", 3) and dialogue.turns == 1


@given(st.integers(2, 12), st.integers(1, 30))
def test_it_is_bounded(most: int, turns: int) -> None:
    """Old exchanges go whole, so that the first message is a question; the newest exchange always stays."""
    dialogue = Dialogue(most)
    for gen in range(turns):
        said(dialogue, gen, f"q{gen}", f"a{gen}")
    messages = dialogue.messages()
    assert len(messages) <= most
    assert messages[0].role == "user"
    assert messages[-1] == Message("assistant", f"a{turns - 1}")
