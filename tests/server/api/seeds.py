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
STEP = {"name": "step", "title": {"zh": "步骤", "en": "Step"}, "team_kind": "touchpoint",
        "post": "operator", "days": 1}  # fmt: skip
FITTING: dict[str, dict[str, Any]] = {
    "staff": {"status": "active"},
    "staff_post": {"role": "planner", "layer": "management", "status": "active"},
    "account": {"status": "active", "language": "zh"},
    "sign_in": {"ended_at": None},
    "api_token": {"actions": ["org.read"]},
    "outlet": {"kind": "hall", "status": "open"},
    "crew": {"kind": "installation", "status": "on_duty"},
    "area": {"kind": "estate", "status": "active"},
    "policy_proposal": {"state": "proposed", "statement": "policy_id: x"},
    "erasure": {"left_over": [], "state": "done"},
    "plan": {
        "state": "drafting",
        "revision_id": "seed-plan_revision",
        "sharing": "own",
        "kind": "retention",
        "channels": ",sms,",
    },
    "plan_revision": {"sharing": "own", "number": 1},
    "plan_frame": {"state": "draft", "sharing": "own", "limits": []},
    "impact_assessment": {"sharing": "own"},
    "filing": {"state": "returned", "tiers": []},
    "approval_step": {"state": "returned"},
    "plan_stop": {"channels": []},
    "knowledge_entry": {"state": "draft", "sharing": "own", "labels": [], "links": []},
    "knowledge_revision": {"sharing": "own", "number": 1},
    "good_case": {"state": "shared", "sharing": "own"},
    "saved_audience": {"rule": "arpu >= 80", "size_as_of": None},
    "job": {"kind": "tag_refresh", "state": "queued", "arguments": {}},
    "schedule": {
        "kind": "tag_refresh",
        "cron": "0 3 * * *",
        "time_zone": "Asia/Shanghai",
        "arguments": {},
        "missed": "skip",
    },
    "indicator_version": {
        "kind": "indicator",
        "status": "submitted",
        "document": {"name": "seed_indicator"},
    },
    "scene": {"status": "active"},
    "scene_version": {"status": "active"},
    "team": {"kind": "touchpoint", "status": "active"},
    "team_member": {"staff_id": "seed-staff", "since": date(2026, 1, 1), "post": "operator"},
    "process": {"status": "active", "steps": [STEP]},
    "process_run": {"status": "running", "steps": [STEP], "at_step": 0},
    "performance": {"status": "open", "tier": "county"},
    "performance_appeal": {"status": "open"},
    "worker": {"state": "alive"},
}
"""What a column must hold for the row to make sense; everything else is filled by its type."""
PARAMETERS = {
    "unit_id": "org_unit",
    "staff_id": "staff",
    "import_id": "org_import",
    "session_id": "sign_in",
    "token_id": "api_token",
    "post_id": "staff_post",
    "account_id": "account",
    "outlet_id": "outlet",
    "crew_id": "crew",
    "area_id": "area",
    "audience_id": "saved_audience",
    "proposal_id": "policy_proposal",
    "plan_id": "plan",
    "frame_id": "plan_frame",
    "impact_id": "impact_assessment",
    "case_id": "good_case",
    "entry_id": "knowledge_entry",
    "opt_out_id": "opt_out",
    "erasure_id": "erasure",
    "deployment_id": "deployment",
    "release_id": "strategy_release",
    "job_id": "job",
    "schedule_id": "schedule",
    "indicator_id": "indicator_version",
    "rule_id": "rule",
    "scene_id": "scene",
    "scheme_id": "scheme",
    "guide_id": "guide",
    "task_id": "guide_task",
    "feedback_id": "guide_feedback",
    "team_id": "team",
    "process_id": "process",
    "run_id": "process_run",
    "course_id": "course",
    "performance_id": "performance",
    "score_id": "performance_score",
    "appeal_id": "performance_appeal",
}
"""Path parameters and the table whose seeded row they name; others name no row of a unit."""
SECOND: dict[str, tuple[str, dict[str, Any]]] = {
    "rule": ("indicator_version", {"kind": "rule", "indicator_id": "seed-rule", "name": "rule"}),
    "other_team": ("team", {"team_id": "seed-other_team", "name_zh": "other"}),
}
"""Rows that share a table with another kind of thing: name, table, what differs."""
ELSEWHERE = {
    "channel": "sms",
    "customer_id": "no-such-customer",
    "name": "arpu",
    "number": "1",
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
        lists = _list_columns(mapped[table.name])
        values = {
            column.name: []
            if column.name in lists and not column.nullable
            else _value(table, column, keys, work.now)
            for column in table.columns
        }
        values.update(FITTING.get(table.name, {}))
        work.session.add(mapped[table.name](**_by_attribute(mapped[table.name], values)))
        work.session.flush()
        first = next(iter(table.primary_key.columns))
        keys[table.name] = values[first.name]
        for name, (of, changes) in SECOND.items():
            if of == table.name:
                row = {**values, **changes}
                work.session.add(mapped[of](**_by_attribute(mapped[of], row)))
                keys[name] = row[first.name]
    return keys


def _list_columns(kind: type[Any]) -> set[str]:
    """Return the JSON columns that hold a list, as their annotations say."""
    told = {
        name: text
        for base in kind.__mro__
        for name, text in vars(base).get("__annotations__", {}).items()
    }
    return {name for name, text in told.items() if "Mapped[list" in str(text)}


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
    if column.name == "sharing":
        return "own"
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
