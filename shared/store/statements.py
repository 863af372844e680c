"""Statements that SQLite and PostgreSQL both know but SQLAlchemy spells by dialect."""

from __future__ import annotations

from typing import TypeAlias

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

UpsertInto: TypeAlias = postgresql.Insert | sqlite.Insert


def insert_into(table: Table, connection: AsyncConnection) -> UpsertInto:
    """An INSERT that can say ON CONFLICT."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)
