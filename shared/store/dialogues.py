"""What was said, by device, and the one transaction a turn ends with.

Rules
- The rows of a turn are keyed (session, gen, n) and inserted "or ignore": a commit that is repeated changes nothing.
- A dialogue goes on where it was if the last turn is recent. Within it, turns follow each other with no gap longer than
  the window, except inside one session: a person who was quiet for long but connected is still in the same talk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.claims import DEVICE_CHARS, check_claim, write_facts
from shared.store.database import Database, unbroken
from shared.store.memory import write_note
from shared.store.metrics import COMMIT_SECONDS
from shared.store.model import Commit, StoredCall, StoredMessage, StoredTurn
from shared.store.outbox import put_parcels
from shared.store.schema import MESSAGES
from shared.store.statements import insert_into
from shared.store.text import clean, cut

SESSION_CHARS = 128


class StoredDialogues:
    """`shared.store.model.Dialogues` on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @unbroken
    async def load(self, device: str, now: float, window_s: float, limit: int) -> list[StoredTurn]:
        device = cut(device, DEVICE_CHARS)
        begins = (
            select(MESSAGES.c.id)
            .where(MESSAGES.c.device == device, MESSAGES.c.n == 0)
            .order_by(MESSAGES.c.id.desc())
            .limit(limit)
            .subquery()
        )
        first = select(func.min(begins.c.id)).scalar_subquery()
        statement = select(MESSAGES).where(MESSAGES.c.device == device, MESSAGES.c.id >= first).order_by(MESSAGES.c.id)
        async with self._database.reading() as connection:
            rows = (await connection.execute(statement)).all()
        return resumable(_turns(rows), now, window_s)

    @unbroken
    async def commit(self, commit: Commit, now: float) -> None:
        with COMMIT_SECONDS.time():
            async with self._database.writing() as connection:
                await check_claim(connection, commit.claim)
                await _write_turns(connection, commit.claim.device, commit.turns)
                if commit.facts is not None:
                    await write_facts(connection, commit.claim.device, commit.facts)
                for role, text in commit.notes:
                    await write_note(connection, commit.claim.device, role, text, now)
                await put_parcels(connection, commit.parcels, now)


def resumable(turns: Sequence[StoredTurn], now: float, window_s: float) -> list[StoredTurn]:
    """The last of `turns`, oldest first, that belong to one dialogue which may still go on."""
    kept: list[StoredTurn] = []
    next_s, next_session = now, None
    for turn in reversed(turns):
        if next_s - turn.at_s > window_s and turn.session != next_session:
            break
        kept.append(turn)
        next_s, next_session = turn.at_s, turn.session
    return kept[::-1]


async def _write_turns(connection: AsyncConnection, device: str, turns: Iterable[StoredTurn]) -> None:
    rows = [
        {
            "device": cut(device, DEVICE_CHARS),
            "session": cut(turn.session, SESSION_CHARS),
            "gen": turn.gen,
            "n": n,
            "at_s": turn.at_s,
            "role": message.role,
            "text": clean(message.text),
            "calls": [[call.id, call.name, call.arguments] for call in message.calls] or None,
            "call_id": clean(message.call_id),
        }
        for turn in turns
        for n, message in enumerate(turn.messages)
    ]
    if rows:
        await connection.execute(insert_into(MESSAGES, connection).on_conflict_do_nothing(), rows)


def _turns(rows: Iterable[Row[Any]]) -> list[StoredTurn]:
    return [
        StoredTurn(session, gen, messages[0].at_s, tuple(_message(row) for row in messages))
        for (session, gen), group in groupby(rows, key=lambda row: (row.session, row.gen))
        for messages in [list(group)]
    ]


def _message(row: Row[Any]) -> StoredMessage:
    calls = tuple(StoredCall(*call) for call in row.calls or ())
    return StoredMessage(row.role, row.text, calls, row.call_id)
