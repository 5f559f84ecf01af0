"""What an audience is like beside the base, and how audiences cover each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlglot import exp

from bihuan.audience.algebra import Node
from bihuan.audience.bind import TagTypeError
from bihuan.audience.literal import AudienceError
from bihuan.audience.snapshot import AudienceSnapshot, MemberCount, require_tags
from bihuan.audience.sql import select_flags, tag_columns
from bihuan.data import ColumnType, Engine, Source
from bihuan.kernel import NotEstimable as NotEstimable
from bihuan.tag import TagTable

Counts: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]

_BLOCK_ROWS = 65_536  # counts of a block stay exact in float32, whose products run in BLAS
_TOP_VALUES = 10
_LARGEST = "1e150"
_NUMERIC = (ColumnType.MONEY, ColumnType.INTEGER, ColumnType.NUMBER, ColumnType.BOOLEAN)


@dataclass(frozen=True, slots=True)
class Overlap:
    """How audiences cover each other.

    Parameters
    ----------
    names
        Of the audiences.
    counts
        Customers in audience ``i`` and in audience ``j``, shape ``(n_audiences, n_audiences)``;
        the diagonal holds the sizes.
    covered
        Customers in at least one.
    shared
        Customers in two or more.
    """

    names: tuple[str, ...]
    counts: Counts
    covered: int
    shared: int

    def share(self, of: str, also_in: str) -> float | NotEstimable:
        """Return which part of audience ``of`` is in ``also_in`` as well, 0..1."""
        row, column = self.names.index(of), self.names.index(also_in)
        size = int(self.counts[row, row])
        if size == 0:
            return NotEstimable({"zh": f"客户群 {of} 为空。", "en": f"Audience {of} is empty."})
        return int(self.counts[row, column]) / size


@dataclass(frozen=True, slots=True)
class TagContrast:
    """One numeric or boolean tag in an audience beside the base.

    Parameters
    ----------
    tag
        Its name.
    title
        By language.
    mean, median
        Over the members whose tag is known, in the tag's unit; for a boolean tag the share of
        true. None if none is known.
    base_mean, base_median
        The same over the whole base.
    known, base_known
        How many of the members and of the base have a finite value.
    index
        ``100 * mean / base_mean``: 100 is like the base, 150 is half as much again.
    distance
        Difference of the means in standard deviations of the base, which compares tags of
        different units.
    """

    tag: str
    title: Mapping[str, str]
    mean: float | None
    median: float | None
    base_mean: float | None
    base_median: float | None
    known: int
    base_known: int
    index: float | NotEstimable
    distance: float | NotEstimable


@dataclass(frozen=True, slots=True)
class ValueContrast:
    """One value of a text tag in an audience beside the base.

    Parameters
    ----------
    tag
        Its name.
    value
        The value; None stands for missing.
    members, base
        Customers that have it.
    share, base_share
        As parts of the audience and of the base, 0..1; None if that is empty.
    index
        ``100 * share / base_share``.
    """

    tag: str
    value: str | None
    members: int
    base: int
    share: float | None
    base_share: float | None
    index: float | NotEstimable


@dataclass(frozen=True, slots=True)
class Description:
    """What distinguishes an audience (用户群特征).

    Parameters
    ----------
    count
        Size and base, now.
    tags
        Numeric and boolean tags, in the order asked for.
    values
        The most frequent values of each text tag, at most ten per tag.
    """

    count: MemberCount
    tags: tuple[TagContrast, ...]
    values: tuple[ValueContrast, ...]

    def most_distinct(self, count: int = 5) -> tuple[TagContrast, ...]:
        """Return the numeric tags that differ most from the base, by ``distance``."""
        ranked = [
            (abs(tag.distance), tag)
            for tag in self.tags
            if not isinstance(tag.distance, NotEstimable)
        ]
        return tuple(tag for _, tag in sorted(ranked, key=lambda pair: -pair[0])[:count])


@dataclass(frozen=True, slots=True)
class Movement:
    """What became of an audience from one date to another.

    Parameters
    ----------
    stayed, joined, left
        Members of both, only of the later, only of the earlier.
    """

    stayed: int
    joined: int
    left: int

    @property
    def growth(self) -> float | NotEstimable:
        """Relative change in size; 0.1 is ten per cent more."""
        before = self.stayed + self.left
        if before == 0:
            return NotEstimable(
                {"zh": "前一期客户群为空。", "en": "The earlier audience is empty."}
            )
        return (self.joined - self.left) / before


def describe(
    snapshot: AudienceSnapshot, tags: TagTable, columns: Sequence[str], *, engine: Engine
) -> Description:
    """Hold an audience beside the base, tag by tag.

    Parameters
    ----------
    snapshot
        The audience.
    tags
        Tag values; of another date than the snapshot they show what became of the members that
        are still in the base.
    columns
        Tags to look at; dates and moments cannot be averaged.
    engine
        Runs one query over all numeric tags and one per text tag.

    Raises
    ------
    UnknownTagError, TagTypeError
        If a tag does not exist or cannot be averaged or counted.
    """
    require_tags(columns, tags)
    wanted = list(dict.fromkeys(columns))
    for name in wanted:
        if tags.fields[name].type not in (*_NUMERIC, ColumnType.STRING):
            raise TagTypeError(
                f"'{name}' is a {tags.fields[name].type.value} tag, which has no mean.",
                remedy="Choose numbers, money, true/false or texts.",
                zh=f"标签 {name} 不能求均值，请选择数值、金额、是/否或文字标签。",
            )
    numeric = [name for name in wanted if tags.fields[name].type in _NUMERIC]
    texts = [name for name in wanted if name not in numeric]
    count, contrasts = _numeric_contrasts(snapshot, tags, numeric, engine)
    values = [
        row for name in texts for row in _value_contrasts(snapshot, tags, name, count, engine)
    ]
    return Description(count, tuple(contrasts), tuple(values))


def overlap(audiences: Mapping[str, AudienceSnapshot], *, engine: Engine) -> Overlap:
    """Count how audiences cover each other.

    Parameters
    ----------
    audiences
        Snapshots by name, at least one, all about the same subject; they may be of different
        dates.
    engine
        Runs the query.

    Raises
    ------
    AudienceError
        If there is none, or they are about different subjects.
    """
    subjects = {snapshot.subject for snapshot in audiences.values()}
    if len(subjects) != 1:
        raise AudienceError(
            f"Overlap needs audiences of one kind of subject, not of {len(subjects)}.",
            remedy="Give at least one, all of customers or all of lines.",
            zh="重叠分析需要至少一个且对象相同的客户群。",
        )
    snapshots = list(audiences.values())
    identity = exp.column(snapshots[0].id_column, quoted=True)
    sources: dict[str, Source] = {f"a{i}": found.stored for i, found in enumerate(snapshots)}
    rows: exp.Query | None = None
    for i in range(len(snapshots)):
        part = exp.select(identity.copy(), exp.alias_(exp.Literal.number(i), "k")).from_(f"a{i}")
        rows = part if rows is None else exp.Union(this=rows, expression=part, distinct=False)
    assert rows is not None  # there is at least one
    flags = [
        exp.alias_(exp.Max(this=exp.Case(ifs=[_when_k(i)], default=exp.Literal.number(0))), f"e{i}")
        for i in range(len(snapshots))
    ]
    query = exp.select(*flags).from_(rows.subquery("rows")).group_by(identity.copy())
    table = engine.query(query, sources)
    return cross(tuple(audiences), _matrix(table.columns))


def movement(earlier: AudienceSnapshot, later: AudienceSnapshot, *, engine: Engine) -> Movement:
    """Say who stayed, joined and left between two snapshots."""
    counts = overlap({"earlier": earlier, "later": later}, engine=engine).counts
    stayed = int(counts[0, 1])
    return Movement(stayed, joined=later.size - stayed, left=earlier.size - stayed)


def read_flags(
    nodes: Sequence[Node], tags: TagTable, *, engine: Engine, where: Node | None = None
) -> tuple[pa.ChunkedArray, Flags]:
    """Say for each subject which audiences it belongs to, in one scan.

    Parameters
    ----------
    nodes
        Bound trees.
    tags
        Tag values at one date.
    engine
        Runs the query.
    where
        A bound tree; only its members are returned. None: the whole base.

    Returns
    -------
    (pyarrow.ChunkedArray, numpy.ndarray)
        Ids, ordered; and booleans of shape ``(n_subjects, n_audiences)``.
    """
    query, sources = select_flags({f"e{i}": n for i, n in enumerate(nodes)}, tags, where=where)
    table = engine.query(query, sources)
    return table.column(0), _matrix(table.columns[1:], table.num_rows)


def cross(names: tuple[str, ...], flags: Flags) -> Overlap:
    """Count the overlap from booleans of shape ``(n_customers, n_audiences)``."""
    counts = np.zeros((flags.shape[1], flags.shape[1]), dtype=np.int64)
    for start in range(0, len(flags), _BLOCK_ROWS):
        block = flags[start : start + _BLOCK_ROWS].astype(np.float32)
        counts += (block.T @ block).astype(np.int64)
    several = flags.sum(axis=1, dtype=np.int64)
    return Overlap(names, counts, int((several > 0).sum()), int((several > 1).sum()))


# ------------------------------------------------------------------------------------------ inside


def _matrix(columns: Sequence[pa.ChunkedArray], rows: int | None = None) -> Flags:
    n = rows if rows is not None else len(columns[0])
    matrix = np.zeros((n, len(columns)), dtype=np.bool_)
    for i, column in enumerate(columns):
        matrix[:, i] = column.to_numpy()
    return matrix


def _when_k(i: int) -> exp.If:
    return exp.If(
        this=exp.EQ(this=exp.column("k"), expression=exp.Literal.number(i)),
        true=exp.Literal.number(1),
    )


def _beside_base(
    snapshot: AudienceSnapshot, tags: TagTable, names: Sequence[str]
) -> tuple[exp.Select, dict[str, Source]]:
    """Build ``SELECT tag..., is_member FROM base LEFT JOIN members``."""
    relation, sources = tags.relation(list(names))
    column = tag_columns(tags.fields)
    identity = exp.column(tags.id_column, table="base", quoted=True)
    member = exp.column(snapshot.id_column, table="members", quoted=True)
    is_member = exp.Not(this=exp.Is(this=member, expression=exp.null()))
    picked = [exp.alias_(column(name), f"v{i}") for i, name in enumerate(names)]
    query = (
        exp.select(*picked, exp.alias_(is_member, "is_member"))
        .from_(relation.subquery("base"))
        .join(exp.to_table("members"), on=identity.eq(member.copy()), join_type="left")
    )
    return query, {**sources, "members": snapshot.stored}


def _numeric_contrasts(
    snapshot: AudienceSnapshot, tags: TagTable, names: Sequence[str], engine: Engine
) -> tuple[MemberCount, list[TagContrast]]:
    rows, sources = _beside_base(snapshot, tags, names)
    aggregates = [
        exp.alias_(exp.Count(this=exp.Star()), "base"),
        exp.alias_(exp.Count(this=_of_members(exp.Literal.number(1))), "members"),
    ]
    for i in range(len(names)):
        value = _averaged(exp.cast(exp.column(f"v{i}"), "DOUBLE"))
        for who, of in (("base", value), ("members", _of_members(value))):
            aggregates += [
                exp.alias_(exp.Count(this=of.copy()), f"{who}_known_{i}"),
                exp.alias_(exp.Avg(this=of.copy()), f"{who}_mean_{i}"),
                exp.alias_(exp.Median(this=of.copy()), f"{who}_median_{i}"),
            ]
        aggregates.append(exp.alias_(exp.StddevPop(this=value.copy()), f"deviation_{i}"))
    found = engine.query(exp.select(*aggregates).from_(rows.subquery("r")), sources).to_pylist()[0]
    count = MemberCount(members=int(found["members"]), base=int(found["base"]))
    return count, [_contrast(tags, name, i, found) for i, name in enumerate(names)]


def _averaged(value: exp.Expr) -> exp.Expr:
    """Leave out infinities and what is so large that its square is one."""
    is_finite = exp.LTE(this=exp.Abs(this=value), expression=exp.Literal.number(_LARGEST))
    return exp.Case(ifs=[exp.If(this=is_finite, true=value.copy())])


def _of_members(value: exp.Expr) -> exp.Expr:
    return exp.Case(ifs=[exp.If(this=exp.column("is_member"), true=value.copy())])


def _contrast(tags: TagTable, name: str, i: int, found: Mapping[str, Any]) -> TagContrast:
    mean, base_mean = found[f"members_mean_{i}"], found[f"base_mean_{i}"]
    return TagContrast(
        tag=name,
        title=tags.fields[name].title,
        mean=mean,
        median=found[f"members_median_{i}"],
        base_mean=base_mean,
        base_median=found[f"base_median_{i}"],
        known=int(found[f"members_known_{i}"]),
        base_known=int(found[f"base_known_{i}"]),
        index=_index(mean, base_mean),
        distance=_distance(mean, base_mean, found[f"deviation_{i}"]),
    )


def _index(part: float | None, whole: float | None) -> float | NotEstimable:
    if part is None or whole is None:
        return NotEstimable({"zh": "没有已知取值。", "en": "No value is known."})
    if whole <= 0:
        return NotEstimable(
            {"zh": "全体均值不为正，无法求指数。", "en": "The base's mean is not positive."}
        )
    return 100 * part / whole


def _distance(
    mean: float | None, base_mean: float | None, deviation: float | None
) -> float | NotEstimable:
    if mean is None or base_mean is None or not deviation:
        return NotEstimable(
            {"zh": "取值未知或没有差异。", "en": "No value is known, or all agree."}
        )
    return (mean - base_mean) / deviation


def _value_contrasts(
    snapshot: AudienceSnapshot, tags: TagTable, name: str, count: MemberCount, engine: Engine
) -> list[ValueContrast]:
    rows, sources = _beside_base(snapshot, tags, [name])
    members = exp.Count(this=_of_members(exp.Literal.number(1)))
    query = (
        exp.select(
            exp.alias_(exp.column("v0"), "value"),
            exp.alias_(members, "members"),
            exp.alias_(exp.Count(this=exp.Star()), "base"),
        )
        .from_(rows.subquery("r"))
        .group_by(exp.column("v0"))
        .order_by(
            exp.column("members").desc(), exp.column("base").desc(), exp.column("value").asc()
        )
        .limit(_TOP_VALUES)
    )
    return [_value_contrast(name, row, count) for row in engine.query(query, sources).to_pylist()]


def _value_contrast(name: str, row: Mapping[str, Any], count: MemberCount) -> ValueContrast:
    share = row["members"] / count.members if count.members else None
    base_share = row["base"] / count.base if count.base else None
    return ValueContrast(
        tag=name,
        value=row["value"],
        members=row["members"],
        base=row["base"],
        share=share,
        base_share=base_share,
        index=_index(share, base_share),
    )
