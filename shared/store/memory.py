"""What is remembered of a device over conversations: one text for each role it plays."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.claims import DEVICE_CHARS, check_claim
from shared.store.database import Database, unbroken
from shared.store.model import DEFAULT_ROLE, Claim, Note
from shared.store.schema import MEMORY
from shared.store.statements import insert_into
from shared.store.text import clean, cut

ROLE_CHARS = 128


class StoredMemory:
    """`shared.store.model.Memory` on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @unbroken
    async def get(self, device: str, role: str = DEFAULT_ROLE) -> Note | None:
        statement = select(MEMORY.c.text, MEMORY.c.updated_s).where(
            MEMORY.c.device == cut(device, DEVICE_CHARS), MEMORY.c.role == cut(role, ROLE_CHARS)
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return Note(*row) if row else None

    @unbroken
    async def put(self, claim: Claim, text: str, now: float, role: str = DEFAULT_ROLE) -> None:
        async with self._database.writing() as connection:
            await check_claim(connection, claim)
            await write_note(connection, claim.device, role, text, now)


async def write_note(connection: AsyncConnection, device: str, role: str, text: str, now: float) -> None:
    """An empty text removes the note."""
    key = {"device": cut(device, DEVICE_CHARS), "role": cut(role, ROLE_CHARS)}
    values = {"text": clean(text), "updated_s": now}
    if not values["text"]:
        await connection.execute(delete(MEMORY).where(MEMORY.c.device == key["device"], MEMORY.c.role == key["role"]))
        return
    statement = insert_into(MEMORY, connection).values(**key, **values)
    await connection.execute(
        statement.on_conflict_do_update(index_elements=[MEMORY.c.device, MEMORY.c.role], set_=values)
    )
