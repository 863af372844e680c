"""Removing what is too old or too many, in small batches, so that a turn's commit never waits long behind it.

Rules
- A turn goes after `history_days`, the oldest of a device beyond `max_turns_per_device`; memory after `memory_days`
  without a change; a parcel after `outbox_days`, delivered or not; a device that has no turns and was not claimed for
  `history_days`. 0 days = never.
- Epochs are numbered over all devices, so one that is removed and comes back gets a higher one.
- One process at a time does it, by a lease on a row.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from sqlalchemy import ColumnElement, Delete, Table, and_, delete, exists, func, or_, select, tuple_

from shared.settings import StoreSettings
from shared.store.claims import HOLDER_CHARS
from shared.store.database import Database
from shared.store.metrics import SWEPT
from shared.store.schema import DEVICES, LEASES, MEMORY, MESSAGES, OUTBOX
from shared.store.statements import insert_into
from shared.store.text import cut

DAY_S = 86_400.0
BATCH_ROWS = 500
SWEEP_LEASE = "sweep"


async def take_lease(database: Database, name: str, holder: str, now: float, lease_s: float) -> bool:
    """Whether `holder` has the lease until `now + lease_s`. Taking it again prolongs it."""
    holder = cut(holder, HOLDER_CHARS)
    values = {"holder": holder, "until_s": now + lease_s}
    async with database.writing() as connection:
        statement = (
            insert_into(LEASES, connection)
            .values(name=name, **values)
            .on_conflict_do_update(
                index_elements=[LEASES.c.name],
                set_=values,
                where=or_(LEASES.c.until_s <= now, LEASES.c.holder == holder),
            )
            .returning(LEASES.c.name)
        )
        return (await connection.execute(statement)).first() is not None


async def sweep(database: Database, settings: StoreSettings, now: float) -> dict[str, int]:
    """Rows removed, by table. Raises StoreDownError; what was removed until then stays removed."""
    removed = dict.fromkeys(("messages", "memory", "outbox", "devices"), 0)
    for table, is_old in _too_old(settings, now).items():
        removed[table.name] += await _remove(database, table, is_old)
    async for is_surplus in _too_many(database, settings.max_turns_per_device):
        removed["messages"] += await _remove(database, MESSAGES, is_surplus)
    for name, rows in removed.items():
        SWEPT.labels(name).inc(rows)
    return removed


def _too_old(settings: StoreSettings, now: float) -> Mapping[Table, ColumnElement[bool]]:
    """Messages before devices: a device goes when none of its turns is left."""
    found = {OUTBOX: OUTBOX.c.put_s < now - settings.outbox_days * DAY_S}
    if settings.memory_days:
        found[MEMORY] = MEMORY.c.updated_s < now - settings.memory_days * DAY_S
    if settings.history_days:
        oldest_s = now - settings.history_days * DAY_S
        found[MESSAGES] = MESSAGES.c.at_s < oldest_s
        has_turns = exists().where(MESSAGES.c.device == DEVICES.c.device)
        found[DEVICES] = and_(DEVICES.c.claimed_s < oldest_s, ~has_turns)
    return found


async def _too_many(database: Database, most_turns: int) -> AsyncIterator[ColumnElement[bool]]:
    """For each device with more turns than that: the messages before the first it keeps."""
    begins = MESSAGES.c.n == 0
    crowded = select(MESSAGES.c.device).where(begins).group_by(MESSAGES.c.device).having(func.count() > most_turns)
    async with database.reading() as connection:
        devices = (await connection.execute(crowded)).scalars().all()
    for device in devices:
        of_device = MESSAGES.c.device == device
        first = select(MESSAGES.c.id).where(of_device, begins).order_by(MESSAGES.c.id.desc()).offset(most_turns - 1)
        async with database.reading() as connection:
            kept = (await connection.execute(first.limit(1))).scalar()
        if kept is not None:
            yield and_(of_device, MESSAGES.c.id < kept)


async def _remove(database: Database, table: Table, condition: ColumnElement[bool]) -> int:
    key = tuple_(*table.primary_key)
    batch = select(*table.primary_key).where(condition).order_by(*table.primary_key).limit(BATCH_ROWS)
    # The condition once more: what was changed between the two parts of the statement stays.
    statement = delete(table).where(key.in_(batch), condition)
    removed = 0
    while True:
        rows = await database.whole(_execute(database, statement))
        removed += rows
        if rows < BATCH_ROWS:
            return removed


async def _execute(database: Database, statement: Delete) -> int:
    async with database.writing() as connection:
        return (await connection.execute(statement)).rowcount
