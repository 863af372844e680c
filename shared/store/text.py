"""Texts as both databases take them. Pure.

PostgreSQL refuses the character NUL, and UTF-8 has no lone surrogates; both come out of JSON that a model or a device
wrote. A whole turn must not be lost for one of them.
"""

from __future__ import annotations


def clean(text: str) -> str:
    """Without NUL; what UTF-8 cannot say becomes a question mark."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def cut(text: str, most_chars: int) -> str:
    """A key: clean, and no longer than its column."""
    return clean(text)[:most_chars]
