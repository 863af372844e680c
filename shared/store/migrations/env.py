"""What alembic runs: the migrations, inside the transaction of whoever called it (shared.store.migrate).

To write a new one, from the root of the project:
    python -m alembic -c shared/store/migrations/alembic.ini revision --rev-id 0002 -m "what it adds"
"""

from __future__ import annotations

from alembic import context

from shared.store.schema import METADATA, VERSION_TABLE

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
