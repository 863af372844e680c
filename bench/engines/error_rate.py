"""How much of what was said was not heard. Pure.

English is counted in words, Chinese in characters, as is usual for them. Case, punctuation and the way numbers are
written do not count: they are the text's dress, not what was said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

from rapidfuzz.distance import Levenshtein
from unicode_rbnf import FormatPurpose, RbnfEngine

_NUMBER = re.compile(r"\d+")
_WORD = re.compile(r"[a-z']+")
_HAN = re.compile(r"[㐀-鿿]|[a-z]+")


def units(text: str, language: str) -> list[str]:
    """What is counted."""
    lowered = text.lower().replace("’", "'")
    spelled = _NUMBER.sub(lambda found: f" {_spelled(int(found[0]), language)} ", lowered)
    if language == "zh":
        return _HAN.findall(spelled.replace("〇", "零"))
    return [word.strip("'") for word in _WORD.findall(spelled.replace("-", " ")) if word.strip("'")]


def mistakes(said: str, heard: str, language: str) -> tuple[int, int]:
    """Words or characters that were missed, added or taken for others, and how many were said."""
    wanted = units(said, language)
    return Levenshtein.distance(wanted, units(heard, language)), len(wanted)


def rate(counts: Iterable[tuple[int, int]]) -> float:
    """Of many utterances together; 1.0 = as many mistakes as words."""
    pairs: Sequence[tuple[int, int]] = list(counts)
    said = sum(total for _, total in pairs)
    return sum(wrong for wrong, _ in pairs) / said if said else 0.0


@cache
def _engine(language: str) -> RbnfEngine:
    return RbnfEngine.for_language(language)


def _spelled(number: int, language: str) -> str:
    return _engine(language).format_number(number, FormatPurpose.CARDINAL).text
