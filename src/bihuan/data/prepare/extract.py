"""Extraction, calculation and grouping: the first steps of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from sqlglot import exp

from bihuan.data.prepare.draft import Draft, Shape, column, named
from bihuan.data.prepare.recipe import Options


def select(draft: Draft, options: Options) -> None:
    """Take rows and columns of one lake table: ``{table, columns, where, months}``.

    ``columns`` are all if left out. ``months`` (default 1) reads the snapshots of the last months
    up to the date prepared and adds ``as_of`` and ``months_ago`` (0 = the month prepared).
    ``where`` may use any column of the table.
    """
    raw = options.mapping(("table", "columns", "where", "months"))
    shape = _shape(draft, options, raw.get("table"))
    months = int(options.number("months", raw.get("months", 1), 1, 120))
    units = dict(shape.units)
    trees: dict[str, exp.Expr] = {name: column(name) for name in units}
    if months > 1:
        units |= {"as_of": "", "months_ago": "month"}
        trees |= {"as_of": column("as_of"), "months_ago": _months_ago(draft.as_of)}
    known = Options(options.raw, options.place, tuple(units))
    wanted = (
        known.names("columns", raw["columns"], shape.units) if "columns" in raw else shape.units
    )
    chosen = {
        name: unit for name, unit in units.items() if name in wanted or name not in shape.units
    }
    query = exp.select(*named({name: trees[name] for name in chosen}))
    query = query.from_(draft.need(raw["table"], months))
    if raw.get("where") is not None:
        condition = known.expression("where", raw["where"])
        query = query.where(condition.transform(_unfold, {"months_ago": trees.get("months_ago")}))
    draft.then(query, chosen)


def join(draft: Draft, options: Options) -> None:
    """Put columns of another table beside the rows: ``{table, on, columns, kind, many}``.

    The other table is read at the date prepared. ``kind`` is ``left`` (default) or ``inner``. If
    ``on`` does not hold the other table's key, rows could multiply: that needs ``many: true``.
    """
    raw = options.mapping(("table", "on", "columns", "kind", "many"))
    shape = _shape(draft, options, raw.get("table"))
    on = options.names("on", raw.get("on"))
    options.names("on", on, shape.units)
    kind = options.choice("kind", raw.get("kind", "left"), ("left", "inner"))
    if not set(shape.key) <= set(on) and not raw.get("many"):
        key = ", ".join(shape.key) or "not known"
        raise options.wrong(
            "on",
            f"'{raw['table']}' may have several rows for one {', '.join(on)} (its key: {key}).",
            remedy="Join on its key, or write 'many: true' if rows shall multiply.",
            zh=f"按 {'、'.join(on)} 关联 {raw['table']} 可能一对多，请按主键关联或写 many: true。",
        )
    added = options.names("columns", raw.get("columns"), shape.units)
    twice = [name for name in added if name in draft.units]
    if twice:
        raise options.wrong(
            "columns",
            f"{', '.join(twice)} is already there.",
            remedy="Rename the first one before.",
            zh=f"{'、'.join(twice)} 已存在，请先改名。",
        )
    source = draft.need(raw["table"], 1)
    trees = {name: column(name, "l") for name in draft.units}
    trees |= {name: column(name, "r") for name in added}
    query = (
        exp.select(*named(trees))
        .from_(exp.to_table(draft.name).as_("l"))
        .join(
            exp.to_table(source).as_("r"),
            on=exp.and_(*(column(name, "l").eq(column(name, "r")) for name in on)),
            join_type=kind,
        )
    )
    draft.then(query, {**draft.units, **{name: shape.units[name] for name in added}})


def filter_rows(draft: Draft, options: Options) -> None:
    """Keep the rows for which an expression is true: ``amount > 0`` or ``{where: ...}``."""
    raw = options.raw
    text = options.mapping(("where",)).get("where") if isinstance(raw, dict) else raw
    draft.then(draft.over({}).where(options.expression("where", text)), draft.units)


def keep_columns(draft: Draft, options: Options) -> None:
    """Keep only the columns named, in that order: ``[customer_id, amount]``."""
    names = options.names("", options.raw)
    query = exp.select(*named({name: column(name) for name in names})).from_(draft.name)
    draft.then(query, {name: draft.units[name] for name in names})


def calculate(draft: Draft, options: Options) -> None:
    """Add or replace columns by expressions over the row: ``{net: amount - discount_amount}``."""
    new = {
        options.new_name(name, name): options.expression(name, text)
        for name, text in options.mapping().items()
    }
    draft.replace(new, dict.fromkeys(new, ""))


def group(draft: Draft, options: Options) -> None:
    """Group rows and aggregate: ``{by: [city_code], aggregates: {arpu: avg(amount)}}``.

    Without ``by`` everything becomes one row. The result is ordered by the grouped columns.
    """
    raw = options.mapping(("by", "aggregates"))
    by = options.names("by", raw["by"]) if raw.get("by") else []
    aggregates = Options(raw.get("aggregates"), options.place, options.columns).mapping()
    trees: dict[str, exp.Expr] = {name: column(name) for name in by}
    for name, text in aggregates.items():
        if name in trees:
            raise options.wrong(name, "a grouped column has that name.", zh="与分组字段重名。")
        trees[options.new_name(name, name)] = options.expression(name, text, by)
    query = exp.select(*named(trees)).from_(draft.name)
    draft.then(
        query.group_by(*(column(name) for name in by)) if by else query,
        {name: draft.units.get(name, "") if name in by else "" for name in trees},
    )
    draft.order = [column(name) for name in by]


def _shape(draft: Draft, options: Options, table: Any) -> Shape:
    shape = draft.shape(table) if isinstance(table, str) else None
    if shape is None:
        raise options.wrong(
            "table",
            f"there is no table '{table}'.",
            remedy="Name a table of the lake.",
            zh=f"没有 {table} 这张表。",
        )
    return shape


def _months_ago(as_of: date) -> exp.Expr:
    day = column("as_of")
    months = exp.Add(
        this=exp.Mul(this=exp.Year(this=day), expression=exp.convert(12)),
        expression=exp.Month(this=day.copy()),
    )
    return exp.Sub(this=exp.convert(as_of.year * 12 + as_of.month), expression=exp.paren(months))


def _unfold(node: exp.Expr, trees: Mapping[str, exp.Expr | None]) -> exp.Expr:
    """Replace a column that the select itself makes by what it is made of."""
    tree = trees.get(node.name) if isinstance(node, exp.Column) else None
    return node if tree is None else exp.paren(tree.copy())
