"""What is put to a voice that reads only what it was trained on."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.tts.engines.espeak import phonemes
from workers.tts.spelling import KOKORO_SIGNS, first_words, known_signs, known_words

pytestmark = pytest.mark.unit

LEXICON = frozenset({*"abcdefghijklmnopqrstuvwxyz", "hello", "it's", "你", "好", "你好"})
SIGNS = frozenset({*"abcdefghijklmnopqrstuvwxyz", " ", ".", ",", "ə", "ˈ", "\u0327"})


@pytest.mark.parametrize(
    ("text", "put"),
    [
        ("Hello, it's me.", "hello, it's m e ."),
        ("你好吗？", "你好？"),
        ("Hello 你好 USB", "hello 你好 u s b"),
        ("😀 ★ «»", ""),
        ("12 你", "你"),
        ("", ""),
    ],
)
def test_a_lexicon_reads_its_words_and_spells_the_others(text: str, put: str) -> None:
    """Latin words letter by letter; what has no letters is left out."""
    assert known_words(text, LEXICON) == put


def test_numbers_stay_if_somebody_reads_them() -> None:
    """A rule that turns them into words comes first then."""
    assert known_words("你 12", LEXICON, reads_numbers=True) == "你 12"


@given(st.text())
def test_nothing_that_is_unknown_is_put(text: str) -> None:
    """The library would write it to the log: it may be what somebody was told."""
    marks = frozenset(" ,.;:!?，。；：！？、…")
    for word in known_words(text, LEXICON).replace("你", " 你 ").replace("好", " 好 ").split():
        bare = "".join(sign for sign in word if sign not in marks)
        assert not bare or bare in LEXICON or all(part in LEXICON for part in bare)
    assert set(known_signs(text, SIGNS)) <= SIGNS


def test_a_sign_with_an_accent_is_tried_whole_and_in_parts() -> None:
    """Voices differ in how they write it."""
    assert known_signs("ç", frozenset("ç")) == "ç"
    assert known_signs("ç", SIGNS) == unicodedata.normalize("NFD", "ç")
    assert known_signs("ç", frozenset("x")) == ""


def test_kokoro_has_signs_of_its_own() -> None:
    """One for each diphthong."""
    assert known_signs("naɪs dʒoʊk", frozenset("nIsʤOk "), KOKORO_SIGNS) == "nIs ʤOk"


def test_the_first_word_of_a_line_is_known() -> None:
    """Of a lexicon's line, and of a list of signs, in which a space is one."""
    assert first_words(["hello h ə\n", "你\tn i\r\n", "  3\n", "a 4\n"]) == {"hello", "你", " ", "a"}


def test_phonemes_keep_the_punctuation() -> None:
    """A voice rests at it."""
    assert phonemes("Hello, world!", "en-us") == "həlˈoʊ, wˈɜːld! "
    assert phonemes("3.5 is it", "en-us") == "θɹˈiː pɔɪnt fˈaɪv ɪz ɪt"
    assert phonemes("你好。", "cmn").startswith("ni")


@pytest.mark.parametrize("text", ["", " ", "...", "😀", "a" * 1000, "\x00"])
def test_any_text_has_phonemes(text: str) -> None:
    """None, at worst."""
    assert isinstance(phonemes(text, "no-such-voice"), str)
