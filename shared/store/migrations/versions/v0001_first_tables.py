"""The first tables: claims, devices, messages, memory, outbox, leases, imports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    claims = op.create_table(
        "claims",
        sa.Column("row", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("latest", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("row", name="pk_claims"),
    )
    op.bulk_insert(claims, [{"row": 1, "latest": 0}])
    op.create_table(
        "devices",
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(128), nullable=False),
        sa.Column("session", sa.String(128), nullable=False),
        sa.Column("life", sa.Integer(), nullable=False),
        sa.Column("claimed_s", sa.Float(), nullable=False),
        sa.Column("features", sa.JSON()),
        sa.Column("tools", sa.JSON()),
        sa.Column("speaker", sa.Text()),
        sa.Column("profile", sa.JSON()),
        sa.PrimaryKeyConstraint("device", name="pk_devices"),
    )
    op.create_index("ix_devices_epoch", "devices", ["epoch"], unique=True)
    op.create_table(
        "messages",
        sa.Column("id", row_id, nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("session", sa.String(128), nullable=False),
        sa.Column("gen", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("calls", sa.JSON()),
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_messages"),
        sa.UniqueConstraint("device", "session", "gen", "n", name="uq_messages_device_session_gen_n"),
    )
    op.create_index("ix_messages_device_n_id", "messages", ["device", "n", "id"])
    op.create_index("ix_messages_at_s", "messages", ["at_s"])
    op.create_table(
        "memory",
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("role", sa.String(128), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("updated_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("device", "role", name="pk_memory"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", row_id, nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("session", sa.String(128), nullable=False),
        sa.Column("key", sa.String(128)),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("audio", sa.LargeBinary(), nullable=False),
        sa.Column("put_s", sa.Float(), nullable=False),
        sa.Column("due_s", sa.Float(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("holder", sa.String(128), nullable=False),
        sa.Column("until_s", sa.Float(), nullable=False),
        sa.Column("error_code", sa.String(64), nullable=False),
        sa.Column("is_dead", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("kind", "session", "key", name="uq_outbox_kind_session_key"),
    )
    op.create_index("ix_outbox_kind_session_is_dead_id", "outbox", ["kind", "session", "is_dead", "id"])
    op.create_index("ix_outbox_device", "outbox", ["device"])
    op.create_index("ix_outbox_put_s", "outbox", ["put_s"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(128), nullable=False),
        sa.Column("until_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "imports",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_imports"),
    )
