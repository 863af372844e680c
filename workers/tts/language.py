"""Which language each part of a text is spoken in, from its script. Pure.

* A script names its language: Han zh, kana ja, Hangul ko, Cyrillic ru …, Latin en.
* A declared language claims the scripts it is written in (de claims Latin, uk Cyrillic, ja Han and kana) and no others:
  English inside a reply declared Chinese is read as English.
* Han beside kana is Japanese unless Chinese was declared. Digits, signs and spaces go with what stands before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Run(NamedTuple):
    """A stretch of text in one language (primary BCP 47 tag)."""

    language: str
    text: str


DEFAULT_LANGUAGE = "en"

_SCRIPT_RANGES: tuple[tuple[int, int, str], ...] = (
    (0x41, 0x5A, "latin"),
    (0x61, 0x7A, "latin"),
    (0xC0, 0x24F, "latin"),
    (0x370, 0x3FF, "greek"),
    (0x400, 0x52F, "cyrillic"),
    (0x531, 0x58F, "armenian"),
    (0x590, 0x5FF, "hebrew"),
    (0x600, 0x6FF, "arabic"),
    (0x750, 0x77F, "arabic"),
    (0x900, 0x97F, "devanagari"),
    (0x980, 0x9FF, "bengali"),
    (0xB80, 0xBFF, "tamil"),
    (0xC00, 0xC7F, "telugu"),
    (0xE00, 0xE7F, "thai"),
    (0x10A0, 0x10FF, "georgian"),
    (0x1100, 0x11FF, "hangul"),
    (0x1E00, 0x1EFF, "latin"),
    (0x3005, 0x3007, "han"),
    (0x3041, 0x30FF, "kana"),
    (0x3130, 0x318F, "hangul"),
    (0x3400, 0x4DBF, "han"),
    (0x4E00, 0x9FFF, "han"),
    (0xAC00, 0xD7A3, "hangul"),
    (0xF900, 0xFAFF, "han"),
    (0xFF21, 0xFF3A, "latin"),
    (0xFF41, 0xFF5A, "latin"),
    (0xFF66, 0xFF9F, "kana"),
    (0x20000, 0x3FFFF, "han"),
)

_LANGUAGE_OF_SCRIPT = {
    "latin": DEFAULT_LANGUAGE,
    "greek": "el",
    "cyrillic": "ru",
    "armenian": "hy",
    "hebrew": "he",
    "arabic": "ar",
    "devanagari": "hi",
    "bengali": "bn",
    "tamil": "ta",
    "telugu": "te",
    "thai": "th",
    "georgian": "ka",
    "hangul": "ko",
    "kana": "ja",
    "han": "zh",
}

_SYLLABIC = frozenset(("han", "kana", "hangul"))
_WORD_LETTERS = 3

_LATIN = frozenset(("latin",))
_SCRIPTS_OF_LANGUAGE: dict[str, frozenset[str]] = {
    **{tag: frozenset((script,)) for script, tag in _LANGUAGE_OF_SCRIPT.items()},
    **dict.fromkeys(("be", "bg", "kk", "ky", "mk", "mn", "sr", "tt", "uk"), frozenset(("cyrillic",))),
    **dict.fromkeys(("fa", "ug", "ur"), frozenset(("arabic",))),
    **dict.fromkeys(("kok", "mr", "ne"), frozenset(("devanagari",))),
    **dict.fromkeys(("hak", "yue"), frozenset(("han",))),
    "as": frozenset(("bengali",)),
    "ja": frozenset(("han", "kana")),
    "ko": frozenset(("hangul", "han")),
}
_ALIASES = {"cmn": "zh", "chi": "zh", "zho": "zh", "eng": "en", "jp": "ja", "kr": "ko"}


def primary_tag(tag: str | None) -> str | None:
    """`zh-CN`, `zh_CN` and `cmn` are all "zh"; None and "" are None."""
    if not tag:
        return None
    primary = tag.replace("_", "-").split("-", 1)[0].strip().lower()
    return _ALIASES.get(primary, primary) or None


def script_of(character: str) -> str | None:
    """None for digits, punctuation and spaces, which belong to every script."""
    code = ord(character)
    return next((script for first, last, script in _SCRIPT_RANGES if first <= code <= last), None)


def language_runs(text: str, declared: str | None = None) -> list[Run]:
    """The text cut where its language changes; joined, the runs are the text. A text without letters is one run."""
    languages = list(_languages(text, primary_tag(declared)))
    runs: list[Run] = []
    start = 0
    for position in range(1, len(languages) + 1):
        if position == len(languages) or languages[position] != languages[start]:
            runs.append(Run(languages[start], text[start:position]))
            start = position
    return runs


def guess_language(text: str, declared: str | None = None) -> str:
    """The language most of the text is in; a character of a script without word spaces weighs as much as a word."""
    runs = language_runs(text, declared)
    if not runs:
        return primary_tag(declared) or DEFAULT_LANGUAGE
    weights: dict[str, int] = {}
    for language, piece in runs:
        weights[language] = weights.get(language, 0) + _weight(piece)
    return max(weights, key=weights.__getitem__)


def _weight(text: str) -> int:
    scripts = (script_of(character) for character in text)
    return sum(_WORD_LETTERS if script in _SYLLABIC else 1 for script in scripts if script)


def _languages(text: str, declared: str | None) -> Iterator[str]:
    """One language a character."""
    scripts = [script_of(character) for character in text]
    claimed = _SCRIPTS_OF_LANGUAGE.get(declared, _LATIN) if declared else frozenset[str]()
    by_script = _LANGUAGE_OF_SCRIPT | {script: declared for script in claimed if declared}
    if "kana" in scripts and "han" not in claimed:
        by_script["han"] = "ja"
    first = next((script for script in scripts if script), None)
    current = by_script[first] if first else declared or DEFAULT_LANGUAGE
    for script in scripts:
        current = by_script[script] if script else current
        yield current
