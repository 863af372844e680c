"""How much of what was said was not heard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.engines.error_rate import mistakes, rate, units

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("said", "heard", "language", "counts"),
    [
        ("It was the best of times", "it was the best of times.", "en", (0, 6)),
        ("it was the best of times", "it is the best times", "en", (2, 6)),
        ("don't", "dont", "en", (1, 1)),
        ("set it to fifty-five", "Set it to 55.", "en", (0, 5)),
        ("", "anything at all", "en", (3, 0)),
        ("1加1等于几", "一加一等于几?", "zh", (0, 6)),
        ("今天会不会下雨", "今天会下雨", "zh", (2, 7)),
        ("今天会不会下雨", "ชินปาขอ", "zh", (7, 7)),
        ("打开 bluetooth 好不好", "打开Bluetooth好不好。", "zh", (0, 6)),
    ],
)
def test_words_and_characters_are_counted(said: str, heard: str, language: str, counts: tuple[int, int]) -> None:
    """Case, punctuation and the way numbers are written do not count."""
    assert mistakes(said, heard, language) == counts


def test_many_utterances_count_by_their_length() -> None:
    """One wrong word in a short sentence does not weigh more than one in a long one."""
    assert rate([(1, 2), (0, 8)]) == 0.1
    assert rate([]) == rate([(0, 0)]) == 0.0


@given(text=st.text(max_size=80), language=st.sampled_from(["en", "zh"]))
def test_what_was_heard_as_it_was_said_has_no_mistakes(text: str, language: str) -> None:
    """Any text at all."""
    assert mistakes(text, text, language) == (0, len(units(text, language)))
