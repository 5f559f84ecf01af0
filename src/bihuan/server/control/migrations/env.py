"""How Alembic meets the control database: over the connection that ``upgrade`` hands it."""

from __future__ import annotations

from typing import Any

from alembic import context

import bihuan.server.control  # noqa: F401 - loads every table
from bihuan.server.control.base import Table
from bihuan.server.control.upgrade import is_ours

only = context.config.attributes.get("only")  # tables that a new migration is written for


def is_wanted(obj: Any, name: str | None, kind: str, reflected: bool, other: Any) -> bool:
    """Tell whether a table is looked at."""
    if kind == "table" and only is not None and name not in only:
        return False
    return is_ours(obj, name, kind, reflected, other)


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Table.metadata,
    render_as_batch=True,
    compare_type=False,  # exact types differ by database on purpose (money, documents)
    compare_server_default=False,
    include_object=is_wanted,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
