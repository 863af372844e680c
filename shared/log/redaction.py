"""What must never be shown: values of secret keys, bearer tokens, and what people said.

Rules: a key decides by its name, whatever its value; a text loses what looks like a credential inside it; the keys that
carry speech show only a length. Masking never raises and never changes the value it was given.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any

MASK = "***"

_MAX_DEPTH = 6
_MAX_ITEMS = 100
_MAX_CHARS = 16_384

_CONFIG_SECRET = re.compile(r"key|token|secret|passw|authorization|credential|cookie", re.IGNORECASE)
_SECRET_SETTINGS = frozenset({"store.url", "XZ_STORE_URL", "voiceprint.url"})
"""A malformed URL may hide its password or key from the patterns below."""
_COUNT_OF_TOKENS = re.compile(r"(?:^|_)(max|min|num|total|prompt|completion|new)_(\w+_)?tokens?$", re.IGNORECASE)

_LOG_SECRET = re.compile(
    r"(^|_)(token|secret|passwd|password|passphrase|authorization|credentials?|cookie|api_?key|app_?key|auth_key"
    r"|secret_key|access_key|private_key|signature_key)(_|$)(?!ms$|s$|timeout|limit|count)",
    re.IGNORECASE,
)
_SPEECH = frozenset(
    {"text", "transcript", "sentence", "display", "reply", "prompt", "content", "question", "answer", "partial"}
)

_SUSPECT = re.compile(r"bearer|basic|token|secret|passw|authoriz|key|://|sk-|xai-|input_value|eyj", re.IGNORECASE)
"""Nearly all texts hold none of these and are done with one search."""

_IN_TEXT = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=:-]{4,}"), r"\1 " + MASK),
    (
        re.compile(
            r"(?i)((?:token|secret|password|passwd|authorization|api[_-]?key|app[_-]?key"
            r"|(?:auth|secret|access|private|signature)[_-]key)[\"']?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s\"'&,;})\]]+)"
        ),
        r"\1" + MASK,
    ),
    (re.compile(r"\b([a-z][a-z0-9+.-]{0,15}://)[^/\s@]+@"), r"\1" + MASK + "@"),
    (re.compile(r"\b(sk|gsk|xai)-[\w-]{16,}"), r"\1-" + MASK),
    (re.compile(r"input_value=.{0,400}?(?=, input_type=)", re.DOTALL), "input_value=" + MASK),
    (re.compile(r"\beyJ[\w-]{8,1024}\.[\w-]{1,2048}\.[\w-]+"), MASK),
)
"""Bearer headers, `key=value` pairs, user:password in URLs, well-known key shapes, pydantic's quotes of its input, JSON
web tokens. Repeats are bounded, so that no text costs more than in proportion to its length."""


def is_secret_setting(path: str) -> bool:
    """Whether the value of a configuration key must not be shown; any part of its dotted path may say so."""
    return path in _SECRET_SETTINGS or any(
        _CONFIG_SECRET.search(part) and not _COUNT_OF_TOKENS.search(part) for part in path.split(".")
    )


def is_secret_field(name: str) -> bool:
    """Whether a log field's value must not be shown."""
    plain = name.replace("-", "_")
    return bool(_LOG_SECRET.search(plain)) and not _COUNT_OF_TOKENS.search(plain)


def shown_setting(path: str, value: object) -> object:
    """`value` as an error message may show it."""
    if is_secret_setting(path):
        return MASK
    return mask_value(value)


def mask_text(text: str) -> str:
    """`text` without credentials; of a very long one beginning and end."""
    if len(text) > _MAX_CHARS:
        text = _shortened(text)
    if _SUSPECT.search(text):
        for pattern, replacement in _IN_TEXT:
            text = pattern.sub(replacement, text)
    return text


def _shortened(text: str) -> str:
    """Cut at line ends, so that no half of a secret is left for the patterns to miss."""
    head = text[: _MAX_CHARS // 2].rpartition("\n")[0]
    tail = text[-_MAX_CHARS // 2 :].partition("\n")[2]
    return f"{head}\n… {len(text)} chars …\n{tail}"


def mask_field(name: str, value: Any) -> Any:
    """The value of log field `name`, fit to be written."""
    if is_secret_field(name):
        return MASK if value else value
    if name in _SPEECH and value is not None:
        return f"<{len(value)} chars>" if isinstance(value, str) else "<hidden>"
    return mask_value(value)


def mask_value(value: Any, depth: int = 0) -> Any:
    """Plain data without secrets. What is neither a number, a text nor a collection becomes its masked repr."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _mask_collection(value, depth) if depth < _MAX_DEPTH else "…"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return mask_text(value if isinstance(value, str) else _repr(value))


def _mask_collection(value: Collection[Any], depth: int) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _mask_item(str(key), item, depth) for key, item in islice(value.items(), _MAX_ITEMS)}
    return [mask_value(item, depth + 1) for item in islice(value, _MAX_ITEMS)]


def _mask_item(key: str, item: Any, depth: int) -> Any:
    if is_secret_field(key) or key in _SPEECH:
        return mask_field(key, item)
    return mask_value(item, depth + 1)


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # A log line must not fail because of what it shows.
        return f"<{type(value).__name__} without repr: {type(error).__name__}>"
