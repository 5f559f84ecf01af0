"""Data quality, range and granularity of one snapshot, measured in one scan.

A profile answers five questions about a table: is it complete (missing values, unknown codes,
values out of range), is its key unique, what is one row (grain, rows per subject), what does the
lake's history cover (months, gaps), and is it fresh. :meth:`QualityProfile.findings` holds the
measures against limits; :mod:`bihuan.data.problem` follows what is found until it is solved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlglot import exp

from bihuan.data.contract import Column, ColumnType, TableContract
from bihuan.data.engine import Engine
from bihuan.data.lake import LakeView, Snapshot
from bihuan.data.quality.column import ColumnQuality
from bihuan.data.quality.profile import QualityProfile

TOP_VALUES = 5
SHORT_LIST = 200  # more distinct values than this are not a list that a person reads
SUBJECTS = ("customer_id", "account_id", "subscription_id")


def profile_quality(
    view: LakeView,
    table: str,
    as_of: date,
    contract: TableContract,
    engine: Engine,
    today: date | None = None,
) -> QualityProfile:
    """Measure one snapshot of a table against its contract.

    Parameters
    ----------
    view
        The lake as seen by the caller.
    table, as_of
        Which snapshot.
    contract
        What the table promises; columns that it does not name are listed, not measured.
    engine
        Runs one scan for all measures and a second, of the short-list columns only, that counts
        their values.
    today
        The day from which freshness is counted; None leaves it untold.

    Raises
    ------
    SnapshotNotFoundError
        If the lake has no such snapshot.
    """
    snapshot = view.get(table, as_of)
    stored = pq.read_schema(snapshot.files[0])
    query = exp.select(*_measures(contract, stored, as_of)).from_(_SOURCE)
    row = engine.query(query, {_SOURCE: snapshot}).to_pylist()[0]
    counts = _value_counts(contract, stored, row, snapshot, engine)
    dates = tuple(day for day in view.dates(table) if day <= as_of)
    before = view.find(table, dates[-2]) if len(dates) > 1 else None
    rows = int(row["rows"])
    return QualityProfile(
        name=table,
        as_of=as_of,
        snapshot_id=snapshot.id,
        title=contract.meaning,
        grain=contract.grain,
        key=contract.key,
        rows=rows,
        duplicate_keys=int(row.get("keyed", 0)) - int(row.get("keys", 0)),
        rows_per_subject={
            name: row[f"{name}.present"] / row[f"{name}.exact"]
            for name in SUBJECTS
            if row.get(f"{name}.exact")
        },
        first_time=row.get("first_time"),
        last_time=row.get("last_time"),
        outside_month=int(row.get("outside_month", 0)),
        dates=dates,
        missing_months=missing_months(dates),
        age_days=None if today is None else (today - as_of).days,
        previous=None if before is None else (before.as_of, before.rows),
        columns=tuple(_quality(contract, column, row, counts) for column in contract.columns),
        extra_columns=tuple(name for name in stored.names if name not in contract),
    )


def missing_months(dates: Iterable[date]) -> tuple[str, ...]:
    """Return the months between the first and the last date that none of the dates lies in.

    Examples
    --------
    >>> missing_months([date(2025, 11, 30), date(2026, 2, 28)])
    ('2025-12', '2026-01')
    """
    months = {day.year * 12 + day.month - 1 for day in dates}
    if not months:
        return ()
    gaps = sorted(set(range(min(months), max(months))) - months)
    return tuple(f"{month // 12:04d}-{month % 12 + 1:02d}" for month in gaps)


def count_where(condition: exp.Expr) -> exp.Expr:
    """Count the rows for which a condition is true; 0 without rows."""
    return exp.Filter(this=exp.Count(this=exp.Star()), expression=exp.Where(this=condition))


# -- what is measured ---------------------------------------------------------------------------

_SOURCE = "profiled"
_NUMERIC = (ColumnType.INTEGER, ColumnType.NUMBER, ColumnType.MONEY)
_ORDERED = (*_NUMERIC, ColumnType.DATE, ColumnType.TIMESTAMP)


def _measures(contract: TableContract, stored: pa.Schema, as_of: date) -> Iterator[exp.Expr]:
    """Yield the aggregates of the one scan; those of a column are named ``column.measure``."""
    yield exp.Count(this=exp.Star()).as_("rows")
    if all(name in stored.names for name in contract.key):
        keys = [exp.column(name, quoted=True) for name in contract.key]
        one = keys[0] if len(keys) == 1 else exp.Tuple(expressions=keys)
        yield exp.Count(this=one).as_("keyed")
        yield exp.Count(this=exp.Distinct(expressions=[one])).as_("keys")
    for column in contract.columns:
        if column.name in stored.names:
            value = _value(column, stored)
            for name, tree in _column_measures(column, value):
                yield tree.as_(f"{column.name}.{name}", quoted=True)
    time = _event_time(contract)
    if time is not None and time in stored.names:
        yield from _time_measures(exp.column(time, quoted=True), as_of)


def _column_measures(column: Column, value: exp.Expr) -> Iterator[tuple[str, exp.Expr]]:
    yield "present", exp.Count(this=value)
    yield "distinct", exp.ApproxDistinct(this=value)
    if column.name in SUBJECTS:
        yield "exact", exp.Count(this=exp.Distinct(expressions=[value]))
    if column.type in _ORDERED:
        yield "min", exp.Min(this=value)
        yield "max", exp.Max(this=value)
    if column.type in _NUMERIC or column.type is ColumnType.BOOLEAN:
        yield "mean", exp.Avg(this=exp.cast(value, "DOUBLE"))
    if column.type is ColumnType.STRING:
        yield "shortest", exp.Min(this=exp.Length(this=value))
        yield "longest", exp.Max(this=exp.Length(this=value))
    outside = [
        test(this=value, expression=_bound(column, bound))
        for test, bound in ((exp.LT, column.minimum), (exp.GT, column.maximum))
        if bound is not None
    ]
    if outside:
        yield "outside", count_where(exp.or_(*outside))
    if column.codes is not None:
        known = [exp.Literal.string(code) for code in column.codes]
        text = exp.cast(value, "VARCHAR")
        yield "unknown", count_where(exp.not_(exp.In(this=text, expressions=known)))


def _time_measures(time: exp.Expr, as_of: date) -> Iterator[exp.Expr]:
    start = exp.cast(exp.Literal.string(f"{as_of.replace(day=1)} 00:00:00+00"), "TIMESTAMPTZ")
    end = exp.cast(exp.Literal.string(f"{as_of + timedelta(days=1)} 00:00:00+00"), "TIMESTAMPTZ")
    yield exp.Min(this=time).as_("first_time")
    yield exp.Max(this=time).as_("last_time")
    early, late = exp.LT(this=time, expression=start), exp.GTE(this=time, expression=end)
    yield count_where(exp.or_(early, late)).as_("outside_month")


def _value(column: Column, stored: pa.Schema) -> exp.Expr:
    """Read a column as the contract's type; what cannot be read, and NaN, is missing."""
    value: exp.Expr = exp.column(column.name, quoted=True)
    if stored.field(column.name).type != column.type.arrow:
        value = exp.TryCast(this=value, to=exp.DataType.build(column.type.sql, dialect="duckdb"))
    if column.type is ColumnType.NUMBER:
        value = exp.case().when(exp.not_(exp.IsNan(this=value)), value)
    return value


def _bound(column: Column, bound: float | str) -> exp.Expr:
    if isinstance(bound, int | float):
        return exp.convert(bound)
    return exp.cast(exp.Literal.string(str(bound)), column.type.sql, dialect="duckdb")


def _event_time(contract: TableContract) -> str | None:
    """Return the column that says when an event happened: its first required timestamp."""
    if contract.grain == "event":
        for column in contract.columns:
            if column.type is ColumnType.TIMESTAMP and not column.nullable:
                return column.name
    return None


# -- what the values are ------------------------------------------------------------------------


def _value_counts(
    contract: TableContract,
    stored: pa.Schema,
    row: Mapping[str, Any],
    snapshot: Snapshot,
    engine: Engine,
) -> dict[str, tuple[tuple[str, int], ...]]:
    """Count the values of the short-list columns in one scan that reads no other column."""
    chosen = [column for column in contract.columns if _is_short_list(contract, column, row)]
    if not chosen:
        return {}
    texts = {c.name: exp.cast(_value(c, stored), "VARCHAR") for c in chosen}
    inner = exp.select(*(tree.as_(name, quoted=True) for name, tree in texts.items()))
    names = [exp.column(name, quoted=True) for name in texts]
    sets = [exp.Tuple(expressions=[name.copy()]) for name in names]
    query = (
        exp.select(*names, exp.Count(this=exp.Star()).as_("times"))
        .from_(inner.from_(_SOURCE).subquery("texts"))
        .group_by(exp.GroupingSets(expressions=sets))
    )
    counts: dict[str, list[tuple[str, int]]] = {name: [] for name in texts}
    for group in engine.query(query, {_SOURCE: snapshot}).to_pylist():
        for name in texts:
            if group[name] is not None:  # the other columns of a grouping set are missing
                counts[name].append((group[name], int(group["times"])))
    return {
        name: tuple(sorted(values, key=lambda item: (-item[1], item[0])))
        for name, values in counts.items()
    }


def _is_short_list(contract: TableContract, column: Column, row: Mapping[str, Any]) -> bool:
    """Whether values may be shown: codes, booleans, and short lists that many rows share.

    Keys, references and the values of few rows are left out: they would name a person.
    """
    distinct = row.get(f"{column.name}.distinct")
    if not distinct:
        return False
    if column.codes is not None or column.type is ColumnType.BOOLEAN:
        return True
    if column.name in contract.key or column.references is not None:
        return False
    if column.type not in (ColumnType.STRING, ColumnType.INTEGER):
        return False
    return int(distinct) <= SHORT_LIST and int(row[f"{column.name}.present"]) >= 20 * distinct


def _quality(
    contract: TableContract,
    column: Column,
    row: Mapping[str, Any],
    counts: Mapping[str, tuple[tuple[str, int], ...]],
) -> ColumnQuality:
    def told(measure: str) -> Any:
        return row.get(f"{column.name}.{measure}")

    present = int(told("present") or 0)
    values = counts.get(column.name, ())
    exact = row.get("keys") if contract.key == (column.name,) else told("exact")
    exact = exact or len(values) or None
    estimate = min(int(told("distinct") or 0), present)
    return ColumnQuality(
        name=column.name,
        title=column.meaning,
        type=column.type,
        is_required=not column.nullable,
        is_absent=told("present") is None,
        rows=int(row["rows"]),
        present=present,
        distinct=estimate if exact is None else int(exact),
        is_estimate=exact is None and present > 0,
        minimum=_text(told("min")),
        maximum=_text(told("max")),
        shortest=told("shortest"),
        longest=told("longest"),
        mean=told("mean"),
        outside_range=int(told("outside") or 0),
        unknown_codes=int(told("unknown") or 0),
        top=values[:TOP_VALUES],
    )


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, float):
        return f"{value:.6g}"
    return value.isoformat() if isinstance(value, date | datetime) else str(value)
