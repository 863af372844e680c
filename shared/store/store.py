"""The store of one process: its database, and the four things it keeps.

Who may change the tables says `migrates=True`: `xiaozhi up`, the web process, `xiaozhi devices`; the memory file of
today's server is imported then too. Everybody else waits until they fit. A store whose tables are newer than this
program is never opened.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from shared.settings import StoreSettings
from shared.store.claims import StoredOwnership
from shared.store.database import Database, store_url
from shared.store.dialogues import StoredDialogues
from shared.store.forgetting import forget
from shared.store.memory import StoredMemory
from shared.store.memory_file import MemoryImport, import_memory
from shared.store.migrate import migrate, wait_until_current
from shared.store.model import Dialogues, Forgotten, Memory, Outbox, Ownership
from shared.store.outbox import StoredOutbox


@dataclass(frozen=True, slots=True)
class Opening:
    """What had to be done when a store was opened."""

    migrated: bool = False
    imported: MemoryImport | None = None


class Store:
    """Open it on the loop that uses it, and close it there. Its parts may be used by any task of that loop."""

    def __init__(self, database: Database, settings: StoreSettings, opening: Opening) -> None:
        self.database = database
        self.opening = opening
        self.ownership: Ownership = StoredOwnership(database)
        self.dialogues: Dialogues = StoredDialogues(database)
        self.memory: Memory = StoredMemory(database)
        self.outbox: Outbox = StoredOutbox(database, settings.outbox_attempts)

    def __repr__(self) -> str:
        return f"Store({self.database!r})"

    @classmethod
    async def open(
        cls, settings: StoreSettings, data_dir: Path, *, migrates: bool = False, wait_s: float | None = None
    ) -> Store:
        """`wait_s`: how long to wait for a store that is down or old; None = `settings.wait_s`.

        Raises ConfigError for an unusable URL, SchemaNewerError at once, SchemaOldError or StoreDownError when the
        wait is over.
        """
        database = Database(store_url(settings, data_dir), settings.pool_size)
        longest_s = settings.wait_s if wait_s is None else wait_s
        try:
            if migrates:
                migrated = await migrate(database, longest_s)
                opening = Opening(migrated, await database.whole(import_memory(database, data_dir, time.time())))
            else:
                opening = Opening()
                await wait_until_current(database, longest_s)
        except BaseException:
            await database.close()
            raise
        return cls(database, settings, opening)

    async def forget(self, device: str, now: float) -> Forgotten:
        """Remove all that is stored of it; whoever holds it loses it. Raises StoreDownError."""
        return await self.database.whole(forget(self.database, device, now))

    async def close(self) -> None:
        """Work under way is not waited for: end its tasks first."""
        await self.database.close()
