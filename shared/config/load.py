"""Makes Settings out of the package's config.yaml, the user's data/.config.yaml and the XZ_* variables, in this order.

A process of a running cluster reads the copy of the user's file that its epoch names (shared.config.epoch).

Rules: the later source wins; mappings are merged, lists replaced; a key without a value is not set. Everything wrong is
found in one go and raised as one InvalidConfigError. What is merely ignored or replaced becomes a ConfigWarning, which
the caller logs once. Values of secret keys appear in neither.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shared.config import auth_key, epoch
from shared.config.checks import CHECKS, normalised
from shared.config.ear_patience import with_ear_patience
from shared.config.end_of_speech import disagreements
from shared.config.engine_choice import KINDS, NOT_HERE, choose, usable
from shared.config.field_words import expected, field_of, is_bool
from shared.config.findings import ConfigWarning, Findings
from shared.config.keys import (
    FREE,
    LISTS,
    MAY_BE_PLACEHOLDER,
    MODULES,
    NOTES,
    QUIET,
    SETTINGS,
    VAD_OPTIONS,
    VARIABLES,
)
from shared.config.options.base import is_placeholder
from shared.config.run_dir import default_run_dir
from shared.config.strict_yaml import parse
from shared.errors import ConfigError, InvalidConfigError
from shared.listening import VadProfile
from shared.settings import Settings, VoiceprintSettings
from shared.voiceprint import address_of

PACKAGE_FILE = Path(__file__).with_name("config.yaml")
USER_FILE = ".config.yaml"

_KEY_OF = {target: key for key, targets in SETTINGS.items() for target in targets}
_KNOWN = frozenset(SETTINGS) | frozenset(NOTES) | {f"selected_module.{kind}" for kind in MODULES}


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this process. Raises ConfigError."""
    return load_with_warnings(environ)[0]


def load_with_warnings(
    environ: Mapping[str, str] = os.environ, user_file: Path | None = None
) -> tuple[Settings, list[ConfigWarning]]:
    """The settings, and what in the configuration is ignored or replaced. Raises ConfigError.

    `user_file` is read instead of the data directory's.
    """
    data_dir = Path(environ.get("XZ_DATA_DIR") or "data").expanduser().absolute()
    agreed_file, number = _source(data_dir, environ)
    user = _read(user_file or agreed_file)
    findings = Findings()
    document = _merged(_read(PACKAGE_FILE), user, "", findings)
    variables = _overlay_variables(document, environ)
    raw = _raw_settings(document, variables, findings)
    _add_engines(raw, document, user, findings)
    _add_directories(raw, data_dir)
    _note_ignored(user, findings)
    raw["epoch"] = number
    settings = with_ear_patience(_validated(raw, document, variables, findings))
    _note_voiceprint(settings.voiceprint, findings)
    return _with_auth_key(settings, document, findings), findings.warnings


def _source(data_dir: Path, environ: Mapping[str, str]) -> tuple[Path, int]:
    """The user's file and its epoch: what the running cluster has agreed on, for its processes, else what is there."""
    directory = environ.get(epoch.VARIABLE)
    number = epoch.current_epoch(Path(directory)) if directory else None
    if directory and number is not None:
        return epoch.file_of(Path(directory), number), number
    return data_dir / USER_FILE, epoch.FIRST_EPOCH


def _read(path: Path) -> dict[str, Any]:
    try:
        return parse(path.read_text("utf-8-sig"), str(path))
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise ConfigError(str(path), "bytes that are no UTF-8", "a text file in UTF-8") from None
    except OSError as error:
        raise ConfigError(str(path), error.strerror, "a file that can be read, or none") from None


def _merged(base: dict[str, Any], over: dict[str, Any], path: str, findings: Findings) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        key = f"{path}{name}"
        old = merged.get(name)
        if value is None:
            continue
        if isinstance(old, dict) and not isinstance(value, dict):
            findings.refuse(key, value, "a section of `key: value` lines")
        elif isinstance(old, dict):
            merged[name] = _merged(old, value, f"{key}.", findings)
        else:
            merged[name] = value
    return merged


def _overlay_variables(document: dict[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Put variables into the document; returns which key came from which variable."""
    origin = {}
    for variable, key in VARIABLES.items():
        text = environ.get(variable, "").strip()
        if text:
            *parents, name = key.split(".")
            section = document
            for parent in parents:
                section = section.setdefault(parent, {})
            section[name] = text.replace(",", " ").replace(";", " ").split() if variable in LISTS else text
            origin[key] = variable
    return origin


def _dig(document: Mapping[str, Any], key: str) -> Any:
    value: Any = document
    for part in key.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def _raw_settings(document: Mapping[str, Any], variables: Mapping[str, str], findings: Findings) -> dict[str, Any]:
    raw: dict[str, Any] = {}
    for key, targets in SETTINGS.items():
        value = normalised(key, _dig(document, key))
        if value in (None, "") or (key in MAY_BE_PLACEHOLDER and is_placeholder(value)):
            continue
        wanted = _wanted(key, targets[0], value)
        if wanted:
            findings.refuse(variables.get(key, key), value, wanted)
            continue
        for target in targets:
            _put(raw, target, value)
    return raw


def _wanted(key: str, target: str, value: object) -> str | None:
    """What `key` should be, if pydantic would accept `value` although it is something else."""
    if isinstance(value, bool) != is_bool(field_of(target)):
        return expected(target)
    return CHECKS[key](value) if key in CHECKS else None


def _put(raw: dict[str, Any], target: str, value: Any) -> None:
    *parents, name = target.split(".")
    for parent in parents:
        raw = raw.setdefault(parent, {})
    raw[name] = value


def _add_engines(raw: dict[str, Any], document: dict[str, Any], user: dict[str, Any], findings: Findings) -> None:
    chosen = {kind: choose(kind, document, findings, asked=_is_asked(kind, user)) for kind in KINDS}
    for kind, section in (("ASR", "asr"), ("TTS", "tts")):
        chain = chosen[kind]
        _put(raw, f"{section}.engine", chain.engine)
        _put(raw, f"{section}.fallbacks", tuple(engine.name for engine in chain.fallbacks))
        _put(raw, f"{section}.engines", usable(kind, document, user) | {each.name: each for each in chain.fallbacks})
    _put(raw, "session.llm", chosen["LLM"].engine)
    _put(raw, "session.engines", usable("LLM", document, user))
    if intent := chosen["Intent"].engine:
        _put(raw, "session.intent", intent.type)
    vad = chosen["VAD"].engine
    profile = _vad_profile(vad.name if vad else "", vad.options if vad else {}, findings)
    _put(raw, "router.vad", profile)
    if asr := chosen["ASR"].engine:
        findings.warnings += disagreements(asr, profile)
    for kind, words in NOT_HERE.items():
        if _dig(user, f"selected_module.{kind}"):
            findings.warn(f"selected_module.{kind}", words)


def _is_asked(kind: str, user: Mapping[str, Any]) -> bool:
    return bool(_dig(user, f"selected_module.{kind}") or user.get(kind))


def _vad_profile(section: str, options: Mapping[str, Any], findings: Findings) -> VadProfile:
    values: dict[str, Any] = {}
    for option, name in VAD_OPTIONS.items():
        value = options.get(option)
        if value is None:
            continue
        key, wanted = f"VAD.{section}.{option}", CHECKS[f"VAD.{option}"](value)
        if wanted:
            findings.refuse(key, value, wanted)
        else:
            values[name] = float(value) if option.startswith("threshold") else int(value)
    profile = VadProfile(**values)
    if profile.threshold_low > profile.threshold:
        key = f"VAD.{section}.threshold_low"
        findings.warn(key, f"{profile.threshold_low} is above threshold, so {profile.threshold} is used")
        profile = VadProfile(**{**values, "threshold_low": profile.threshold})
    return profile


def _add_directories(raw: dict[str, Any], data_dir: Path) -> None:
    cluster = raw.setdefault("cluster", {})
    cluster["data_dir"] = data_dir
    run_dir = cluster.get("run_dir") or default_run_dir(data_dir, os.geteuid())
    cluster["run_dir"] = Path(run_dir).expanduser().absolute() if isinstance(run_dir, str | Path) else run_dir
    directory = raw.get("log", {}).get("directory")
    if isinstance(directory, str):
        raw["log"]["directory"] = Path(directory).expanduser().absolute()


def _validated(
    raw: dict[str, Any], document: Mapping[str, Any], variables: Mapping[str, str], findings: Findings
) -> Settings:
    settings = Settings()
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        for key, target in dict(_wrong_keys(error)).items():
            findings.refuse(variables.get(key, key), _dig(document, key), expected(target))
    if findings.errors:
        raise InvalidConfigError(sorted(findings.errors, key=lambda error: error.key))
    return settings


def _wrong_keys(error: ValidationError) -> Iterator[tuple[str, str]]:
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        parts = [str(part) for part in problem["loc"]]
        while parts and ".".join(parts) not in _KEY_OF:
            parts.pop()
        target = ".".join(parts)
        yield _KEY_OF[target], target


def _with_auth_key(settings: Settings, document: Mapping[str, Any], findings: Findings) -> Settings:
    if not settings.auth.enabled:
        findings.warn("server.auth.enabled", "false: every device that reaches the port is let in")
    key = settings.auth.key or _usable_secret(_dig(document, "manager-api.secret"))
    if not key:
        key = auth_key.read_or_create(settings.cluster.data_dir)
        if auth_key.is_open_to_others(settings.cluster.data_dir):
            file = settings.cluster.data_dir / auth_key.FILE_NAME
            findings.warn("server.auth_key", f"{file} can be read by other users: chmod 600 it")
    return settings.model_copy(update={"auth": settings.auth.model_copy(update={"key": key})})


def _usable_secret(value: object) -> str:
    return value if isinstance(value, str) and not is_placeholder(value) else ""


def _note_ignored(user: Mapping[str, Any], findings: Findings) -> None:
    for key, value in _leaves(user, ""):
        if key in NOTES:
            if NOTES[key] and _is_real(value) and (key not in QUIET or value != QUIET[key]):
                findings.warn(key, NOTES[key])
        elif key not in SETTINGS and not _is_named_by_user(key):
            findings.warn(key, _unknown(key))


def _note_voiceprint(voiceprint: VoiceprintSettings, findings: Findings) -> None:
    """Half of what it needs is a mistake; speakers alone are not: today's example has some."""
    if voiceprint.url and not voiceprint.known:
        missing = "voiceprint.speakers is empty" if address_of(voiceprint.url) else "it has no ?key="
        findings.warn("voiceprint.url", f"nobody is told apart: {missing}")


def _leaves(section: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Keys as far down as they are known; an unknown section is one leaf."""
    for name, value in section.items():
        key = f"{path}{name}"
        is_inner = any(known.startswith(f"{key}.") for known in _KNOWN)
        if key not in _KNOWN and is_inner and isinstance(value, dict):
            yield from _leaves(value, f"{key}.")
        elif not (is_inner and value is None):
            yield key, value


def _is_named_by_user(key: str) -> bool:
    return key in _KNOWN or key.partition(".")[0] in FREE


def _is_real(value: object) -> bool:
    """Whether a value says anything: not empty, not an example."""
    if isinstance(value, dict | list):
        return any(_is_real(item) for item in (value.values() if isinstance(value, dict) else value))
    return value not in (None, "") and not is_placeholder(value)


def _unknown(key: str) -> str:
    candidates = {".".join(known.split(".")[: key.count(".") + 1]) for known in _KNOWN} | set(MODULES)
    close = difflib.get_close_matches(key, candidates, n=1, cutoff=0.75)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"unknown {'section' if '.' not in key else 'key'}, ignored{hint}"
