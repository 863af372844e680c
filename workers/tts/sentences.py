"""Cuts a segment into what an engine renders at once, so that the first sound comes early and a cancel is quick. Pure.

A piece is one sentence, or a part of one longer than `MAX_PIECE_CHARS`, cut at its last clause mark, else its last
space, else anywhere.
"""

from __future__ import annotations

import re

MAX_PIECE_CHARS = 200

_SENTENCE = re.compile(
    r"""[^\n]+?(?: [。！？；]+[”’」』）]* | [.!?…]+["'”’)\]]*(?=\s|$) | (?=\n) | $ )""",
    re.VERBOSE,
)
_CLAUSE_END = re.compile(r"[，、：；。！？,;:—](?!\d)")
_SENTENCE_END = re.compile(r"""[.!?…。！？；]["'”’)\]」』）]*\s*$""")
_PAUSE_END = re.compile(r"""[,;:—，、：]["'”’)\]」』）]*\s*$""")

SENTENCE_PAUSE_MS = 240
CLAUSE_PAUSE_MS = 120
WORD_PAUSE_MS = 40


def sentences(text: str) -> list[str]:
    """The text's sentences, none empty."""
    return [piece for piece in (match.strip() for match in _SENTENCE.findall(text)) if piece]


def bounded(sentence: str, max_chars: int = MAX_PIECE_CHARS) -> list[str]:
    """The sentence in parts of at most `max_chars`."""
    parts = []
    rest = sentence.strip()
    while len(rest) > max_chars:
        cut = _cut(rest, max_chars)
        parts.append(rest[:cut].strip())
        rest = rest[cut:].strip()
    if rest:
        parts.append(rest)
    return parts


def pause_after_ms(piece: str) -> int:
    """How long a voice rests after the piece, by the mark that ends it."""
    if _SENTENCE_END.search(piece):
        return SENTENCE_PAUSE_MS
    return CLAUSE_PAUSE_MS if _PAUSE_END.search(piece) else WORD_PAUSE_MS


def _cut(text: str, max_chars: int) -> int:
    """Where to cut `text`, between half of `max_chars` and all of it."""
    window = text[:max_chars]
    least = max_chars // 2
    clauses = [match.end() for match in _CLAUSE_END.finditer(window, least)]
    if clauses:
        return clauses[-1]
    space = window.rfind(" ", least)
    return space if space > 0 else max_chars
