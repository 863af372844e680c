"""The self-echo guard: a transcript that is only what the device itself is saying is no interruption."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

MIN_LETTERS = 4
"""Shorter transcripts ("no", "停") are too likely to be meant."""

MATCHED_SHARE = 0.8

_NOT_LETTERS = re.compile(r"[\W_]+")


def _letters(text: str) -> str:
    return _NOT_LETTERS.sub("", text).lower()


def is_echo(transcript: str, spoken: str) -> bool:
    """True if nearly all of `transcript` is heard, in order, within what is being spoken."""
    heard, said = _letters(transcript), _letters(spoken)
    if len(heard) < MIN_LETTERS or not said:
        return False
    if heard in said:
        return True
    matcher = SequenceMatcher(None, said, heard, autojunk=False)
    matched = sum(block.size for block in matcher.get_matching_blocks() if block.size > 2)
    return matched / len(heard) >= MATCHED_SHARE
