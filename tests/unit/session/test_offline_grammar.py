"""What the offline brain understands."""

from __future__ import annotations

from datetime import datetime

import pytest

from workers.session.brain.grammar import Grammar
from workers.session.brain.spoken import calendar_date, clock_time

pytestmark = pytest.mark.unit

ENGLISH = {
    "Time": [
        "what time is it",
        "What's the time?",
        "what time it is",
        "can you tell me the time please",
        "what time is a",
    ],
    "Date": ["what day is it today", "what's the date", "what is today's date", "what day of the week is it"],
    "VolumeUp": ["louder", "turn it up", "turn up the volume", "volume up", "please speak up"],
    "VolumeDown": ["quieter please", "turn the volume down", "turn it down"],
    "VolumeGet": ["what is the volume", "how loud are you"],
    "VolumeOff": ["mute"],
    "BrightnessUp": ["make the screen brighter", "brighter"],
    "BrightnessDown": ["dim the screen", "darker"],
    "Greeting": ["hello", "Hello, Xiaozhi!", "good morning", "hi there how are you"],
    "Name": ["what is your name", "what's your name", "who are you"],
    "Repeat": ["say that again", "what did you say", "pardon", "repeat that please"],
    "Joke": ["tell me a joke", "another joke", "make me laugh"],
    "Story": ["tell me a story", "tell me a short story please"],
    "Thanks": ["thank you", "thanks a lot"],
    "Goodbye": ["goodbye", "good bye", "bye bye", "see you later"],
    "Help": ["what can you do", "help", "what can i say"],
}
CHINESE = {
    "Time": ["现在几点了", "请问现在几点？", "几点钟了", "现在是几点", "现在几点中了", "告诉我时间"],
    "Date": ["今天几号", "今天星期几", "今天是什么日子"],
    "VolumeUp": ["大声一点", "声音大一点", "把音量调大", "音量加大"],
    "VolumeDown": ["小声点", "把声音调小一点"],
    "VolumeOff": ["静音"],
    "BrightnessUp": ["屏幕亮一点", "把亮度调高"],
    "BrightnessDown": ["屏幕太亮了", "亮度调低一点"],
    "Greeting": ["你好", "你好小智", "早上好"],
    "Name": ["你叫什么名字", "你是谁"],
    "Repeat": ["再说一遍", "你刚才说什么"],
    "Joke": ["讲个笑话", "给我讲一个笑话"],
    "Story": ["讲个故事", "我想听故事"],
    "Thanks": ["谢谢", "谢谢你"],
    "Goodbye": ["再见", "拜拜"],
    "Help": ["你会做什么", "你能做什么"],
}
UNKNOWN = [
    "what is the capital of france",
    "tell me about the time of the dinosaurs",
    "turn on the light",
    "i would like to know who won the world cup",
    "play some music",
    "x" * 500,
    "",
    "...",
]


@pytest.fixture(scope="module")
def english() -> Grammar:
    return Grammar("en")


@pytest.fixture(scope="module")
def chinese() -> Grammar:
    return Grammar("zh")


@pytest.mark.parametrize(("intent", "sentence"), [(i, s) for i, sentences in ENGLISH.items() for s in sentences])
def test_english(english: Grammar, intent: str, sentence: str) -> None:
    """Upper or lower case, with or without punctuation, and with a recogniser's small errors."""
    match = english.match(sentence)
    assert match is not None
    assert match.intent == intent


@pytest.mark.parametrize(("intent", "sentence"), [(i, s) for i, sentences in CHINESE.items() for s in sentences])
def test_chinese(chinese: Grammar, intent: str, sentence: str) -> None:
    """The same in Chinese."""
    match = chinese.match(sentence)
    assert match is not None
    assert match.intent == intent


@pytest.mark.parametrize("sentence", UNKNOWN)
def test_unknown(english: Grammar, sentence: str) -> None:
    """What it does not know it does not guess, above all not what would change something."""
    assert english.match(sentence) is None


@pytest.mark.parametrize("sentence", ["北京今天天气怎么样", "法国的首都是哪里", "把灯打开"])
def test_unknown_chinese(chinese: Grammar, sentence: str) -> None:
    """The same in Chinese."""
    assert chinese.match(sentence) is None


@pytest.mark.parametrize(
    ("sentence", "intent", "percent"),
    [
        ("set the volume to fifty percent", "VolumeSet", 50),
        ("set volume to 30", "VolumeSet", 30),
        ("volume one hundred", "VolumeSet", 100),
        ("turn up the volume to eighty", "VolumeSet", 80),
        ("set the brightness to twenty five", "BrightnessSet", 25),
    ],
)
def test_english_numbers(english: Grammar, sentence: str, intent: str, percent: int) -> None:
    """Numbers are understood as digits and as words."""
    match = english.match(sentence)
    assert match is not None
    assert (match.intent, match.percent) == (intent, percent)


@pytest.mark.parametrize(
    ("sentence", "intent", "percent"),
    [
        ("音量调到五十", "VolumeSet", 50),
        ("把音量调到百分之八十", "VolumeSet", 80),
        ("音量调到30%", "VolumeSet", 30),
        ("亮度调到二十", "BrightnessSet", 20),
    ],
)
def test_chinese_numbers(chinese: Grammar, sentence: str, intent: str, percent: int) -> None:
    """The same in Chinese."""
    match = chinese.match(sentence)
    assert match is not None
    assert (match.intent, match.percent) == (intent, percent)


def test_both_languages_have_the_same_answers(english: Grammar, chinese: Grammar) -> None:
    """No intent is without an answer, and none of the answers is missing in one language."""
    assert set(english.answers) == set(chinese.answers)
    assert all(answer for answers in (*english.answers.values(), *chinese.answers.values()) for answer in answers)


@pytest.mark.parametrize(
    ("hour", "minute", "english", "chinese"),
    [
        (0, 0, "twelve o'clock at night", "凌晨十二点整"),
        (2, 5, "two oh five at night", "凌晨两点零五分"),
        (12, 30, "twelve thirty in the afternoon", "下午十二点三十分"),
        (15, 45, "three forty-five in the afternoon", "下午三点四十五分"),
        (20, 10, "eight ten in the evening", "晚上八点十分"),
    ],
)
def test_times_in_words(hour: int, minute: int, english: str, chinese: str) -> None:
    """A voice says words alike everywhere, digits not."""
    now = datetime(2026, 11, 24, hour, minute)
    assert (clock_time(now, "en"), clock_time(now, "zh")) == (english, chinese)


def test_dates_in_words() -> None:
    """Weekday, month and day."""
    now = datetime(2026, 11, 24)
    assert calendar_date(now, "en") == "Tuesday, November twenty-fourth"
    assert calendar_date(now, "zh") == "二零二六年十一月二十四日，星期二"
