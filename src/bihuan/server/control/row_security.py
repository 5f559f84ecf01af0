"""PostgreSQL's row security: the scope once more, held by the database itself.

Every transaction says its scope (``bihuan.scope``); rows outside it are neither seen nor written,
even by a query that forgot it. It binds the role that Bihuan connects as, unless that role is a
superuser or has BYPASSRLS: ``bihuan doctor`` says so.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from bihuan.server.control.base import Shared
from bihuan.server.control.organisation import OrgUnit
from bihuan.server.control.scope import scoped_tables

_SCOPE = "coalesce(current_setting('bihuan.scope', true), '')"
_BELOW, _ABOVE = (
    f"unit_id IN (SELECT {seen} FROM org_closure"  # noqa: S608 - names of our own columns
    f" WHERE {from_where} = ANY(string_to_array({_SCOPE}, ',')))"
    for seen, from_where in (("descendant_id", "ancestor_id"), ("ancestor_id", "descendant_id"))
)


def row_security(tables: dict[str, str]) -> list[str]:
    """Return the statements that put ``tables`` under row security.

    Parameters
    ----------
    tables
        ``own``, ``shared`` or ``unit`` by table name: who may read besides the units above.
    """
    statements = []
    for name, kind in sorted(tables.items()):
        seen = {
            "own": _BELOW,
            "shared": f"{_BELOW} OR sharing = 'all' OR (sharing = 'down' AND {_ABOVE})",
            "unit": f"{_BELOW} OR {_ABOVE}",
        }[kind]
        # a new unit stands in no subtree yet: it must hang under one that does
        written = (
            _BELOW if kind != "unit" else f"{_BELOW} OR {_BELOW.replace('unit_id', 'parent_id', 1)}"
        )
        whole = f"{_SCOPE} = '*'"
        statements += [
            f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY",
            f"CREATE POLICY {name}_seen ON {name} FOR SELECT USING ({whole} OR {seen})",
            f"CREATE POLICY {name}_added ON {name} FOR INSERT WITH CHECK ({whole} OR {written})",
            f"CREATE POLICY {name}_changed ON {name} FOR UPDATE USING ({whole} OR {_BELOW})"
            f" WITH CHECK ({whole} OR {written})",
            f"CREATE POLICY {name}_removed ON {name} FOR DELETE USING ({whole} OR {_BELOW})",
        ]
    return statements


def secure(op: Any, tables: dict[str, str]) -> None:
    """Put tables under row security within a migration; does nothing in SQLite."""
    if op.get_bind().dialect.name == "postgresql":
        for statement in row_security(tables):
            op.execute(statement)


def unsecure(op: Any, tables: dict[str, str]) -> None:
    """Take tables out of row security within a migration, so that they can be dropped."""
    if op.get_bind().dialect.name == "postgresql":
        for name in sorted(tables):
            for policy in ("seen", "added", "changed", "removed"):
                op.execute(f"DROP POLICY {name}_{policy} ON {name}")
            op.execute(f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY")


def secured_tables() -> dict[str, str]:
    """Return every table with units and its kind of row security."""
    return {
        str(table.__tablename__): "unit"
        if issubclass(table, OrgUnit)
        else "shared"
        if issubclass(table, Shared)
        else "own"
        for table in scoped_tables()
    }


def unsecured(engine: sa.Engine) -> list[str]:
    """Return why row security does not hold in this database; empty if it holds or is SQLite."""
    if engine.dialect.name != "postgresql":
        return []
    with engine.connect() as connection:
        role = connection.execute(
            sa.text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
        ).scalar_one()
        forced = set(
            connection.scalars(
                sa.text("SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity")
            )
        )
    found = [f"table {name} has none" for name in sorted(set(secured_tables()) - forced)]
    return (["the role is a superuser or has BYPASSRLS"] if role else []) + found
