"""What must reach somebody later: leased, so that it is delivered at least once, in order, by one holder at a time.

Rules
- A lane is one kind of one session. Its first parcel that is not dead is its head, and only heads are leased: whoever
  delivers a head delivers the lane. A head that is to be retried later holds its lane up, so that order is kept.
- A lease that has ended is adopted by the next who asks. It is known by (id, attempt): what its old holder says later
  changes nothing.
- Attempts are counted when they begin, so a parcel that kills whoever delivers it dies too. Dead parcels stay for
  `outbox_days`; the lane goes on without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.claims import DEVICE_CHARS, HOLDER_CHARS
from shared.store.database import Database, unbroken
from shared.store.metrics import OUTBOX_ADOPTED, OUTBOX_DEAD, OUTBOX_DELIVERED, OUTBOX_RETRIED
from shared.store.model import Backlog, Lease, Parcel
from shared.store.schema import OUTBOX
from shared.store.statements import insert_into
from shared.store.text import cut

KIND_CHARS = 64
SESSION_CHARS = 128
KEY_CHARS = 128
ERROR_CHARS = 64
FREE_S = 0.0
"""`until_s` of a parcel that nobody delivers."""


class StoredOutbox:
    """`shared.store.model.Outbox` on a database."""

    def __init__(self, database: Database, most_attempts: int) -> None:
        self._database = database
        self._most_attempts = most_attempts

    @unbroken
    async def put(self, parcels: Sequence[Parcel], now: float) -> None:
        async with self._database.writing() as connection:
            await put_parcels(connection, parcels, now)

    @unbroken
    async def lease(self, holder: str, kinds: Sequence[str], now: float, lease_s: float, limit: int) -> list[Lease]:
        """PostgreSQL: two who ask at once lock different heads, the second one skips those of the first."""
        holder = cut(holder, HOLDER_CHARS)
        async with self._database.writing() as connection:
            await self._bury(connection, kinds, now)
            heads = (await connection.execute(_free_heads(kinds, now, limit))).all()
            leases = [_lease(row, holder, now + lease_s) for row in heads]
            if leases:
                await connection.execute(
                    update(OUTBOX)
                    .where(OUTBOX.c.id.in_([lease.id for lease in leases]))
                    .values(holder=holder, until_s=now + lease_s, attempt=OUTBOX.c.attempt + 1)
                )
        OUTBOX_ADOPTED.inc(sum(row.until_s > FREE_S for row in heads))
        return leases

    @unbroken
    async def done(self, lease: Lease) -> bool:
        async with self._database.writing() as connection:
            statement = delete(OUTBOX).where(_is_held(lease))
            is_mine = (await connection.execute(statement)).rowcount > 0
        OUTBOX_DELIVERED.inc(is_mine)
        return is_mine

    @unbroken
    async def retry(self, lease: Lease, at: float, error_code: str) -> bool:
        is_dead = lease.attempt >= self._most_attempts
        async with self._database.writing() as connection:
            statement = (
                update(OUTBOX)
                .where(_is_held(lease))
                .values(due_s=at, until_s=FREE_S, is_dead=is_dead, error_code=cut(error_code, ERROR_CHARS))
            )
            is_mine = (await connection.execute(statement)).rowcount > 0
        (OUTBOX_DEAD if is_dead else OUTBOX_RETRIED).inc(is_mine)
        return is_mine

    @unbroken
    async def backlog(self) -> Backlog:
        waiting = select(func.count(), func.min(OUTBOX.c.put_s)).where(OUTBOX.c.is_dead.is_(False))
        dead = select(func.count()).where(OUTBOX.c.is_dead.is_(True))
        async with self._database.reading() as connection:
            count, oldest_s = (await connection.execute(waiting)).one()
            return Backlog(count, (await connection.execute(dead)).scalar_one(), oldest_s)

    async def _bury(self, connection: AsyncConnection, kinds: Sequence[str], now: float) -> None:
        """Whoever delivered it the last time it was allowed to has said nothing until the lease ended."""
        statement = (
            update(OUTBOX)
            .where(
                OUTBOX.c.kind.in_(kinds),
                OUTBOX.c.is_dead.is_(False),
                OUTBOX.c.attempt >= self._most_attempts,
                OUTBOX.c.until_s > FREE_S,
                OUTBOX.c.until_s <= now,
            )
            .values(is_dead=True, until_s=FREE_S, error_code="lease_ended")
        )
        OUTBOX_DEAD.inc((await connection.execute(statement)).rowcount)


def _free_heads(kinds: Sequence[str], now: float, limit: int) -> Select[Any]:
    """One pass over what waits, however wrong a planner's idea of the table is.

    A lane with a live lease is left out whole: PostgreSQL numbers rows before they become visible, so one with a lower
    number may come to light after this lane's head was leased.
    """
    lanes = (
        select(func.min(OUTBOX.c.id).label("id"))
        .where(OUTBOX.c.kind.in_(kinds), OUTBOX.c.is_dead.is_(False))
        .group_by(OUTBOX.c.kind, OUTBOX.c.session)
        .having(func.max(OUTBOX.c.until_s) <= now)
        .subquery("lanes")
    )
    return (
        select(*OUTBOX.c)
        .join(lanes, lanes.c.id == OUTBOX.c.id)
        .where(OUTBOX.c.is_dead.is_(False), OUTBOX.c.due_s <= now, OUTBOX.c.until_s <= now)
        .order_by(OUTBOX.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=OUTBOX)
    )


def _is_held(lease: Lease) -> ColumnElement[bool]:
    """Neither adopted nor ended; its time may be over."""
    return and_(OUTBOX.c.id == lease.id, OUTBOX.c.attempt == lease.attempt, OUTBOX.c.until_s > FREE_S)


def _lease(row: Row[Any], holder: str, until_s: float) -> Lease:
    parcel = Parcel(row.kind, row.session, row.device, row.payload, bytes(row.audio), row.key)
    return Lease(row.id, parcel, row.put_s, row.attempt + 1, holder, until_s)


async def put_parcels(connection: AsyncConnection, parcels: Sequence[Parcel], now: float) -> None:
    """A parcel whose key is there already changes nothing."""
    rows = [
        {
            "kind": cut(parcel.kind, KIND_CHARS),
            "session": cut(parcel.session, SESSION_CHARS),
            "key": None if parcel.key is None else cut(parcel.key, KEY_CHARS),
            "device": cut(parcel.device, DEVICE_CHARS),
            "payload": parcel.payload,
            "audio": parcel.audio,
            "put_s": now,
            "due_s": now,
            "attempt": 0,
            "holder": "",
            "until_s": FREE_S,
            "error_code": "",
            "is_dead": False,
        }
        for parcel in parcels
    ]
    if rows:
        await connection.execute(insert_into(OUTBOX, connection).on_conflict_do_nothing(), rows)
