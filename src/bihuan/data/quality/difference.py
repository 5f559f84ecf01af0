"""Two sources of the same fact, held against each other row by row.

This is how the big data platform is held against the production systems: the same fact is ingested
from both, compared, and the differences are fed back to the owner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from sqlglot import exp

from bihuan.data.engine import Engine, Source
from bihuan.data.lake import Snapshot
from bihuan.data.quality.measure import count_where
from bihuan.kernel import UserError

SAMPLE_ROWS = 20


class ComparisonError(UserError):
    """Two sources cannot be compared as asked."""


@dataclass(frozen=True, slots=True)
class DifferenceReport:
    """How two sources of the same fact differ.

    Parameters
    ----------
    left, right
        What was compared, as text (``bill 2026-10-31``).
    key
        Columns by which rows were matched.
    left_rows, right_rows
        Rows of each side.
    left_duplicates, right_duplicates
        Rows whose key occurs more than once, or is missing, on their side; which of them is meant
        cannot be told, so such a key is left out of the comparison on both sides.
    matched
        Keys on both sides.
    only_left, only_right
        Keys on one side only.
    differing
        Keys with another value, by column.
    rows_differing
        Keys with another value in at least one column.
    sample
        Up to 20 rows per kind and column: ``kind`` (``only_left``, ``only_right``,
        ``differing``), the key as text, ``column``, ``left`` and ``right`` as text.
    """

    left: str
    right: str
    key: tuple[str, ...]
    left_rows: int
    right_rows: int
    left_duplicates: int
    right_duplicates: int
    matched: int
    only_left: int
    only_right: int
    differing: Mapping[str, int]
    rows_differing: int
    sample: pa.Table

    @property
    def agrees(self) -> bool:
        """Whether the two sides say the same, row by row."""
        return self.share == 0

    @property
    def share(self) -> float:
        """Share of all keys and unclear rows that do not agree, 0..1; 0 if both sides are empty."""
        unclear = self.left_duplicates + self.right_duplicates
        wrong = self.only_left + self.only_right + self.rows_differing + unclear
        total = self.matched + self.only_left + self.only_right + unclear
        return wrong / total if total else 0.0


def compare_snapshots(
    left: Source,
    right: Source,
    key: Sequence[str],
    columns: Sequence[str],
    tolerance: float | Mapping[str, float],
    engine: Engine,
) -> DifferenceReport:
    """Compare two sources of the same fact row by row.

    Parameters
    ----------
    left, right
        A snapshot, snapshots or rows in memory; both need the key and the columns.
    key
        Columns that identify a row.
    columns
        Columns to compare. Missing on both sides is equal, missing on one side is different. The
        right side's value is read as the left side's type; what cannot be read is different.
    tolerance
        Largest difference of numbers that still counts as equal, in the column's unit; one for
        all columns, or by column (0 where not named).
    engine
        Runs the comparison.

    Raises
    ------
    ComparisonError
        If a side lacks a column, or no key is given.
    """
    if not key:
        raise ComparisonError(
            "Nothing says which rows of the two sources belong together.",
            remedy="Name at least one key column.",
            zh="没有说明两个来源的哪些行相对应，请至少给出一个主键列。",
        )
    sides = {_LEFT: _held(left), _RIGHT: _held(right)}
    schemas = {
        name: _require(engine, source, name, [*key, *columns]) for name, source in sides.items()
    }
    allowed = {
        name: tolerance.get(name, 0.0) if isinstance(tolerance, Mapping) else tolerance
        for name in columns
    }
    comparison = _Comparison(tuple(key), allowed, schemas[_LEFT], schemas[_RIGHT])
    counts = engine.query(comparison.counts(), sides).to_pylist()[0]
    return DifferenceReport(
        left=_name(sides[_LEFT], "left"),
        right=_name(sides[_RIGHT], "right"),
        key=tuple(key),
        left_rows=counts["left_rows"],
        right_rows=counts["right_rows"],
        left_duplicates=counts["left_unclear"],
        right_duplicates=counts["right_unclear"],
        matched=counts["matched"],
        only_left=counts["only_left"],
        only_right=counts["only_right"],
        differing={name: counts[f"differ.{name}"] for name in columns},
        rows_differing=counts["rows_differing"],
        sample=engine.query(comparison.sample(), sides),
    )


# -- the comparison as a query ------------------------------------------------------------------

_LEFT, _RIGHT = "left_side", "right_side"
_IN = ("in_left", "in_right")


@dataclass(frozen=True)
class _Comparison:
    """Builds the queries of one comparison.

    ``all_left`` and ``all_right`` hold one row per key and how often it occurs; ``joined`` holds
    one row per clear key with ``key.*`` (text), ``in_left``, ``in_right``, and per compared column
    ``left.*``, ``right.*`` (text) and ``differ.*``.
    """

    key: tuple[str, ...]
    tolerance: Mapping[str, float]
    left: pa.Schema
    right: pa.Schema

    def counts(self) -> exp.Select:
        """Count what agrees, what is on one side only, and what differs by column."""
        counts = {
            "matched": exp.and_(exp.column("in_left"), exp.column("in_right")),
            "only_left": exp.not_(exp.column("in_right")),
            "only_right": exp.not_(exp.column("in_left")),
            "rows_differing": exp.or_(
                exp.false(), *(_quoted(f"differ.{name}") for name in self.tolerance)
            ),
            **{f"differ.{name}": _quoted(f"differ.{name}") for name in self.tolerance},
        }
        measures = [count_where(tree).as_(name, quoted=True) for name, tree in counts.items()]
        for side, grouped in (("left", "all_left"), ("right", "all_right")):
            times = exp.column("times")
            unclear = exp.Filter(
                this=exp.Sum(this=times),
                expression=exp.Where(this=exp.not_(self._is_clear())),
            )
            for name, total in (("rows", exp.Sum(this=times)), ("unclear", unclear)):
                known = exp.Coalesce(this=total, expressions=[exp.convert(0)])
                whole = exp.select(exp.cast(known, "BIGINT")).from_(grouped)
                measures.append(whole.subquery().as_(f"{side}_{name}"))
        return self._over_joined(exp.select(*measures).from_("joined"))

    def sample(self) -> exp.Select:
        """Show some rows of each kind of difference."""
        nothing = exp.cast(exp.null(), "VARCHAR")
        parts = [
            self._part("only_left", exp.not_(exp.column("in_right")), "", nothing, nothing),
            self._part("only_right", exp.not_(exp.column("in_left")), "", nothing, nothing),
        ]
        for name in self.tolerance:
            values = (_quoted(f"left.{name}"), _quoted(f"right.{name}"))
            parts.append(self._part("differing", _quoted(f"differ.{name}"), name, *values))
        union: exp.Query = parts[0]
        for part in parts[1:]:
            union = exp.union(union, part, distinct=False)
        return self._over_joined(exp.select("*").from_(union.subquery("samples")))

    def _part(
        self, kind: str, condition: exp.Expr, column: str, left: exp.Expr, right: exp.Expr
    ) -> exp.Select:
        keys = [_quoted(f"key.{name}").as_(name, quoted=True) for name in self.key]
        rows = (
            exp.select(
                exp.Literal.string(kind).as_("kind"),
                *keys,
                exp.Literal.string(column).as_("column", quoted=True),
                left.as_("left", quoted=True),
                right.as_("right", quoted=True),
            )
            .from_("joined")
            .where(condition)
            .order_by(*(_quoted(f"key.{name}") for name in self.key))
            .limit(SAMPLE_ROWS)
        )
        return exp.select("*").from_(rows.subquery("part"))

    def _over_joined(self, query: exp.Select) -> exp.Select:
        return (
            query.with_("all_left", as_=self._grouped(_LEFT))
            .with_("all_right", as_=self._grouped(_RIGHT))
            .with_("joined", as_=self._joined())
        )

    def _grouped(self, side: str) -> exp.Select:
        """Read one row per key of a side and count how often the key occurs."""
        values = [
            exp.AnyValue(this=self._read(side, name)).as_(name, quoted=True)
            for name in self.tolerance
            if name not in self.key
        ]
        keys = [self._read(side, name) for name in self.key]
        return (
            exp.select(
                *(key.as_(name, quoted=True) for key, name in zip(keys, self.key, strict=True)),
                *values,
                exp.Count(this=exp.Star()).as_("times"),
            )
            .from_(side)
            .group_by(*keys)
        )

    def _is_clear(self) -> exp.Expr:
        return exp.and_(
            exp.column("times").eq(1), *(exp.not_(_is_missing(_quoted(k))) for k in self.key)
        )

    def _joined(self) -> exp.Select:
        on = [_of("l", name).eq(_of("r", name)) for name in self.key]
        once = [exp.column("times", table=side).eq(1) for side in "lr"]
        absent = [_is_missing(exp.column("times", table=side)) for side in "lr"]
        trees = [exp.not_(test).as_(name) for test, name in zip(absent, _IN, strict=True)]
        keys = [
            exp.Coalesce(this=_of("l", name), expressions=[_of("r", name)]) for name in self.key
        ]
        for name, key in zip(self.key, keys, strict=True):
            trees.append(exp.cast(key, "VARCHAR").as_(f"key.{name}", quoted=True))
        for name in self.tolerance:
            differ = exp.and_(*once, self._differs(name))
            trees.append(exp.cast(_of("l", name), "VARCHAR").as_(f"left.{name}", quoted=True))
            trees.append(exp.cast(_of("r", name), "VARCHAR").as_(f"right.{name}", quoted=True))
            trees.append(differ.as_(f"differ.{name}", quoted=True))
        clear = [exp.or_(*pair) for pair in zip(once, absent, strict=True)]
        return (
            exp.select(*trees)
            .from_(exp.to_table("all_left").as_("l"))
            .join(exp.to_table("all_right").as_("r"), on=exp.and_(*on), join_type="full outer")
            .where(*clear, *(exp.not_(_is_missing(key)) for key in keys))
        )

    def _differs(self, name: str) -> exp.Expr:
        left, right = _of("l", name), _of("r", name)
        if not _is_number(self.left.field(name).type):
            return exp.NullSafeNEQ(this=left, expression=right)
        size = exp.Abs(this=exp.Sub(this=left, expression=right))
        beyond = size > exp.Literal.number(repr(self.tolerance[name]))
        gap = exp.NEQ(
            this=exp.paren(_is_missing(left)),
            expression=exp.paren(_is_missing(right)),
        )
        return exp.or_(gap, exp.Coalesce(this=beyond, expressions=[exp.false()]))

    def _read(self, side: str, name: str) -> exp.Expr:
        """Read a column as the left side's type; NaN is missing."""
        wanted = self.left.field(name).type
        given = (self.left if side == _LEFT else self.right).field(name).type
        value: exp.Expr = _quoted(name)
        if given != wanted:
            value = exp.TryCast(
                this=value, to=exp.DataType.build(sql_type(wanted), dialect="duckdb")
            )
        if pa.types.is_floating(wanted):
            value = exp.case().when(exp.not_(exp.IsNan(this=value)), value)
        return value


def _is_missing(value: exp.Expr) -> exp.Expr:
    return exp.Is(this=value, expression=exp.null())


def _quoted(name: str) -> exp.Column:
    return exp.column(name, quoted=True)


def _of(table: str, name: str) -> exp.Column:
    return exp.column(name, table=table, quoted=True)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def sql_type(kind: pa.DataType) -> str:
    """Return the DuckDB name of an Arrow type of the lake.

    Examples
    --------
    >>> sql_type(pa.decimal128(18, 2)), sql_type(pa.timestamp("us", tz="UTC"))
    ('DECIMAL(18, 2)', 'TIMESTAMP WITH TIME ZONE')
    """
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP WITH TIME ZONE" if kind.tz else "TIMESTAMP"
    tests = {
        "BIGINT": pa.types.is_integer,
        "DOUBLE": pa.types.is_floating,
        "BOOLEAN": pa.types.is_boolean,
        "DATE": pa.types.is_date,
    }
    return next((name for name, test in tests.items() if test(kind)), "VARCHAR")


# -- the sources --------------------------------------------------------------------------------


def _held(source: Source) -> Source:
    """Hold an iterable of snapshots, because it is read more than once."""
    return source if isinstance(source, Snapshot | pa.Table) else tuple(source)


def source_schema(engine: Engine, source: Source) -> pa.Schema:
    """Return the columns of a source as a query sees them."""
    nothing = exp.select("*").from_("probed").limit(0)
    return engine.query(nothing, {"probed": source}).schema


def _require(engine: Engine, source: Source, side: str, names: Iterable[str]) -> pa.Schema:
    schema = source_schema(engine, source)
    missing = [name for name in names if name not in schema.names]
    if missing:
        place = _name(source, side)
        raise ComparisonError(
            f"'{place}' has no column {', '.join(missing)}.",
            remedy=f"It has: {', '.join(schema.names)}.",
            zh=f"{place} 没有 {'、'.join(missing)} 列，现有：{'、'.join(schema.names)}。",
        )
    return schema


def _name(source: Source, otherwise: str) -> str:
    if isinstance(source, pa.Table):
        return otherwise
    snapshots = (source,) if isinstance(source, Snapshot) else tuple(source)
    return ", ".join(f"{snapshot.table} {snapshot.as_of.isoformat()}" for snapshot in snapshots)
