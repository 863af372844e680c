"""How a text is put to a voice that reads only what it was trained on: known signs, or known words. Pure.

What a voice does not know is left out here, not there: its library would write it to the log.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping

_WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|\d+|\s+|.", re.DOTALL)
_BETWEEN = frozenset(" ,.;:!?，。；：！？、…")

KOKORO_SIGNS: Mapping[str, str] = {
    "aɪ": "I",
    "aʊ": "W",
    "dʒ": "ʤ",
    "eɪ": "A",
    "oʊ": "O",
    "əʊ": "Q",
    "tʃ": "ʧ",
    "ɔɪ": "Y",
}
"""Diphthongs and affricates have one sign each in Kokoro's alphabet (github.com/hexgrad/misaki, EN_PHONES.md)."""


def first_words(lines: Iterable[str]) -> frozenset[str]:
    """What a lexicon (`word sounds…`) or a list of signs (`sign number`) knows; a sign may be a space."""
    found = set()
    for line in lines:
        first = line.rstrip("\r\n").split(" ", 1)[0].split("\t", 1)[0]
        found.add(first or " ")
    return frozenset(found)


def known_signs(ipa: str, known: Collection[str], signs: Mapping[str, str] | None = None) -> str:
    """The sounds that a voice has a sign for; a sign with accents is tried whole, then in its parts."""
    for several, one in (signs or {}).items():
        ipa = ipa.replace(several, one)
    kept = []
    for sign in unicodedata.normalize("NFC", ipa):
        kept += [sign] if sign in known else [part for part in unicodedata.normalize("NFD", sign) if part in known]
    return "".join(kept).strip()


def known_words(text: str, known: Collection[str], *, reads_numbers: bool = False) -> str:
    """The words that a lexicon has. Another word in Latin letters is spelled out; anything else is left out."""
    return re.sub(r"\s+", " ", "".join(_known(part, known, reads_numbers) for part in _WORD.findall(text))).strip()


def _known(part: str, known: Collection[str], reads_numbers: bool) -> str:
    if part.isspace():
        return " "
    if part in _BETWEEN or part in known or (reads_numbers and part.isdigit()):
        return part
    word = part.lower()
    if word in known:
        return word
    if part.isascii() and part.isalnum():
        return " ".join(
            ["", *(sign for sign in (word if part.isdigit() else part) if sign.lower() in known), ""]
        ).lower()
    return ""
