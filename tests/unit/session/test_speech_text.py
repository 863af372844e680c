"""What of a reply is said and shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.session.speech_text import SpeechText

pytestmark = pytest.mark.unit

CASES = [
    ("# Title\nText", "Title\nText"),
    ("###### Six", "Six"),
    ("#hashtag", "#hashtag"),
    ("**bold** and *it* and __b__ and _i_", "bold and it and b and i"),
    ("***both*** ~~gone~~", "both gone"),
    ("2 * 3 = 6, 2*3, snake_case, ~5, $5", "2 * 3 = 6, 2*3, snake_case, ~5, $5"),
    ("- one\n* two\n+ three\n  - four", "one\ntwo\nthree\nfour"),
    ("1. one\n2. two", "1. one\n2. two"),
    ("> quote\n>> deeper", "quote\ndeeper"),
    ("[label](http://x.y/a_b) rest", "label rest"),
    ("![cat](http://x/c.png) done", "! done"),
    ("[1] note and [open", "[1] note and [open"),
    ("use `code` here", "use code here"),
    ("before\n```python\nx = 1\n```\nafter", "before\n\nafter"),
    ("text ```x``` more", "text  more"),
    ("$$x^2$$ formula", " formula"),
    ("price $5 and $6", "price $5 and $6"),
    ("| a | b |\n|---|:-:|\n| 1 | 2 |\n", "a, b\n1, 2\n"),
    ("| 名称 | 值 |", "名称，值"),
    ("a\n---\nb", "a\n\nb"),
    ("-5 degrees", "-5 degrees"),
    ("😊你好🇨🇳 1️⃣ ❤️ok", "你好 1 ok"),
    ("👨\u200d👩\u200d👧 family", " family"),
    (r"\*not bold\* \n", r"*not bold* \n"),
    ("", ""),
]


def plain(chunks: list[str]) -> str:
    machine = SpeechText()
    return "".join(machine.feed(chunk) for chunk in chunks) + machine.finish()


@pytest.mark.parametrize(("source", "text"), CASES)
def test_cases(source: str, text: str) -> None:
    """Markdown and emoji go, their text stays; what only looks like Markdown stays as it is."""
    assert plain([source]) == text


@given(st.text(st.sampled_from("ab1 *_`~$#-+>|[]()!\n\\😊。="), max_size=120), st.data())
def test_chunking_changes_nothing(source: str, data: st.DataObject) -> None:
    """Any chunking of a reply gives the same text, and no emoji ever comes through."""
    cut = data.draw(st.integers(0, len(source)))
    whole = plain([source])
    assert plain(list(source)) == whole == plain([source[:cut], source[cut:]])
    assert "😊" not in whole


@given(st.text(st.characters(categories=["L", "Nd", "Nl"]), max_size=700).map(lambda text: text.replace("\n", " ")))
def test_words_pass_unchanged(source: str) -> None:
    """Letters and numerals come out as they went in, at once."""
    assert SpeechText().feed(source) == source
