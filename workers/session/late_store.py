"""The store of a process that does not wait for it: opened when it can be, and down until then."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from shared.errors import EngineError
from shared.settings import StoreSettings
from shared.store.faults import SchemaError, SchemaNewerError, StoreDownError, StoreError
from shared.store.model import NEWCOMER, Claim, Claimant, Commit, Dialogues, Losses, Ownership, StoredTurn
from shared.store.store import Store

log = structlog.get_logger(__name__)

START_WAIT_S: Final = 1.0
"""A worker that starts waits so long at most; talk needs no store."""

CLOSE_WAIT_S: Final = 1.0
RETRY_S: Final = 0.5
SAID_EVERY: Final = 120
"""Tries to open it between two lines about it."""


class LateStore:
    """`Ownership` and `Dialogues` of shared.store.model; each raises StoreDownError until the store is open."""

    def __init__(self, settings: StoreSettings, data_dir: Path) -> None:
        self._settings = settings
        self._data_dir = data_dir
        self._store: Store | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def __repr__(self) -> str:
        return f"LateStore({self._store!r})"

    async def start(self) -> None:
        """Raises ConfigError for an unusable URL, EngineError for tables that a newer program has made."""
        self._opening = asyncio.create_task(self._open(), name="store-open")
        await asyncio.wait((self._opening,), timeout=START_WAIT_S)
        if not self._opening.done():
            log.warning("store_late", waited_s=START_WAIT_S)
            return
        try:
            self._opening.result()
        except SchemaNewerError as error:
            raise EngineError(str(error), code=error.code) from error

    async def close(self) -> None:
        self._closing.set()
        if self._opening is not None:
            await asyncio.wait((self._opening,), timeout=CLOSE_WAIT_S)
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._store is not None:
            await self._store.close()

    async def _open(self) -> None:
        pauses = 0
        while not self._closing.is_set():
            try:
                self._store = await Store.open(self._settings, self._data_dir, wait_s=0)
            except SchemaNewerError as error:
                log.critical("store_too_new", found=error.found, wanted=error.wanted)
                raise
            except (SchemaError, StoreDownError) as error:
                if not pauses % SAID_EVERY:
                    log.warning("store_not_open", code=error.code)
                pauses += 1
                await self._pause()
            else:
                await self._warm_up(self._store)
                return

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(RETRY_S):
                await self._closing.wait()

    async def _warm_up(self, store: Store) -> None:
        """The first use of a statement builds it: better now than in somebody's turn."""
        try:
            await store.ownership.lost("", 0)
            await store.dialogues.load("", 0.0, 0.0, 1)
        except StoreError as error:
            log.warning("store_not_warm", code=error.code)

    @property
    def _ownership(self) -> Ownership:
        return self._opened().ownership

    @property
    def _dialogues(self) -> Dialogues:
        return self._opened().dialogues

    def _opened(self) -> Store:
        if self._store is None:
            raise StoreDownError("the store is not open yet", code="not_open")
        return self._store

    # shared.store.model.Ownership

    async def claim(self, device: str, holder: str, now: float, *, by: Claimant = NEWCOMER) -> Claim:
        return await self._ownership.claim(device, holder, now, by=by)

    async def lost(self, holder: str, since: int) -> Losses:
        return await self._ownership.lost(holder, since)

    async def latest(self) -> int:
        return await self._ownership.latest()

    # shared.store.model.Dialogues

    async def load(self, device: str, now: float, window_s: float, limit: int) -> list[StoredTurn]:
        return await self._dialogues.load(device, now, window_s, limit)

    async def commit(self, commit: Commit, now: float) -> None:
        await self._dialogues.commit(commit, now)
