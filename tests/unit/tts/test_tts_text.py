"""What is spoken of a text, in which language, and in which pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.tts import sentences
from workers.tts.language import guess_language, language_runs, primary_tag
from workers.tts.text import speakable

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("", ""),
        ("   \n\t ", ""),
        ("...!?", ""),
        ("🎉😀", ""),
        ("好的🎉，走吧👨‍👩‍👧", "好的，走吧"),
        ("it\u200bs\u200d 5\ufe0f", "its 5"),
        ("a", "a"),
        ("100%", "100%"),
        ("+", "+"),
        ("one\r\ntwo\x00 three", "one\ntwo three"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("★ star", "star"),
    ],
)
def test_unspeakable_characters_are_dropped(text: str, spoken: str) -> None:
    """Emoji, marks and controls are not read, and a text without letters or signs is empty."""
    assert speakable(text) == spoken


@given(st.text())
def test_speakable_is_stable(text: str) -> None:
    """Cleaning twice is cleaning once."""
    once = speakable(text)
    assert speakable(once) == once


@pytest.mark.parametrize(
    ("text", "declared", "language"),
    [
        ("Hello there", None, "en"),
        ("今天天气很好", None, "zh"),
        ("今天天気がいいですね", None, "ja"),
        ("안녕하세요", None, "ko"),
        ("Привет", None, "ru"),
        ("Привіт", "uk", "uk"),
        ("Guten Tag", "de-DE", "de"),
        ("Guten Tag", None, "en"),
        ("Hello", "zh-CN", "en"),
        ("你好", "en", "zh"),
        ("今日", "ja", "ja"),
        ("12345", "zh", "zh"),
        ("12345", None, "en"),
        ("我用 iPhone 拍照片", None, "zh"),
        ("", "fr", "fr"),
    ],
)
def test_a_script_names_its_language(text: str, declared: str | None, language: str) -> None:
    """A declared language claims its own scripts and no others."""
    assert guess_language(text, declared) == language


def test_digits_and_spaces_go_with_what_stands_before_them() -> None:
    """A run ends only where a letter of another language begins."""
    assert language_runs("我用 iPhone 15 拍照，OK？") == [
        ("zh", "我用 "),
        ("en", "iPhone 15 "),
        ("zh", "拍照，"),
        ("en", "OK？"),
    ]


@given(st.text(), st.sampled_from([None, "en", "zh", "ja", "ru", "xx"]))
def test_runs_are_the_text(text: str, declared: str | None) -> None:
    """Joined, the runs are the text, and neighbours differ in language."""
    runs = language_runs(text, declared)
    assert "".join(run.text for run in runs) == text
    assert all(a.language != b.language for a, b in pairwise(runs))


def test_tags_are_reduced_to_the_primary_one() -> None:
    """zh-CN, zh_CN and cmn are one language."""
    assert [primary_tag(tag) for tag in ("zh-CN", "zh_CN", "cmn", "EN", "", None)] == [
        "zh",
        "zh",
        "zh",
        "en",
        None,
        None,
    ]


def test_sentences_end_at_english_and_chinese_marks() -> None:
    """A decimal point and an abbreviation's inner dot end nothing; a line break does."""
    text = "It is 3.5 degrees. 今天很好！走吧？\nHe said: “Stop!” And left"
    assert sentences.sentences(text) == ["It is 3.5 degrees.", "今天很好！", "走吧？", "He said: “Stop!”", "And left"]


@given(st.text(alphabet="ab ,，。.! \n", max_size=600), st.integers(10, 100))
def test_no_piece_is_longer_than_allowed_and_nothing_is_lost(text: str, limit: int) -> None:
    """Cutting drops white space only."""
    pieces = [piece for sentence in sentences.sentences(text) for piece in sentences.bounded(sentence, limit)]
    assert all(0 < len(piece) <= limit for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


def test_a_long_sentence_is_cut_at_a_clause_before_a_space() -> None:
    """The last clause mark in the second half wins, then the last space, then the limit."""
    assert sentences.bounded("aaaa aaaa, bbbb bbbb", 16) == ["aaaa aaaa,", "bbbb bbbb"]
    assert sentences.bounded("aaaaa aaaaa bbbbb", 12) == ["aaaaa aaaaa", "bbbbb"]
    assert sentences.bounded("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]


def test_the_pause_follows_the_mark() -> None:
    """A sentence rests longer than a clause, a clause longer than a word."""
    pauses = [sentences.pause_after_ms(piece) for piece in ("Yes.", "好。", "yes,", "好，", "yes")]
    assert pauses == [240, 240, 120, 120, 40]
