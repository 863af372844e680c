"""The store goes away and comes back: nothing that was committed is lost, nothing that waits is forgotten."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from shared.settings import StoreSettings
from shared.store.committer import Committer
from shared.store.faults import StoreDownError
from shared.store.model import Claim, Commit
from shared.store.store import Store
from tests.fakes.postgres import PostgresServer, postgres_server
from tests.fakes.stores import StorePlace, commit_of, turn

pytestmark = pytest.mark.contract

WINDOW_S = 300.0
LONG_S = 60.0


def committer_of(store: Store, superseded: list[Claim] | None = None) -> Committer:
    committer = Committer(
        store.dialogues,
        now=lambda: 1.0,
        on_superseded=lambda claim, _: (superseded if superseded is not None else []).append(claim),
        first_pause_s=0.02,
        longest_pause_s=0.2,
    )
    committer.start()
    return committer


async def gens_of(store: Store, device: str = "d") -> list[int]:
    return [one.gen for one in await store.dialogues.load(device, 1.0, WINDOW_S, 10_000)]


async def test_commits_arrive_in_the_order_they_were_put(place: StorePlace) -> None:
    """Of many devices, put faster than they are written."""
    async with place.opened() as store:
        committer = committer_of(store)
        claims = [await store.ownership.claim(f"d{n}", "w", 1.0) for n in range(4)]
        for gen in range(25):
            for claim in claims:
                committer.put(Commit(claim, (turn(gen, 1.0, session=claim.device),)))
        assert await committer.settled("d3", LONG_S)
        assert await committer.close(LONG_S) == 0
        for claim in claims:
            assert await gens_of(store, claim.device) == list(range(25))


async def test_a_superseded_commit_is_given_up_and_its_owner_is_told(place: StorePlace) -> None:
    """It holds up nothing behind it."""
    superseded: list[Claim] = []
    async with place.opened() as store:
        committer = committer_of(store, superseded)
        old = await store.ownership.claim("d", "w", 1.0)
        new = await store.ownership.claim("d", "x", 1.0)
        committer.put(commit_of(old, 1, at_s=1.0))
        committer.put(commit_of(new, 2, at_s=1.0))
        assert await committer.close(LONG_S) == 0
        assert superseded == [old]
        assert await gens_of(store) == [2]


async def test_a_process_that_is_killed_loses_nothing_that_was_committed(place: StorePlace) -> None:
    """SIGKILL in the middle of writing: every turn that was acknowledged is there and whole, and others can go on."""
    async with place.opened() as store:
        for n in range(3):
            device = f"d{n}"
            process = await place.process("commit", "victim", device)
            assert process.stdout is not None
            acknowledged = [int(await process.stdout.readline()) for _ in range(5 + 7 * n)]
            process.kill()
            acknowledged += [int(line) for line in (await process.stdout.read()).split()]
            await process.wait()
            loaded = await store.dialogues.load(device, 0.0, WINDOW_S, 10_000)
            assert [one.gen for one in loaded][: len(acknowledged)] == acknowledged
            assert len(loaded) <= len(acknowledged) + 1
            assert {len(one.messages) for one in loaded} == {2}
            claim = await store.ownership.claim(device, "heir", 1.0)
            await store.dialogues.commit(Commit(claim, (turn(1, session="heir"),)), 1.0)


async def test_a_postgres_that_restarts_gets_what_was_said_meanwhile(tmp_path: Path, postgres: PostgresServer) -> None:
    """Commits queue while it is away; a claim fails with a word that says so."""
    with postgres_server() as server:
        place = StorePlace(StoreSettings(url=server.new_database()), tmp_path)
        async with place.opened() as store:
            committer = committer_of(store)
            claim = await store.ownership.claim("d", "w", 1.0)
            committer.put(commit_of(claim, 0, at_s=1.0))
            assert await committer.settled("d", LONG_S)
            server.stop()
            for gen in range(1, 20):
                committer.put(commit_of(claim, gen, at_s=1.0))
                await asyncio.sleep(0)
            with pytest.raises(StoreDownError):
                await store.ownership.claim("e", "w", 1.0)
            assert not await committer.settled("d", 0.0)
            server.start()
            assert await committer.settled("d", LONG_S)
            assert not committer.is_down
            assert await gens_of(store) == list(range(20))
            assert await committer.close(LONG_S) == 0


async def test_a_postgres_that_crashes_under_commits_loses_none(tmp_path: Path, postgres: PostgresServer) -> None:
    """Whether the last one went through is not known; sending it again is right in both cases."""
    with postgres_server(syncs=True) as server:
        place = StorePlace(StoreSettings(url=server.new_database()), tmp_path)
        async with place.opened() as store:
            committer = committer_of(store)
            claims = [await store.ownership.claim(f"d{n}", "w", 1.0) for n in range(8)]
            for gen in range(10):
                for claim in claims:
                    committer.put(Commit(claim, (turn(gen, 1.0, session=claim.device),)))
                await asyncio.sleep(0.005)
                if gen == 5:
                    server.crash()
            server.start()
            assert await committer.close(LONG_S) == 0
            for claim in claims:
                assert await gens_of(store, claim.device) == list(range(10))


async def test_a_store_that_waits_for_its_server_opens_when_it_comes(tmp_path: Path, postgres: PostgresServer) -> None:
    """Containers start in any order."""
    with postgres_server() as server:
        place = StorePlace(StoreSettings(url=server.new_database()), tmp_path)
        server.stop()
        with pytest.raises(StoreDownError):
            await Store.open(place.settings, tmp_path, migrates=True, wait_s=0)
        opening = asyncio.create_task(Store.open(place.settings, tmp_path, migrates=True, wait_s=LONG_S))
        await asyncio.sleep(0)
        server.start()
        await (await opening).close()


async def test_a_locked_file_delays_commits_and_loses_none(tmp_path: Path) -> None:
    """Another program holds the file for longer than a statement waits; reading goes on meanwhile."""
    async with StorePlace.at(tmp_path).opened() as store:
        committer = committer_of(store)
        claim = await store.ownership.claim("d", "w", 1.0)
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for gen in range(3):
                committer.put(commit_of(claim, gen, at_s=1.0))
            with pytest.raises(StoreDownError, match="SQLITE_BUSY"):
                await store.memory.put(claim, "note", 1.0)
            assert await gens_of(store) == []
            assert committer.is_down
            other.execute("ROLLBACK")
        assert await committer.close(LONG_S) == 0
        assert await gens_of(store) == [0, 1, 2]


@contextmanager
def full_disk(file: Path) -> Iterator[None]:
    """No file of this process may grow beyond the size that `file` has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_delays_commits_and_loses_none(tmp_path: Path) -> None:
    """Nothing is written by half; it goes on when there is room again."""
    async with StorePlace.at(tmp_path).opened() as store:
        claim = await store.ownership.claim("d", "w", 1.0)
        committer = committer_of(store)
        with full_disk(tmp_path / "store.db-wal"):
            with pytest.raises(StoreDownError):
                for gen in range(1000):
                    await store.dialogues.commit(commit_of(claim, gen, at_s=1.0), 1.0)
            before = await gens_of(store)
            committer.put(commit_of(claim, 5000, at_s=1.0))
            assert not await committer.settled("d", 0.3)
        assert await committer.settled("d", LONG_S)
        assert await gens_of(store) == [*before, 5000]
        assert await committer.close(LONG_S) == 0


async def test_what_cannot_be_written_by_the_deadline_is_counted(tmp_path: Path) -> None:
    """A process ends although its store is away."""
    async with StorePlace.at(tmp_path).opened() as store:
        claim = await store.ownership.claim("d", "w", 1.0)
        committer = committer_of(store)
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            committer.put(commit_of(claim, 1))
            assert await committer.close(0.2) == 1


async def test_work_that_is_cancelled_holds_up_nobody(place: StorePlace) -> None:
    """At whatever point: its transaction is finished, and neither the connection nor the lock is lost with its task."""
    async with place.opened() as store, place.opened() as other:
        claim = await store.ownership.claim("d", "w", 1.0)
        for gen in range(60):
            task = asyncio.create_task(store.dialogues.commit(commit_of(claim, gen, at_s=1.0), 1.0))
            for _ in range(gen % 4):
                await asyncio.sleep(0)
            await asyncio.sleep(0.0001 * (gen % 30))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if gen % 10 == 9:
                await other.ownership.claim("e", "x", 1.0)
        await store.dialogues.commit(commit_of(claim, 99, at_s=1.0), 1.0)
        assert (await gens_of(other))[-1] == 99
