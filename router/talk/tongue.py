"""In which language canned prompts speak to a person: that of what was said last, and before that of the profile. Pure.

Digits, emoji and other letters tell nothing: the language stays what it was.
"""

from __future__ import annotations

import re
from typing import Final

LANGUAGES: Final = ("en", "zh")
"""Those that there are prompts in."""

_CHINESE: Final = re.compile("[\u4e00-\u9fff]")
_LATIN: Final = re.compile("[a-zA-Z]")


def tongue_of(text: str, before: str) -> str:
    """Chinese with a word of English in it is Chinese."""
    if _CHINESE.search(text):
        return "zh"
    return "en" if _LATIN.search(text) else before


def tongue_of_tag(tag: str | None, before: str) -> str:
    """Of a language tag such as zh-CN; one without prompts changes nothing."""
    primary = (tag or "").partition("-")[0].lower()
    return primary if primary in LANGUAGES else before
