"""What the web process does for the store: makes and migrates its tables, removes what is old, measures the outbox.

Rules
- Tables of a newer program end the process that starts. A store that is down does not: it is tried again, as devices
  need their settings whatever the store does.
- Several web processes may do it; the sweep is done by the one with the lease.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from shared.settings import StoreSettings
from shared.store.faults import SchemaNewerError, StoreError
from shared.store.metrics import OUTBOX_OLDEST_SECONDS, OUTBOX_WAITING, STORE_UP
from shared.store.migrate import load_migrator
from shared.store.retention import SWEEP_LEASE, sweep, take_lease
from shared.store.schema import SCHEMA_VERSION
from shared.store.store import Opening, Store

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 10.0


class Upkeep:
    def __init__(
        self,
        settings: StoreSettings,
        data_dir: Path,
        *,
        now: Callable[[], float] = time.time,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._settings = settings
        self._data_dir = data_dir
        self._now = now
        self._look_every_s = look_every_s
        self._holder = f"{socket.gethostname()}/{os.getpid()}"
        self._store: Store | None = None
        self._next_sweep_s = 0.0
        self._is_up: bool | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Upkeep({self._store!r}, up={self._is_up})"

    async def start(self) -> None:
        """Raises ConfigError and SchemaNewerError; a store that is down is left to the task."""
        await self._look()
        if self._store is None:
            load_migrator()
        self._task = asyncio.create_task(self._run(), name="store-upkeep")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._store is not None:
            await self._store.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._look_every_s)
            try:
                await self._look()
            except SchemaNewerError as error:
                # It was down when this process started, and has been migrated since.
                self._note_down(error)

    async def _look(self) -> None:
        try:
            await self._tend()
        except SchemaNewerError:
            raise
        except StoreError as error:
            self._note_down(error)
        else:
            self._note_up()

    async def _tend(self) -> None:
        if self._store is None:
            self._store = await Store.open(self._settings, self._data_dir, migrates=True, wait_s=0)
            note_opening(self._store.opening)
        await self._measure(self._store)
        if self._now() >= self._next_sweep_s:
            await self._sweep(self._store)
            self._next_sweep_s = self._now() + self._settings.sweep_interval_s

    async def _measure(self, store: Store) -> None:
        backlog = await store.outbox.backlog()
        OUTBOX_WAITING.set(backlog.waiting)
        OUTBOX_OLDEST_SECONDS.set(max(0.0, self._now() - backlog.oldest_s) if backlog.oldest_s is not None else 0.0)

    async def _sweep(self, store: Store) -> None:
        lease_s = self._settings.sweep_interval_s / 2
        taking = take_lease(store.database, SWEEP_LEASE, self._holder, self._now(), lease_s)
        if await store.database.whole(taking):
            removed = await sweep(store.database, self._settings, self._now())
            if any(removed.values()):
                log.info("store_swept", **removed)

    def _note_down(self, error: StoreError) -> None:
        STORE_UP.set(0)
        if self._is_up is not False:
            log.error("store_unusable", code=error.code, error=str(error))
        self._is_up = False

    def _note_up(self) -> None:
        STORE_UP.set(1)
        if self._is_up is False:
            log.info("store_usable_again")
        self._is_up = True


def note_opening(opening: Opening) -> None:
    if opening.migrated:
        log.info("store_migrated", version=SCHEMA_VERSION)
    found = opening.imported
    if found is None:
        return
    if found.fault is not None:
        log.warning("memory_file_unusable", path=str(found.path), reason=found.fault, remedy="mend it and start again")
    else:
        log.info("memory_imported", path=str(found.path), notes=found.notes, passed_over=found.passed_over)
