"""YAML as people mean it: a mapping at the top, no key twice, no surprises among the scalars.

Errors name file, line and column and never repeat what the file says between quotes, which may be a secret. Two scalar
forms of YAML 1.1 are off: `11:22:33:44:55:06` is a MAC address here, not a number in base 60, and a date stays text.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from shared.errors import ConfigError

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_MAX_LEVELS = 16

_INT = re.compile(r"^[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_REPLACED = {
    "tag:yaml.org,2002:int": _INT,
    "tag:yaml.org,2002:float": _FLOAT,
    "tag:yaml.org,2002:timestamp": None,
}


class _Loader(_Base):  # type: ignore[misc]
    """The safe loader with other number forms and with unique keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        _refuse_twins(node)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    result: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for first, pairs in _Base.yaml_implicit_resolvers.items():
        replaced = [(tag, _REPLACED.get(tag, pattern)) for tag, pattern in pairs]
        result[first] = [(tag, pattern) for tag, pattern in replaced if pattern is not None]
    return result


_Loader.yaml_implicit_resolvers = _resolvers()


def _refuse_twins(node: yaml.MappingNode) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else None
        if name is None or name == "<<":
            continue
        if name in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {name} stands here again, first in line {seen[name]}", key.start_mark
            )
        seen[name] = key.start_mark.line + 1


def parse(text: str, source: str) -> dict[str, Any]:
    """The mapping that `text` holds; empty text is an empty mapping. Raises ConfigError at `source:line:column`."""
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_place(source, error), _problem(error), "valid YAML") from None
    except yaml.YAMLError as error:
        raise ConfigError(source, type(error).__name__, "valid YAML in UTF-8 without control characters") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(source, type(error).__name__, "plain keys and values") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(source, type(value).__name__, "`key: value` lines at the top level")
    if not _is_shallow(value):
        raise ConfigError(source, "deeply nested or self-containing values", f"at most {_MAX_LEVELS} levels")
    return {str(key): item for key, item in value.items()}


def _is_shallow(value: Any, level: int = 0) -> bool:
    if level > _MAX_LEVELS:
        return False
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(_is_shallow(item, level + 1) for item in items)


def _place(source: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return source if mark is None else f"{source}:{mark.line + 1}:{mark.column + 1}"


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or error.context or "an error"
    return re.sub(r"'[^']{2,}'", "'…'", str(problem))
