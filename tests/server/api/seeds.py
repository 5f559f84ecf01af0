"""One row of every table, all of one unit, made from the tables themselves."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from bihuan.server.control import Table, UnitOfWork

from .world import TARGET

TREE_TABLES = frozenset(("org_unit", "org_closure"))
OWN = frozenset(("audit_entry", "audit_head", "kept_reply"))
"""Tables that fill themselves."""
FITTING: dict[str, dict[str, Any]] = {
    "staff_post": {"role": "planner", "layer": "management", "status": "active"},
    "account": {"status": "active", "language": "zh"},
    "sign_in": {"ended_at": None},
    "outlet": {"kind": "hall", "status": "open"},
    "crew": {"kind": "installation", "status": "on_duty"},
    "area": {"kind": "estate", "status": "active"},
    "policy_proposal": {"state": "proposed", "statement": "policy_id: x"},
    "saved_audience": {"rule": "arpu >= 80", "size_as_of": None},
}
"""What a column must hold for the row to make sense; everything else is filled by its type."""
PARAMETERS = {
    "unit_id": "org_unit",
    "staff_id": "staff",
    "post_id": "staff_post",
    "account_id": "account",
    "outlet_id": "outlet",
    "crew_id": "crew",
    "area_id": "area",
    "audience_id": "saved_audience",
    "proposal_id": "policy_proposal",
}
"""Path parameters and the table whose seeded row they name; others name no row of a unit."""
ELSEWHERE = {
    "name": "arpu",
    "offer_id": "no-such-offer",
}
"""Path parameters that name no row of the control database."""


def seed_everything(work: UnitOfWork) -> dict[str, str]:
    """Add one row of every table, all of :data:`TARGET`; return the key of each by table."""
    keys: dict[str, str] = {"org_unit": TARGET}
    mapped = {mapper.local_table.name: mapper.class_ for mapper in Table.registry.mappers}
    for table in Table.metadata.sorted_tables:
        if table.name in TREE_TABLES or table.name in OWN:
            continue
        values = {column.name: _value(table, column, keys, work.now) for column in table.columns}
        values.update(FITTING.get(table.name, {}))
        work.session.add(mapped[table.name](**_by_attribute(mapped[table.name], values)))
        work.session.flush()
        first = next(iter(table.primary_key.columns))
        keys[table.name] = values[first.name]
    return keys


def _by_attribute(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    mapper = sa.inspect(kind)
    return {mapper.get_property_by_column(mapper.local_table.c[n]).key: v
            for n, v in values.items()}  # fmt: skip


def _value(table: sa.Table, column: sa.Column[Any], keys: dict[str, str], now: datetime) -> Any:  # noqa: PLR0911 - one case per kind of column
    for foreign in column.foreign_keys:
        if foreign.column.table is table:
            return None
        return keys[foreign.column.table.name]
    if column.name == "unit_id":
        return TARGET
    if column.name == "version":
        return 1
    if column.nullable:
        return None
    kind = column.type.python_type if not isinstance(column.type, sa.JSON) else dict
    if isinstance(column.type, sa.types.TypeDecorator):
        impl = column.type.impl
        kind = datetime if isinstance(impl, sa.DateTime) else Decimal
    if kind is datetime:
        future = column.name.startswith(("expires", "until", "ends"))
        return now + timedelta(days=30) if future else now
    plain: dict[type, Any] = {
        int: 1, bool: False, float: 1.0, date: now.date(), Decimal: Decimal(1), dict: {},
    }  # fmt: skip
    if kind is str:
        text = f"seed-{table.name}"
        return text if column.primary_key else text[: column.type.length or 40]
    return plain[kind]
