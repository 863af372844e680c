"""Tables: made once, brought up to date by those who may, waited for by the others, never touched if they are newer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from shared.store.faults import SchemaNewerError, SchemaOldError, StoreDownError
from shared.store.migrate import MIGRATIONS, migrate, version_of
from shared.store.schema import METADATA, SCHEMA_VERSION, VERSION_TABLE
from shared.store.store import Store
from tests.fakes.stores import StorePlace

pytestmark = pytest.mark.contract


def test_the_version_this_program_names_is_the_last_migrations() -> None:
    """Processes that only wait do not read the migrations."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_VERSION]


async def test_migrations_make_the_tables_that_the_program_writes_to(place: StorePlace) -> None:
    """Columns, keys, indexes: no difference between the two descriptions."""

    def differences(connection: Connection) -> list[object]:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), METADATA))

    async with place.opened() as store, store.database.reading() as connection:
        assert await connection.run_sync(differences) == []


async def test_two_that_migrate_at_once_make_the_tables_once(place: StorePlace) -> None:
    """Processes of several machines start together."""
    processes = [await place.process("migrate") for _ in range(3)]
    await asyncio.gather(*(process.communicate() for process in processes))
    assert [process.returncode for process in processes] == [0, 0, 0]
    async with place.opened(migrates=False, wait_s=0) as store:
        assert await store.ownership.latest() == 0


async def test_migrating_again_changes_nothing(place: StorePlace) -> None:
    """Every start does it."""
    async with place.database() as database:
        assert await migrate(database, 10.0)
        assert not await migrate(database, 10.0)


async def test_a_migration_that_is_broken_off_leaves_no_table(
    place: StorePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one transaction, the making of tables included."""

    def break_off(*_: object) -> None:
        raise RuntimeError

    async with place.database() as database:
        monkeypatch.setattr(MigrationContext, "_ensure_version_table", break_off)
        with pytest.raises(RuntimeError):
            await migrate(database, 0.0)
        monkeypatch.undo()
        assert await migrate(database, 10.0)


async def test_who_may_not_migrate_waits_until_somebody_has(place: StorePlace) -> None:
    """Workers start before the web process is done."""
    waiting = asyncio.create_task(Store.open(place.settings, place.data_dir, wait_s=60.0))
    await asyncio.sleep(0)
    async with place.opened() as store:
        other = await waiting
        claim = await other.ownership.claim("d", "w", 1.0)
        assert await store.ownership.latest() == claim.epoch
        await other.close()


async def test_the_wait_has_an_end_that_says_what_is_missing(place: StorePlace) -> None:
    """Which version was found, which is needed, and who makes it."""
    if not place.is_sqlite:
        async with place.database() as database:
            await migrate(database, 10.0)
            await set_version(database, "0000")
    with pytest.raises(SchemaOldError, match=f"none|0000.*needs {SCHEMA_VERSION}.*xiaozhi up") as caught:
        async with place.opened(migrates=False, wait_s=0.1):
            pass
    assert (caught.value.found, caught.value.wanted) == (None if place.is_sqlite else "0000", SCHEMA_VERSION)


async def set_version(database: object, version: str) -> None:
    async with database.writing() as connection:  # type: ignore[attr-defined]
        await connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{version}'"))


@pytest.mark.parametrize("migrates", [True, False])
async def test_tables_of_a_newer_program_are_refused_at_once_and_left_alone(place: StorePlace, migrates: bool) -> None:
    """Both versions are named; an old program never writes into new tables."""
    async with place.opened() as store:
        await set_version(store.database, "0907")
    with pytest.raises(SchemaNewerError, match=f"0907.*{SCHEMA_VERSION}"):
        async with place.opened(migrates=migrates, wait_s=60.0):
            pass
    async with place.database() as database, database.reading() as connection:
        assert await connection.run_sync(version_of) == "0907"


def test_the_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    """It holds what people said, its write-ahead log too."""

    async def modes() -> set[int]:
        async with StorePlace.at(tmp_path).opened():
            return modes_in(tmp_path)

    assert asyncio.run(modes()) == {0o600}


def modes_in(directory: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in directory.glob("store.db*")}


async def test_a_directory_that_cannot_be_written_is_named(as_plain_user: Path) -> None:
    """The operator sees which one, and why."""
    closed = as_plain_user / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(StoreDownError, match=r"closed/store\.db: Permission denied"):
        async with StorePlace.at(closed).opened(wait_s=0):
            pass


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """It is not overwritten."""
    path = tmp_path / "store.db"
    path.write_bytes(b"something else entirely\n" * 100)
    with pytest.raises(StoreDownError, match="SQLITE_NOTADB"):
        async with StorePlace.at(tmp_path).opened(wait_s=0):
            pass
    assert path.read_bytes().startswith(b"something else")
