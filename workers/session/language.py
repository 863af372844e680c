"""Which language a text is in, as far as this project has words of its own for it: Chinese or English."""

from __future__ import annotations

from typing import Literal

Tongue = Literal["zh", "en"]


def is_cjk(char: str) -> bool:
    """Chinese ideographs and the full-width punctuation and kana that are written without spaces."""
    return "\u3000" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff" or "\uff00" <= char <= "\uffef"


def is_ideograph(char: str) -> bool:
    return "\u3400" <= char <= "\u9fff"


def tongue_of(text: str, language: str | None = None, default: Tongue = "en") -> Tongue:
    """What the text shows, else what its language tag says, else the default."""
    if any(is_ideograph(char) for char in text):
        return "zh"
    if any(char.isascii() and char.isalpha() for char in text):
        return "en"
    if language:
        return "zh" if language.lower().startswith("zh") else "en"
    return default


def speech_language(text: str, hint: str | None, tongue: Tongue) -> str | None:
    """The language to speak `text` in: None leaves it to the voice, which knows more scripts.

    `hint` is the language the person spoke, which decides among those in Latin letters; `tongue` that of a text without
    any letters, such as a number.
    """
    if any("\u3040" <= char <= "\u30ff" for char in text):
        return "ja"
    if any(is_ideograph(char) for char in text):
        return "zh"
    if not any(char.isalpha() for char in text):
        return tongue
    if not any(char.isascii() and char.isalpha() for char in text):
        return None
    base = (hint or "en").split("-")[0].lower()
    return "en" if base in ("zh", "ja", "ko") else base
