"""Judging outcomes: one query that says of every row what it is, in the light of what is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from bihuan.data import ColumnType, Engine, Lake, LakeView, Source
from bihuan.delivery import find_deployment
from bihuan.feedback.quarantine import SCHEMA as KEPT_SCHEMA
from bihuan.feedback.quarantine import OutcomeQuarantine
from bihuan.feedback.reading import REQUIRED, Incoming
from bihuan.feedback.store import OUTCOME, STAGES, outcome_snapshots, some_outcomes, statement
from bihuan.kernel import Clock, DefectError

_ASSIGNMENT_SCHEMA = pa.schema(
    [
        ("assignment_id", pa.string()),
        ("customer_id", pa.string()),
        ("valid_from", pa.date32()),
    ]
)

# What each row is by itself, in the light of the deployment.
_REASONED = """
SELECT typed.*,
    CASE
        WHEN missing_column IS NOT NULL THEN 'missing_value'
        WHEN bad_column IS NOT NULL THEN 'bad_value'
        WHEN known_stage.stage IS NULL THEN 'unknown_stage'
        WHEN typed.deployment_id <> :deployment_id THEN 'other_deployment'
        WHEN assignment.assignment_id IS NULL THEN 'unknown_assignment'
        WHEN assignment.customer_id <> typed.customer_id THEN 'wrong_customer'
        WHEN occurred_at > CAST(:now AS TIMESTAMPTZ) THEN 'in_the_future'
        WHEN typed.stage <> 'suppressed' AND assignment.valid_from
            > CAST(CAST(occurred_at AS TIMESTAMPTZ) AT TIME ZONE :zone AS DATE)
            THEN 'before_valid'
    END AS reason_code
FROM typed
LEFT JOIN known_stage ON typed.stage = known_stage.stage
LEFT JOIN assignment ON typed.assignment_id = assignment.assignment_id
"""
# The first good row of each id in the file, and whether others follow it.
_FIRST = """
SELECT outcome_id, MIN(position) AS position, COUNT(*) AS copies
FROM reasoned WHERE reason_code IS NULL
GROUP BY outcome_id
"""
# What each row is beside the others and beside the store. Contents are compared only where ids
# meet: the branches of a CASE run for the rows that reach them.
_VERDICTS = """
SELECT reasoned.*,
    CASE
        WHEN reasoned.reason_code IS NOT NULL THEN reasoned.reason_code
        WHEN stored.outcome_id IS NOT NULL
            THEN CASE WHEN :like_stored THEN 'duplicate' ELSE 'conflict' END
        WHEN reasoned.position = first_row.position THEN 'stored'
        WHEN :like_first THEN 'duplicate'
        ELSE 'conflict'
    END AS verdict
FROM reasoned
LEFT JOIN first_row ON reasoned.outcome_id = first_row.outcome_id
LEFT JOIN (
    SELECT reasoned.* FROM reasoned JOIN first_row ON reasoned.position = first_row.position
    WHERE first_row.copies > 1
) AS original ON reasoned.outcome_id = original.outcome_id
LEFT JOIN (
    SELECT * FROM outcome WHERE outcome_id IN (SELECT outcome_id FROM typed)
) AS stored ON reasoned.outcome_id = stored.outcome_id
ORDER BY reasoned.position
"""
_OFFSET = ":[0-9]{2}([.][0-9]+)? *(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"  # a moment that says its zone


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that judging one set of outcomes needs."""

    lake: Lake
    deployment_id: str
    quarantine: OutcomeQuarantine
    clock: Clock
    zone: str
    engine: Engine


def judge(desk: Desk, incoming: Incoming) -> pa.Table:
    """Judge every row that came.

    Returns
    -------
    pyarrow.Table
        The typed rows in their order of coming, with ``verdict``: ``stored``, ``duplicate`` or a
        reason code of the quarantine; ``missing_column`` and ``bad_column`` name the column.
    """
    view = desk.lake.view()
    reasoned = statement(
        _REASONED,
        deployment_id=desk.deployment_id,
        now=desk.clock.now().isoformat(),
        zone=desk.zone,
    )
    verdicts = statement(
        _VERDICTS, like_stored=_same("reasoned", "stored"), like_first=_same("reasoned", "original")
    )
    query = (
        verdicts.with_("typed", _typed(incoming.rows.schema, desk))
        .with_("reasoned", reasoned)
        .with_("first_row", statement(_FIRST))
    )
    sources: dict[str, Source] = {
        "incoming": incoming.rows,
        "known_stage": pa.table({"stage": list(STAGES)}),
        "assignment": _assignments(view, desk.deployment_id),
        "outcome": some_outcomes(outcome_snapshots(view, desk.deployment_id)),
    }
    judged = desk.engine.query(query, sources)
    if judged.num_rows != incoming.rows.num_rows:
        raise DefectError(f"{incoming.rows.num_rows} rows came, {judged.num_rows} were judged.")
    return judged


def _typed(schema: pa.Schema, desk: Desk) -> exp.Query:
    """Return the query that gives every column its contract type, or notes that it cannot."""
    values: dict[str, exp.Expr] = {}
    for column in OUTCOME.columns:
        here = schema.field(column.name).type if column.name in schema.names else None
        values[column.name] = _value(column.name, column.type, here, desk.zone)
    values["deployment_id"] = exp.func(
        "COALESCE", values["deployment_id"], exp.Literal.string(desk.deployment_id)
    )
    inner = exp.select("position")
    for name, value in values.items():
        inner = inner.select(exp.alias_(value, name))
        if name in schema.names:
            given = exp.func("NULLIF", _text(name), exp.Literal.string(""))
            inner = inner.select(exp.alias_(given, f"given_{name}"))
    missing, bad = exp.Case(), exp.Case()
    for name in REQUIRED:
        missing = missing.when(f"given_{name} IS NULL", exp.Literal.string(name))
    for name in schema.names[1:]:
        spoilt = f"given_{name} IS NOT NULL AND {name} IS NULL"
        bad = bad.when(spoilt, exp.Literal.string(name))
    return exp.select(
        "position",
        *values,
        exp.alias_(missing, "missing_column"),
        exp.alias_(bad, "bad_column"),
    ).from_(inner.from_("incoming").subquery("incoming"))


def _value(name: str, wanted: ColumnType, here: pa.DataType | None, zone: str) -> exp.Expr:
    if here is None:
        return exp.cast(exp.Null(), wanted.sql)
    if wanted is ColumnType.STRING:
        return exp.func("NULLIF", _text(name), exp.Literal.string(""))
    if wanted is not ColumnType.TIMESTAMP:
        return exp.TryCast(this=exp.column(name), to=exp.DataType.build(wanted.sql, "duckdb"))
    if pa.types.is_timestamp(here) and here.tz is not None:
        return exp.cast(exp.column(name), "TIMESTAMPTZ")
    local = exp.AtTimeZone(
        this=exp.TryCast(this=_text(name), to=exp.DataType.build("TIMESTAMP")),
        zone=exp.Literal.string(zone),
    )
    says_zone = exp.func("REGEXP_LIKE", _text(name), exp.Literal.string(_OFFSET), dialect="duckdb")
    absolute = exp.TryCast(this=_text(name), to=exp.DataType.build("TIMESTAMPTZ"))
    return exp.Case().when(says_zone, absolute).else_(local)


def _text(name: str) -> exp.Expr:
    return exp.func("TRIM", exp.cast(exp.column(name), "TEXT"))


def _same(left: str, right: str) -> exp.Expr:
    """Return the condition that two rows say the same, in every column of the contract."""
    pairs = (
        exp.NullSafeEQ(this=exp.column(name, table=left), expression=exp.column(name, table=right))
        for name in OUTCOME.names
    )
    return exp.paren(exp.and_(*pairs))


def _assignments(view: LakeView, deployment_id: str) -> Source:
    deployment = find_deployment(view, deployment_id)
    if deployment is None:
        return _ASSIGNMENT_SCHEMA.empty_table()
    return deployment.assignments(view)


def rejected_rows(desk: Desk, incoming: Incoming, judged: pa.Table) -> pa.Table:
    """Return what goes to quarantine, as it came, in the quarantine's schema."""
    at = pc.invert(pc.is_in(judged["verdict"], value_set=pa.array(["stored", "duplicate"])))
    bad = incoming.rows.filter(at)
    column = pc.coalesce(judged["missing_column"], judged["bad_column"])
    rows = {f"raw_{name}": bad[name] for name in incoming.rows.column_names[1:]}
    rows |= {
        "position": bad["position"],
        "reason_code": judged["verdict"].filter(at),
        "reason_column": column.filter(at),
    }
    lines = {
        "position": incoming.broken["position"],
        "raw_text": incoming.broken["raw_text"],
        "reason_code": pa.array(["bad_shape"] * incoming.broken.num_rows, pa.string()),
    }
    now = desk.clock.now()
    parts = [_labelled(pa.table(part), desk, incoming.source, now) for part in (rows, lines)]
    return pa.concat_tables(parts)


def _labelled(rows: pa.Table, desk: Desk, source: str, now: datetime) -> pa.Table:
    """Complete quarantined rows to the quarantine's schema and give them their ids."""
    raw = [name for name in KEPT_SCHEMA.names if name.startswith("raw_")]
    query = exp.select()
    said: list[exp.Expr] = [exp.Literal.string(desk.deployment_id)]
    given: dict[str, exp.Expr] = {
        "deployment_id": exp.Literal.string(desk.deployment_id),
        "source": exp.Literal.string(source),
        "received_at": exp.cast(exp.Literal.string(now.isoformat()), "TIMESTAMPTZ"),
    }
    for name in raw:
        here = name in rows.column_names
        given[name] = exp.cast(exp.column(name) if here else exp.Null(), "TEXT")
        text = exp.func("COALESCE", given[name].copy(), exp.Literal.string("\x1e"))
        said += [exp.Literal.string("\x1f"), text]
    joined = exp.Concat(expressions=said, safe=True, coalesce=False)
    given["row_id"] = exp.SHA2(this=joined, length=exp.Literal.number(256))
    for field in KEPT_SCHEMA:
        if field.name in given:
            value: exp.Expr = given[field.name]
        elif field.name in rows.column_names:
            value = exp.column(field.name)
        else:
            value = exp.cast(exp.Null(), "TEXT")
        query = query.select(exp.alias_(value, field.name))
    return desk.engine.query(query.from_("rejected"), {"rejected": rows}).cast(KEPT_SCHEMA)


def incoming_again(waiting: pa.Table) -> Incoming:
    """Return quarantined rows as if they came now."""
    whole = waiting.filter(pc.is_null(waiting["raw_text"]))
    lines = waiting.filter(pc.is_valid(waiting["raw_text"]))
    columns = {name: whole[f"raw_{name}"] for name in OUTCOME.names}
    return Incoming(
        rows=pa.table({"position": pa.array(range(1, whole.num_rows + 1), pa.int64()), **columns}),
        broken=lines.select(["position", "raw_text"]),
        source="replay",
        ignored_columns=(),
    )


def still_waiting(waiting: pa.Table, judged: pa.Table) -> pa.Table:
    """Return the rows that did not pass, under their present reason."""
    whole = waiting.filter(pc.is_null(waiting["raw_text"]))
    column = pc.coalesce(judged["missing_column"], judged["bad_column"])
    for name, values in (("reason_code", judged["verdict"]), ("reason_column", column)):
        whole = whole.set_column(whole.schema.get_field_index(name), name, values)
    at = pc.is_in(judged["verdict"], value_set=pa.array(["stored", "duplicate"]))
    lines = waiting.filter(pc.is_valid(waiting["raw_text"]))
    return pa.concat_tables([whole.filter(pc.invert(at)).cast(KEPT_SCHEMA), lines])
