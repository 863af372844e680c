"""Removing all that is stored of one device, while it may be talking.

The device's epoch rises with it: a session that still holds the device can write nothing back. Only the number stays.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.claims import DEVICE_CHARS, NOBODY, next_epoch
from shared.store.database import Database
from shared.store.model import Forgotten
from shared.store.schema import DEVICES, MEMORY, MESSAGES, OUTBOX
from shared.store.text import cut


async def forget(database: Database, device: str, now: float) -> Forgotten:
    """What was removed; nothing if nothing was there. Raises StoreDownError."""
    device = cut(device, DEVICE_CHARS)
    async with database.writing() as connection:
        was_known = await _release(connection, device, now)
        turns = await _count(connection, MESSAGES.c.device == device, MESSAGES.c.n == 0)
        recordings = await _count(connection, OUTBOX.c.device == device, func.length(OUTBOX.c.audio) > 0)
        await connection.execute(delete(MESSAGES).where(MESSAGES.c.device == device))
        notes = (await connection.execute(delete(MEMORY).where(MEMORY.c.device == device))).rowcount
        parcels = (await connection.execute(delete(OUTBOX).where(OUTBOX.c.device == device))).rowcount
    return Forgotten(turns, notes, parcels, recordings, was_known)


async def _release(connection: AsyncConnection, device: str, now: float) -> bool:
    """Nobody's from now on, and without facts; whether anybody had it."""
    epoch = await next_epoch(connection)
    holder = (await connection.execute(select(DEVICES.c.holder).where(DEVICES.c.device == device))).scalar()
    nothing = dict.fromkeys(("features", "tools", "speaker", "profile"))
    statement = update(DEVICES).where(DEVICES.c.device == device)
    await connection.execute(statement.values(epoch=epoch, holder=NOBODY, claimed_s=now, **nothing))
    return holder not in (None, NOBODY)


async def _count(connection: AsyncConnection, *conditions: ColumnElement[bool]) -> int:
    return (await connection.execute(select(func.count()).where(*conditions))).scalar_one()
