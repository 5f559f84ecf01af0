"""How Alembic meets the control database: over the connection that ``upgrade`` hands it."""

from __future__ import annotations

from alembic import context

import bihuan.server.control  # noqa: F401 - loads every table
from bihuan.server.control.base import Table
from bihuan.server.control.upgrade import is_ours

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Table.metadata,
    render_as_batch=True,
    compare_type=False,  # exact types differ by database on purpose (money, documents)
    compare_server_default=False,
    include_object=is_ours,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
