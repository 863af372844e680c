"""Stores for tests: where one lies, how to open it, and the values that are written into it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shared.settings import StoreSettings
from shared.store.database import Database, store_url
from shared.store.model import Claim, Commit, Parcel, StoredMessage, StoredTurn
from shared.store.store import Store

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A database that is empty at first."""

    settings: StoreSettings
    data_dir: Path

    @classmethod
    def at(cls, data_dir: Path) -> StorePlace:
        """SQLite in a directory."""
        return cls(StoreSettings(), data_dir)

    def with_settings(self, **changed: Any) -> StorePlace:
        return replace(self, settings=self.settings.model_copy(update=changed))

    @property
    def is_sqlite(self) -> bool:
        return not self.settings.url

    @asynccontextmanager
    async def opened(self, **arguments: Any) -> AsyncIterator[Store]:
        """By a process that migrates, unless said otherwise."""
        store = await Store.open(self.settings, self.data_dir, **{"migrates": True, **arguments})
        try:
            yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """Without a look at its tables."""
        database = Database(store_url(self.settings, self.data_dir), self.settings.pool_size)
        try:
            yield database
        finally:
            await database.close()

    async def process(self, *words: str) -> asyncio.subprocess.Process:
        """Another process with this store: tests.fakes.store_process."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.fakes.store_process",
            self.settings.url,
            str(self.data_dir),
            *words,
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )


def turn(gen: int, at_s: float = 0.0, *, session: str = "s", words: str = "hello", messages: int = 2) -> StoredTurn:
    roles = ("user", "assistant")
    return StoredTurn(
        session, gen, at_s, tuple(StoredMessage(roles[n % 2], f"{words} {gen}.{n}") for n in range(messages))
    )


def commit_of(claim: Claim, *gens: int, at_s: float = 0.0, **parts: Any) -> Commit:
    return Commit(claim, tuple(turn(gen, at_s) for gen in gens), **parts)


def parcel(n: int = 0, *, session: str = "s", kind: str = "report", device: str = "d", **parts: Any) -> Parcel:
    return Parcel(kind, session, device, {"n": n}, **parts)
