"""Bringing the tables up to date, and waiting for whoever does.

Rules
- All migrations run in one transaction, behind a lock: of two that begin at once, the second finds the work done. A
  process that dies in the middle leaves the tables as they were.
- A version that this program does not know was made by a newer one: refused by everybody, at once.
- A store that is down is waited for, until the deadline.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, column, inspect, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential, wait_random

from shared.store.database import Database
from shared.store.faults import SchemaNewerError, SchemaOldError, StoreDownError
from shared.store.schema import SCHEMA_VERSION, VERSION_TABLE

Result = TypeVar("Result")

MIGRATIONS = Path(__file__).with_name("migrations")
MIGRATION_LOCK = 0x78_69_61_6F_7A_68_69
"""PostgreSQL's advisory lock of whoever changes the tables: "xiaozhi" in ASCII."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0


async def migrate(database: Database, wait_s: float) -> bool:
    """Whether anything had to be changed. Raises SchemaNewerError, StoreDownError."""

    async def attempt() -> bool:
        database.prepare()
        async with database.writing() as connection:
            return await _upgrade(connection)

    return await _until(database, attempt, wait_s, (StoreDownError,))


async def wait_until_current(database: Database, wait_s: float) -> None:
    """Raises SchemaNewerError at once; SchemaOldError or StoreDownError after `wait_s`."""

    async def attempt() -> None:
        database.prepare()
        async with database.reading() as connection:
            check_version(await connection.run_sync(version_of))

    await _until(database, attempt, wait_s, (SchemaOldError, StoreDownError))


async def _until(
    database: Database,
    attempt: Callable[[], Coroutine[Any, Any, Result]],
    wait_s: float,
    retried: tuple[type[Exception], ...],
) -> Result:
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(retried),
        stop=stop_after_delay(wait_s),
        wait=wait_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S) + wait_random(0, FIRST_PAUSE_S),
        sleep=asyncio.sleep,
        reraise=True,
    )

    async def whole_attempt() -> Result:
        return await database.whole(attempt())

    return await retrying(whole_attempt)


def version_of(connection: Connection) -> str | None:
    """None = there are no tables yet."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar()


def check_version(found: str | None) -> None:
    """Raises SchemaNewerError, SchemaOldError."""
    refuse_newer(found)
    if found != SCHEMA_VERSION:
        raise SchemaOldError(
            found,
            SCHEMA_VERSION,
            f"the store has schema version {found or 'none'}, this program needs {SCHEMA_VERSION}: "
            "nobody has migrated it; `xiaozhi up` and the web process do",
        )


def refuse_newer(found: str | None) -> None:
    """Raises SchemaNewerError. Versions are numbers of four digits."""
    if found is not None and found > SCHEMA_VERSION:
        raise SchemaNewerError(
            found,
            SCHEMA_VERSION,
            f"the store has schema version {found}, made by a newer program; this one knows up to {SCHEMA_VERSION} and "
            "must not write to it: upgrade this program, or give it a store of its own",
        )


async def _upgrade(connection: AsyncConnection) -> bool:
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
    found = await connection.run_sync(version_of)
    refuse_newer(found)
    if found == SCHEMA_VERSION:
        return False
    await connection.run_sync(_run_migrations)
    return True


def load_migrator() -> None:
    """Import what migrates: a quarter of a second for which a loop that serves already must not stand still."""
    importlib.import_module("alembic.command")


def _run_migrations(connection: Connection) -> None:
    # Only who migrates pays for it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
