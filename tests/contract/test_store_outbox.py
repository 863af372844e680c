"""The outbox: at least once, in order, by one holder at a time; the same on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from prometheus_client import REGISTRY

from shared.store.model import Backlog, Lease
from shared.store.store import Store
from tests.fakes.stores import StorePlace, parcel

pytestmark = pytest.mark.contract

KINDS = ("report", "title")
LEASE_S = 10.0


async def lease(
    store: Store, now: float, holder: str = "h", limit: int = 9, kinds: tuple[str, ...] = KINDS
) -> list[Lease]:
    return await store.outbox.lease(holder, kinds, now, LEASE_S, limit)


def numbers(leases: list[Lease]) -> list[int]:
    return [one.parcel.payload["n"] for one in leases]


async def test_parcels_of_a_session_are_leased_one_after_the_other(place: StorePlace) -> None:
    """The next one only when the first has arrived; other sessions and kinds do not wait for it."""
    async with place.opened() as store:
        waiting = [parcel(1), parcel(2), parcel(3, session="t"), parcel(4, kind="title"), parcel(5, kind="other")]
        await store.outbox.put(waiting, 1.0)
        first = await lease(store, 2.0)
        assert numbers(first) == [1, 3, 4]
        assert first[0].parcel == waiting[0]
        assert (first[0].put_s, first[0].attempt, first[0].until_s) == (1.0, 1, 12.0)
        assert await lease(store, 2.0, "other") == []
        assert await store.outbox.done(first[0])
        assert numbers(await lease(store, 2.0, "other")) == [2]
        assert await store.outbox.backlog() == Backlog(4, 0, 1.0)


async def test_a_limit_takes_the_oldest(place: StorePlace) -> None:
    """A holder takes no more than it can deliver."""
    async with place.opened() as store:
        await store.outbox.put([parcel(n, session=f"s{n}") for n in range(5)], 1.0)
        assert numbers(await lease(store, 2.0, limit=2)) == [0, 1]
        assert numbers(await lease(store, 2.0, "other", limit=2)) == [2, 3]


async def test_a_failed_parcel_holds_up_its_session_until_it_is_due(place: StorePlace) -> None:
    """Order is kept also when the receiver is down."""
    async with place.opened() as store:
        await store.outbox.put([parcel(1), parcel(2)], 1.0)
        (first,) = await lease(store, 2.0)
        assert await store.outbox.retry(first, 20.0, "http_503")
        assert await lease(store, 19.9) == []
        (again,) = await lease(store, 20.0)
        assert (again.id, again.attempt) == (first.id, 2)


async def test_a_lease_that_ends_is_adopted_and_its_old_holder_counts_no_more(place: StorePlace) -> None:
    """Who died is replaced; who was only slow cannot undo what its successor does."""
    async with place.opened() as store:
        await store.outbox.put([parcel(1)], 1.0)
        (old,) = await lease(store, 2.0, "slow")
        assert await lease(store, 11.9, "next") == []
        (new,) = await lease(store, 12.0, "next")
        assert (new.id, new.attempt, new.holder) == (old.id, 2, "next")
        assert not await store.outbox.done(old)
        assert not await store.outbox.retry(old, 99.0, "late")
        assert await store.outbox.done(new)
        assert (await store.outbox.backlog()).waiting == 0


async def test_a_parcel_that_never_arrives_is_given_up_and_those_behind_it_go_on(place: StorePlace) -> None:
    """After so many attempts, whether its holders say so or die of it."""
    async with place.with_settings(outbox_attempts=2).opened() as store:
        await store.outbox.put([parcel(1), parcel(2), parcel(3)], 1.0)
        for now in (2.0, 3.0):
            (first,) = await lease(store, now)
            assert await store.outbox.retry(first, now, "http_500")
        for now in (4.0, 14.0):
            assert numbers(await lease(store, now)) == [2]
        assert numbers(await lease(store, 24.0)) == [3]
        assert await store.outbox.backlog() == Backlog(1, 2, 1.0)


async def test_what_is_given_up_and_adopted_is_counted(place: StorePlace) -> None:
    """An operator sees that something never arrived."""

    def count(name: str) -> float:
        return REGISTRY.get_sample_value(f"xz_outbox_{name}_total") or 0.0

    names = ("delivered", "retried", "dead", "adopted")
    async with place.with_settings(outbox_attempts=2).opened() as store:
        before = {name: count(name) for name in names}
        await store.outbox.put([parcel(1), parcel(2)], 1.0)
        await lease(store, 2.0)
        (adopted,) = await lease(store, 12.0, "next")
        await store.outbox.retry(adopted, 12.0, "x")
        (second,) = await lease(store, 12.0)
        await store.outbox.retry(second, 12.0, "x")
        (second,) = await lease(store, 12.0)
        await store.outbox.done(second)
        after = {name: count(name) - before[name] for name in names}
        assert after == {"delivered": 1.0, "retried": 1.0, "dead": 1.0, "adopted": 1.0}


async def test_a_parcel_with_a_key_is_put_once(place: StorePlace) -> None:
    """As long as the first is there; without a key each is its own."""
    async with place.opened() as store:
        for _ in range(2):
            await store.outbox.put([parcel(1, key="k"), parcel(2, key="k", session="t"), parcel(3)], 1.0)
        assert (await store.outbox.backlog()).waiting == 4


async def test_holders_that_ask_at_once_never_share_a_session(place: StorePlace) -> None:
    """Five holders empty the outbox: every parcel arrives once, in order, and no session has two at a time."""
    sessions, each = 4, 6
    async with place.opened() as store, place.opened() as other:
        parcels = [parcel(n, session=f"s{one}") for n in range(each) for one in range(sessions)]
        await store.outbox.put(parcels, 0.0)
        arrived: list[tuple[str, int]] = []
        under_way: Counter[str] = Counter()

        async def deliver(holder: str, through: Store) -> None:
            while (await through.outbox.backlog()).waiting:
                for one in await lease(through, 1.0, holder, limit=2):
                    under_way[one.parcel.session] += 1
                    assert under_way[one.parcel.session] == 1
                    await asyncio.sleep(0)
                    arrived.append((one.parcel.session, one.parcel.payload["n"]))
                    under_way[one.parcel.session] -= 1
                    assert await through.outbox.done(one)

        await asyncio.gather(*(deliver(f"h{n}", (store, other)[n % 2]) for n in range(5)))
        for session in {session for session, _ in arrived}:
            assert [n for of, n in arrived if of == session] == list(range(each))
        assert len(arrived) == len(parcels)
