"""How a model is told who speaks."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.voiceprint import UNKNOWN, Speaker
from workers.session.prompt import TIME_MARK, system_prompt
from workers.session.speakers import Voices

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 2, 3, 4)
PEOPLE = (Speaker("a", "张三", "张三是一个程序员"), Speaker("b", "李四", ""))


def test_a_speaker_is_named_the_first_time_only() -> None:
    """Each with the first words on a connection, also in between others; 未知说话人 is one like any other."""
    voices = Voices()
    people = ["张三", "张三", UNKNOWN, None, UNKNOWN, "李四", "张三"]
    heard = list(zip("一二三四五六七", people, strict=True))
    told = [voices.told(text, speaker) for text, speaker in heard]
    named = {0: "张三", 2: UNKNOWN, 5: "李四"}
    for n, (text, _) in enumerate(heard):
        if n in named:
            assert json.loads(told[n]) == {"speaker": named[n], "content": text}
        else:
            assert told[n] == text
    assert told[0] == '{"speaker": "张三", "content": "一"}'


def test_the_last_speaker_is_the_last_that_is_known() -> None:
    """Words without a speaker do not make the one before unknown."""
    voices = Voices()
    assert voices.last is None
    voices.told("hello", "张三")
    voices.told("hello", None)
    assert voices.last == "张三"


@given(st.text(), st.text(min_size=1))
def test_any_words_and_any_name_are_json(text: str, speaker: str) -> None:
    """Quotes, line ends and emoji travel whole, and in one line."""
    told = Voices().told(text, speaker)
    assert json.loads(told) == {"speaker": speaker, "content": text} and "\n" not in told


@pytest.mark.parametrize("template", ["Be brief.", f"It is {TIME_MARK}. Be brief."])
def test_the_prompt_lists_each_speaker_once(template: str) -> None:
    """Behind the configured prompt; without speakers nothing is said of them."""
    prompt = system_prompt(template, NOW, PEOPLE)
    assert prompt.count("<speakers_info>") == 1
    assert "<speakers_info>\n- 张三: 张三是一个程序员\n- 李四: \n</speakers_info>" in prompt
    assert "2026-01-02 03:04" in prompt
    assert "speakers_info" not in system_prompt(template, NOW)
