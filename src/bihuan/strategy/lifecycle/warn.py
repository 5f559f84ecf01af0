"""Warning of decline in time (及时预警), and whether the warnings came true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from bihuan.data import Engine
from bihuan.kernel import NotEstimable
from bihuan.strategy.lifecycle.place import place_customers, placed_query, position_of
from bihuan.strategy.lifecycle.stage import LifeCycle, LifeCycleError
from bihuan.tag import TagTable


def warn_of_decline(
    life_cycle: LifeCycle, tags: TagTable, *, engine: Engine, earlier: pa.Table | None = None
) -> pa.Table:
    """List customers who show signs of decline, the gravest first.

    Parameters
    ----------
    life_cycle
        With its signs, levels and base; customers in the stage ``leave`` are past warning.
    tags
        Tag values at one date.
    engine
        Runs one query.
    earlier
        The warnings of an earlier date; a customer warned about already keeps its ``since``.

    Returns
    -------
    pyarrow.Table
        ``customer_id``, ``level``, ``points``, ``signs`` (list of codes), ``stage``, ``since``
        (date), ``is_new``.
    """
    if not life_cycle.levels:
        return _warnings(tags.id_column, [], tags.as_of)
    query, sources = placed_query(life_cycle, tags, (), signs=True)
    least = min(life_cycle.levels.values())
    chosen = exp.select("*").from_(query.subquery("placed"))
    chosen = chosen.where(exp.column("is_base"), exp.column("signs").neq(exp.Literal.number(0)))
    rows = engine.query(chosen, sources)
    bits = rows["signs"].to_numpy()
    shown, number = np.unique(bits, return_inverse=True)
    signs = life_cycle.signs
    lists = [[s.code for i, s in enumerate(signs) if int(b) >> i & 1] for b in shown]
    points = np.array(
        [sum(s.weight for i, s in enumerate(signs) if int(b) >> i & 1) for b in shown]
    )
    stage = rows["stage"].to_numpy()
    gone = [s.code for s in life_cycle.stages].index("leave")
    keep = (points[number] >= least) & (stage != gone) if len(shown) else np.zeros(0, dtype=bool)
    rows, number = rows.filter(pa.array(keep)), number[keep]
    limits = np.array(list(life_cycle.levels.values()))
    level = np.searchsorted(limits, points[number], side="right") - 1 if len(number) else number
    stages = pa.array([s.code for s in life_cycle.stages], pa.string())
    columns = [
        rows[tags.id_column],
        pa.array(list(life_cycle.levels), pa.string()).take(pa.array(level, pa.int64())),
        pa.array(points[number] if len(number) else [], pa.float64()),
        pa.array(lists, pa.list_(pa.string())).take(pa.array(number, pa.int64())),
        stages.take(position_of(rows["stage"])),
    ]
    table = _warnings(tags.id_column, columns, tags.as_of, earlier)
    return table.sort_by([("points", "descending"), (tags.id_column, "ascending")])


@dataclass(frozen=True, slots=True)
class WarningRecord:
    """How far warnings came true.

    Parameters
    ----------
    warned, left, hits
        Customers warned about, those who left, and those who are both.
    precision
        Share of the warned who left.
    recall
        Share of the leavers who had been warned about.
    lift
        Leaving among the warned by leaving among all.
    """

    warned: int
    left: int
    hits: int
    precision: float | NotEstimable
    recall: float | NotEstimable
    lift: float | NotEstimable


def check_warnings(warnings: pa.Table, later: pa.Table) -> WarningRecord:
    """Hold warnings against who left afterwards.

    Parameters
    ----------
    warnings
        From :func:`warn_of_decline`.
    later
        Customers of the base with ``customer_id`` and ``left`` (boolean) at a later date.
    """
    present = later.filter(pc.invert(pc.is_null(later["left"])))
    is_warned = pc.is_in(present["customer_id"], value_set=warnings["customer_id"])
    left = present["left"].to_numpy().astype(np.bool_)
    warned = is_warned.to_numpy().astype(np.bool_)
    hits = int((left & warned).sum())
    precision = _share(hits, int(warned.sum()))
    base = _share(int(left.sum()), len(left))
    lift: float | NotEstimable = NotEstimable({"zh": "没有离网客户。", "en": "Nobody has left."})
    if isinstance(precision, float) and isinstance(base, float) and base > 0:
        lift = precision / base
    return WarningRecord(
        warned=int(warned.sum()),
        left=int(left.sum()),
        hits=hits,
        precision=precision,
        recall=_share(hits, int(left.sum())),
        lift=lift,
    )


def judge_warnings(
    life_cycle: LifeCycle,
    warnings: pa.Table,
    dates: tuple[TagTable, TagTable],
    *,
    engine: Engine,
    level: str | None = None,
) -> WarningRecord:
    """Hold the warnings of a date against who of the base had left at a later one.

    Parameters
    ----------
    life_cycle
        Its base can leave; its stage ``leave`` says who has.
    warnings
        Of the first date, from :func:`warn_of_decline`.
    dates
        Tag values of the first and the later date.
    engine
        Runs two queries.
    level
        The mildest level that counts as a warning; None: the mildest there is.

    Raises
    ------
    LifeCycleError
        If there is no such level.
    """
    levels = list(life_cycle.levels)
    if level is not None and level not in levels:
        have = ", ".join(levels)
        raise LifeCycleError(
            f"There is no level '{level}' of warning.",
            remedy=f"Choose from: {have}.",
            zh=f"没有预警级别 {level}，可选：{have}。",
        )
    counted = pa.array(levels[levels.index(level) if level else 0 :], pa.string())
    before, after = (place_customers(life_cycle, tags, engine) for tags in dates)
    here = before.filter(before["is_base"])
    here = here.filter(pc.not_equal(here["stage"], "leave").fill_null(True))
    base = after.filter(pc.is_in(after["customer_id"], value_set=here["customer_id"]))
    left = pc.equal(base["stage"], "leave").fill_null(False)
    later = pa.table({"customer_id": base["customer_id"], "left": left})
    return check_warnings(warnings.filter(pc.is_in(warnings["level"], value_set=counted)), later)


def _warnings(
    id_column: str, columns: Sequence[pa.Array], day: date, earlier: pa.Table | None = None
) -> pa.Table:
    schema = pa.schema(
        [(id_column, pa.string()), ("level", pa.string()), ("points", pa.float64()),
         ("signs", pa.list_(pa.string())), ("stage", pa.string())]
    )  # fmt: skip
    table = pa.table(list(columns), schema=schema) if columns else schema.empty_table()
    since = pa.nulls(table.num_rows, pa.date32())
    if earlier is not None:
        at = pc.index_in(table[id_column], value_set=earlier[id_column])
        since = earlier["since"].take(at)
    is_new = pc.is_null(since)
    since = pc.fill_null(since, pa.scalar(day, pa.date32()))
    return table.append_column("since", since).append_column("is_new", is_new)


def _share(part: int, whole: int) -> float | NotEstimable:
    if not whole:
        return NotEstimable({"zh": "没有客户可算。", "en": "There is nobody to count."})
    return part / whole
