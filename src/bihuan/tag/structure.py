"""How the subjects of a date are made up: counts and shares over one to three tags, and movement.

The later and the earlier date are laid side by side subject by subject, so that a share that stays
the same while half of its members change is seen for what it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeAlias

import pyarrow as pa
from sqlglot import exp

from bihuan.data import ColumnType, Engine, Source
from bihuan.kernel import UserError
from bihuan.tag.definition import Subject, TagDefinition
from bihuan.tag.dictionary import TagDictionary
from bihuan.tag.portrait import show_value
from bihuan.tag.table import TagTable

MOST_TAGS = 3
FEW_VALUES = 12  # a number with more of them is shown in bands
MOST_VALUES = 200  # of a tag that is no number; a structure of more is not to be read
_EARLIER = "earlier__"  # prefix of the tables of the earlier date
_NUMERIC = (ColumnType.NUMBER, ColumnType.MONEY, ColumnType.INTEGER)

Values: TypeAlias = tuple[Any, ...]
"""One value per tag; None = missing. A banded number is the place of its band, from 0."""
Flows: TypeAlias = Mapping[tuple[Values | None, Values | None], int]
"""Subjects by values before and now; None in place of the values is "was not among them"."""


class StructureError(UserError):
    """These tags cannot be laid out as a structure."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Subjects that share the values of the tags.

    Parameters
    ----------
    values
        One per tag.
    count, share
        How many there are, and of all subjects of the date.
    before, share_before
        The same at the earlier date; None without one.
    moved_in, moved_out
        How many came from another segment since, and how many went to another.
    joined, left
        How many are new among the subjects since, and how many are gone from them.
    """

    values: Values
    count: int
    share: float
    before: int | None = None
    share_before: float | None = None
    moved_in: int = 0
    moved_out: int = 0
    joined: int = 0
    left: int = 0

    @property
    def change(self) -> int | None:
        """How many more than before; None without an earlier date."""
        return None if self.before is None else self.count - self.before


@dataclass(frozen=True, slots=True)
class Structure:
    """How all subjects of a date are made up, by one to three tags.

    Parameters
    ----------
    subject, as_of, earlier
        Of whom, for when, and the earlier date with which it is compared; None without one.
    tags
        The dimensions.
    segments
        The largest first; a segment that is empty now and was not before stands at the end.
    total, total_before
        Subjects of the date and of the earlier one.
    cuts
        Edges of the bands of each number, ascending: a value on an edge is in the upper band.
    flows
        Subjects by (values before, values now); None in place of values is "was not among them".
        Empty without an earlier date.
    """

    subject: Subject
    as_of: date
    earlier: date | None
    tags: tuple[TagDefinition, ...]
    segments: tuple[Segment, ...]
    total: int
    total_before: int | None
    cuts: Mapping[str, tuple[float, ...]]
    flows: Flows

    def find(self, *values: Any) -> Segment | None:
        """Return the segment of these values, one per tag, or None if nobody is in it."""
        return next((segment for segment in self.segments if segment.values == values), None)

    def label(self, segment: Segment, language: str = "zh") -> str:
        """Return a segment in words."""
        pairs = zip(self.tags, segment.values, strict=True)
        return " · ".join(self.show(tag, value, language) for tag, value in pairs)

    def show(self, tag: TagDefinition, value: Any, language: str = "zh") -> str:
        """Return one value of a dimension in words, a band by its edges."""
        if value is None or tag.name not in self.cuts:
            missing = {"zh": "未知", "en": "unknown"}[language]
            return missing if value is None else show_value(tag, value, language)
        edges = self.cuts[tag.name]
        if value == 0:
            return f"< {edges[0]:,g}"
        return f"≥ {edges[-1]:,g}" if value == len(edges) else (
            f"{edges[value - 1]:,g} – {edges[value]:,g}"
        )  # fmt: skip

    @property
    def moved_share(self) -> float | None:
        """Share of the subjects of both dates that changed segment; None if there are none."""
        both = {pair: count for pair, count in self.flows.items() if None not in pair}
        stayed = sum(count for (old, new), count in both.items() if old == new)
        return 1 - stayed / sum(both.values()) if both else None

    def to_table(self) -> pa.Table:
        """Return one row per segment: the values (bands in words), counts, shares, movement."""
        columns: dict[str, list[Any]] = {
            tag.name: [self.show(tag, segment.values[place]) for segment in self.segments]
            for place, tag in enumerate(self.tags)
        }
        for name in ("count", "share", "before", "share_before", "change"):
            columns[name] = [getattr(segment, name) for segment in self.segments]
        for name in ("moved_in", "moved_out", "joined", "left"):
            columns[name] = [getattr(segment, name) for segment in self.segments]
        return pa.table(columns)


def draw_structure(
    dictionary: TagDictionary,
    now: TagTable,
    tags: Sequence[str],
    *,
    engine: Engine,
    earlier: TagTable | None = None,
    cuts: Mapping[str, Sequence[float]] | None = None,
) -> Structure:
    """Lay out all subjects of a date by one to three tags, and say who moved since.

    Parameters
    ----------
    dictionary
        The tags.
    now
        Values at the date.
    tags
        Names of the dimensions, 1 to 3.
    engine
        Runs the counts.
    earlier
        Values at an earlier date, of the same kind of subject; None compares with nothing.
    cuts
        Edges of bands for numbers. A number without them that has more than 12 values is cut at
        its fifths at the later date, rounded to two digits; both dates are cut alike.

    Returns
    -------
    Structure

    Raises
    ------
    StructureError
        If there are too many tags, or one of them has too many values to be read.
    UnknownTagError, TagNotDerivedError
        As :meth:`TagTable.relation`.
    """
    if not 1 <= len(dict.fromkeys(tags)) == len(tags) <= MOST_TAGS:
        raise StructureError(
            f"A structure has 1 to {MOST_TAGS} different tags, not {list(tags)}.",
            remedy="Name one, two or three tags, each once.",
            zh=f"结构展现须为 1 至 {MOST_TAGS} 个不同标签，当前为 {'、'.join(tags) or '空'}。",
        )
    edges = {name: tuple(sorted(given)) for name, given in (cuts or {}).items()}
    for name in tags:
        if name not in edges and (found := _find_cuts(now, name, engine)):
            edges[name] = found
    flows = _flows(now, earlier, tags, edges, engine)
    segments, total, total_before = _segments(flows, earlier is not None)
    return Structure(
        subject=now.subject,
        as_of=now.as_of,
        earlier=None if earlier is None else earlier.as_of,
        tags=tuple(dictionary.get(name) for name in tags),
        segments=segments,
        total=total,
        total_before=total_before,
        cuts={name: edges[name] for name in tags if name in edges},
        flows=flows if earlier is not None else {},
    )


def _find_cuts(table: TagTable, tag: str, engine: Engine) -> tuple[float, ...]:
    """Return edges for a number with many values, () for a tag shown by its values."""
    query, sources = table.relation([tag])
    column = exp.column(tag, table="tags", quoted=True)
    counted = exp.Count(this=exp.Distinct(expressions=[column])).as_("n")
    fifths = [
        exp.func("quantile_cont", column.copy(), exp.Literal.number(k / 5)).as_(f"q{k}")
        for k in range(1, 5)
    ]
    is_number = table.fields[tag].type in _NUMERIC
    select = exp.select(counted, *(fifths if is_number else ())).from_(query.subquery("tags"))
    row = engine.query(select, sources).to_pylist()[0]
    if not is_number and row["n"] > MOST_VALUES:
        raise StructureError(
            f"Tag '{tag}' has {row['n']:,} values; a structure of so many cannot be read.",
            remedy=f"Take a tag with at most {MOST_VALUES} values, or a number, which is banded.",
            zh=f"标签 {tag} 有 {row['n']} 个取值，过多，请选用取值不超过 {MOST_VALUES} 个的标签。",
        )
    if not is_number or row["n"] <= FEW_VALUES:
        return ()
    return tuple(sorted({float(f"{float(row[f'q{k}']):.2g}") for k in range(1, 5)}))


def _flows(
    now: TagTable,
    earlier: TagTable | None,
    tags: Sequence[str],
    cuts: Mapping[str, tuple[float, ...]],
    engine: Engine,
) -> dict[tuple[Values | None, Values | None], int]:
    """Count the subjects by values before and now; "not among them" is None for the values."""
    new, sources = _laid_out(now, tags, cuts, "")
    if earlier is None:
        joined = exp.select("*").from_(new.subquery("new"))
    else:
        old, before = _laid_out(earlier, tags, cuts, _EARLIER)
        sources |= before
        on = exp.column("id", table="new").eq(exp.column("id", table="old"))
        joined = (
            exp.select("*")
            .from_(new.subquery("new"))
            .join(old.subquery("old"), on=on, join_type="full")
        )
    sides = ("new",) if earlier is None else ("new", "old")
    keys = [
        exp.column(f"{side}_{part}", quoted=True)
        for side in sides
        for part in ("there", *(f"v{i}" for i in range(len(tags))))
    ]
    grouped = (
        exp.select(*keys, exp.Count(this=exp.Star()).as_("n"))
        .from_(joined.subquery("joined"))
        .group_by(*(key.copy() for key in keys))
    )
    flows: dict[tuple[Values | None, Values | None], int] = {}
    for row in engine.query(grouped, sources).to_pylist():
        pair = (_values(row, "old", len(tags)), _values(row, "new", len(tags)))
        flows[pair] = flows.get(pair, 0) + row["n"]
    return flows


def _laid_out(
    table: TagTable, tags: Sequence[str], cuts: Mapping[str, tuple[float, ...]], prefix: str
) -> tuple[exp.Select, dict[str, Source]]:
    """Select id, presence and the values or bands of one date, its tables under a prefix."""
    query, sources = table.relation(tags)
    side = "old" if prefix else "new"

    def rename(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Table):
            return exp.to_table(prefix + node.name, quoted=True)
        if isinstance(node, exp.Column) and node.table:
            return exp.column(node.name, table=prefix + node.table, quoted=True)
        return node

    values = [
        _band(exp.column(name, table="tags", quoted=True), cuts.get(name)).as_(
            f"{side}_v{place}", quoted=True
        )
        for place, name in enumerate(tags)
    ]
    selected = exp.select(
        exp.column(table.id_column, table="tags", quoted=True).as_("id"),
        exp.true().as_(f"{side}_there", quoted=True),
        *values,
    ).from_(exp.Subquery(this=query.transform(rename), alias=exp.to_identifier("tags")))
    return selected, {prefix + name: source for name, source in sources.items()}


def _band(column: exp.Column, edges: tuple[float, ...] | None) -> exp.Expr:
    """Return the place of the value's band: the number of edges that it reaches."""
    if not edges:
        return column
    case = exp.case().when(column.is_(exp.null()), exp.null())
    for place, edge in enumerate(edges):
        below = exp.LT(this=column.copy(), expression=exp.convert(edge))
        case = case.when(below, exp.Literal.number(place))
    return case.else_(exp.Literal.number(len(edges)))


def _values(row: Mapping[str, Any], side: str, count: int) -> Values | None:
    if not row.get(f"{side}_there"):
        return None
    return tuple(row[f"{side}_v{place}"] for place in range(count))


def _segments(flows: Flows, compared: bool) -> tuple[tuple[Segment, ...], int, int | None]:
    """Sum the flows up by segment, the largest first."""
    count: Counter[Values] = Counter()
    before: Counter[Values] = Counter()
    movement: dict[str, Counter[Values]] = {
        name: Counter() for name in ("moved_in", "moved_out", "joined", "left")
    }
    for (old, new), n in flows.items():
        if new is not None:
            count[new] += n
        if old is not None:
            before[old] += n
        if compared and new is not None and new != old:
            movement["joined" if old is None else "moved_in"][new] += n
        if compared and old is not None and new != old:
            movement["left" if new is None else "moved_out"][old] += n
    total, total_before = count.total(), before.total()
    order = sorted({*count, *before}, key=lambda values: (-count[values], str(values)))
    segments = tuple(
        Segment(
            values,
            count[values],
            count[values] / total if total else 0.0,
            before[values] if compared else None,
            (before[values] / total_before if total_before else 0.0) if compared else None,
            **{name: counter[values] for name, counter in movement.items()},
        )
        for values in order
    )
    return segments, total, total_before if compared else None
