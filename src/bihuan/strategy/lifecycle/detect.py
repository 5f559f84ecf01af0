"""Seeing which customers are at a key moment, and since when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from bihuan.audience import bind, predicate, tag_columns, tags_of
from bihuan.data import ColumnType, Engine, LakeView, Source, TableContract
from bihuan.strategy.cube import band_bits, read_rule
from bihuan.strategy.lifecycle.moment import EventRule, Moment, MomentBook
from bihuan.strategy.lifecycle.stage import LifeCycleError
from bihuan.tag import TagField, TagTable

SCHEMA = pa.schema(
    [("customer_id", pa.string()), ("moment_id", pa.string()), ("since", pa.date32())]
)
"""Columns of detected moments: who, what, and the first day of it."""
_COMPARED = (ColumnType.TIMESTAMP, ColumnType.DATE)


@dataclass(frozen=True, slots=True)
class MomentReport:
    """Which customers are at which moment.

    Parameters
    ----------
    day
        For which it was seen.
    detected
        ``customer_id``, ``moment_id``, ``since``, by moment and customer.
    counts
        Customers by moment, supported moments only, zeros included.
    blind
        Supported moments that could not be seen on these data, with the reason by language.
    pending
        Tags of the rule of valued customers that have no values; conditions on them hold for
        nobody.
    """

    day: date
    detected: pa.Table
    counts: Mapping[str, int]
    blind: Mapping[str, Mapping[str, str]]
    pending: tuple[str, ...] = ()


def detect(
    book: MomentBook,
    tags: TagTable,
    view: LakeView,
    contracts: Mapping[str, TableContract],
    *,
    engine: Engine,
    earlier: pa.Table | None = None,
) -> MomentReport:
    """Find the customers at each supported moment.

    Parameters
    ----------
    book
        The catalogue.
    tags
        Tag values at one date; the moments are those of its day.
    view
        Where events are.
    contracts
        Columns and types of the tables that events are in.
    engine
        One query for all rules over tags, one per event rule.
    earlier
        What was detected before: a moment that goes on keeps its first day.

    Returns
    -------
    MomentReport
        A moment whose tags have no values, or whose table is not in the lake, is blind and not
        counted as nobody's.

    Raises
    ------
    LifeCycleError
        If an event rule names a table or column that there is not.
    """
    blind: dict[str, Mapping[str, str]] = {}
    by_tags, by_event = [], []
    for moment in book.supported:
        if isinstance(moment.rule, EventRule):
            by_event.append(moment)
        elif moment.rule is not None:
            by_tags.append(moment)
    seen = _seen_in_tags(book, by_tags, tags, engine, blind)
    for moment in by_event:
        rule = moment.rule
        assert isinstance(rule, EventRule)
        found = _seen_in_events(book, rule, (tags, view, contracts), engine)
        if found is None:
            blind[moment.moment_id] = {
                "zh": f"湖中没有 {rule.table} 表的数据。",
                "en": f"The lake holds nothing of the table '{rule.table}'.",
            }
            continue
        seen.append((moment.moment_id, found))
    detected = _joined(seen, tags.as_of, earlier)
    counted = {row["values"]: row["counts"] for row in
               pc.value_counts(detected["moment_id"]).to_pylist()}  # fmt: skip
    counts = {
        moment.moment_id: counted.get(moment.moment_id, 0)
        for moment in book.supported
        if moment.moment_id not in blind
    }
    pending = read_rule(book.customers, tags).pending
    return MomentReport(tags.as_of, detected, counts, blind, pending)


def _seen_in_tags(
    book: MomentBook,
    moments: list[Moment],
    tags: TagTable,
    engine: Engine,
    blind: dict[str, Mapping[str, str]],
) -> list[tuple[str, pa.Table]]:
    rules = []
    for moment in moments:
        if not _is_rule(moment):
            continue
        reading = read_rule(moment.rule, tags)  # type: ignore[arg-type]  # events are elsewhere
        if reading.pending:
            names = ", ".join(reading.pending)
            blind[moment.moment_id] = {
                "zh": f"标签没有值：{names}。", "en": f"Tags without values: {names}."
            }  # fmt: skip
            continue
        rules.append((moment, reading.node))
    if not rules:
        return []
    valued = read_rule(book.customers, tags).node
    nodes = [node for _, node in rules]
    used = sorted({tag for node in [*nodes, valued] for tag in tags_of(node)})
    relation, sources = tags.relation(used)
    bits = band_bits([(node, 1 << i) for i, node in enumerate(nodes)], tags)
    identity = exp.column(tags.id_column, quoted=True).as_("customer_id")
    marked = (
        exp.select(identity, exp.alias_(bits, "bits", copy=False))
        .from_(relation.subquery("tagged"))
        .where(predicate(valued, tag_columns(tags.fields)))
    )
    query = exp.select("*").from_(marked.subquery("marked"))
    rows = engine.query(
        query.where(exp.column("bits").neq(exp.Literal.number(0))).order_by("customer_id"), sources
    )
    values = rows["bits"].to_numpy()
    found = []
    for number, (moment, _) in enumerate(rules):
        here = rows.filter(pa.array((values >> number & 1).astype(np.bool_)))
        day = pa.nulls(here.num_rows, pa.date32())
        found.append((moment.moment_id, here.select(["customer_id"]).append_column("day", day)))
    return found


def _seen_in_events(
    book: MomentBook,
    rule: EventRule,
    where: tuple[TagTable, LakeView, Mapping[str, TableContract]],
    engine: Engine,
) -> pa.Table | None:
    """Return customers with the last day on which it happened; None if there are no data."""
    tags, view, contracts = where
    fields = _fields(rule, contracts)
    first = tags.as_of - timedelta(days=rule.days - 1)
    months = (tags.as_of.year - first.year) * 12 + tags.as_of.month - first.month + 1
    snapshots = view.upto(rule.table, tags.as_of, months=months)
    if not snapshots:
        return None
    node = bind(rule.when, fields)
    day = exp.cast(exp.column(rule.day, table="happened", quoted=True), "DATE")
    valued = read_rule(book.customers, tags).node
    relation, sources = tags.relation(sorted(set(tags_of(valued))))
    members = (
        exp.select(exp.column(tags.id_column, quoted=True).as_("id"))
        .from_(relation.subquery("tagged"))
        .where(predicate(valued, tag_columns(tags.fields)))
    )

    def column(name: str) -> exp.Expr:
        return exp.column(name, table="happened", quoted=True)

    limits = [exp.cast(exp.Literal.string(d.isoformat()), "DATE") for d in (first, tags.as_of)]
    is_recent = exp.Between(this=day.copy(), low=limits[0], high=limits[1])
    customer = column("customer_id")
    query = (
        exp.select(customer.as_("customer_id"), exp.alias_(exp.Max(this=day), "day"))
        .from_(exp.to_table("happened"))
        .join(members.subquery("valued"), on=exp.column("id", table="valued").eq(customer.copy()))
        .where(predicate(node, column), is_recent)
        .group_by(customer.copy())
        .order_by("customer_id")
    )
    happened: Source = snapshots
    return engine.query(query, {**sources, "happened": happened})


def _fields(rule: EventRule, contracts: Mapping[str, TableContract]) -> dict[str, TagField]:
    contract = contracts.get(rule.table)
    names = () if contract is None else tuple(column.name for column in contract.columns)
    if contract is None or "customer_id" not in names or rule.day not in names:
        known = ", ".join(sorted(contracts)) if contract is None else ", ".join(names)
        what = "no such table" if contract is None else f"no column 'customer_id' or '{rule.day}'"
        raise LifeCycleError(
            f"A key moment cannot be seen in '{rule.table}': {what}.",
            remedy=f"There are: {known}.",
            zh=f"关键时刻无法从 {rule.table} 识别（{what}），现有：{known}。",
        )
    if contract[rule.day].type not in _COMPARED:
        raise LifeCycleError(
            f"Column '{rule.day}' of '{rule.table}' is not a day.",
            remedy="Name a date or a timestamp.",
            zh=f"{rule.table} 的 {rule.day} 不是日期或时间列。",
        )
    return {
        column.name: TagField(
            column.name,
            column.type,
            frozenset(column.codes) if column.codes else None,
            column.meaning,
        )
        for column in contract.columns
        if column.type is not ColumnType.TIMESTAMP
    }


def _joined(seen: list[tuple[str, pa.Table]], day: date, earlier: pa.Table | None) -> pa.Table:
    parts = [
        pa.table(
            {
                "customer_id": rows["customer_id"],
                "moment_id": pa.repeat(moment_id, rows.num_rows).cast(pa.string()),
                "since": rows["day"].cast(pa.date32()),
            }
        )
        for moment_id, rows in seen
    ]
    table = pa.concat_tables([SCHEMA.empty_table(), *parts])
    if earlier is not None and earlier.num_rows:
        keys = [_key(rows) for rows in (table, earlier)]
        known = earlier["since"].take(pc.index_in(keys[0], value_set=keys[1]))
        # an event has its own day; a state goes on from the day on which it was first seen
        table = table.set_column(2, "since", pc.coalesce(table["since"], known))
    filled = pc.fill_null(table["since"], pa.scalar(day, pa.date32()))
    table = table.set_column(2, SCHEMA.field("since"), filled)
    return table.sort_by([("moment_id", "ascending"), ("customer_id", "ascending")])


def _key(rows: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(rows["moment_id"], rows["customer_id"], "\x1f")


def _is_rule(moment: Moment) -> TypeGuard[Moment]:
    return moment.rule is not None and not isinstance(moment.rule, EventRule)
