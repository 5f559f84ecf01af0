"""References between tables: every id must point to a row that exists."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sqlglot import exp

from bihuan.data.contract import TableContract
from bihuan.data.engine import Engine, Source
from bihuan.data.lake import LakeView, Snapshot
from bihuan.data.quality.difference import SAMPLE_ROWS, source_schema
from bihuan.data.quality.measure import count_where


@dataclass(frozen=True, slots=True)
class ReferenceReport:
    """Whether the values of one column exist where they point to.

    Parameters
    ----------
    table, column, as_of
        The column that points.
    target
        ``table.column`` that it points to.
    target_as_of
        Date of the snapshot looked into: the newest up to ``as_of``; None if there is none, and
        then every value points nowhere.
    rows
        Rows with a value.
    orphans
        Rows whose value does not exist in the target.
    orphan_values
        Different values among them.
    sample
        Up to 20 such values, sorted.
    """

    table: str
    column: str
    as_of: date
    target: str
    target_as_of: date | None
    rows: int
    orphans: int
    orphan_values: int
    sample: tuple[str, ...]


def check_references(
    view: LakeView,
    as_of: date,
    contract: TableContract,
    engine: Engine,
) -> tuple[ReferenceReport, ...]:
    """Look up every reference of one snapshot.

    Parameters
    ----------
    view
        The lake as seen by the caller.
    as_of
        Which snapshot of the contract's table.
    contract
        Names the columns that point elsewhere.
    engine
        Runs one query per reference.

    Returns
    -------
    tuple of ReferenceReport
        One per referring column that the snapshot has, in the contract's order.
    """
    snapshot = view.get(contract.name, as_of)
    stored = set(source_schema(engine, snapshot).names)
    return tuple(
        _check_reference(view, snapshot, column.name, column.references, engine)
        for column in contract.columns
        if column.references is not None and column.name in stored
    )


def _check_reference(
    view: LakeView, snapshot: Snapshot, column: str, target: str, engine: Engine
) -> ReferenceReport:
    table, _, name = target.partition(".")
    found = view.upto(table, snapshot.as_of)
    sources: dict[str, Source] = {"pointing": snapshot}
    value = exp.column(column, table="p", quoted=True)
    rows = exp.select(value.as_("value")).from_("pointing AS p")
    if found:
        sources["target"] = found[-1]
        known = exp.select(exp.column(name, quoted=True).as_("known")).distinct().from_("target")
        rows = rows.select(exp.column("known", table="t")).join(
            known.subquery("t"), on=value.eq(exp.column("known", table="t")), join_type="left"
        )
    else:
        rows = rows.select(exp.null().as_("known"))
    rows = rows.where(exp.not_(_is_missing(value)))
    orphan = _is_missing(exp.column("known"))
    text = exp.cast(exp.column("value"), "VARCHAR")
    lost = exp.select(text.as_("value")).from_("looked").where(orphan)
    listed = exp.select("value").distinct().from_(lost.subquery("lost")).order_by("value")
    with_looked = [
        exp.select(
            exp.Count(this=exp.Star()).as_("rows"),
            count_where(orphan).as_("orphans"),
            exp.Count(
                this=exp.Distinct(expressions=[exp.case().when(orphan, exp.column("value"))])
            ).as_("orphan_values"),
        ).from_("looked"),
        listed.limit(SAMPLE_ROWS),
    ]
    counts, sample = (engine.query(q.with_("looked", as_=rows), sources) for q in with_looked)
    row = counts.to_pylist()[0]
    return ReferenceReport(
        table=snapshot.table,
        column=column,
        as_of=snapshot.as_of,
        target=target,
        target_as_of=found[-1].as_of if found else None,
        rows=row["rows"],
        orphans=row["orphans"],
        orphan_values=row["orphan_values"],
        sample=tuple(sample.column("value").to_pylist()),
    )


def _is_missing(value: exp.Expr) -> exp.Expr:
    return exp.Is(this=value, expression=exp.null())
