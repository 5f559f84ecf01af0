"""Following a cohort: who was kept, who was lost, what is left of what it was worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
from sqlglot import exp

from bihuan.audience.algebra import Node, tags_of
from bihuan.audience.coverage import NotEstimable
from bihuan.audience.normalise import normalise
from bihuan.audience.segment.cohort import Cohort, CohortError
from bihuan.audience.segment.reader import require_numeric
from bihuan.audience.segment.rule import wilson
from bihuan.audience.snapshot import bind_to
from bihuan.audience.sql import predicate, tag_columns
from bihuan.data import Engine
from bihuan.kernel import DefectError
from bihuan.tag import TagTable


@dataclass(frozen=True, slots=True)
class ValueThenNow:
    """One numeric tag of a group then and now.

    Parameters
    ----------
    tag
        Its name.
    then, now
        Mean over the customers who were kept and whose value is known at both dates: the same
        people; None if there are none.
    known
        How many those are.
    kept_value
        Sum now of those kept over the sum then of the whole group: what is left of what the
        group was worth, losses counted.
    """

    tag: str
    then: float | None
    now: float | None
    known: int
    kept_value: float | NotEstimable


@dataclass(frozen=True, slots=True)
class Following:
    """A group at one later date.

    Parameters
    ----------
    as_of
        The date.
    group
        ``cohort``, or the name of the group it is held against.
    size
        Customers at the date of the cohort; never changes.
    absent
        Those who are no longer in the base.
    dropped
        Those in the base who do not meet the condition of being kept.
    kept
        The others.
    low, high
        95 % Wilson interval of the retained share.
    values
        Tags then and now.
    """

    as_of: date
    group: str
    size: int
    absent: int
    dropped: int
    kept: int
    low: float
    high: float
    values: tuple[ValueThenNow, ...]

    @property
    def lost(self) -> int:
        """Members absent or dropped."""
        return self.absent + self.dropped

    @property
    def retained(self) -> float:
        """``kept / size``, 0..1."""
        return self.kept / self.size


def follow_cohort(
    cohort: Cohort,
    later: TagTable,
    kept: Node,
    *,
    engine: Engine,
    against: Cohort | None = None,
) -> tuple[Following, ...]:
    """Compare a cohort at a later date with itself then, and with others.

    Parameters
    ----------
    cohort
        The cohort.
    later
        Tag values at a date not before the cohort's.
    kept
        Who of those still in the base counts as retained, read at the later date.
    engine
        Runs one query per cohort.
    against
        Another cohort; None: the rest of the base on the day the cohort was taken.

    Returns
    -------
    tuple[Following, ...]
        The cohort, then what it is held against (if it has anybody).

    Raises
    ------
    CohortError
        If the date is before the cohort's or the subjects differ.
    """
    if later.as_of < cohort.as_of or str(later.subject) != cohort.subject:
        raise CohortError(
            f"Cohort '{cohort.name}' of {cohort.as_of} cannot be followed at {later.as_of}.",
            remedy=f"Choose a date from {cohort.as_of} on, and tags of {cohort.subject}s.",
            zh=f"拍照群“{cohort.name}”（{cohort.as_of}）不能跟踪到 {later.as_of}。",
        )
    condition = normalise(bind_to(later, kept))
    inside, outside = _followed(cohort, later, condition, engine)
    own = _following(cohort, later, "cohort", inside)
    if against is not None:
        beside, _ = _followed(against, later, condition, engine)
        return own, _following(against, later, against.name, beside)
    return (own, _following(cohort, later, "rest", outside)) if outside["size"] else (own,)


def lost_members(cohort: Cohort, later: TagTable, kept: Node, *, engine: Engine) -> pa.Table:
    """List the members who are no longer retained at a later date.

    Parameters
    ----------
    cohort, later, kept, engine
        As in :func:`follow_cohort`.

    Returns
    -------
    pyarrow.Table
        The id, ``how`` (``absent``: no longer in the base; ``dropped``: in it but not kept) and
        the values of the day the cohort was taken; ordered by id.
    """
    query, sources = _joined(cohort, later, normalise(bind_to(later, kept)))
    rows = query.subquery("r")
    absent = exp.Not(this=exp.column("present"))
    how = exp.Case(
        ifs=[exp.If(this=absent, true=exp.Literal.string("absent"))],
        default=exp.Literal.string("dropped"),
    )
    then = [
        exp.alias_(exp.column(f"then{i}"), tag, quoted=True) for i, tag in enumerate(cohort.values)
    ]
    chosen = exp.select(exp.alias_(exp.column("id"), cohort.id_column, quoted=True),
                        exp.alias_(how, "how"), *then).from_(rows)  # fmt: skip
    chosen = chosen.where(exp.and_(exp.column("in_cohort"), exp.Not(this=exp.column("kept"))))
    return engine.query(chosen.order_by(exp.column("id")), sources)


def follow_table(followings: Sequence[Following]) -> pa.Table:
    """Return one row per date and group, for a table or a chart."""
    rows: list[dict[str, Any]] = []
    for found in followings:
        row: dict[str, Any] = {
            "as_of": found.as_of,
            "group": found.group,
            "size": found.size,
            "kept": found.kept,
            "absent": found.absent,
            "dropped": found.dropped,
            "retained": found.retained,
            "low": found.low,
            "high": found.high,
        }
        for value in found.values:
            left = value.kept_value
            row[f"{value.tag}_then"], row[f"{value.tag}_now"] = value.then, value.now
            row[f"{value.tag}_kept"] = None if isinstance(left, NotEstimable) else left
        rows.append(row)
    return pa.Table.from_pylist(rows)


# ------------------------------------------------------------------------------------------ inside


def _joined(cohort: Cohort, later: TagTable, kept: Node) -> tuple[exp.Select, dict[str, Any]]:
    """Put what customers were then beside what they are; who has gone keeps his row."""
    for tag in cohort.values:
        require_numeric(tag, later)
    relation, sources = later.relation(sorted({*cohort.values, *tags_of(kept)}))
    column = tag_columns(later.fields)
    identity = exp.column(later.id_column, quoted=True)
    now = [exp.alias_(column(tag), f"now{i}") for i, tag in enumerate(cohort.values)]
    is_kept = exp.alias_(predicate(kept, column), "meets")
    here = exp.select(exp.alias_(identity, "id"), is_kept, *now).from_(relation.subquery("t"))
    then = [
        exp.alias_(exp.column(tag, table="cohort", quoted=True), f"then{i}")
        for i, tag in enumerate(cohort.values)
    ]
    meets = exp.Coalesce(this=exp.column("meets", table="here"), expressions=[exp.false()])
    own = exp.column(cohort.id_column, table="cohort", quoted=True)
    present = exp.Not(this=exp.Is(this=exp.column("id", table="here"), expression=exp.null()))
    query = (
        exp.select(
            exp.alias_(own, "id"),
            exp.column("in_cohort", table="cohort"),
            exp.alias_(present, "present"),
            exp.alias_(meets, "kept"),
            *then,
            *(exp.column(f"now{i}", table="here") for i in range(len(now))),
        )
        .from_(exp.to_table("cohort"))
        .join(
            here.subquery("here"),
            on=own.copy().eq(exp.column("id", table="here")),
            join_type="left",
        )
    )
    return query, {**sources, "cohort": cohort.stored}


_Counts = dict[str, Any]


def _followed(
    cohort: Cohort, later: TagTable, kept: Node, engine: Engine
) -> tuple[_Counts, _Counts]:
    """Count and sum up members and others."""
    query, sources = _joined(cohort, later, kept)

    def counted(condition: exp.Expr) -> exp.Expr:
        return exp.Count(this=exp.Case(ifs=[exp.If(this=condition, true=exp.Literal.number(1))]))

    is_kept = exp.column("kept")
    asked: list[exp.Expr] = [
        exp.column("in_cohort"),
        exp.alias_(exp.Count(this=exp.Star()), "size"),
        exp.alias_(counted(exp.Not(this=exp.column("present"))), "absent"),
        exp.alias_(counted(is_kept), "kept"),
    ]
    for i in range(len(cohort.values)):
        then, now = exp.column(f"then{i}"), exp.column(f"now{i}")
        both = exp.and_(is_kept.copy(), _known(then), _known(now))
        asked += [
            exp.alias_(counted(both), f"both{i}"),
            exp.alias_(exp.Avg(this=_if(both, then)), f"then_mean{i}"),
            exp.alias_(exp.Avg(this=_if(both, now)), f"now_mean{i}"),
            exp.alias_(exp.Sum(this=exp.cast(then, "DOUBLE")), f"then_sum{i}"),
            exp.alias_(exp.Sum(this=exp.cast(_if(is_kept, now), "DOUBLE")), f"now_sum{i}"),
        ]
    grouped = exp.select(*asked).from_(query.subquery("r")).group_by(exp.column("in_cohort"))
    rows = {row["in_cohort"]: row for row in engine.query(grouped, sources).to_pylist()}
    nobody: _Counts = {"size": 0}
    inside, outside = rows.get(True, nobody), rows.get(False, nobody)
    if (inside["size"], outside["size"]) != (cohort.members, cohort.rest):
        raise DefectError(
            f"Cohort '{cohort.name}' was taken with {cohort.members} members and {cohort.rest} "
            f"others, but {inside['size']} and {outside['size']} were found."
        )
    return inside, outside


def _following(cohort: Cohort, later: TagTable, group: str, found: _Counts) -> Following:
    low, high = wilson(found["kept"], found["size"])
    return Following(
        as_of=later.as_of,
        group=group,
        size=found["size"],
        absent=found["absent"],
        dropped=found["size"] - found["absent"] - found["kept"],
        kept=found["kept"],
        low=low,
        high=high,
        values=tuple(_value(tag, i, found) for i, tag in enumerate(cohort.values)),
    )


def _value(tag: str, i: int, found: _Counts) -> ValueThenNow:
    then_sum = found[f"then_sum{i}"]
    kept_value: float | NotEstimable
    if not then_sum or then_sum <= 0:
        kept_value = NotEstimable(
            {"zh": "拍照时没有正的取值。", "en": "The group was worth nothing at that date."}
        )
    else:
        kept_value = (found[f"now_sum{i}"] or 0.0) / then_sum
    return ValueThenNow(
        tag, found[f"then_mean{i}"], found[f"now_mean{i}"], found[f"both{i}"], kept_value
    )


def _known(value: exp.Expr) -> exp.Expr:
    return exp.Not(this=exp.Is(this=value.copy(), expression=exp.null()))


def _if(condition: exp.Expr, value: exp.Expr) -> exp.Expr:
    return exp.Case(ifs=[exp.If(this=condition.copy(), true=value.copy())])
