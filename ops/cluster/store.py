"""What the `xiaozhi` command does with the store: brings it up to date before a cluster starts, removes a device.

No cluster is needed, and one that runs is not disturbed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

from shared.settings import Settings
from shared.store.memory_file import FILE_NAME, read_memory
from shared.store.model import Forgotten
from shared.store.store import Opening, Store

WAIT_S = 10.0
"""A person waits in front of it."""


def bring_up_to_date(settings: Settings) -> list[str]:
    """Makes or migrates the tables; returns what there is to tell. Raises ConfigError, StoreError."""
    return list(_told(asyncio.run(_opened(settings))))


async def _opened(settings: Settings) -> Opening:
    store = await Store.open(settings.store, settings.cluster.data_dir, migrates=True)
    await store.close()
    return store.opening


def _told(opening: Opening) -> Iterator[str]:
    found = opening.imported
    if found is None:
        return
    if found.fault is not None:
        yield f"warning: {found.path}: {found.fault}; nothing of it was imported. Mend it and start again, or remove it"
        return
    yield f"imported what was remembered of {counted(found.notes, 'device')} from {found.path}"
    if found.passed_over:
        yield f"warning: {counted(found.passed_over, 'entry', 'entries')} of {found.path} had no device-id or no text"


def forget(settings: Settings, device: str) -> list[str]:
    """Removes all that is stored of the device. What was removed, a line each; empty = nothing was there.

    Raises ConfigError, StoreError.
    """
    return list(removed(asyncio.run(_forget(settings, device))))


async def _forget(settings: Settings, device: str) -> Forgotten:
    store = await Store.open(settings.store, settings.cluster.data_dir, migrates=True, wait_s=WAIT_S)
    try:
        return await store.forget(device, time.time())
    finally:
        await store.close()


def removed(forgotten: Forgotten) -> Iterator[str]:
    """For people."""
    if forgotten.turns:
        yield f"{counted(forgotten.turns, 'turn')} of its conversations"
    if forgotten.notes:
        yield f"{counted(forgotten.notes, 'text')} of memory"
    if forgotten.parcels:
        yield f"{counted(forgotten.parcels, 'report')} not delivered yet, {forgotten.recordings} of them with sound"
    if forgotten.facts:
        yield "its owner, features, tools and speaker"


def counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def memory_file_with(settings: Settings, device: str) -> Path | None:
    """The file of today's server, if it still says something of the device. It is only ever read."""
    path = settings.cluster.data_dir / FILE_NAME
    try:
        return path if device in read_memory(path.read_text("utf-8-sig")).notes else None
    except (OSError, ValueError):
        return None
