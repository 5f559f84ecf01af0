"""Customers put in their stage and given its strategy, by one query over tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
from sqlglot import exp

from bihuan.audience import Node, predicate, tag_columns, tags_of
from bihuan.data import Engine, Source
from bihuan.strategy.cube import band_bits, band_number, read_rule
from bihuan.strategy.lifecycle.stage import LifeCycle
from bihuan.tag import TagTable


def assign_strategies(
    life_cycle: LifeCycle, tags: TagTable, *, engine: Engine, columns: Sequence[str] = ()
) -> pa.Table:
    """Put every customer in his stage and give him the strategy of that stage.

    Parameters
    ----------
    life_cycle
        Stages and strategies.
    tags
        Tag values at one date.
    engine
        Runs one query.
    columns
        Tags to add.

    Returns
    -------
    pyarrow.Table
        ``customer_id``, ``stage``, ``strategy`` (both missing where none takes the customer),
        then ``columns``; one row per customer, by id.
    """
    return place_customers(life_cycle, tags, engine, columns).drop_columns(["is_base"])


def place_customers(
    life_cycle: LifeCycle, tags: TagTable, engine: Engine, columns: Sequence[str] = ()
) -> pa.Table:
    """Put every customer in his stage, and say who can leave.

    Parameters
    ----------
    life_cycle, tags, engine, columns
        As for :func:`assign_strategies`.

    Returns
    -------
    pyarrow.Table
        As there, and ``is_base``: whether the customer is one of the life cycle's base.
    """
    query, sources = placed_query(life_cycle, tags, columns)
    rows = engine.query(query.order_by(exp.column(tags.id_column, quoted=True)), sources)
    stages = pa.array([stage.code for stage in life_cycle.stages], pa.string())
    strategies = pa.array([s.strategy_id for s in life_cycle.strategies], pa.string())
    named = {
        tags.id_column: rows[tags.id_column],
        "stage": stages.take(position_of(rows["stage"])),
        "strategy": strategies.take(position_of(rows["strategy"])),
    }
    return pa.table(named | {name: rows[name] for name in (*columns, "is_base")})


def count_places(
    life_cycle: LifeCycle, tags: TagTable, by: Mapping[str, exp.Expr | str], *, engine: Engine
) -> pa.Table:
    """Count customers by stage, strategy and further columns, in one query.

    Parameters
    ----------
    life_cycle
        Stages and strategies.
    tags
        Tag values at one date.
    by
        Further columns: the name of a tag, or an expression over tags, by column name.
    engine
        Runs the query.

    Returns
    -------
    pyarrow.Table
        ``stage`` and ``strategy`` (codes, missing where none), the columns, ``size``.
    """
    plain = [value for value in by.values() if isinstance(value, str)]
    trees = [value for value in by.values() if not isinstance(value, str)]
    inside = sorted({column.name for tree in trees for column in tree.find_all(exp.Column)})
    query, sources = placed_query(life_cycle, tags, list(dict.fromkeys([*plain, *inside])))
    keys = [
        exp.alias_(exp.column(v, quoted=True) if isinstance(v, str) else v.copy(), n, quoted=True)
        for n, v in by.items()
    ]
    counted = exp.select("stage", "strategy", *keys).from_(query.subquery("placed"))
    names = [exp.column("stage"), exp.column("strategy")]
    names += [exp.column(name, quoted=True) for name in by]
    total = (
        exp.select(*names, exp.alias_(exp.Count(this=exp.Star()), "size"))
        .from_(counted.subquery("counted"))
        .group_by(*(name.copy() for name in names))
        .order_by(*(name.copy() for name in names))
    )
    rows = engine.query(total, sources)
    stages = pa.array([stage.code for stage in life_cycle.stages], pa.string())
    strategies = pa.array([s.strategy_id for s in life_cycle.strategies], pa.string())
    rows = rows.set_column(0, "stage", stages.take(position_of(rows["stage"])))
    return rows.set_column(1, "strategy", strategies.take(position_of(rows["strategy"])))


def placed_query(
    life_cycle: LifeCycle, tags: TagTable, columns: Sequence[str], *, signs: bool = False
) -> tuple[exp.Select, dict[str, Source]]:
    """Build the query of one row per customer: number of stage and strategy, ``is_base``.

    Parameters
    ----------
    life_cycle, tags
        Whose rules, over which values.
    columns
        Tags to add.
    signs
        Whether to add the bits of the signs of decline.
    """
    stages = [read_rule(stage.who, tags).node for stage in life_cycle.stages]
    strategies = [read_rule(strategy.who, tags).node for strategy in life_cycle.strategies]
    base = read_rule(life_cycle.base, tags).node
    warned = [read_rule(sign.who, tags).node for sign in life_cycle.signs] if signs else []
    used = sorted({tag for node in [*stages, *strategies, *warned, base] for tag in tags_of(node)})
    relation, sources = tags.relation(list(dict.fromkeys([*used, *columns])))
    identity = exp.column(tags.id_column, quoted=True)
    plain = [exp.column(name, quoted=True) for name in columns]
    first = exp.select("*", exp.alias_(band_number(stages, tags), "stage", copy=False)).from_(
        relation.subquery("tagged")
    )
    outputs: list[exp.Expr] = [identity, *plain, exp.column("stage")]
    outputs.append(exp.alias_(_strategy(life_cycle, strategies, tags), "strategy", copy=False))
    outputs.append(exp.alias_(predicate(base, tag_columns(tags.fields)), "is_base", copy=False))
    if signs:
        bits = band_bits([(node, 1 << i) for i, node in enumerate(warned)], tags)
        outputs.append(exp.alias_(bits, "signs", copy=False))
    return exp.select(*outputs).from_(first.subquery("staged")), dict(sources)


def _strategy(life_cycle: LifeCycle, nodes: Sequence[Node], tags: TagTable) -> exp.Expr:
    """Return the number of the first strategy of the customer's stage whose rule holds."""
    codes = [stage.code for stage in life_cycle.stages]
    case = exp.case()
    for number, (strategy, node) in enumerate(zip(life_cycle.strategies, nodes, strict=True)):
        here = exp.In(
            this=exp.column("stage"),
            expressions=[exp.Literal.number(codes.index(code)) for code in strategy.stages],
        )
        met = band_number([node], tags).eq(exp.Literal.number(0))
        case = case.when(exp.and_(here, met), exp.Literal.number(number), copy=False)
    return case.else_(exp.Neg(this=exp.Literal.number(1)))


def position_of(numbers: pa.ChunkedArray) -> pa.Array:
    """Return positions as an index that is missing where the position is -1."""
    values = numbers.to_numpy()
    return pa.array(values, pa.int64(), mask=values < 0)
