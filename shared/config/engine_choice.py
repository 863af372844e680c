"""Which engine a `selected_module` entry means, and what is used if that engine is not here.

Pure: takes the merged document, returns choices, warnings and errors. An engine that cannot be used never stops the
server: it is named together with the nearest one, and the embedded default takes its place. What stops the server is a
supported option of the wrong type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from shared.errors import ConfigError
from shared.log.redaction import shown_setting
from shared.settings import AsrSettings, EngineChoice, TtsSettings


@dataclass(frozen=True, slots=True)
class ConfigWarning:
    """Something in the configuration that does not do what its author may think."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


@dataclass(frozen=True, slots=True)
class Module:
    """The engines of one kind: types that exist here, what stands in for the others, and how to say it."""

    types: frozenset[str]
    instead: EngineChoice | None
    nearest: str
    used: str = "which is used instead"


@dataclass(slots=True)
class Findings:
    """What was noticed while a document was read."""

    warnings: list[ConfigWarning] = field(default_factory=list)
    errors: list[ConfigError] = field(default_factory=list)

    def warn(self, key: str, message: str) -> None:
        self.warnings.append(ConfigWarning(key, message))

    def refuse(self, key: str, value: object, expected: str) -> None:
        self.errors.append(ConfigError(key, shown_setting(key, value), expected))


KINDS: dict[str, Module] = {
    "VAD": Module(
        frozenset({"silero"}), EngineChoice(name="SileroVAD", type="silero"), "silero, which is used instead"
    ),
    "ASR": Module(
        frozenset({"pocketsphinx", "scripted"}),
        AsrSettings().engine,
        "pocketsphinx (English, embedded)",
    ),
    "TTS": Module(
        frozenset({"embedded", "hibari", "espeak", "sine"}),
        TtsSettings().engine,
        "embedded (hibari for English, eSpeak NG for Chinese and others)",
    ),
    "LLM": Module(
        frozenset({"openai", "ollama", "xinference", "gemini", "scripted"}),
        None,
        "type openai (any OpenAI-compatible server)",
        "and until it is set up the offline brain answers",
    ),
    "Memory": Module(frozenset({"nomem"}), EngineChoice(name="nomem", type="nomem"), "nomem"),
    "Intent": Module(
        frozenset({"function_call", "nointent"}),
        EngineChoice(name="function_call", type="function_call"),
        "function_call",
    ),
}

NOT_HERE = {"VLLM": "looking at pictures is not supported yet"}

_LLM_OPTIONS: dict[str, type] = {
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
_LLM_NEEDS = {
    "openai": ("model_name", "base_url", "api_key"),
    "ollama": ("model_name", "base_url"),
    "xinference": ("model_name", "base_url"),
    "gemini": ("model_name", "api_key"),
    "scripted": (),
}
_OPENAI_URL = "https://api.openai.com/v1"


def is_placeholder(value: object) -> bool:
    """Whether a value is an example that was never filled in, such as `你的api_key`."""
    return isinstance(value, str) and ("你" in value or value.strip().lower().startswith(("your_", "your-")))


def choose(kind: str, document: Mapping[str, Any], findings: Findings, *, asked: bool) -> EngineChoice | None:
    """The engine of `kind` to use. Nothing is warned about if the operator did not ask for it."""
    module = KINDS[kind]
    name = _selected_name(kind, document, findings)
    if name is None:
        return module.instead
    found = _section(kind, name, document, findings)
    fault = _fault(kind, name, found)
    if fault is None:
        return found
    if asked:
        findings.warn(f"selected_module.{kind}", fault)
    return module.instead


def usable(kind: str, document: Mapping[str, Any]) -> dict[str, EngineChoice]:
    """All sections of `kind` that can be used, by name."""
    quiet = Findings()
    sections = document.get(kind)
    names = list(sections) if isinstance(sections, dict) else []
    choices = ((str(name), _section(kind, str(name), document, quiet)) for name in names)
    return {name: choice for name, choice in choices if choice and _fault(kind, name, choice) is None}


def _selected_name(kind: str, document: Mapping[str, Any], findings: Findings) -> str | None:
    selected = document.get("selected_module")
    name = selected.get(kind) if isinstance(selected, dict) else None
    if name is None or name == "":
        return None
    if not isinstance(name, str):
        findings.refuse(f"selected_module.{kind}", name, f"the name of a section of {kind}")
        return None
    return name


def _section(kind: str, name: str, document: Mapping[str, Any], findings: Findings) -> EngineChoice | None:
    sections = document.get(kind)
    section = sections.get(name) if isinstance(sections, dict) else None
    if section is None:
        return EngineChoice(name=name, type=name) if name in KINDS[kind].types else None
    if not isinstance(section, dict):
        findings.refuse(f"{kind}.{name}", section, "a section with a type")
        return None
    options = {str(key): value for key, value in section.items() if value is not None}
    type_name = options.pop("type", "")
    if not isinstance(type_name, str):
        findings.refuse(f"{kind}.{name}.type", type_name, "the name of an engine type")
        return None
    if kind == "LLM" and type_name in KINDS["LLM"].types:
        options = _llm_options(f"LLM.{name}", type_name, options, findings)
    return EngineChoice(name=name, type=type_name, options=options)


def _fault(kind: str, name: str, found: EngineChoice | None) -> str | None:
    module = KINDS[kind]
    if found and found.type in module.types:
        return _llm_fault(found) if kind == "LLM" else None
    what = f"{name} is of type {found.type}, which" if found and found.type else f"{name}"
    return f"{what} is not supported yet; the nearest engine is {module.nearest}, {module.used}"


def _llm_options(key: str, type_name: str, options: dict[str, Any], findings: Findings) -> dict[str, Any]:
    checked = {name: _checked(f"{key}.{name}", value, findings) for name, value in options.items()}
    if type_name == "openai":
        checked["base_url"] = checked.get("base_url") or checked.get("url") or _OPENAI_URL
    elif "url" in checked and "base_url" not in checked:
        checked["base_url"] = checked["url"]
    return checked


def _checked(key: str, value: Any, findings: Findings) -> Any:
    wanted = _LLM_OPTIONS.get(key.rpartition(".")[2])
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


def _llm_fault(choice: EngineChoice) -> str | None:
    for option in _LLM_NEEDS[choice.type]:
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


def _host(url: object) -> str:
    try:
        return (urlsplit(url).hostname if isinstance(url, str) else None) or ""
    except ValueError:
        return ""
