"""Which process writes for a device: epochs, and the check that every write makes.

Rules
- A claim locks the counter first and its device second; a write locks only its device. So claims wait for the writes of
  the same device and for each other, never in a circle.
- The counter's row stays locked until the claim is committed: whoever sees number n sees every claim up to n.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, and_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.database import Database, unbroken
from shared.store.faults import SchemaOldError, SupersededError
from shared.store.metrics import CLAIM_SECONDS
from shared.store.model import NEWCOMER, Claim, Claimant, DeviceFacts, Losses, Lost
from shared.store.schema import CLAIMS, DEVICES, SCHEMA_VERSION
from shared.store.statements import insert_into
from shared.store.text import clean, cut

DEVICE_CHARS = 64
HOLDER_CHARS = 128
NOBODY = ""
"""Holder of a device that was forgotten."""

_FACTS = (DEVICES.c.features, DEVICES.c.tools, DEVICES.c.speaker, DEVICES.c.profile)


async def next_epoch(connection: AsyncConnection) -> int:
    """The number of a new claim; its row stays locked until the transaction ends."""
    statement = update(CLAIMS).values(latest=CLAIMS.c.latest + 1).returning(CLAIMS.c.latest)
    number = (await connection.execute(statement)).scalar()
    if number is None:
        raise SchemaOldError(None, SCHEMA_VERSION, "the store has no counter of claims")
    return int(number)


async def check_claim(connection: AsyncConnection, claim: Claim) -> None:
    """The claim holds until the transaction ends. Raises SupersededError."""
    statement = select(DEVICES.c.epoch).where(DEVICES.c.device == cut(claim.device, DEVICE_CHARS))
    found = (await connection.execute(statement.with_for_update())).scalar()
    if found != claim.epoch:
        raise SupersededError(claim.epoch, found)


async def _check_claimant(connection: AsyncConnection, device: str, holder: str, by: Claimant) -> None:
    """Its row stays locked until the transaction ends. Raises SupersededError."""
    if by == NEWCOMER:
        return
    columns = select(DEVICES.c.epoch, DEVICES.c.holder, DEVICES.c.session, DEVICES.c.life)
    row = (await connection.execute(columns.where(DEVICES.c.device == device).with_for_update())).first()
    if row is None:
        if by.after:
            raise SupersededError(by.after, None)
    elif by.session and row.session == cut(by.session, HOLDER_CHARS):
        # The same life again: its first answer was lost on the way.
        if row.life > by.life or (row.life == by.life and row.holder != holder):
            raise SupersededError(by.after, row.epoch)
    elif by.after and row.epoch != by.after:
        raise SupersededError(by.after, row.epoch)


class StoredOwnership:
    """`shared.store.model.Ownership` on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @unbroken
    async def claim(self, device: str, holder: str, now: float, *, by: Claimant = NEWCOMER) -> Claim:
        device, holder = cut(device, DEVICE_CHARS), cut(holder, HOLDER_CHARS)
        with CLAIM_SECONDS.time():
            async with self._database.writing() as connection:
                epoch = await next_epoch(connection)
                await _check_claimant(connection, device, holder, by)
                values = {"epoch": epoch, "holder": holder, "claimed_s": now}
                values |= {"session": cut(by.session, HOLDER_CHARS), "life": by.life}
                statement = insert_into(DEVICES, connection).values(device=device, **values)
                statement = statement.on_conflict_do_update(index_elements=[DEVICES.c.device], set_=values)
                row = (await connection.execute(statement.returning(*_FACTS))).one()
        return Claim(device, epoch, holder, _facts(row))

    @unbroken
    async def lost(self, holder: str, since: int) -> Losses:
        """One statement, so one snapshot: the counter bounds what can be seen in it."""
        is_lost = and_(
            DEVICES.c.epoch > since, DEVICES.c.epoch <= CLAIMS.c.latest, DEVICES.c.holder != cut(holder, HOLDER_CHARS)
        )
        statement = (
            select(CLAIMS.c.latest, DEVICES.c.device, DEVICES.c.epoch)
            .select_from(CLAIMS.outerjoin(DEVICES, is_lost))
            .order_by(DEVICES.c.epoch)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(statement)).all()
        lost = tuple(Lost(device, epoch) for _, device, epoch in rows if device is not None)
        return Losses(lost, rows[0][0] if rows else since)

    @unbroken
    async def latest(self) -> int:
        async with self._database.reading() as connection:
            return int((await connection.execute(select(CLAIMS.c.latest))).scalar() or 0)


async def write_facts(connection: AsyncConnection, device: str, facts: DeviceFacts) -> None:
    """What is None stays as it is."""
    known = {"features": facts.features, "tools": facts.tools, "profile": facts.profile, "speaker": facts.speaker}
    values = {name: clean(value) if isinstance(value, str) else value for name, value in known.items()}
    values = {name: value for name, value in values.items() if value is not None}
    if values:
        await connection.execute(update(DEVICES).where(DEVICES.c.device == cut(device, DEVICE_CHARS)).values(**values))


def _facts(row: Row[Any]) -> DeviceFacts:
    return DeviceFacts(row.features, row.tools, row.speaker, row.profile)
