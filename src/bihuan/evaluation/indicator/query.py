"""The queries behind indicators, as trees: rows with their org unit, parts, roll-up, formulas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from sqlglot import exp

from bihuan.data import LakeView, Source, TableContract
from bihuan.evaluation.indicator.definition import UNIT_COLUMN, Indicator, way_to_unit
from bihuan.evaluation.indicator.formula import aggregate_of, merge_of
from bihuan.tag import TagDictionary, at_date, read_tags

UNIT = "__unit"
"""The org unit of a row; no column of a contract begins with an underline."""


@dataclass(frozen=True, slots=True)
class World:
    """What queries read.

    Parameters
    ----------
    view
        The lake as it was at one moment.
    contracts
        What its tables promise.
    dictionary
        The tags; None where no indicator reads tags.
    """

    view: LakeView
    contracts: Mapping[str, TableContract]
    dictionary: TagDictionary | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """The rows that one group of indicators reads, with their org unit.

    Parameters
    ----------
    query
        Columns in use and :data:`UNIT`.
    sources
        What its table names stand for.
    keys
        Columns that name a row.
    """

    query: exp.Select
    sources: Mapping[str, Source]
    keys: tuple[str, ...]


def facts(world: World, indicators: Sequence[Indicator], month: date, *, keys: bool) -> Facts:
    """Return the rows of one source for a month.

    Parameters
    ----------
    world
        What there is.
    indicators
        All over one source, one way to the unit, the same months and members.
    month
        Date of the newest snapshot read.
    keys
        Whether the columns that name a row are wanted too, for a list.

    Raises
    ------
    SnapshotNotFoundError, TagNotDerivedError
        If the lake lacks what is read.
    """
    one = indicators[0]
    columns = {name for each in indicators for name in (*each.columns, *each.dimensions)}
    named: tuple[str, ...]
    if one.subject:
        assert world.dictionary is not None  # bound before
        tags = read_tags(world.view, world.dictionary, one.subject, month)
        named = (tags.id_column,)
        inner, sources = tags.relation(sorted(columns - {tags.id_column}))
        held: exp.Expr = inner.subquery("s")
    else:
        contract = world.contracts[one.source]
        named = contract.key
        world.view.get(one.source, month)
        sources = {"s": world.view.upto(one.source, month, months=one.months)}
        held = exp.to_table("s")
    chosen = sorted(columns | (set(named) if keys else set()))
    select = exp.select(*(_column(name, "s") for name in chosen)).from_(held)
    way = way_to_unit(one, world.contracts)
    if way is None:
        select = select.select(_column(UNIT_COLUMN, "s").as_(UNIT, quoted=True))
    else:
        column, table, key = way
        sources |= {"l": world.view.get(table, month)}
        on = exp.EQ(this=_column(column, "s"), expression=_column(key, "l"))
        select = select.join(exp.to_table("l"), on=on, join_type="left")
        select = select.select(_column(UNIT_COLUMN, "l").as_(UNIT, quoted=True))
    return Facts(select, sources, named)


def merged_query(
    rows: Facts,
    parts: Mapping[str, exp.Expr],
    by: Sequence[str],
    members: str,
    month: date,
) -> exp.Select:
    """Return the parts of each unit, added up from members that were added up themselves.

    Parameters
    ----------
    rows
        The facts.
    parts
        Mergeable aggregates by the name of their column.
    by
        Dimensions kept.
    members
        Tier whose rows count; empty: all.
    month
        What ``as_of`` means.
    """
    dims = [_column(name) for name in by]
    of_unit = exp.select(_column(UNIT), *dims).from_("facts")
    for name, part in parts.items():
        of_unit = of_unit.select(at_date(part, month).as_(name))
    of_unit = of_unit.where(*_of_tier(members)).group_by(_column(UNIT), *dims)
    query = exp.select(_column("ancestor").as_("unit_id"), *dims).from_("parts")
    for name, part in parts.items():
        kind = merge_of(part)
        assert kind is not None
        query = query.select(kind(this=exp.column(name)).as_(name))
    query = _closed(query, "parts").group_by(_column("ancestor"), *dims)
    return query.with_("facts", as_=rows.query).with_("parts", as_=of_unit)


def whole_query(
    rows: Facts,
    parts: Mapping[str, exp.Expr],
    by: Sequence[str],
    members: str,
    month: date,
) -> exp.Select:
    """Return parts that need all rows of a unit at once (a median, a count of different values)."""
    dims = [_column(name) for name in by]
    query = exp.select(_column("ancestor").as_("unit_id"), *dims).from_("facts")
    for name, part in parts.items():
        query = query.select(at_date(part, month).as_(name))
    query = _closed(query, "facts").where(*_of_tier(members))
    return query.group_by(_column("ancestor"), *dims).with_("facts", as_=rows.query)


def unplaced_query(rows: Facts) -> exp.Select:
    """Return how many rows have no org unit that is in the tree."""
    known = exp.select(_column("unit_id")).from_("unit")
    nowhere = exp.or_(
        _column(UNIT).is_(exp.null()),
        exp.Not(this=exp.In(this=_column(UNIT), query=known.subquery())),
    )
    count = exp.Count(this=exp.Star()).as_("n")
    return exp.select(count).from_("facts").where(nowhere).with_("facts", as_=rows.query)


def list_query(
    rows: Facts, indicator: Indicator, unit: Iterable[str], where: Mapping[str, object], month: date
) -> exp.Select:
    """Return the rows behind a number: key, unit, columns, and what each brings to each part."""
    names = list(dict.fromkeys((*rows.keys, *indicator.dimensions, *indicator.columns)))
    query = exp.select(*(_column(n) for n in names), _column(UNIT).as_(UNIT_COLUMN)).from_("facts")
    counts = []
    for number, part in enumerate(indicator.parts, start=1):
        brings = at_date(contribution(part), month)
        query = query.select(brings.as_(f"part_{number}"))
        counts.append(brings.is_(exp.null()).not_())
    inside = exp.In(this=_column(UNIT), expressions=[exp.Literal.string(one) for one in unit])
    conditions = [inside, exp.or_(*counts), *_of_tier(indicator.members)]
    for name, value in where.items():
        conditions.append(exp.NullSafeEQ(this=_column(name), expression=exp.convert(value)))
    return query.where(*conditions).with_("facts", as_=rows.query)


def contribution(part: exp.Expr) -> exp.Expr:
    """Return what one row brings to an aggregate; missing where it does not count."""
    inner = aggregate_of(part)
    if isinstance(inner, exp.CountIf):
        value: exp.Expr = exp.case().when(inner.this.copy(), exp.Literal.number(1))
    elif isinstance(inner, exp.Count):
        arg = inner.this
        if isinstance(arg, exp.Star):
            value = exp.Literal.number(1)
        elif isinstance(arg, exp.Distinct):
            value = arg.expressions[0].copy()
        else:
            value = exp.case().when(arg.is_(exp.null()).not_(), exp.Literal.number(1))
    else:
        arg = inner.this
        value = (arg.expressions[0] if isinstance(arg, exp.Distinct) else arg).copy()
    if isinstance(part, exp.Filter):
        return exp.case().when(part.expression.this.copy(), value)
    return value


def _closed(query: exp.Select, name: str) -> exp.Select:
    on = exp.EQ(this=_column(UNIT, name), expression=_column("descendant", "closure"))
    return query.join(exp.to_table("closure"), on=on)


def _of_tier(members: str) -> list[exp.Expr]:
    if not members:
        return []
    tier = exp.EQ(this=_column("tier"), expression=exp.Literal.string(members))
    known = exp.select(_column("unit_id")).from_("unit").where(tier)
    return [exp.In(this=_column(UNIT), query=known.subquery())]


def _column(name: str, table: str | None = None) -> exp.Column:
    return exp.column(name, table=table, quoted=True)
