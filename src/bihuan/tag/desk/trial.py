"""A tag tried out on real rows before it goes live: what its values look like, and what changes.

The candidate and the tags that it is made from are derived into a lake of their own, which is
thrown away; nothing that others read is touched. What remains is the report.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlglot import exp

from bihuan.data import Engine, Lake, Snapshot, Source
from bihuan.kernel import Clock, Progress, UserError, hash_id
from bihuan.tag.definition import State, TagDefinition
from bihuan.tag.derive import derive
from bihuan.tag.dictionary import TagDictionary
from bihuan.tag.table import TagNotDerivedError, read_tags

TOP_VALUES = 20
"""Values of a text or boolean tag that a report lists, by how many subjects have them."""
_SHARES = (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)
_ORDERED = ("integer", "number", "money", "date", "timestamp")
_NEW, _OLD = "candidate", "live"


class TagTrialError(UserError):
    """A tag cannot be tried out on the rows that there are."""


@dataclass(frozen=True, slots=True)
class Change:
    """How a candidate's values differ from those of the version that is live.

    Parameters
    ----------
    version
        The live version.
    subjects
        Subjects that both know.
    changed
        Of these, how many have another value; a missing value counts as one.
    became_missing, became_known
        How many lost and gained a value.
    """

    version: int
    subjects: int
    changed: int
    became_missing: int
    became_known: int

    @property
    def share(self) -> float:
        """Share of the subjects whose value changes, 0..1."""
        return self.changed / self.subjects if self.subjects else 0.0


@dataclass(frozen=True, slots=True)
class TrialReport:
    """What came of trying a tag out.

    Parameters
    ----------
    tag, version, calculation_id
        What was tried.
    as_of
        Date of the data, as ISO text.
    subjects, missing
        Subjects in all, and those without a value.
    distribution
        For numbers and dates: ``min, p1, p25, p50, p75, p99, max`` and, for numbers, ``mean``.
        For texts and booleans: count by value, of the 20 most frequent.
    distinct
        How many different values there are.
    outside_codes
        Values that are none of the tag's codes.
    seconds
        Time that deriving took.
    who, at
        Who tried it, and when (ISO, UTC).
    short_window
        Months of the source that there are and that the tag asks for; None where they suffice.
    change
        Against the live version; None where there is none, or it has no values at that date.
    """

    tag: str
    version: int
    calculation_id: str
    as_of: str
    subjects: int
    missing: int
    distribution: Mapping[str, Any]
    distinct: int
    outside_codes: int
    seconds: float
    who: str
    at: str
    short_window: tuple[int, int] | None = None
    change: Change | None = field(default=None)

    @property
    def missing_share(self) -> float:
        """Share of the subjects without a value, 0..1."""
        return self.missing / self.subjects if self.subjects else 0.0

    @property
    def trial_id(self) -> str:
        """Id of the trial: what was tried, on which date's data, and when."""
        return hash_id("tag trial", self.tag, self.calculation_id, self.as_of, self.at)[:16]

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> TrialReport:
        """Read a report back from plain values."""
        change = raw.get("change")
        window = raw.get("short_window")
        return cls(
            **{
                **raw,
                "change": None if change is None else Change(**change),
                "short_window": None if window is None else tuple(window),
            }
        )


def try_tag(  # noqa: PLR0913 - what it reads, with what, for when, for whom
    candidate: TagDefinition,
    dictionary: TagDictionary,
    lake: Lake,
    as_of: date,
    *,
    engine: Engine,
    clock: Clock,
    progress: Progress,
    who: str,
) -> TrialReport:
    """Derive a tag that is not live and report on its values; nothing is published.

    Parameters
    ----------
    candidate
        The tag, in any state.
    dictionary
        Holds what it is made from, and its live version if there is one.
    lake
        Read only.
    as_of
        A date at which the lake has the subject's own table.
    engine, clock, progress
        As for :func:`derive`.
    who
        Who tries.

    Raises
    ------
    TagTrialError
        If it has no values at that date; says what is lacking.
    TagDerivationError
        If its values cannot be computed.
    """
    trial = with_what_it_needs(candidate, dictionary, state=State.LIVE)
    with tempfile.TemporaryDirectory(prefix="bihuan-trial-") as folder:
        scratch = Lake(Path(folder))
        report = derive(
            trial, lake, as_of, engine=engine, clock=clock, progress=progress,
            subject=candidate.subject, into=scratch,
        )  # fmt: skip
        if lack := report.pending.get(candidate.name):
            raise TagTrialError(
                f"'{candidate.name}' has no values at {as_of}: {lack.reason['en']}",
                remedy="Choose a date with the rows it needs, or take them in first.",
                zh=f"标签 {candidate.name} 在 {as_of} 没有值：{lack.reason['zh']}",
            )
        group = next(g for g in report.groups if candidate.name in g.tags)
        stored = scratch.view().get(group.table, as_of)
        figures = _figures(candidate, stored, engine)
        change = _change(candidate, dictionary, stored, (lake, engine, as_of))
    return TrialReport(
        tag=candidate.name,
        version=candidate.version,
        calculation_id=candidate.calculation_id,
        as_of=as_of.isoformat(),
        subjects=stored.rows,
        missing=group.without_value[candidate.name],
        distribution=figures["distribution"],
        distinct=figures["distinct"],
        outside_codes=group.outside_codes.get(candidate.name, 0),
        seconds=round(report.seconds, 3),
        who=who,
        at=clock.now().isoformat(),
        short_window=group.short_windows.get(candidate.name),
        change=change,
    )


def with_what_it_needs(
    tag: TagDefinition, dictionary: TagDictionary, *, state: State | None = None
) -> TagDictionary:
    """Return a dictionary of a tag and all that it is made from, at any distance.

    Parameters
    ----------
    tag
        In any state; takes the place of its namesake.
    dictionary
        Holds the others.
    state
        The state that all of them get; None leaves each in its own.

    Raises
    ------
    TagDefinitionError
        If the tag does not fit what it is made from.
    """
    others = [replace(other, state=State.DRAFT) for other in dictionary if other.name != tag.name]
    whole = TagDictionary([*others, replace(tag, state=State.DRAFT)], dictionary.contracts)
    needed = whole.lineage(tag.name).all_tags
    tags = [*(dictionary.get(name) for name in needed), tag]
    return TagDictionary(
        [other if state is None else replace(other, state=state) for other in tags],
        dictionary.contracts,
    )


def _figures(tag: TagDefinition, stored: Snapshot, engine: Engine) -> dict[str, Any]:
    value = exp.column(tag.name, quoted=True)
    table = exp.to_table("stored")
    sources: dict[str, Source] = {"stored": stored}
    count = exp.Count(this=exp.Distinct(expressions=[value.copy()])).as_("distinct_values")
    if tag.type.value not in _ORDERED:
        text = exp.cast(value.copy(), "VARCHAR").as_("value")
        by_value = (
            exp.select(text, exp.Count(this=exp.Star()).as_("n"))
            .from_(table)
            .where(value.copy().is_(exp.null()).not_())
            .group_by(value.copy())
            .order_by(exp.column("n").desc(), exp.column("value"))
            .limit(TOP_VALUES)
        )
        rows = engine.query(by_value, sources).to_pylist()
        distinct = engine.query(exp.select(count).from_(table.copy()), sources)
        return {
            "distribution": {row["value"]: row["n"] for row in rows},
            "distinct": distinct.column(0)[0].as_py(),
        }
    quantiles = [
        exp.func("quantile_disc", value.copy(), exp.Literal.number(share)).as_(f"q{i}")
        for i, share in enumerate(_SHARES)
    ]
    is_time = tag.type.value in ("date", "timestamp")
    mean = exp.null() if is_time else exp.Avg(this=exp.cast(value.copy(), "DOUBLE"))
    row = engine.query(
        exp.select(count, mean.as_("mean"), *quantiles).from_(table), sources
    ).to_pylist()[0]
    names = ("min", "p1", "p25", "p50", "p75", "p99", "max")
    found = {name: _plain(row[f"q{i}"]) for i, name in enumerate(names)}
    if not is_time:
        found["mean"] = row["mean"]
    return {"distribution": found, "distinct": row["distinct_values"]}


def _plain(value: Any) -> Any:
    """Write a value as JSON can hold it."""
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, (date, datetime)) else value


def _change(
    tag: TagDefinition,
    dictionary: TagDictionary,
    stored: Snapshot,
    where: tuple[Lake, Engine, date],
) -> Change | None:
    """Compare with the values of the live version at the same date, subject by subject."""
    lake, engine, as_of = where
    live = dictionary.find(tag.name)
    if live is None or live.state is not State.LIVE or live.subject is not tag.subject:
        return None
    try:
        query, sources = read_tags(lake.view(), dictionary, live.subject, as_of).relation(
            [tag.name]
        )
    except TagNotDerivedError:
        return None
    id_ = live.subject.id_column
    new: exp.Expr = exp.column(tag.name, table=_NEW, quoted=True)
    old: exp.Expr = exp.column(tag.name, table=_OLD, quoted=True)
    if live.type is not tag.type:
        new, old = exp.cast(new, "VARCHAR"), exp.cast(old, "VARCHAR")
    unlike = exp.NullSafeNEQ(this=new.copy(), expression=old.copy())
    no_new, no_old = new.copy().is_(exp.null()), old.copy().is_(exp.null())
    compared = (
        exp.select(
            exp.Count(this=exp.Star()).as_("subjects"),
            exp.CountIf(this=unlike).as_("changed"),
            exp.CountIf(this=exp.and_(no_new, no_old.copy().not_())).as_("became_missing"),
            exp.CountIf(this=exp.and_(no_old, no_new.copy().not_())).as_("became_known"),
        )
        .from_(exp.to_table("stored").as_(_NEW))
        .join(
            query.subquery(_OLD),
            on=exp.column(id_, table=_NEW, quoted=True).eq(
                exp.column(id_, table=_OLD, quoted=True)
            ),
        )
    )
    row: pa.Table = engine.query(compared, {**sources, "stored": stored})
    return Change(version=live.version, **{k: int(v) for k, v in row.to_pylist()[0].items()})
