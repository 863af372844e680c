"""Which engines a `selected_module` entry means, and what is used if an engine is not here.

Pure: takes the merged document, returns choices, warnings and errors. An entry is a section's name, or a list of names:
the first is used and the others take over, one after another, when it fails. A type that is not here never stops the
server: it is named together with the nearest one, and the embedded default takes its place. What stops it is an engine
that is here and whose section lacks a key, or has a wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.config import llm_section
from shared.config.findings import Findings
from shared.config.options.table import OPTIONS, leads_outside
from shared.errors import InvalidConfigError
from shared.settings import AsrSettings, EngineChoice, TtsSettings


@dataclass(frozen=True, slots=True)
class Module:
    """The engines of one kind: types that exist here, what stands in for the others, and how to say it."""

    types: frozenset[str]
    instead: EngineChoice | None
    nearest: str
    used: str = "which is used instead"
    has_chain: bool = False
    """Whether others may take over from the first."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The engine to use, and those that take over from it, in order."""

    engine: EngineChoice | None
    fallbacks: tuple[EngineChoice, ...] = ()


def _types(kind: str) -> frozenset[str]:
    return frozenset(type_name for each, type_name in OPTIONS if each == kind)


KINDS: dict[str, Module] = {
    "VAD": Module(
        frozenset({"silero"}), EngineChoice(name="SileroVAD", type="silero"), "silero, which is used instead"
    ),
    "ASR": Module(
        frozenset({"pocketsphinx", "scripted"}) | _types("ASR"),
        AsrSettings().engine,
        "pocketsphinx (English, embedded)",
        has_chain=True,
    ),
    "TTS": Module(
        frozenset({"embedded", "hibari", "espeak", "sine"}) | _types("TTS"),
        TtsSettings().engine,
        "embedded (hibari for English, eSpeak NG for Chinese and others)",
        has_chain=True,
    ),
    "LLM": Module(
        llm_section.TYPES,
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


def choose(kind: str, document: Mapping[str, Any], findings: Findings, *, asked: bool) -> Chain:
    """The engines of `kind` to use. Nothing is warned about if the operator did not ask for it."""
    module = KINDS[kind]
    names, is_list = _selected_names(kind, document, findings)
    found = [engine for name in names if (engine := _usable(kind, name, document, findings, asked=asked))]
    if not found:
        return Chain(module.instead)
    first, *others = found
    if not is_list and kind == "TTS" and leads_outside("TTS", first.type) and module.instead is not None:
        # A voice of our own beats silence; a list says who may speak, and nobody else does.
        others.append(module.instead)
    return Chain(first, tuple(others))


def usable(kind: str, document: Mapping[str, Any], user: Mapping[str, Any]) -> dict[str, EngineChoice]:
    """All sections of `kind` that can be used, by name.

    Of engines that ask a service or load a large model only those that the user's own file names: the package has a
    section for each, and what nobody wants shall cost nothing.
    """
    sections, own = document.get(kind), user.get(kind)
    names = list(sections) if isinstance(sections, dict) else []
    owned = {str(name) for name in own} if isinstance(own, dict) else set()
    found: dict[str, EngineChoice] = {}
    for name in map(str, names):
        quiet = Findings()
        choice = _section(kind, name, document, quiet)
        if choice is None or _fault(kind, name, choice) is not None:
            continue
        _check_options(kind, choice, quiet)
        if not quiet.errors and (name in owned or (kind, choice.type) not in OPTIONS):
            found[name] = choice
    return found


def _selected_names(kind: str, document: Mapping[str, Any], findings: Findings) -> tuple[list[str], bool]:
    """The names, and whether they stood in a list."""
    selected = document.get("selected_module")
    entry = selected.get(kind) if isinstance(selected, dict) else None
    if entry is None or entry == "":
        return [], False
    if isinstance(entry, str):
        return [entry], False
    if not KINDS[kind].has_chain:
        findings.refuse(f"selected_module.{kind}", entry, f"the name of a section of {kind}")
        return [], False
    if not isinstance(entry, list) or not entry or not all(isinstance(name, str) and name for name in entry):
        findings.refuse(f"selected_module.{kind}", entry, f"the name of a section of {kind}, or a list of such names")
        return [], False
    return list(dict.fromkeys(entry)), True


def _usable(
    kind: str, name: str, document: Mapping[str, Any], findings: Findings, *, asked: bool
) -> EngineChoice | None:
    found = _section(kind, name, document, findings)
    fault = _fault(kind, name, found)
    if fault is not None:
        if asked:
            findings.warn(f"selected_module.{kind}", fault)
        return None
    assert found is not None
    _check_options(kind, found, findings)
    return found


def _check_options(kind: str, choice: EngineChoice, findings: Findings) -> None:
    model = OPTIONS.get((kind, choice.type))
    if model is None:
        return
    try:
        model.of(choice)
    except InvalidConfigError as error:
        findings.errors += error.errors


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
    if kind == "LLM" and type_name in llm_section.TYPES:
        options = llm_section.checked_options(f"LLM.{name}", type_name, options, findings)
    return EngineChoice(name=name, type=type_name, options=options)


def _fault(kind: str, name: str, found: EngineChoice | None) -> str | None:
    module = KINDS[kind]
    if found and found.type in module.types:
        return llm_section.fault_of(found) if kind == "LLM" else None
    what = f"{name} is of type {found.type}, which" if found and found.type else f"{name}"
    return f"{what} is not supported yet; the nearest engine is {module.nearest}, {module.used}"
