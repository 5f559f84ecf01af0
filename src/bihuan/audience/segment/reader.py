"""What a planner asks of an audience while he explores, and the answers in SQL.

:class:`Counter` and :class:`Reader` are what the planner's tools need; every reader takes *bound*
trees. :class:`SqlReader` answers from the lake with the engine, whatever the size; a reader that
keeps an index answers the same questions faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlglot import exp

from bihuan.audience.algebra import (
    Compare,
    Everyone,
    Missing,
    Node,
    Not,
    Operator,
    all_of,
    tags_of,
)
from bihuan.audience.bind import TagTypeError
from bihuan.audience.coverage import NotEstimable, Overlap, cross, read_flags
from bihuan.audience.literal import AudienceError
from bihuan.audience.program import CrossTable, Histogram, TagRangeError, Threshold, share_out
from bihuan.audience.snapshot import require_tags
from bihuan.audience.sql import predicate, select_members, tag_columns
from bihuan.data import ColumnType, Engine, Source
from bihuan.kernel import random_stream
from bihuan.tag import TagTable

Counts: TypeAlias = NDArray[np.int64]
Ordered: TypeAlias = int | float | Decimal | date
"""A value of a tag that has an order and distances."""
Side: TypeAlias = Literal["top", "bottom"]

EVERYONE = Everyone()
NUMERIC = (ColumnType.MONEY, ColumnType.INTEGER, ColumnType.NUMBER)
_BATCH = 200  # conditions per query; keeps a plan small


class Counter(Protocol):
    """Counts audiences."""

    def counts(self, nodes: Sequence[Node]) -> Counts:
        """Return the size of each audience; trees are bound."""
        ...


class Reader(Counter, Protocol):
    """Answers what a planner asks while he looks for thresholds."""

    def cross(self, tags: Sequence[str], within: Node | None = None) -> CrossTable:
        """Count customers by one to three tags."""
        ...

    def histogram(self, tag: str, within: Node | None = None, *, bins: int = 50) -> Histogram:
        """Count customers by intervals of equal width."""
        ...

    def quantiles(
        self, tag: str, shares: Sequence[float], within: Node | None = None
    ) -> Sequence[Any | None]:
        """Return for each share the least value that so many customers do not exceed."""
        ...

    def threshold(
        self, tag: str, size: int, within: Node | None = None, *, side: Side = "top"
    ) -> Threshold:
        """Find the value that leaves ``size`` customers."""
        ...

    def total(self, tag: str, within: Node | None = None) -> Decimal | float:
        """Sum a tag over an audience; missing values add nothing."""
        ...

    def sample(self, size: int, within: Node | None = None, *, seed: int) -> pa.Array:
        """Draw customers at random, each at most once; the same seed draws the same."""
        ...


class SqlReader:
    """Answers from the lake.

    Parameters
    ----------
    tags
        Tag values at one date.
    engine
        Runs the queries.
    """

    def __init__(self, tags: TagTable, engine: Engine) -> None:
        self.tags = tags
        self.engine = engine
        self._column = tag_columns(tags.fields)

    def counts(self, nodes: Sequence[Node]) -> Counts:
        """Return the size of each audience, one query per 200 of them."""
        found: list[int] = []
        for start in range(0, len(nodes), _BATCH):
            part = nodes[start : start + _BATCH]
            counted = [
                exp.alias_(_counted(predicate(node, self._column)), f"n{i}", copy=False)
                for i, node in enumerate(part)
            ]
            rows, sources = self._rows([], *part)
            table = self.engine.query(exp.select(*counted).from_(rows, copy=False), sources)
            found += [int(column[0].as_py()) for column in table.columns]
        return np.array(found, dtype=np.int64)

    def count(self, node: Node) -> int:
        """Return the size of an audience."""
        return int(self.counts([node])[0])

    def members(self, node: Node) -> pa.Array:
        """Return the ids of an audience, ordered."""
        query, sources = select_members(node, self.tags)
        return self.engine.query(query, sources).column(0).combine_chunks()

    def cross(self, tags: Sequence[str], within: Node | None = None) -> CrossTable:
        """Count customers by one to three tags; see :class:`CrossTable`.

        Raises
        ------
        AudienceError
            If no tag or more than three are named.
        """
        require_tags(tags, self.tags)
        if not 1 <= len(tags) <= 3:
            raise AudienceError(
                f"A cross table has one to three tags, not {len(tags)}.",
                remedy="Leave some out, or narrow the audience.",
                zh=f"交叉表支持一到三个标签，当前为 {len(tags)} 个，请减少标签。",
            )
        values = [exp.alias_(self._column(tag), f"v{i}") for i, tag in enumerate(tags)]
        rows, sources = self._rows(tags, everyone_if_none(within))
        inner = exp.select(*values).from_(rows).where(self._inside(within), copy=False)
        names = [exp.column(f"v{i}") for i in range(len(tags))]
        query = exp.select(*names, exp.alias_(exp.Count(this=exp.Star()), "n"))
        query = query.from_(inner.subquery("r")).group_by(*(name.copy() for name in names))
        table = self.engine.query(query, sources)
        axes = [_axis(table.column(i)) for i in range(len(tags))]
        counts = np.zeros([len(values) for values, _ in axes], dtype=np.int64)
        counts[tuple(places for _, places in axes)] = table["n"].to_numpy()
        return CrossTable(tuple(tags), tuple(tuple(values) for values, _ in axes), counts)

    def histogram(
        self,
        tag: str,
        within: Node | None = None,
        *,
        bins: int = 50,
        edges: Sequence[float] | None = None,
    ) -> Histogram:
        """Count customers by intervals of equal width, or by those between given bounds.

        Parameters
        ----------
        tag
            A number, an amount of money or a whole number.
        within
            A bound tree.
        bins
            Number of intervals, if no bounds are given.
        edges
            Rising bounds; customers outside them are not counted.
        """
        require_numeric(tag, self.tags)
        inside = everyone_if_none(within)
        bounds = [float(edge) for edge in edges or ()]
        if edges is None:
            low, high = self._ends(tag, within)
            if low is None or high is None:
                empty = np.empty(0, dtype=np.int64)
                return Histogram(tag, (), empty, self.count(inside), 0)
            bounds = np.linspace(low, high, bins + 1 if high > low else 2).tolist()
        parts: list[Node] = [Missing(tag), EVERYONE]
        for i, (start, end) in enumerate(pairwise(bounds)):
            to_end: Operator = "<=" if i == len(bounds) - 2 else "<"
            parts.append(all_of([Compare(tag, ">=", start), Compare(tag, to_end, end)]))
        found = self.counts([all_of([inside, part]) for part in parts])
        missing, everybody = int(found[0]), int(found[1])
        outside = everybody - missing - int(found[2:].sum())
        return Histogram(tag, tuple(bounds), found[2:], missing, outside)

    def quantiles(
        self, tag: str, shares: Sequence[float], within: Node | None = None
    ) -> Sequence[Any | None]:
        """Return for each share (0..1) the least value that so many customers do not exceed.

        Missing values are left out; None if no value is known.
        """
        require_numeric(tag, self.tags)
        wanted = exp.Array(expressions=[exp.Literal.number(repr(float(s))) for s in shares])
        query = exp.func("quantile_disc", self._column(tag), wanted)
        found = self._one(tag, within, exp.alias_(query, "q"))
        return [None] * len(shares) if found is None else list(found)

    def threshold(
        self, tag: str, size: int, within: Node | None = None, *, side: Side = "top"
    ) -> Threshold:
        """Find the value that leaves ``size`` customers, exactly; see :class:`Threshold`.

        Parameters
        ----------
        tag
            A number, an amount of money or a whole number.
        size
            Wanted customers, at least 1.
        within
            A bound tree.
        side
            ``top``: those with the greatest values; ``bottom``: with the least.

        Raises
        ------
        TagRangeError
            If fewer customers have a value.
        """
        require_numeric(tag, self.tags)
        known_here = all_of([everyone_if_none(within), Not(Missing(tag))])
        known = self.count(known_here)
        if not 1 <= size <= known:
            raise TagRangeError(
                f"No threshold of '{tag}' leaves {size:,}: {known:,} members have a value.",
                remedy=f"Ask for 1 to {known:,}." if known else "Choose another tag or audience.",
                zh=f"标签 {tag} 没有能留下 {size:,} 个成员的阈值：有值的成员共 {known:,} 个。",
            )
        rows, sources = self._rows([tag], known_here)
        value = exp.column("v")
        inner = exp.select(exp.alias_(self._column(tag), "v")).from_(rows)
        inner = inner.where(self._inside(known_here), copy=False)
        query = exp.select(value).from_(inner.subquery("r"))
        query = query.order_by(
            exp.Ordered(this=value.copy(), desc=side == "top", nulls_first=False)
        )
        found = self.engine.query(query.limit(1).offset(size - 1), sources)["v"][0].as_py()
        beyond: Operator = ">" if side == "top" else "<"
        ways: tuple[Operator, ...] = (beyond, "=")
        above, ties = self.counts([all_of([known_here, Compare(tag, op, found)]) for op in ways])
        return Threshold(tag, side, size, found, int(above), int(ties))

    def total(self, tag: str, within: Node | None = None) -> Decimal | float:
        """Sum a tag over an audience, money exactly; missing values add nothing."""
        require_numeric(tag, self.tags)
        found = self._one(tag, within, exp.alias_(exp.Sum(this=self._column(tag)), "t"))
        if self.tags.fields[tag].type is ColumnType.NUMBER:
            return float(found or 0.0)
        return Decimal(found or 0)

    def mean(self, tag: str, within: Node | None = None) -> float | NotEstimable:
        """Average a tag over the customers of an audience whose value is known."""
        require_numeric(tag, self.tags)
        found = self._one(tag, within, exp.alias_(exp.Avg(this=self._column(tag)), "m"))
        if found is None:
            return NotEstimable({"zh": "没有已知取值。", "en": "No value is known."})
        return float(found)

    def overlap(self, nodes: Mapping[str, Node]) -> Overlap:
        """Count how audiences cover each other."""
        _, flags = read_flags(list(nodes.values()), self.tags, engine=self.engine)
        return cross(tuple(nodes), flags)

    def sample(self, size: int, within: Node | None = None, *, seed: int) -> pa.Array:
        """Draw customers at random, each at most once; ids ordered, the same for the same seed."""
        ids = self.members(everyone_if_none(within))
        drawn = random_stream(seed, "sample").choice(len(ids), min(size, len(ids)), replace=False)
        return ids.take(pa.array(np.sort(drawn)))

    def stratified_sample(
        self, size: int, by: str, within: Node | None = None, *, seed: int
    ) -> pa.Array:
        """Draw customers so that each value of tag ``by`` keeps its share, to one customer."""
        require_tags([by], self.tags)
        rows, sources = self._rows([by], everyone_if_none(within))
        identity = exp.column(self.tags.id_column, quoted=True)
        query = exp.select(identity, exp.alias_(self._column(by), "v")).from_(rows)
        query = query.where(self._inside(within), copy=False)
        table = self.engine.query(query.order_by(identity.copy()), sources)
        _, place = _axis(table["v"])
        sizes = np.bincount(place) if len(place) else np.zeros(0, dtype=np.int64)
        shares = share_out(min(size, len(place)), sizes)
        drawn = [
            random_stream(seed, "sample", i).choice(np.flatnonzero(place == i), n, replace=False)
            for i, n in enumerate(shares)
        ]
        rows_drawn = np.sort(np.concatenate(drawn)) if drawn else np.empty(0, dtype=np.int64)
        return table.column(0).combine_chunks().take(pa.array(rows_drawn))

    def profile(self, subject_id: str) -> dict[str, Any]:
        """Read every tag of one subject."""
        return self.tags.profile(subject_id)

    def _rows(self, names: Sequence[str], *nodes: Node) -> tuple[exp.Subquery, dict[str, Source]]:
        used = {*names, *(tag for node in nodes for tag in tags_of(node))}
        relation, sources = self.tags.relation(sorted(used))
        return relation.subquery("base"), sources

    def _inside(self, within: Node | None) -> exp.Expr:
        return predicate(everyone_if_none(within), self._column)

    def _one(self, tag: str, within: Node | None, what: exp.Expr) -> Any:
        rows, sources = self._rows([tag], everyone_if_none(within))
        query = exp.select(what).from_(rows).where(self._inside(within), copy=False)
        return self.engine.query(query, sources).column(0)[0].as_py()

    def _ends(self, tag: str, within: Node | None) -> tuple[float | None, float | None]:
        low, high = exp.Min(this=self._column(tag)), exp.Max(this=self._column(tag))
        ends = exp.Array(expressions=[exp.cast(low, "DOUBLE"), exp.cast(high, "DOUBLE")])
        found = self._one(tag, within, exp.alias_(ends, "ends"))
        return found[0], found[1]


def everyone_if_none(within: Node | None) -> Node:
    """Return the audience, or everyone where none is given."""
    return EVERYONE if within is None else within


def require_numeric(tag: str, tags: TagTable) -> None:
    """Refuse a tag that does not exist or has no order and no distances."""
    require_tags([tag], tags)
    if tags.fields[tag].type not in NUMERIC:
        raise TagTypeError(
            f"'{tag}' is a {tags.fields[tag].type.value} tag, so it has no threshold.",
            remedy="Choose a number, an amount of money or a whole number.",
            zh=f"标签 {tag} 不是数值，没有阈值，请选择数值或金额标签。",
        )


# ------------------------------------------------------------------------------------------ inside


def _counted(condition: exp.Expr) -> exp.Expr:
    one = exp.If(this=condition, true=exp.Literal.number(1))
    return exp.Count(this=exp.Case(ifs=[one]))


def _axis(column: pa.ChunkedArray) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the ordered values of a column, None last, and each row's place among them."""
    values = pc.unique(column)
    ordered = values.take(pc.sort_indices(values))
    place = pc.index_in(column, value_set=ordered, skip_nulls=False)
    return ordered.to_pylist(), place.to_numpy().astype(np.int64)
