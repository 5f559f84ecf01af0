"""Values of indicators by org unit and month, and the lists behind them.

Rows are added up per unit, units up the seven tiers, and only then is the formula taken: a rate of
a city is the sum over all its members by the sum over all its members, whatever lies between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa
from sqlglot import exp

from bihuan.data import Engine, Source
from bihuan.evaluation.indicator.catalogue import IndicatorCatalogue
from bihuan.evaluation.indicator.definition import Indicator, check_binding
from bihuan.evaluation.indicator.errors import IndicatorError
from bihuan.evaluation.indicator.formula import (
    adds,
    merge_of,
    replace_parts,
    with_columns_replaced,
)
from bihuan.evaluation.indicator.month import month_end_before
from bihuan.evaluation.indicator.query import (
    World,
    facts,
    list_query,
    merged_query,
    unplaced_query,
    whole_query,
)
from bihuan.evaluation.indicator.tree import UnitTree
from bihuan.kernel import UserError


@dataclass(frozen=True, slots=True, eq=False)
class IndicatorValues:
    """Values of one month.

    Parameters
    ----------
    month
        Date of the snapshots.
    rows
        ``unit_id``, the dimensions asked for, and one float64 column per indicator (missing:
        nothing to compute it from), by unit and dimensions.
    versions
        Version of the definition used, by name: the same for every line and city.
    missing
        Indicators without values in that month, with the reason by language.
    unplaced
        Rows that belong to no unit of the tree, and so count nowhere, by source; only where
        there are some.
    """

    month: date
    rows: pa.Table
    versions: Mapping[str, int]
    missing: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unplaced: Mapping[str, int] = field(default_factory=dict)

    def value(self, name: str, unit: str, **dimensions: object) -> float | None:
        """Return one value; None where it is missing or there is no such row."""
        for row in self.rows.to_pylist():
            if row["unit_id"] == unit and all(row[k] == v for k, v in dimensions.items()):
                held = row.get(name)
                return None if held is None else float(held)
        return None


@dataclass(frozen=True, slots=True, eq=False)
class IndicatorList:
    """Some of the rows behind a number.

    Parameters
    ----------
    indicator, version, month, unit
        Which number.
    parts
        Text of each aggregate of the formula, by the column that tells what a row brings to it.
    rows
        Key, columns in use, ``org_unit_id`` and the parts, ordered by key.
    total
        Rows behind the number in all.
    """

    indicator: str
    version: int
    month: date
    unit: str
    parts: Mapping[str, str]
    rows: pa.Table
    total: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked.

    Parameters
    ----------
    names
        Indicators.
    month
        Date of the newest snapshots, a month's end.
    units
        Units whose values are wanted; None: all.
    by
        Dimensions; every indicator must have them.
    """

    names: tuple[str, ...]
    month: date
    units: tuple[str, ...] | None = None
    by: tuple[str, ...] = ()


def compute(
    catalogue: IndicatorCatalogue,
    wanted: Wanted,
    world: World,
    *,
    engine: Engine,
    tree: UnitTree | None = None,
) -> IndicatorValues:
    """Compute indicators of a month for org units.

    Parameters
    ----------
    catalogue
        The definitions; those in force in the month are used.
    wanted
        Which indicators, of whom.
    world
        Lake, contracts, tags.
    engine
        Runs one query per source, whatever the number of indicators over it.
    tree
        The org tree; None: that of the lake at the month.

    Raises
    ------
    UnknownIndicatorError
        If there is none of that name in force.
    IndicatorError
        If a dimension is not one of an indicator's, or a definition does not fit the tables.
    """
    month = wanted.month
    tree = tree or UnitTree.at(world.view, month)
    used = {name: catalogue.at(name, month) for name in wanted.names}
    _require_dimensions(catalogue, wanted)
    run = _Run(catalogue, world, engine, tree, wanted)
    expressions: dict[str, exp.Expr] = {}
    missing: dict[str, Mapping[str, str]] = {}
    for name in used:
        try:
            expressions[name] = run.expression(name, month, frozenset())
        except _Missing as reason:
            missing[name] = reason.reason
    rows = run.rows(expressions, missing)
    return IndicatorValues(
        month, rows, {n: one.version for n, one in used.items()}, missing, run.unplaced
    )


def list_behind(  # noqa: PLR0913 - a list hangs on all of these
    catalogue: IndicatorCatalogue,
    name: str,
    unit: str,
    world: World,
    *,
    month: date,
    engine: Engine,
    where: Mapping[str, object] | None = None,
    limit: int = 100,
    offset: int = 0,
    tree: UnitTree | None = None,
) -> IndicatorList:
    """Return the rows behind an indicator's value.

    Parameters
    ----------
    catalogue, world, engine, tree
        As for :func:`compute`.
    name
        An indicator over a source; for a formula over others ask for the list of one of these.
    unit, month, where
        Which value: unit, month, and values of dimensions.
    limit, offset
        Which rows of the list, in the order of their key.

    Raises
    ------
    IndicatorError
        If the indicator is made of others; the message names them.
    """
    indicator = catalogue.at(name, month)
    if indicator.inputs:
        inputs = ", ".join(taken.indicator for taken in indicator.inputs.values())
        raise IndicatorError(
            f"Indicator '{name}' is made of others: {inputs}.",
            remedy="Ask for the list behind one of these.",
            zh=f"指标 {name} 由其他指标计算而来（{inputs}），请查看其中某一项的明细。",
        )
    check_binding(indicator, world.contracts, world.dictionary)
    tree = tree or UnitTree.at(world.view, month)
    rows = facts(world, [indicator], month, keys=True)
    query = list_query(rows, indicator, tree.below(unit), dict(where or {}), month)
    sources: dict[str, Source] = {**rows.sources, "unit": tree.units()}
    counted = exp.select(exp.Count(this=exp.Star()).as_("n")).from_(query.subquery("listed"))
    total = int(engine.query(counted, sources)["n"][0].as_py())
    order = [exp.column(key, quoted=True) for key in rows.keys]
    page = query.order_by(*order).limit(limit).offset(offset)
    parts = {
        f"part_{number}": part.sql("duckdb") for number, part in enumerate(indicator.parts, start=1)
    }
    return IndicatorList(
        name, indicator.version, month, unit, parts, engine.query(page, sources), total
    )


class _Missing(Exception):
    """An indicator cannot be computed in a month, and why."""

    def __init__(self, reason: Mapping[str, str]) -> None:
        super().__init__(reason["en"])
        self.reason = reason


_Group = tuple[str, str, str, int, date]


class _Run:
    """One computation: every source is read once."""

    def __init__(
        self,
        catalogue: IndicatorCatalogue,
        world: World,
        engine: Engine,
        tree: UnitTree,
        wanted: Wanted,
    ) -> None:
        self.unplaced: dict[str, int] = {}
        self._catalogue, self._world, self._engine = catalogue, world, engine
        self._wanted, self._units = wanted, tree.units()
        self._closure = tree.closure(wanted.units)
        self._known = set(tree.parent)
        self._groups: dict[_Group, dict[str, exp.Expr]] = {}
        self._members: dict[_Group, list[Indicator]] = {}
        self._names: dict[_Group, str] = {}

    def expression(self, name: str, month: date, path: frozenset[str]) -> exp.Expr:
        """Return an indicator's formula over the columns of the groups' tables."""
        indicator = self._catalogue.at(name, month)
        if indicator.inputs:
            inner = {
                local: self.expression(
                    taken.indicator, month_end_before(month, taken.months_ago), path | {name}
                )
                for local, taken in indicator.inputs.items()
            }
            return with_columns_replaced(indicator.tree, inner)
        check_binding(indicator, self._world.contracts, self._world.dictionary)
        self._require_snapshot(indicator, month)
        group = (
            indicator.source, indicator.unit_through, indicator.members, indicator.months, month,
        )  # fmt: skip
        held = self._groups.setdefault(group, {})
        self._members.setdefault(group, []).append(indicator)
        table = self._names.setdefault(group, f"g{len(self._names)}")
        columns: dict[str, exp.Expr] = {}
        for part in indicator.parts:
            text = part.sql("duckdb")
            known = {tree.sql("duckdb"): column for column, tree in held.items()}
            column = known.get(text) or f"a{len(held)}"
            held[column] = part
            columns[text] = _cell(table, column, is_nought=adds(part))
        return replace_parts(indicator.tree, columns)

    def rows(
        self, expressions: Mapping[str, exp.Expr], missing: Mapping[str, Mapping[str, str]]
    ) -> pa.Table:
        """Run the groups and take the formulas."""
        by = self._wanted.by
        tables = {self._names[group]: self._run(group) for group in self._groups}
        keys = self._keys(tables)
        query = exp.select(exp.column("unit_id", table="k"), *(_dim(name, "k") for name in by))
        query = query.from_("k")
        for name in tables:
            same = [exp.EQ(this=exp.column("unit_id", table="k"),
                           expression=exp.column("unit_id", table=name))]  # fmt: skip
            same += [
                exp.NullSafeEQ(this=_dim(dim, "k"), expression=_dim(dim, name))  # type: ignore[misc]
                for dim in by
            ]
            query = query.join(exp.to_table(name), on=exp.and_(*same), join_type="left")
        for name in self._wanted.names:
            tree = exp.null() if name in missing else expressions[name]
            query = query.select(exp.cast(tree, "DOUBLE").as_(name, quoted=True))
        query = query.order_by(exp.column("unit_id", table="k"), *(_dim(n, "k") for n in by))
        return self._engine.query(query, {"k": keys, **tables})

    def _run(self, group: _Group) -> pa.Table:
        """Return the parts of one source by unit and dimensions."""
        source, _, members, _, month = group
        rows = facts(self._world, self._members[group], month, keys=False)
        sources: dict[str, Source] = {
            **rows.sources, "closure": self._closure, "unit": self._units,
        }  # fmt: skip
        lost = int(self._engine.query(unplaced_query(rows), sources)["n"][0].as_py())
        if lost:
            self.unplaced[source] = lost
        merged = {c: part for c, part in self._groups[group].items() if merge_of(part)}
        whole = {c: part for c, part in self._groups[group].items() if not merge_of(part)}
        found = []
        for parts, build in ((merged, merged_query), (whole, whole_query)):
            if parts:
                query = build(rows, parts, self._wanted.by, members, month)
                found.append(self._engine.query(query, sources))
        return found[0] if len(found) == 1 else self._beside(found[0], found[1], list(whole))

    def _beside(self, one: pa.Table, other: pa.Table, columns: Sequence[str]) -> pa.Table:
        """Put two tables of the same units and dimensions side by side."""
        by = self._wanted.by
        same = [exp.EQ(this=exp.column("unit_id", table="x"),
                       expression=exp.column("unit_id", table="y"))]  # fmt: skip
        same += [
            exp.NullSafeEQ(this=_dim(dim, "x"), expression=_dim(dim, "y"))  # type: ignore[misc]
            for dim in by
        ]
        query = exp.select("x.*", *(exp.column(c, table="y") for c in columns)).from_("x")
        query = query.join(exp.to_table("y"), on=exp.and_(*same), join_type="left")
        return self._engine.query(query, {"x": one, "y": other})

    def _keys(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        if not self._wanted.by:
            wanted = self._wanted.units
            units = self._units["unit_id"].to_pylist() if wanted is None else sorted(set(wanted))
            units = [unit for unit in units if unit in self._known]
            return pa.table({"unit_id": pa.array(units, pa.string())})
        names = ["unit_id", *self._wanted.by]
        if not tables:
            return pa.table({name: pa.array([], pa.string()) for name in names})
        parts: list[exp.Query] = [exp.select(*(_dim(n, t) for n in names)).from_(t) for t in tables]
        query: exp.Query = parts[0]
        for part in parts[1:]:
            query = query.union(part, distinct=True)
        return self._engine.query(
            exp.select("*").distinct().from_(query.subquery("u")), dict(tables)
        )

    def _require_snapshot(self, indicator: Indicator, month: date) -> None:
        view = self._world.view
        try:
            if not indicator.subject and view.find(indicator.source, month) is None:
                raise _Missing(_no_snapshot(indicator.source, month))
            facts(self._world, [indicator], month, keys=False)
        except UserError as error:
            raise _Missing({"en": str(error), "zh": error.text("zh")}) from error


def _cell(table: str, column: str, *, is_nought: bool) -> exp.Expr:
    """Return a part's column; 0 for a unit without rows where no rows add up to nothing."""
    cell = exp.column(column, table=table)
    if not is_nought:
        return cell
    absent = exp.column("unit_id", table=table).is_(exp.null())
    return exp.Paren(this=exp.case().when(absent, exp.Literal.number(0)).else_(cell))


def _dim(name: str, table: str) -> exp.Column:
    return exp.column(name, table=table, quoted=True)


def _no_snapshot(table: str, month: date) -> dict[str, str]:
    return {
        "en": f"the lake has no snapshot of '{table}' at {month}.",
        "zh": f"数据湖中没有 {table} 在 {month} 的快照。",
    }


def _require_dimensions(catalogue: IndicatorCatalogue, wanted: Wanted) -> None:
    for name in wanted.names:
        have = catalogue.dimensions[name]
        for dimension in wanted.by:
            if dimension not in have:
                have_zh = "、".join(have) or "无"
                raise IndicatorError(
                    f"Indicator '{name}' cannot be split by '{dimension}'.",
                    remedy=f"It has: {', '.join(have) or 'no dimension but the org unit'}.",
                    zh=f"指标 {name} 不能按 {dimension} 拆分，可用维度：{have_zh}。",
                )
