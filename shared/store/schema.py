"""The tables as this program knows them. `migrations` makes them; a test holds the two together.

* devices: one row a device, its epoch and facts. `claims` numbers the epochs: one row, locked by each claim until it is
  committed, so that numbers become visible in their order (a database sequence would not promise that).
* messages: one row a message, keyed (session, gen, n) within its device. `id` is the order of writing; n = 0 begins a
  turn.
* outbox: `until_s` 0 = nobody delivers it. Times are Unix seconds.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = "0001"
"""Of this program: the last migration's number."""

VERSION_TABLE = "schema_version"

_RowId = BigInteger().with_variant(Integer, "sqlite")  # only an INTEGER key numbers itself there

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

CLAIMS = Table(
    "claims",
    METADATA,
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("latest", BigInteger, nullable=False),
)

DEVICES = Table(
    "devices",
    METADATA,
    Column("device", String(64), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("holder", String(128), nullable=False),
    Column("session", String(128), nullable=False),
    Column("life", Integer, nullable=False),
    Column("claimed_s", Float, nullable=False),
    Column("features", JSON(none_as_null=True)),
    Column("tools", JSON(none_as_null=True)),
    Column("speaker", Text),
    Column("profile", JSON(none_as_null=True)),
    Index(None, "epoch", unique=True),
)

MESSAGES = Table(
    "messages",
    METADATA,
    Column("id", _RowId, primary_key=True),
    Column("device", String(64), nullable=False),
    Column("session", String(128), nullable=False),
    Column("gen", Integer, nullable=False),
    Column("n", Integer, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("role", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("calls", JSON(none_as_null=True)),
    Column("call_id", Text, nullable=False),
    UniqueConstraint("device", "session", "gen", "n"),
    Index(None, "device", "n", "id"),
    Index(None, "at_s"),
)

MEMORY = Table(
    "memory",
    METADATA,
    Column("device", String(64), primary_key=True),
    Column("role", String(128), primary_key=True),
    Column("text", Text, nullable=False),
    Column("updated_s", Float, nullable=False),
)

OUTBOX = Table(
    "outbox",
    METADATA,
    Column("id", _RowId, primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("session", String(128), nullable=False),
    Column("key", String(128)),
    Column("device", String(64), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("audio", LargeBinary, nullable=False),
    Column("put_s", Float, nullable=False),
    Column("due_s", Float, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("holder", String(128), nullable=False),
    Column("until_s", Float, nullable=False),
    Column("error_code", String(64), nullable=False),
    Column("is_dead", Boolean, nullable=False),
    UniqueConstraint("kind", "session", "key"),
    Index(None, "kind", "session", "is_dead", "id"),
    Index(None, "device"),
    Index(None, "put_s"),
)

LEASES = Table(
    "leases",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("until_s", Float, nullable=False),
)

IMPORTS = Table(
    "imports",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("entries", Integer, nullable=False),
)
