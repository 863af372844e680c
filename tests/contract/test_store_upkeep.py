"""What the web process does for the store: what is too old or too many goes, the rest stays; the same on both kinds."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import func, select
from structlog.testing import capture_logs

from shared.store.faults import SchemaNewerError
from shared.store.model import Commit
from shared.store.retention import BATCH_ROWS, DAY_S, sweep, take_lease
from shared.store.schema import DEVICES, MESSAGES
from shared.store.store import Store
from shared.store.upkeep import Upkeep
from tests.contract.test_store_schema import set_version
from tests.fakes.stores import StorePlace, commit_of, parcel, turn

pytestmark = pytest.mark.contract

NOW = 1000 * DAY_S
FOREVER_S = 1e12


async def gens_of(store: Store, device: str = "d") -> list[int]:
    return [one.gen for one in await store.dialogues.load(device, NOW, FOREVER_S, 100_000)]


async def count(store: Store, table: object) -> int:
    async with store.database.reading() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())  # type: ignore[arg-type]


async def test_what_is_older_than_the_settings_say_is_removed(place: StorePlace) -> None:
    """Turns, memory, parcels and devices, each by its own age; a day younger stays."""
    place = place.with_settings(history_days=30, memory_days=100, outbox_days=7)
    async with place.opened() as store:
        for days, device in ((29, "young"), (31, "old"), (101, "older")):
            then = NOW - days * DAY_S
            claim = await store.ownership.claim(device, "w", then)
            await store.dialogues.commit(commit_of(claim, 1, at_s=then, notes=(("", device),)), then)
        await store.outbox.put([parcel(1), parcel(2, session="t")], NOW - 8 * DAY_S)
        await store.outbox.put([parcel(3)], NOW - 6 * DAY_S)
        removed = await sweep(store.database, place.settings, NOW)
        assert removed == {"messages": 4, "memory": 1, "outbox": 2, "devices": 2}
        assert [await gens_of(store, device) for device in ("young", "old", "older")] == [[1], [], []]
        notes = [await store.memory.get(device) for device in ("young", "old", "older")]
        assert [note and note.text for note in notes] == ["young", "old", None]
        assert (await store.outbox.backlog()).waiting == 1
        assert not any((await sweep(store.database, place.settings, NOW)).values())


async def test_nothing_is_too_old_if_the_settings_say_for_ever(place: StorePlace) -> None:
    """0 days."""
    place = place.with_settings(history_days=0, memory_days=0)
    async with place.opened() as store:
        claim = await store.ownership.claim("d", "w", 0.0)
        await store.dialogues.commit(commit_of(claim, 1, notes=(("", "n"),)), 0.0)
        assert not any((await sweep(store.database, place.settings, NOW)).values())


async def test_a_device_that_talks_keeps_its_epoch_however_long_ago_it_was_claimed(place: StorePlace) -> None:
    """A connection may be older than its history."""
    async with place.opened() as store:
        claim = await store.ownership.claim("d", "w", 0.0)
        await store.dialogues.commit(commit_of(claim, 1, at_s=NOW), NOW)
        await sweep(store.database, place.settings, NOW)
        await store.dialogues.commit(commit_of(claim, 2, at_s=NOW), NOW)


async def test_a_device_that_was_removed_gets_a_higher_epoch_when_it_comes_back(place: StorePlace) -> None:
    """What an old session still holds of it must never count again."""
    async with place.opened() as store:
        old = await store.ownership.claim("d", "w", 0.0)
        await sweep(store.database, place.settings, NOW)
        assert await count(store, DEVICES) == 0
        assert (await store.ownership.claim("d", "w", NOW)).epoch > old.epoch


async def test_the_oldest_turns_beyond_the_number_are_removed(place: StorePlace) -> None:
    """Of each device by itself, whole turns, however many rows they have."""
    place = place.with_settings(max_turns_per_device=3)
    async with place.opened() as store:
        for device, turns in (("many", 9), ("three", 3), ("one", 1)):
            claim = await store.ownership.claim(device, "w", NOW)
            await store.dialogues.commit(
                Commit(claim, tuple(turn(gen, NOW, messages=1 + gen % 3) for gen in range(turns))), NOW
            )
        await sweep(store.database, place.settings, NOW)
        assert await gens_of(store, "many") == [6, 7, 8]
        assert [len(await gens_of(store, device)) for device in ("three", "one")] == [3, 1]
        assert await count(store, MESSAGES) == (1 + 2 + 3) + (1 + 2 + 3) + 1


async def test_much_is_removed_in_batches(place: StorePlace) -> None:
    """More rows than one batch holds, and writers get in between."""
    async with place.opened() as store:
        claim = await store.ownership.claim("d", "w", NOW)
        turns = BATCH_ROWS + 10
        await store.dialogues.commit(Commit(claim, tuple(turn(gen, 0.0) for gen in range(turns))), NOW)
        sweeping = asyncio.create_task(sweep(store.database, place.settings, NOW))
        await store.dialogues.commit(commit_of(claim, 5000, at_s=NOW), NOW)
        assert (await sweeping)["messages"] == 2 * turns
        assert await gens_of(store) == [5000]


async def test_one_holder_at_a_time_has_the_lease(place: StorePlace) -> None:
    """It may prolong it; another takes it when it ends."""
    async with place.opened() as store:
        database = store.database
        assert await take_lease(database, "sweep", "a", 100.0, 10.0)
        assert not await take_lease(database, "sweep", "b", 105.0, 10.0)
        assert await take_lease(database, "other", "b", 105.0, 10.0)
        assert await take_lease(database, "sweep", "a", 109.0, 10.0)
        assert not await take_lease(database, "sweep", "b", 118.9, 10.0)
        assert await take_lease(database, "sweep", "b", 119.0, 10.0)


# the task


def up() -> float | None:
    return REGISTRY.get_sample_value("xz_store_up")


async def until(condition: object) -> None:
    async with asyncio.timeout(60):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110  the upkeep tells nobody
            await asyncio.sleep(0.01)


async def test_the_upkeep_makes_the_tables_imports_sweeps_and_measures(place: StorePlace) -> None:
    """All a store needs when the web process runs alone."""
    (place.data_dir / ".memory.yaml").write_text("d: likes cats\n", "utf-8")
    times = iter([NOW] * 4)
    upkeep = Upkeep(place.settings, place.data_dir, now=lambda: next(times, NOW + 60), look_every_s=0.01)
    await upkeep.start()
    async with place.opened(migrates=False, wait_s=0) as store:
        note = await store.memory.get("d")
        assert note is not None and note.text == "likes cats"
        await store.outbox.put([parcel(1)], NOW)
        await until(lambda: REGISTRY.get_sample_value("xz_outbox_waiting") == 1)
        await until(lambda: REGISTRY.get_sample_value("xz_outbox_oldest_seconds") == 60)
    assert up() == 1
    await upkeep.close()


async def test_the_upkeep_sweeps_again_and_again_and_only_with_the_lease(place: StorePlace) -> None:
    """Two web processes do not remove the same rows at once."""
    clock = [NOW]
    place = place.with_settings(sweep_interval_s=10.0)
    async with place.opened() as store:
        claim = await store.ownership.claim("d", "w", NOW)
        assert await take_lease(store.database, "sweep", "another", NOW, 15.0)
        await store.dialogues.commit(commit_of(claim, 1, at_s=0.0), NOW)
        upkeep = Upkeep(place.settings, place.data_dir, now=lambda: clock[0], look_every_s=0.01)
        await upkeep.start()
        assert await gens_of(store) == [1]
        clock[0] = NOW + 20.0
        async with asyncio.timeout(60):
            while await gens_of(store):  # noqa: ASYNC110  nor does the sweep
                await asyncio.sleep(0.01)
        await upkeep.close()


async def test_the_upkeep_refuses_tables_of_a_newer_program(place: StorePlace) -> None:
    """The web process does not start on them."""
    async with place.opened() as store:
        await set_version(store.database, "9000")
    with pytest.raises(SchemaNewerError, match="9000"):
        await Upkeep(place.settings, place.data_dir).start()


async def test_a_store_that_is_away_does_not_keep_the_web_process_from_starting(tmp_path: Path) -> None:
    """Devices ask it for their settings. It is tried until it comes; that is said once."""
    async with StorePlace.at(tmp_path).opened():
        pass
    upkeep = Upkeep(StorePlace.at(tmp_path).settings, tmp_path, look_every_s=0.01)
    with capture_logs() as logs:
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("PRAGMA journal_mode = DELETE")
            other.execute("BEGIN EXCLUSIVE")
            await upkeep.start()
            assert up() == 0
        await until(lambda: up() == 1)
    await upkeep.close()
    events = [line["event"] for line in logs]
    assert events == ["store_unusable", "store_usable_again"]
