"""All live tags of one kind of subject for one date: in come snapshots, out go tag tables.

Each source table is read in one pass; tags of tags follow level by level. A group of tags whose
definitions and upstream snapshots have not changed is not derived again. Whatever is derived in
one run is published at once, so a reader sees the tags of before or those of after.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
from sqlglot import exp

from bihuan.data import Engine, Lake, LakeView, Publication, Snapshot, Source, TableContract
from bihuan.kernel import Clock, DefectError, Progress, ProgressTask, UserError, hash_id
from bihuan.tag.bind import BoundTag
from bihuan.tag.definition import Subject, TagDefinition
from bihuan.tag.dictionary import TagDictionary
from bihuan.tag.query import (
    SOURCE,
    UNIVERSE,
    IdRange,
    cut_points_query,
    level_query,
    outside_codes_query,
    source_query,
)

SUBJECTS_PER_PART = 2_000_000
"""Subjects derived at a time: bounds the memory of a run, and is its step of progress."""

_FORMAT = 2  # goes into every fingerprint: raise it when the same definition comes out otherwise


class TagDerivationError(UserError):
    """A tag's values cannot be derived from the rows that there are."""


@dataclass(frozen=True, slots=True)
class PendingTag:
    """A live tag that was not derived.

    Parameters
    ----------
    state
        ``missing_source`` if its table lacks snapshots, ``pending`` if it waits for a model's
        scores or for another tag.
    reason
        By language.
    """

    state: str
    reason: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class GroupReport:
    """What became of one group of tags.

    Parameters
    ----------
    group, table
        Name of the group and of its lake table.
    tags
        Names of its tags that have values.
    rows
        Subjects; 0 for a group that is pending.
    seconds
        Time spent on it.
    state
        ``derived``, ``unchanged`` or ``pending``.
    without_value
        Subjects without a value, by tag.
    outside_codes
        Values that are none of the tag's codes, by tag; only tags that have some.
    short_windows
        Months of the source that there are and that the tag asks for, by tag; only tags that
        look back further than the lake does.
    """

    group: str
    table: str
    tags: tuple[str, ...]
    rows: int
    seconds: float
    state: str
    without_value: Mapping[str, int] = field(default_factory=dict)
    outside_codes: Mapping[str, int] = field(default_factory=dict)
    short_windows: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeriveReport:
    """What became of every live tag of a subject.

    Parameters
    ----------
    subject, as_of
        For what and for when.
    subjects
        Number of subjects.
    groups
        In the order of derivation.
    pending
        Tags without values, by name, with the reason.
    seconds
        Time of the whole run.
    """

    subject: str
    as_of: date
    subjects: int
    groups: tuple[GroupReport, ...]
    pending: Mapping[str, PendingTag]
    seconds: float


def tag_table(subject: str, group: str) -> str:
    """Return the name of the lake table that holds a group of tags."""
    return f"tag__{subject}__{group}"


def derive(  # noqa: PLR0913 - what it reads, with what, for when; none can be left out
    dictionary: TagDictionary,
    lake: Lake,
    as_of: date,
    *,
    engine: Engine,
    clock: Clock,
    progress: Progress,
    contracts: Mapping[str, TableContract] | None = None,
    subject: str = "customer",
    into: Lake | None = None,
) -> DeriveReport:
    """Derive all live tags of a subject for a date and publish them together.

    Parameters
    ----------
    dictionary
        The tags.
    lake
        Read as it is at the start; snapshots later than ``as_of`` are never read.
    as_of
        A date at which the lake has the subject's own table, whose rows are all the subjects.
    engine
        Runs the queries.
    clock
        Stamps the publication.
    progress
        Told after each part of each group; where it is cancelled, nothing is published.
    contracts
        Contracts by table name; None takes the dictionary's.
    subject
        A kind of subject, e.g. ``customer``, ``subscription``, ``leased_line``.
    into
        Another lake to publish in, for a trial; None publishes in ``lake``.

    Returns
    -------
    DeriveReport
        A tag whose source has no snapshot in its window is ``missing_source``, one that waits for
        scores or for such a tag is ``pending``: neither gets a column of nothing.

    Raises
    ------
    SnapshotNotFoundError
        If the lake does not have the subject's own table at ``as_of``.
    TagDerivationError
        If values cannot be computed (a text that is no number, two rows for one subject); names
        the tag. Nothing is published.
    Cancelled
        If progress was asked to stop. Nothing is published.
    """
    started = time.perf_counter()
    plan = _Plan(dictionary, lake.view(), as_of, Subject(subject), contracts)
    parts = _parts(plan, engine)
    stale = sum(group.current is None for group in plan.groups)
    with ExitStack() as stack:
        label = f"derive {subject} tags"
        task = stack.enter_context(progress.task(label, total=stale * len(parts), unit="parts"))
        # entered last, so that it commits before the task ends; nothing new, nothing published
        target = lake if into is None else into
        publication = stack.enter_context(target.publication(clock)) if stale else None
        run = _Run(plan, engine, publication, parts, task)
        reports = [run.derive(group) for group in plan.groups]
    return DeriveReport(
        subject=subject,
        as_of=as_of,
        subjects=plan.universe.rows,
        groups=(*reports, *plan.waiting_groups()),
        pending=plan.pending,
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """Tags that one query derives, and what it reads; ``current`` if that is in the lake."""

    name: str
    table: str
    tags: tuple[BoundTag, ...]
    snapshots: tuple[Snapshot, ...]
    months: int
    lineage: Mapping[str, Any]
    current: Snapshot | None


class _Plan:
    """What there is to derive, from which snapshots, and what cannot be derived and why."""

    def __init__(
        self,
        dictionary: TagDictionary,
        view: LakeView,
        as_of: date,
        subject: Subject,
        contracts: Mapping[str, TableContract] | None,
    ) -> None:
        self.view, self.as_of, self.subject = view, as_of, subject
        self.contracts = dictionary.contracts if contracts is None else contracts
        self.universe = view.get(subject.value, as_of)
        self.pending: dict[str, PendingTag] = {}
        self.short_windows: dict[str, tuple[int, int]] = {}
        self._fingerprints: dict[str, str] = {}
        self._windows: dict[tuple[str, int], tuple[Snapshot, ...]] = {}
        self._columns: dict[str, frozenset[str]] = {}  # by snapshot id
        self._waiting: dict[str, list[str]] = {}
        members: dict[str, list[BoundTag]] = {}
        for tag in dictionary.live(subject):
            bound, group = dictionary.bound(tag.name), dictionary.group(tag.name)
            reason = self._place(bound)
            if reason is None:
                members.setdefault(group, []).append(bound)
            else:
                self.pending[tag.name] = reason
                self._waiting.setdefault(group, []).append(tag.name)
        order = sorted(members, key=lambda name: dictionary.rank(members[name][0].definition.name))
        self.groups = [self._group(name, members[name]) for name in order]

    def waiting_groups(self) -> list[GroupReport]:
        """Report the groups of which no tag could be derived."""
        derived = {group.name for group in self.groups}
        return [
            GroupReport(name, tag_table(self.subject, name), tuple(tags), 0, 0.0, "pending")
            for name, tags in self._waiting.items()
            if name not in derived
        ]

    def _place(self, bound: BoundTag) -> PendingTag | None:
        """Settle what a tag is derived from; return why it is not, or None."""
        tag = bound.definition
        if waits := [name for name in bound.upstream if name in self.pending]:
            return PendingTag(
                "pending",
                {
                    "en": f"It needs {', '.join(waits)}: {self.pending[waits[0]].reason['en']}",
                    "zh": f"依赖 {'、'.join(waits)}：{self.pending[waits[0]].reason['zh']}",
                },
            )
        upstream = [self._fingerprints[name] for name in bound.upstream]
        if tag.table is not None:
            window = self._snapshots(tag)
            if lack := self._lack(bound, window):
                return lack
            if len(window) < tag.window_months:
                self.short_windows[tag.name] = (len(window), tag.window_months)
            upstream = [snapshot.id for snapshot in window]
        self._fingerprints[tag.name] = hash_id(
            _FORMAT, tag.calculation_id, self.universe.id, upstream
        )
        return None

    def _snapshots(self, tag: TagDefinition) -> tuple[Snapshot, ...]:
        """Return what a tag may read: the state at the date, or each month's last facts."""
        if tag.table is None:
            return ()
        key = (tag.table, tag.window_months)
        if key not in self._windows:
            contract = self.contracts.get(tag.table)
            if contract is None or contract.grain == "state":
                snapshot = self.view.find(tag.table, self.as_of)
                self._windows[key] = () if snapshot is None else (snapshot,)
            else:
                # a month's facts accumulate: its later snapshot holds what the earlier held
                upto = self.view.upto(tag.table, self.as_of, months=tag.window_months)
                self._windows[key] = tuple({self._age(s): s for s in upto}.values())
        return self._windows[key]

    def _columns_of(self, snapshot: Snapshot) -> frozenset[str]:
        if snapshot.id not in self._columns:
            self._columns[snapshot.id] = frozenset(pq.read_schema(snapshot.files[0]).names)
        return self._columns[snapshot.id]

    def _age(self, snapshot: Snapshot) -> int:
        years, months = self.as_of.year - snapshot.as_of.year, self.as_of.month
        return years * 12 + months - snapshot.as_of.month

    def _lack(self, bound: BoundTag, window: Sequence[Snapshot]) -> PendingTag | None:
        tag = bound.definition
        needed = {*bound.expression.columns, tag.id_column}
        if window:
            absent = sorted(needed.difference(*(self._columns_of(s) for s in window)))
            if not absent:
                return None
            en = f"The snapshots of '{tag.table}' have no column '{absent[0]}'."
            zh = f"表 {tag.table} 的快照中没有列 {absent[0]}。"
        elif tag.model:
            en = f"Model '{tag.model}' has no scores at {self.as_of}."
            zh = f"模型 {tag.model} 在 {self.as_of} 没有评分。"
            return PendingTag("pending", {"en": en, "zh": zh})
        else:
            dates = ", ".join(day.isoformat() for day in self.view.dates(tag.table or "")[-3:])
            en = (
                f"'{tag.table}' has no snapshot in the {tag.window_months} months up to "
                f"{self.as_of} (newest: {dates or 'none'})."
            )
            zh = (
                f"表 {tag.table} 在截至 {self.as_of} 的 {tag.window_months} 个月内没有快照"
                f"（最近：{dates or '无'}）。"
            )
        return PendingTag("missing_source", {"en": en, "zh": zh})

    def _group(self, name: str, tags: list[BoundTag]) -> _Group:
        months = max(tag.definition.window_months for tag in tags)
        widest = next(t.definition for t in tags if t.definition.window_months == months)
        snapshots = self._snapshots(widest)
        prints = {t.definition.name: self._fingerprints[t.definition.name] for t in tags}
        table = tag_table(self.subject, name)
        fingerprint = hash_id(sorted(prints.items()))
        current = self.view.find(table, self.as_of)
        if current is not None and current.lineage.get("fingerprint") != fingerprint:
            current = None
        lineage = {
            "kind": "tag",
            "fingerprint": fingerprint,
            "universe": self.universe.id,
            "sources": {f"{s.table}/{s.as_of}": s.id for s in snapshots},
            "tags": {
                t.definition.name: {
                    "version": t.definition.version,
                    "calculation": t.definition.calculation_id,
                    "fingerprint": prints[t.definition.name],
                }
                for t in tags
            },
        }
        return _Group(name, table, tuple(tags), snapshots, months, lineage, current)


def _parts(plan: _Plan, engine: Engine) -> list[IdRange]:
    """Cut the subjects into ranges of ids that fit into memory together."""
    if plan.universe.rows <= SUBJECTS_PER_PART:
        return [IdRange()]
    query = cut_points_query(plan.subject, SUBJECTS_PER_PART)
    cuts = engine.query(query, {UNIVERSE: plan.universe}).column(0).to_pylist()
    return [IdRange(low, high) for low, high in zip([None, *cuts], [*cuts, None], strict=True)]


class _Run:
    """Derives groups one after the other into one publication."""

    def __init__(
        self,
        plan: _Plan,
        engine: Engine,
        publication: Publication | None,
        parts: Sequence[IdRange],
        task: ProgressTask,
    ) -> None:
        self._plan, self._engine, self._publication = plan, engine, publication
        self._parts, self._task = parts, task
        self._stored: dict[str, Snapshot] = {}  # tag tables of this date, old and new
        self._table_of: dict[str, str] = {}

    def derive(self, group: _Group) -> GroupReport:
        """Derive a group, unless the lake has it as it would come out, and report on it."""
        started = time.perf_counter()
        stored = group.current or self._write(group)
        self._stored[group.table] = stored
        names = tuple(tag.definition.name for tag in group.tags)
        self._table_of |= dict.fromkeys(names, group.table)
        short = self._plan.short_windows
        return GroupReport(
            group=group.name,
            table=group.table,
            tags=names,
            rows=stored.rows,
            seconds=time.perf_counter() - started,
            state="unchanged" if group.current else "derived",
            without_value=_without_value(stored, names),
            outside_codes=self._outside_codes(group, stored),
            short_windows={name: short[name] for name in names if name in short},
        )

    def _write(self, group: _Group) -> Snapshot:
        if self._publication is None:
            raise DefectError(f"Group '{group.name}' is stale, and no publication was opened.")
        as_of = self._plan.as_of
        with self._publication.folder(group.table, as_of, lineage=group.lineage) as folder:
            try:
                rows = self._write_parts(group, folder)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)  # no publication knows it yet
                raise
        files = tuple(sorted(folder.glob("*.parquet")))
        return Snapshot(
            table=group.table,
            as_of=as_of,
            id="",  # given at publication; nobody but this run reads it before
            files=files,
            rows=rows,
            bytes=sum(path.stat().st_size for path in files),
            lineage=group.lineage,
            published_at="",
        )

    def _write_parts(self, group: _Group, folder: Path) -> int:
        rows = 0
        for number, part in enumerate(self._parts):
            piece = folder / "part"
            piece.mkdir()
            query, sources = self._query(group.tags, group, part)
            try:
                rows += self._engine.write(query, sources, piece)
            except duckdb.Error as error:
                raise self._blame(group, error) from error
            (piece / "part-00000.parquet").rename(folder / f"part-{number:05d}.parquet")
            piece.rmdir()
            self._task.advance()
        if rows != self._plan.universe.rows:
            raise TagDerivationError(
                f"'{group.name}' gives {rows:,} rows for {self._plan.universe.rows:,} subjects at "
                f"{self._plan.as_of}: an id stands in it more than once.",
                remedy="Look for the repeated key in that table and ingest it again.",
                zh=f"{group.name} 对 {self._plan.universe.rows} 个对象产生了 {rows} 行："
                "编号重复，请检查该表主键并重新入库。",
            )
        return rows

    def _query(
        self, tags: Sequence[BoundTag], group: _Group, part: IdRange
    ) -> tuple[exp.Query, dict[str, Source]]:
        if group.snapshots:
            query = source_query(tags, self._plan.as_of, part, months=group.months)
            return query, {UNIVERSE: self._plan.universe, SOURCE: group.snapshots}
        tables = {name: self._table_of[name] for tag in tags for name in tag.upstream}
        query = level_query(tags, tables, self._plan.as_of, part)
        return query, {table: self._stored[table] for table in tables.values()}

    def _blame(self, group: _Group, error: duckdb.Error) -> TagDerivationError:
        """Find the tag whose values cannot be computed by deriving each alone."""
        guilty, said = group.name, str(error)
        for tag in group.tags:
            query, sources = self._query([tag], group, IdRange())
            count = exp.Count(this=exp.column(tag.definition.name, quoted=True))
            try:
                self._engine.query(exp.select(count).from_(query.subquery("one")), sources)
            except duckdb.Error as alone:
                guilty, said = tag.definition.name, str(alone)
                break
        reason = said.split("\n", maxsplit=1)[0]
        return TagDerivationError(
            f"'{guilty}' cannot be derived at {self._plan.as_of}: {reason}",
            remedy="Mend its expression or the rows; the tags of before are unchanged.",
            zh=f"{guilty} 在 {self._plan.as_of} 无法计算：{reason}。"
            "请修改表达式或数据，原有标签未变。",
        )

    def _outside_codes(self, group: _Group, stored: Snapshot) -> dict[str, int]:
        coded = [tag for tag in group.tags if tag.definition.codes is not None]
        if not coded:
            return {}
        query = outside_codes_query(coded, group.table)
        counts = self._engine.query(query, {group.table: stored}).to_pylist()[0]
        return {name: int(count) for name, count in counts.items() if count}


def _without_value(stored: Snapshot, names: Sequence[str]) -> dict[str, int]:
    """Count the missing values of each tag; Parquet keeps the numbers beside the data."""
    counts = dict.fromkeys(names, 0)
    for path in stored.files:
        footer = pq.read_metadata(path)
        chunks = [
            footer.row_group(g).column(c)
            for g in range(footer.num_row_groups)
            for c in range(footer.num_columns)
        ]
        for chunk in chunks:
            if chunk.path_in_schema in counts:
                counts[chunk.path_in_schema] += chunk.statistics.null_count
    return counts
