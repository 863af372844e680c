"""`data/.memory.yaml` of today's server (its `mem_local_short`): device-id → what is remembered of it. Imported once.

Rules
- The import is a row of the store, written in the same transaction as what was imported: it happens once, whoever else
  starts at the same time, and never again. Memory that is there already is newer and stays.
- A file that is no YAML mapping is named and left for the next start. So is nothing else: an entry that is no text is
  counted and passed over.
- Everything in the file is read as text: a device-id of digits and colons would otherwise be a number of YAML 1.1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import select

from shared.identity.auth import clean_device_id
from shared.store.database import Database
from shared.store.model import DEFAULT_ROLE
from shared.store.schema import IMPORTS, MEMORY
from shared.store.statements import insert_into
from shared.store.text import clean

FILE_NAME = ".memory.yaml"
IMPORT_NAME = "memory.yaml"
MOST_NOTE_CHARS = 100_000


@dataclass(frozen=True, slots=True)
class MemoryFile:
    """What was read: device-id → text, and how many entries were unusable."""

    notes: dict[str, str]
    passed_over: int


@dataclass(frozen=True, slots=True)
class MemoryImport:
    """What became of a file that was there and had not been imported yet."""

    path: Path
    notes: int = 0
    passed_over: int = 0
    fault: str | None = None
    """Why nothing was imported."""


class MemoryFileError(ValueError):
    """The file is not what it should be. The message has a position and no content."""


def read_memory(text: str) -> MemoryFile:
    """Raises MemoryFileError."""
    try:
        # Makes texts, lists and mappings only. Not libyaml's: deep nesting ends the process there.
        document = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "its beginning"
        raise MemoryFileError(f"no YAML at {where}") from None
    except (yaml.YAMLError, RecursionError):
        raise MemoryFileError("no YAML") from None
    if document in (None, ""):
        return MemoryFile({}, 0)
    if not isinstance(document, dict):
        raise MemoryFileError("no mapping of device-ids to texts")
    notes = {}
    for key, value in document.items():
        device, note = clean_device_id(key if isinstance(key, str) else None), _note(value)
        if device is not None and note:
            notes[device] = note
    return MemoryFile(notes, len(document) - len(notes))


def _note(value: Any) -> str:
    note = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "" if note in ("", "null", "~") or len(note) > MOST_NOTE_CHARS else clean(note)


async def import_memory(database: Database, data_dir: Path, now: float) -> MemoryImport | None:
    """None = there was nothing to do. Raises StoreDownError."""
    path = data_dir / FILE_NAME
    if not path.exists() or await _is_imported(database):
        return None
    try:
        found = read_memory(path.read_text("utf-8-sig"))
    except MemoryFileError as error:
        return MemoryImport(path, fault=str(error))
    except (OSError, UnicodeDecodeError) as error:
        return MemoryImport(path, fault=type(error).__name__)
    is_first = await _import(database, found, now)
    return MemoryImport(path, len(found.notes), found.passed_over) if is_first else None


async def _is_imported(database: Database) -> bool:
    async with database.reading() as connection:
        statement = select(IMPORTS.c.name).where(IMPORTS.c.name == IMPORT_NAME)
        return (await connection.execute(statement)).first() is not None


async def _import(database: Database, found: MemoryFile, now: float) -> bool:
    row = {"name": IMPORT_NAME, "at_s": now, "entries": len(found.notes)}
    rows = [
        {"device": device, "role": DEFAULT_ROLE, "text": text, "updated_s": now} for device, text in found.notes.items()
    ]
    async with database.writing() as connection:
        statement = insert_into(IMPORTS, connection).values(**row).on_conflict_do_nothing().returning(IMPORTS.c.name)
        if (await connection.execute(statement)).first() is None:
            return False
        if rows:
            await connection.execute(insert_into(MEMORY, connection).on_conflict_do_nothing(), rows)
    return True
