"""Where reply text is cut into segments."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.session.segmentation import LENGTHS, Piece, Segmenter
from workers.session.speech_text import SpeechText

pytestmark = pytest.mark.unit

VECTORS = [
    ("你好，我是小智。今天天气不错！你呢", ["你好", "我是小智", "今天天气不错"], "你呢"),
    ("Sure, it is 3.14. OK", ["Sure", "it is 3.14"], "OK"),
    ("😊你好呀，见到你真高兴！", ["你好呀", "见到你真高兴"], ""),
    ("好的。第一，苹果。第二，香蕉！第三，橙子。完", ["好的", "第一，苹果", "第二，香蕉", "第三，橙子"], "完"),
    ("Dr. Smith is in. Next; and: more", ["Dr. Smith is in", "Next"], "and: more"),
    ("one line\nsecond line\nthird", ["one line", "second line"], "third"),
    ("Stop! Go. He said fine", ["Stop", "Go"], "He said fine"),
    ("It costs 1,000 dollars, I think. Yes", ["It costs 1,000 dollars", "I think"], "Yes"),
    ("See example.com or the U.S. side. Good", ["See example.com or the U.S. side"], "Good"),
    ("We meet at 3 p.m. or at 4:30. Fine", ["We meet at 3 p.m. or at 4:30"], "Fine"),
    ("1. Apples\n2. Pears\n", ["1. Apples", "2. Pears"], ""),
    ('He said "go." Then he left. Well', ['He said "go', "Then he left"], "Well"),
    ("-5 degrees. Cold", ["-5 degrees"], "Cold"),
    ("Wait... what? Yes", ["Wait", "what"], "Yes"),
    ("OK.好的。嗯", ["OK", "好的"], "嗯"),
    ("？！。", [], ""),
    ("", [], ""),
]


def cut(chunks: list[str]) -> tuple[list[Piece], list[Piece]]:
    plain, segmenter = SpeechText(), Segmenter()
    pieces = [piece for chunk in chunks for piece in segmenter.feed(plain.feed(chunk))]
    pieces += segmenter.feed(plain.finish())
    return pieces, segmenter.finish()


def segment(chunks: list[str]) -> list[Piece]:
    segmenter = Segmenter()
    return [piece for chunk in chunks for piece in segmenter.feed(chunk)] + segmenter.finish()


def letters(text: str) -> str:
    return "".join(char for char in text if char.isalnum())


@pytest.mark.parametrize(("text", "segments", "rest"), VECTORS)
@pytest.mark.parametrize("by_character", [True, False])
def test_vectors(text: str, segments: list[str], rest: str, by_character: bool) -> None:
    """The same segments whether the text comes character by character or at once."""
    pieces, last = cut(list(text) if by_character else [text])
    assert [piece.display for piece in pieces] == segments
    assert [piece.display for piece in last] == ([rest] if rest else [])


def test_spoken_text_keeps_the_end_mark() -> None:
    """A voice needs the end mark for its melody; the screen does not show it."""
    assert [piece.spoken for piece in segment(["Sure, is it 3.14? Yes! Fine."])] == [
        "Sure,",
        "is it 3.14?",
        "Yes!",
        "Fine.",
    ]
    assert segment(["他说：“你好。”然后走了"])[1] == Piece(display="你好", spoken="你好。")


def test_sentence_without_end_is_cut_at_a_comma_or_space() -> None:
    """A run-on is cut at the bound, behind its last comma or else between words."""
    words = "word " * 200
    pieces = segment([words])
    assert all(len(piece.spoken) <= 300 for piece in pieces)
    assert " ".join(piece.display for piece in pieces) == words.strip()
    comma = segment(["x" + " abc" * 50 + ", " + "def " * 60])
    assert comma[1].display.startswith("def") or comma[1].spoken.endswith(",")


def test_a_long_reply_fits_into_64_segments() -> None:
    """Far into a reply short sentences are joined, so that 16 KB never need more than 64 segments."""
    for sentence in ("Yes. ", "好的。", "It is so. "):
        reply = sentence * (16 * 1024 // len(sentence.encode()))
        assert len(segment([reply])) <= 64


@st.composite
def chunked(draw: st.DrawFn) -> tuple[str, list[str]]:
    text = draw(st.text(st.sampled_from("ab3 .,!?;\n。，！你好~：Dr1-\"'"), max_size=400))
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=20)))
    edges = [0, *cuts, len(text)]
    return text, [text[a:b] for a, b in pairwise(edges)]


@given(chunked())
def test_chunking_changes_nothing_and_loses_nothing(sample: tuple[str, list[str]]) -> None:
    """Any chunking of a text gives the same segments, and every letter and digit is in exactly one of them."""
    text, chunks = sample
    pieces = segment(chunks)
    assert pieces == segment([text]) == segment(list(text))
    assert letters("".join(piece.spoken for piece in pieces)) == letters(text)
    assert letters("".join(piece.display for piece in pieces)) == letters(text)
    assert all(len(piece.spoken.encode()) <= LENGTHS[0].most_bytes + 4 for piece in pieces)
