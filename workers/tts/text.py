"""What of a text can be spoken. Pure.

Emoji, control and private characters, zero-width marks and variation selectors are dropped, white space is collapsed
(line breaks stay: they end a sentence), and a text without one letter, digit or readable sign is empty.
"""

from __future__ import annotations

import re
import unicodedata

MAX_TEXT_BYTES = 16 * 1024
"""UTF-8 bytes of one segment; a whole reply is bounded by the same number."""

READABLE_SIGNS = frozenset("%‰$€£¥¢₩₹+=&@#°©®™×÷±<>~*^/\\")
_DROPPED_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "So", "Sk", "Me"))
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)
_SPACES = re.compile(r"[^\S\n]+")
_BREAKS = re.compile(r"\s*\n\s*")


def speakable(text: str) -> str:
    """The text without what no voice can read; empty if nothing is left to say."""
    kept = "".join(_kept(character) for character in text)
    tidy = _BREAKS.sub("\n", _SPACES.sub(" ", kept)).strip()
    return tidy if any(_is_read(character) for character in tidy) else ""


def _kept(character: str) -> str:
    if character in "\r\n\u2028\u2029\v\f":
        return "\n"
    if character in READABLE_SIGNS:
        return character
    category = unicodedata.category(character)
    if category == "Cc" or category[0] == "Z":
        return " "
    is_dropped = category in _DROPPED_CATEGORIES or ord(character) in _VARIATION_SELECTORS
    return "" if is_dropped else character


def _is_read(character: str) -> bool:
    return character.isalnum() or character in READABLE_SIGNS
