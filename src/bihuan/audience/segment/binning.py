"""Values of a tag in bins, with customers and events counted in each by the engine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlglot import exp

from bihuan.audience.algebra import Compare, In, Missing, Node, Not, all_of
from bihuan.audience.sql import tag_columns
from bihuan.data import ColumnType, Engine
from bihuan.kernel import DefectError
from bihuan.tag import TagTable

Floats: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]

MAX_CATEGORIES = 20
_TOO_MANY = 1_000  # distinct texts beyond this are names, not categories
_TAGS_PER_QUERY = 40
_SAMPLED = 20_000  # customers from whom the bounds of bins are taken


@dataclass(frozen=True, slots=True)
class Bin:
    """Customers whose tag lies in one interval or has one of some values.

    Parameters
    ----------
    condition
        Who belongs to it, as an audience.
    rows
        Customers.
    events
        Those of them for whom the goal came true.
    """

    condition: Node
    rows: int
    events: int

    @property
    def rate(self) -> float | None:
        """``events / rows``, 0..1; None for an empty bin."""
        return self.events / self.rows if self.rows else None


@dataclass(frozen=True, slots=True)
class Binned:
    """One tag in bins.

    Parameters
    ----------
    tag
        Its name.
    is_ordered
        Whether the bins lie in the order of the tag's values.
    bins
        Known values; every customer whose tag is known is in exactly one.
    missing
        The others.
    distinct
        Distinct texts, 0 for other types; above 1,000 the bins are left empty.
    """

    tag: str
    is_ordered: bool
    bins: tuple[Bin, ...]
    missing: Bin
    distinct: int = 0

    @property
    def is_crowded(self) -> bool:
        """Whether the tag has too many distinct texts to be put into bins."""
        return self.distinct > _TOO_MANY


def count_bins(
    tags: TagTable, names: Sequence[str], goal: pa.Table, *, engine: Engine, bins: int
) -> Iterator[Binned]:
    """Put tags into bins and count customers and events, 40 tags per scan.

    Parameters
    ----------
    tags
        Tag values at one date.
    names
        Tags; those stored together are read together, so the results come in another order.
    goal
        The id column, each id once, and ``event`` (boolean); only these customers are counted.
    engine
        Runs two queries per 40 tags: the bounds, then the counts.
    bins
        Bins of about equal numbers of customers for numbers and dates.
    """
    stored = sorted(dict.fromkeys(names), key=lambda name: tags.versions[name])
    for start in range(0, len(stored), _TAGS_PER_QUERY):
        yield from _count(tags, stored[start : start + _TAGS_PER_QUERY], goal, engine, bins)


def pool_monotone(events: Floats, rows: Floats, *, rising: bool = True) -> NDArray[np.intp]:
    """Say which neighbouring bins must be pooled so that rates are monotone.

    Parameters
    ----------
    events, rows
        Per bin, in the order of the values, shape ``(n,)``; ``rows`` above 0.
    rising
        Whether rates shall rise with the values, or fall.

    Returns
    -------
    numpy.ndarray
        Pool of each bin, shape ``(n,)``, from 0, rising. Pooled rates are the least-squares
        monotone fit.

    References
    ----------
    .. [1] Ayer et al. (1955), An empirical distribution function for sampling with incomplete
       information (pooling adjacent violators).

    Examples
    --------
    >>> pool_monotone(np.array([1.0, 4.0, 2.0, 5.0]), np.array([10.0, 10, 10, 10])).tolist()
    [0, 1, 1, 2]
    """
    sign = 1.0 if rising else -1.0
    pools: list[tuple[float, float, int]] = []  # events, rows, bins
    for hits, n in zip(events.tolist(), rows.tolist(), strict=True):
        pools.append((hits, n, 1))
        while (
            len(pools) > 1
            and sign * pools[-2][0] / pools[-2][1] >= sign * pools[-1][0] / (pools[-1][1])
        ):
            (a, b, c), (d, e, f) = pools[-2], pools[-1]
            pools[-2:] = [(a + d, b + e, c + f)]
    return np.repeat(np.arange(len(pools)), [width for _, _, width in pools])


def merge(bins: Sequence[Bin], pools: NDArray[np.intp]) -> tuple[Bin, ...]:
    """Join neighbouring bins of one pool; their conditions must be intervals in order."""
    merged = []
    for pool in range(int(pools.max()) + 1 if len(pools) else 0):
        part = [found for found, at in zip(bins, pools.tolist(), strict=True) if at == pool]
        merged.append(
            Bin(
                _span(part[0].condition, part[-1].condition),
                sum(found.rows for found in part),
                sum(found.events for found in part),
            )
        )
    return tuple(merged)


# ------------------------------------------------------------------------------------------ inside


_Cells: TypeAlias = Mapping[Any, tuple[int, int]]
_Bounds: TypeAlias = Sequence[Any] | int


@dataclass(frozen=True, slots=True)
class _Scan:
    """``SELECT event, v0, v1 ... FROM goal JOIN tags``, where ``v<i>`` is the i-th tag."""

    tags: TagTable
    names: Sequence[str]
    goal: pa.Table
    engine: Engine

    def answer(self, asked: Sequence[exp.Expr], goal: pa.Table | None = None) -> list[Any]:
        """Ask several things of the customers of the goal in one query."""
        relation, sources = self.tags.relation(self.names)
        column = tag_columns(self.tags.fields)
        values = [exp.alias_(column(name), f"v{i}") for i, name in enumerate(self.names)]
        identity = exp.column(self.tags.id_column, table="base", quoted=True)
        goal_id = exp.column(self.tags.id_column, table="goal", quoted=True)
        rows = (
            exp.select(exp.column("event", table="goal"), *values)
            .from_(relation.subquery("base"))
            .join(exp.to_table("goal"), on=identity.eq(goal_id), join_type="inner")
        )
        named = [exp.alias_(question, f"q{i}") for i, question in enumerate(asked)]
        query = exp.select(*named).from_(rows.subquery("r"))
        table = self.engine.query(query, {**sources, "goal": self.goal if goal is None else goal})
        return [column[0].as_py() for column in table.columns]

    def value(self, name: str) -> exp.Expr:
        value = exp.column(f"v{self.names.index(name)}")
        is_moment = self.tags.fields[name].type is ColumnType.TIMESTAMP
        return exp.cast(value, "DATE") if is_moment else value

    def bounds(self, bins: int) -> dict[str, _Bounds]:
        """Return for each tag its inner bounds, or the number of its texts if too many."""
        shares = exp.Array(expressions=[exp.Literal.number(repr(i / bins)) for i in range(1, bins)])
        asked: list[exp.Expr] = []
        for name in self.names:
            kind = self.tags.fields[name].type
            if kind is ColumnType.STRING:
                asked.append(exp.Count(this=exp.Distinct(expressions=[self.value(name)])))
            elif kind is ColumnType.BOOLEAN:
                asked.append(exp.Literal.number(0))
            else:
                asked.append(exp.func("quantile_disc", self.value(name), shares.copy()))
        # bounds need not be exact, the counts between them are: every k-th customer is enough
        step = max(1, self.goal.num_rows // _SAMPLED)
        some = self.goal.take(pa.array(range(0, self.goal.num_rows, step), pa.int64()))
        answers = self.answer(asked, some)
        return {name: _bound(answer) for name, answer in zip(self.names, answers, strict=True)}

    def counts(self, bounds: Mapping[str, _Bounds]) -> dict[str, _Cells]:
        """Count customers and events by the bin of every tag; None stands for missing."""
        names = [name for name, bound in bounds.items() if not isinstance(bound, int)]
        one = exp.Literal.number(1)
        asked: list[exp.Expr] = [exp.Count(this=exp.Star()), exp.Count(this=_of_events(one))]
        for name in names:
            value = self.value(name)
            for part in (value, _of_events(value)):  # CASE is twice as fast as FILTER here
                asked += [self._tally(name, part, bounds[name]), exp.Count(this=part.copy())]
        answers = iter(self.answer(asked) if names else ())
        counted: dict[str, _Cells] = {}
        rows, events = next(answers, 0), next(answers, 0)
        for name in names:
            tally, known, hits, known_events = (next(answers) for _ in range(4))
            by_value = dict(hits or ())
            cells = {value: (n, by_value.get(value, 0)) for value, n in tally or ()}
            counted[name] = {**cells, None: (rows - known, events - known_events)}
        return counted

    def _tally(self, name: str, value: exp.Expr, bounds: _Bounds) -> exp.Expr:
        if isinstance(bounds, int) or not bounds:
            return exp.func("histogram", value.copy())
        value = value.copy()
        if self.tags.fields[name].type is ColumnType.MONEY:
            # decimals would be counted as doubles; hundredths are whole numbers
            value = exp.cast(exp.Mul(this=value, expression=exp.Literal.number(100)), "BIGINT")
            bounds = [int(bound * 100) for bound in bounds]
        limits = exp.Array(expressions=[_literal(bound) for bound in bounds])
        return exp.func("histogram", value, limits)


def _of_events(value: exp.Expr) -> exp.Expr:
    return exp.Case(ifs=[exp.If(this=exp.column("event"), true=value.copy())])


def _count(
    tags: TagTable, names: Sequence[str], goal: pa.Table, engine: Engine, bins: int
) -> Iterator[Binned]:
    scan = _Scan(tags, names, goal, engine)
    bounds = scan.bounds(bins)
    counted = scan.counts(bounds)
    for name, found in bounds.items():
        if isinstance(found, int):
            yield Binned(name, False, (), Bin(Missing(name), 0, 0), found)
        elif tags.fields[name].type is ColumnType.STRING:
            yield _categories(name, counted[name])
        elif tags.fields[name].type is ColumnType.BOOLEAN:
            yield _flags(name, counted[name])
        else:
            yield _intervals(name, counted[name], found)


def _bound(answer: Any) -> _Bounds:
    if isinstance(answer, int):
        return answer if answer > _TOO_MANY else ()
    finite = {b for b in answer or () if not (isinstance(b, float) and math.isinf(b))}
    return tuple(sorted(finite))


def _literal(bound: Any) -> exp.Expr:
    if isinstance(bound, float):  # with an exponent it is a double; without, a decimal
        text = repr(bound)
        return exp.Literal.number(text if "e" in text else f"{text}e0")
    return exp.convert(bound)


def _intervals(name: str, cells: _Cells, bounds: Sequence[Any]) -> Binned:
    # in the order of the bounds, each there even if empty, then what lies beyond the last
    counts = [found for value, found in cells.items() if value is not None]
    if not bounds:
        counts = [(sum(rows for rows, _ in counts), sum(events for _, events in counts))]
    elif not len(bounds) <= len(counts) <= len(bounds) + 1:
        raise DefectError(f"'{name}' was cut at {len(bounds)} bounds into {len(counts)} bins.")
    bins = []
    for i, (rows, events) in enumerate(counts):
        if rows:
            over = [Compare(name, ">", bounds[i - 1])] if i else []
            upto = [Compare(name, "<=", bounds[i])] if i < len(bounds) else []
            condition = all_of([*over, *upto]) if bounds else Not(Missing(name))
            bins.append(Bin(condition, rows, events))
    return Binned(name, True, tuple(bins), Bin(Missing(name), *cells[None]))


def _flags(name: str, cells: _Cells) -> Binned:
    bins = [Bin(Compare(name, "=", v), *cells[v]) for v in (False, True) if v in cells]
    return Binned(name, False, tuple(bins), Bin(Missing(name), *cells[None]))


def _categories(name: str, cells: _Cells) -> Binned:
    known = {value: found for value, found in cells.items() if value is not None}
    order = sorted(known, key=lambda value: (-known[value][0], value))
    shown = order if len(order) <= MAX_CATEGORIES else order[: MAX_CATEGORIES - 1]
    bins = [Bin(Compare(name, "=", value), *known[value]) for value in shown]
    rest = [known[value] for value in order[len(shown) :]]
    if rest:
        condition = all_of([Not(Missing(name)), Not(In(name, tuple(shown)))])
        bins.append(Bin(condition, sum(r for r, _ in rest), sum(e for _, e in rest)))
    return Binned(name, False, tuple(bins), Bin(Missing(name), *cells[None]), len(known))


def _span(first: Node, last: Node) -> Node:
    """Return the interval from the lower bound of one interval to the upper bound of another."""
    lower = [part for part in _comparisons(first) if part.op == ">"]
    upper = [part for part in _comparisons(last) if part.op == "<="]
    if lower or upper:
        return all_of([*lower, *upper])
    tag = next(iter(_comparisons(first)), None)
    return first if tag is None else Not(Missing(tag.tag))


def _comparisons(node: Node) -> list[Compare]:
    parts = getattr(node, "parts", (node,))
    return [part for part in parts if isinstance(part, Compare)]
