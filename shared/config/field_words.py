"""What a setting accepts, in words, read from its pydantic field: type, bounds and the unit in its name."""

from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from shared.settings import Frozen, Settings

_UNITS = {"_s": "seconds", "_ms": "milliseconds", "_h": "hours", "_bytes": "bytes", "_frames": "frames"}
_WORDS: dict[object, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
}


def field_of(path: str) -> FieldInfo:
    """The field of a dotted settings path, such as "cluster.ws_port"."""
    model: type[Frozen] = Settings
    *parents, name = path.split(".")
    for parent in parents:
        inner = model.model_fields[parent].annotation
        assert isinstance(inner, type) and issubclass(inner, Frozen)
        model = inner
    return model.model_fields[name]


def is_bool(field: FieldInfo) -> bool:
    return field.annotation is bool


def expected(path: str) -> str:
    """For instance "a whole number of frames from 1 to 5" or "one of: lan, open"."""
    field = field_of(path)
    words = _type_words(field.annotation)
    unit = next((unit for suffix, unit in _UNITS.items() if path.endswith(suffix)), None)
    return " ".join(part for part in (words, unit and f"of {unit}", _bounds(field.metadata)) if part)


def _type_words(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return " or ".join(_type_words(part) for part in get_args(annotation) if part is not type(None))
    if origin is Literal:
        return "one of: " + ", ".join(str(choice) for choice in get_args(annotation))
    if origin is tuple:
        return "a list of texts"
    return _WORDS.get(annotation, "something else")


def _bounds(metadata: list[Any]) -> str:
    pairs = ((name, getattr(item, name, None)) for item in metadata for name in ("ge", "gt", "le", "lt"))
    found = {name: value for name, value in pairs if value is not None}
    if "ge" in found and "le" in found:
        return f"from {found['ge']} to {found['le']}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return ", ".join(f"{words[name]} {value}" for name, value in found.items())
