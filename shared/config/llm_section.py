"""What a section of LLM may hold, and what it needs before its model can be asked. Pure."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from shared.config.findings import Findings
from shared.config.options.base import is_placeholder
from shared.settings import EngineChoice

_OPTIONS: dict[str, type] = {
    "base_url": str,
    "url": str,
    "model_name": str,
    "api_key": str,
    "temperature": float,
    "max_tokens": int,
    "top_p": float,
    "frequency_penalty": float,
}
_WORDS = {str: "text", float: "a number", int: "a whole number"}
_NEEDS = {
    "openai": ("model_name", "base_url", "api_key"),
    "ollama": ("model_name", "base_url"),
    "xinference": ("model_name", "base_url"),
    "gemini": ("model_name", "api_key"),
    "scripted": (),
}
_OPENAI_URL = "https://api.openai.com/v1"

TYPES = frozenset(_NEEDS)


def checked_options(key: str, type_name: str, options: dict[str, Any], findings: Findings) -> dict[str, Any]:
    """The section's keys in their types; what cannot be one is refused under `key`."""
    checked = {name: _checked(f"{key}.{name}", value, findings) for name, value in options.items()}
    if type_name == "openai":
        checked["base_url"] = checked.get("base_url") or checked.get("url") or _OPENAI_URL
    elif "url" in checked and "base_url" not in checked:
        checked["base_url"] = checked["url"]
    return checked


def fault_of(choice: EngineChoice) -> str | None:
    """Why the model cannot be asked yet; None if it can."""
    for option in _NEEDS[choice.type]:
        value = choice.options.get(option)
        if option == "api_key" and not value and is_local_url(choice.options.get("base_url")):
            continue
        if not value or is_placeholder(value):
            return f"LLM.{choice.name}.{option} is {'an example' if value else 'not set'}, so the offline brain answers"
    return None


def is_local_url(url: object) -> bool:
    """Whether a URL names this machine or the local network, where model servers seldom ask for a key."""
    host = _host(url)
    try:
        return ip_address(host).is_private
    except ValueError:
        return bool(host) and ("." not in host or host.endswith((".local", ".lan", ".internal", ".home.arpa")))


def _checked(key: str, value: Any, findings: Findings) -> Any:
    wanted = _OPTIONS.get(key.rpartition(".")[2])
    if wanted is None:
        return value
    if wanted is str:
        fits, result = isinstance(value, str), value
    else:
        result = _number(wanted, value)
        fits = result is not None
    if not fits:
        findings.refuse(key, value, _WORDS[wanted])
    return result


def _number(wanted: type, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = wanted(value)
    except (ValueError, OverflowError):
        return None
    return number if float(number) == float(value) else None


def _host(url: object) -> str:
    try:
        return (urlsplit(url).hostname if isinstance(url, str) else None) or ""
    except ValueError:
        return ""
