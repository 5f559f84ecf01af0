"""Tag values as the later rooms read them: which there are, for what date, and from where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlglot import exp

from bihuan.data import Engine, LakeView, Snapshot, Source
from bihuan.kernel import UserError
from bihuan.tag.definition import Subject, TagDefinition
from bihuan.tag.derive import tag_table
from bihuan.tag.dictionary import TagDictionary, TagField, field_of, unknown_tag
from bihuan.tag.query import join_query


class TagNotDerivedError(UserError):
    """A tag is defined, and its values for that date are not in the lake as it is defined now."""


class UnknownSubjectError(UserError):
    """There is no subject of that id at that date."""


@dataclass(frozen=True)
class TagTable:
    """The tags of one kind of subject at one date.

    All of its tables were derived for the same subjects, so each has the same ids, each once.

    Parameters
    ----------
    subject, as_of
        Whose tags, and for when.
    id_column
        Name of the subject's id (``customer_id``).
    fields
        Every live tag that has values, by name, in the dictionary's order.
    versions
        Id of the snapshot that holds each tag's values.
    pending
        Live tags that have no values to show, with the reason by language.
    snapshots
        The snapshots, by lake table.
    rows
        Number of subjects.
    """

    subject: Subject
    as_of: date
    id_column: str
    fields: Mapping[str, TagField]
    versions: Mapping[str, str]
    pending: Mapping[str, Mapping[str, str]]
    snapshots: Mapping[str, Snapshot]
    rows: int

    def relation(self, tags: Iterable[str]) -> tuple[exp.Query, dict[str, Source]]:
        """Return a query that selects the id and some tags, and the sources it reads.

        Parameters
        ----------
        tags
            Names, in the order of the columns; a repeated name gives one column. Without any, the
            ids alone.

        Returns
        -------
        tuple[sqlglot.exp.Query, dict[str, Source]]
            One row per subject, in no order; only the tables that hold these tags are read.

        Raises
        ------
        UnknownTagError
            If there is no such live tag.
        TagNotDerivedError
            If a tag has no values at this date.
        """
        tables = {name: self._table_of(name) for name in tags}
        if not tables:
            first = next(iter(self.snapshots))
            id_ = exp.column(self.id_column, quoted=True)
            query = exp.select(id_).from_(exp.to_table(first, quoted=True))
            return query, {first: self.snapshots[first]}
        used: dict[str, Source] = {table: self.snapshots[table] for table in tables.values()}
        return join_query(self.id_column, tables), used

    def read(self, engine: Engine, tags: Iterable[str]) -> pa.Table:
        """Read the id and some tags, one row per subject, ordered by id; raise as `relation`."""
        query, sources = self.relation(tags)
        table = exp.select("*").from_(query.subquery("tags"))
        by_id = exp.column(self.id_column, table="tags", quoted=True)
        return engine.query(table.order_by(by_id), sources)

    def profile(self, subject_id: str) -> dict[str, Any]:
        """Read every tag of one subject.

        Parameters
        ----------
        subject_id
            Its id.

        Returns
        -------
        dict[str, Any]
            Value by tag name, None = missing; money as ``decimal.Decimal``.

        Raises
        ------
        UnknownSubjectError
            If there is no such subject at this date.
        """
        profile: dict[str, Any] = {}
        for table, snapshot in self.snapshots.items():
            tags = [name for name in self.fields if self.versions[name] == snapshot.id]
            row = _find_row(snapshot, self.id_column, subject_id, tags)
            if row is None:
                raise UnknownSubjectError(
                    f"There is no {self.subject} '{subject_id}' at {self.as_of} in '{table}'.",
                    remedy="Check the id and the date.",
                    zh=f"{self.as_of} 没有编号为 {subject_id} 的 {self.subject}，请核对。",
                )
            profile |= row
        return {name: profile[name] for name in self.fields}

    def _table_of(self, tag: str) -> str:
        if tag in self.pending:
            raise TagNotDerivedError(
                f"Tag '{tag}' has no values at {self.as_of}: {self.pending[tag]['en']}",
                remedy="Derive the tags of that date, or leave this one out.",
                zh=f"标签 {tag} 在 {self.as_of} 没有值：{self.pending[tag]['zh']}",
            )
        if tag not in self.versions:
            raise unknown_tag(tag, self.fields)
        wanted = self.versions[tag]
        return next(table for table, s in self.snapshots.items() if s.id == wanted)


def read_tags(view: LakeView, dictionary: TagDictionary, subject: str, as_of: date) -> TagTable:
    """Find the values of a subject's live tags at a date.

    Only values that were derived by the tags' present definitions and for the present subjects
    are shown; every other live tag is pending, with the reason.

    Parameters
    ----------
    view
        The lake as it was at one moment.
    dictionary
        The tags.
    subject
        A kind of subject, e.g. ``customer``, ``subscription``, ``leased_line``.
    as_of
        The date for which they were derived.

    Raises
    ------
    TagNotDerivedError
        If no tag has values at that date.
    """
    kind = Subject(subject)
    live = dictionary.live(kind)
    groups = {dictionary.group(tag.name): None for tag in live}
    stored = {group: view.find(tag_table(kind, group), as_of) for group in groups}
    newest = max((s for s in stored.values() if s), key=lambda s: s.published_at, default=None)
    fields: dict[str, TagField] = {}
    versions: dict[str, str] = {}
    pending: dict[str, Mapping[str, str]] = {}
    snapshots: dict[str, Snapshot] = {}
    for tag in live:
        snapshot = stored[dictionary.group(tag.name)]
        waits = [name for name in dictionary.bound(tag.name).upstream if name in pending]
        reason = _not_current(tag, snapshot, newest)
        if reason is not None and waits:
            reason = _needs(waits, pending)
        elif reason is not None and tag.model and view.find(str(tag.table), as_of) is None:
            reason = {
                "en": f"model '{tag.model}' has no scores at {as_of}.",
                "zh": f"模型 {tag.model} 在 {as_of} 没有评分。",
            }
        if reason is not None or snapshot is None:
            pending[tag.name] = reason or {}
            continue
        fields[tag.name] = field_of(tag)
        versions[tag.name] = snapshot.id
        snapshots[snapshot.table] = snapshot
    if newest is None or not fields:
        raise TagNotDerivedError(
            f"No {kind} tag has values at {as_of}.",
            remedy="Derive the tags of that date first.",
            zh=f"{as_of} 没有任何 {kind} 标签的值，请先派生该日标签。",
        )
    return TagTable(
        subject=kind,
        as_of=as_of,
        id_column=kind.id_column,
        fields=fields,
        versions=versions,
        pending=pending,
        snapshots=snapshots,
        rows=next(iter(snapshots.values())).rows,
    )


def _needs(waits: Sequence[str], pending: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """Say that a tag waits for others, and why the first of them has no values."""
    return {
        "en": f"it needs {', '.join(waits)}: {pending[waits[0]]['en']}",
        "zh": f"依赖 {'、'.join(waits)}：{pending[waits[0]]['zh']}",
    }


def _not_current(
    tag: TagDefinition, snapshot: Snapshot | None, newest: Snapshot | None
) -> Mapping[str, str] | None:
    """Say why a snapshot does not hold a tag as it is defined now; None if it does."""
    stored = {} if snapshot is None else snapshot.lineage.get("tags", {})
    if snapshot is None or newest is None or tag.name not in stored:
        return {"en": "it has not been derived.", "zh": "尚未派生。"}
    if stored[tag.name]["calculation"] != tag.calculation_id:
        version = stored[tag.name]["version"]
        return {
            "en": f"its definition has changed since version {version} was derived.",
            "zh": f"派生第 {version} 版之后口径已变，需重新派生。",
        }
    if snapshot.lineage["universe"] != newest.lineage["universe"]:
        return {
            "en": f"it was derived for other {tag.subject} rows than the rest.",
            "zh": "派生时的对象范围与其他标签不同，需重新派生。",
        }
    return None


def _find_row(
    snapshot: Snapshot, id_column: str, subject_id: str, tags: Sequence[str]
) -> dict[str, Any] | None:
    """Read one row; the files are ordered by id, so their row groups' ranges tell where it is."""
    for path in snapshot.files:
        file = pq.ParquetFile(path)
        index = file.schema_arrow.get_field_index(id_column)
        for group in range(file.num_row_groups):
            ids = file.metadata.row_group(group).column(index).statistics
            if ids.has_min_max and not ids.min <= subject_id <= ids.max:
                continue
            rows = file.read_row_group(group, columns=[id_column, *tags])
            found = rows.filter(pc.equal(rows[id_column], subject_id))
            if found.num_rows:
                return dict(found.drop_columns([id_column]).to_pylist()[0])
    return None
