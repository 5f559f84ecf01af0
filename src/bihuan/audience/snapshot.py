"""Snapshots (拍照): the members of an audience, frozen at one date and stored in the lake.

A snapshot's id is a hash of the normal form, the versions of the tags it reads, the subject and
the date. The same question to the same data is therefore the same snapshot: it is found, not
computed again, and two planners who ask in other words share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, TypeAlias

import pyarrow as pa
from sqlglot import exp

from bihuan.audience.algebra import And, Member, Node, Not, Or, tags_of, walk
from bihuan.audience.bind import UnknownTagError, bind
from bihuan.audience.json_form import from_json, to_json, tree_json
from bihuan.audience.literal import AudienceError
from bihuan.audience.normalise import normalise
from bihuan.audience.sql import select_count, select_members
from bihuan.audience.words import nearest
from bihuan.data import Engine, Lake, LakeView, Snapshot, Source
from bihuan.kernel import Clock, DefectError, hash_id
from bihuan.tag import TagTable

TABLE_PREFIX = "audience__"
SetOperation: TypeAlias = Literal["and", "or", "but_not"]


class SnapshotMismatchError(AudienceError):
    """Two snapshots, or a snapshot and a tag table, are about different kinds of subject."""


class UnknownSnapshotError(AudienceError):
    """The lake holds no audience snapshot of that id."""


@dataclass(frozen=True, slots=True)
class MemberCount:
    """How many belong to an audience.

    Parameters
    ----------
    members
        Subjects inside.
    base
        Subjects in all.
    """

    members: int
    base: int

    @property
    def share(self) -> float | None:
        """``members / base``, 0..1; None if there is no subject at all."""
        return self.members / self.base if self.base else None


@dataclass(frozen=True, slots=True)
class AudienceSnapshot:
    """The members of an audience at one date, immutable.

    Parameters
    ----------
    id
        Hash of the normal form, the tag versions, the subject and the date.
    tree
        The audience in normal form; for a set operation the two snapshots as ``Member``.
    as_of
        Date of the tag values.
    subject, id_column
        What the members are (``customer``) and the name of their id (``customer_id``).
    count
        Members, and the base they were chosen from.
    versions
        The lake snapshot id of each tag that was read.
    stored
        The lake snapshot that holds the members' ids, ordered.
    """

    id: str
    tree: Node
    as_of: date
    subject: str
    id_column: str
    count: MemberCount
    versions: Mapping[str, str]
    stored: Snapshot

    @property
    def size(self) -> int:
        """Number of members."""
        return self.count.members

    def members(
        self,
        columns: Sequence[str] = (),
        *,
        tags: TagTable | None = None,
        engine: Engine | None = None,
    ) -> pa.Table:
        """Return the members' ids, ordered, with tag values alongside: the target list.

        Parameters
        ----------
        columns
            Tags to add.
        tags
            Where their values come from; needed with ``columns``. It may be of another date than
            the snapshot: a member that the base no longer has keeps its row with missing values.
        engine
            Needed with ``columns``.

        Returns
        -------
        pyarrow.Table
            The id column, then ``columns`` in the order given; one row per member.

        Raises
        ------
        UnknownTagError
            If there is no such tag.
        SnapshotMismatchError
            If the tags are about another subject.
        """
        if not columns:
            return self.stored.read([self.id_column])
        if tags is None or engine is None:
            raise DefectError("members(columns=...) needs the tag table and an engine.")
        require_tags(columns, tags)
        _require_subject(self, str(tags.subject))
        relation, sources = tags.relation(list(dict.fromkeys(columns)))
        identity = exp.column(self.id_column, table="members", quoted=True)
        query = (
            exp.select(
                identity, *(exp.column(name, table="tagged", quoted=True) for name in columns)
            )
            .from_(exp.to_table("members"))
            .join(
                relation.subquery("tagged"),
                on=identity.copy().eq(exp.column(self.id_column, table="tagged", quoted=True)),
                join_type="left",
            )
            .order_by(identity.copy())
        )
        return engine.query(query, {**sources, "members": self.stored})


def count_members(
    node: Node, tags: TagTable, *, engine: Engine, saved: Mapping[str, Node] | None = None
) -> MemberCount:
    """Count an audience without storing it, for a planner who is still trying thresholds.

    Parameters
    ----------
    node
        As written; it is bound here.
    tags
        Tag values at one date.
    engine
        Runs the query.
    saved
        Saved audiences that ``node`` may name.

    Raises
    ------
    AudienceError
        If the audience does not bind, see :func:`bind`.
    """
    query, sources = select_count(normalise(bind_to(tags, node, saved)), tags)
    return MemberCount(engine.query(query, sources)["members"][0].as_py(), tags.rows)


def take_snapshot(
    node: Node,
    tags: TagTable,
    *,
    lake: Lake,
    engine: Engine,
    clock: Clock,
    saved: Mapping[str, Node] | None = None,
) -> AudienceSnapshot:
    """Freeze an audience's members, or find the snapshot that says the same already.

    Parameters
    ----------
    node
        As written; it is bound and normalised here.
    tags
        Tag values at one date.
    lake
        Where the members are stored, as table ``audience__<first 16 digits of the id>``.
    engine
        Runs the query.
    clock
        Stamps the publication.
    saved
        Saved audiences that ``node`` may name.

    Returns
    -------
    AudienceSnapshot
        Stored whole or not at all.

    Raises
    ------
    AudienceError
        If the audience does not bind, see :func:`bind`.
    """
    tree = normalise(bind_to(tags, node, saved))
    versions = _versions(tree, tags)
    snapshot_id = hash_id(
        "audience snapshot", str(tags.subject), tree_json(tree), versions, tags.as_of
    )
    found = find_snapshot(lake.view(), snapshot_id)
    if found is not None:
        return found
    lineage = {
        "audience_snapshot": snapshot_id,
        "tree": to_json(tree),
        "subject": str(tags.subject),
        "id_column": tags.id_column,
        "base": tags.rows,
        "versions": versions,
    }
    query, sources = select_members(tree, tags)
    return _store(lake, clock, tags.as_of, lineage, (engine, query, sources))


def combine(
    operation: SetOperation,
    first: AudienceSnapshot,
    second: AudienceSnapshot,
    *,
    lake: Lake,
    engine: Engine,
    clock: Clock,
) -> AudienceSnapshot:
    """Join two snapshots as sets of ids, also of different dates.

    Parameters
    ----------
    operation
        ``and``: in both; ``or``: in at least one; ``but_not``: in the first and not the second.
    first, second
        About the same subject.
    lake, engine, clock
        As for :func:`take_snapshot`.

    Returns
    -------
    AudienceSnapshot
        Dated as the later of the two; the same operation on the same two is found, not repeated.

    Raises
    ------
    SnapshotMismatchError
        If they are about different subjects.
    """
    _require_subject(first, second.subject)
    left, right = Member(first.id), Member(second.id)
    trees: dict[SetOperation, Node] = {
        "and": And((left, right)),
        "or": Or((left, right)),
        "but_not": And((left, Not(right))),
    }
    later = max(first, second, key=lambda snapshot: snapshot.as_of)
    snapshot_id = hash_id("audience set", operation, first.id, second.id)
    found = find_snapshot(lake.view(), snapshot_id)
    if found is not None:
        return found
    lineage = {
        "audience_snapshot": snapshot_id,
        "tree": to_json(trees[operation]),
        "subject": first.subject,
        "id_column": first.id_column,
        "base": later.count.base,
        "versions": {**first.versions, **second.versions},
    }
    sources: dict[str, Source] = {"first": first.stored, "second": second.stored}
    query = _set_query(operation, first.id_column)
    return _store(lake, clock, later.as_of, lineage, (engine, query, sources))


def find_snapshot(view: LakeView, snapshot_id: str) -> AudienceSnapshot | None:
    """Return the snapshot of that id, or None if the lake has none."""
    stored = view.find(_table(snapshot_id))
    if stored is None:
        return None
    snapshot = _opened(stored)
    if snapshot.id != snapshot_id:
        raise DefectError(f"Snapshots {snapshot.id} and {snapshot_id} claim one table.")
    return snapshot


def get_snapshot(view: LakeView, snapshot_id: str) -> AudienceSnapshot:
    """Return the snapshot of that id.

    Raises
    ------
    UnknownSnapshotError
        If the lake has none.
    """
    found = find_snapshot(view, snapshot_id)
    if found is None:
        raise UnknownSnapshotError(
            f"The lake has no audience snapshot '{snapshot_id}'.",
            remedy="Take it again, or check the id.",
            zh=f"数据湖中没有客户群快照“{snapshot_id}”,请重新拍照或核对编号。",
        )
    return found


def bind_to(tags: TagTable, node: Node, saved: Mapping[str, Node] | None = None) -> Node:
    """Bind an audience to the tags of a table; see :func:`bind`.

    Raises
    ------
    TagNotDerivedError
        If it reads a tag that is defined but has no values at that date; with the reason.
    AudienceError
        If it does not bind.
    """
    for name in _names_reached(node, saved or {}):
        if name in tags.pending:
            tags.relation([name])  # refuses it, saying why it has no values
    return bind(node, tags.fields, saved)


def require_tags(names: Sequence[str], tags: TagTable) -> None:
    """Refuse names that are no tags, with the nearest ones."""
    for name in names:
        if name not in tags.fields:
            close = ", ".join(nearest(name, tags.fields)) or "none is similar"
            raise UnknownTagError(
                f"There is no {tags.subject} tag '{name}'.",
                remedy=f"Similar: {close}.",
                zh=f"没有标签“{name}”,相近的有：{close}。",
            )


# ------------------------------------------------------------------------------------------ inside


def _names_reached(node: Node, saved: Mapping[str, Node]) -> set[str]:
    """Return the tags that an audience reads, itself and through saved audiences."""
    names: set[str] = set()
    seen: set[str] = set()
    waiting = [node]
    while waiting:
        tree = waiting.pop()
        names.update(tags_of(tree))
        members = {part.audience_id for part in walk(tree) if isinstance(part, Member)}
        waiting += [saved[name] for name in members - seen if name in saved]
        seen |= members
    return names


def _versions(tree: Node, tags: TagTable) -> dict[str, str]:
    """Return the versions of the tags read; an audience without tags depends on the whole base."""
    names = tags_of(tree) or sorted(tags.versions)
    return {name: tags.versions[name] for name in names}


_Question: TypeAlias = tuple[Engine, exp.Query, Mapping[str, Source]]


def _store(
    lake: Lake, clock: Clock, as_of: date, lineage: Mapping[str, Any], question: _Question
) -> AudienceSnapshot:
    engine, query, sources = question
    table = _table(lineage["audience_snapshot"])
    with (
        lake.publication(clock) as publication,
        publication.folder(table, as_of, lineage=lineage) as folder,
    ):
        engine.write(query, sources, folder)
    return _opened(lake.view().get(table, as_of))


def _opened(stored: Snapshot) -> AudienceSnapshot:
    lineage = stored.lineage
    return AudienceSnapshot(
        id=lineage["audience_snapshot"],
        tree=from_json(lineage["tree"]),
        as_of=stored.as_of,
        subject=lineage["subject"],
        id_column=lineage["id_column"],
        count=MemberCount(members=stored.rows, base=lineage["base"]),
        versions=lineage["versions"],
        stored=stored,
    )


def _table(snapshot_id: str) -> str:
    return f"{TABLE_PREFIX}{snapshot_id[:16]}"


def _set_query(operation: SetOperation, id_column: str) -> exp.Select:
    kinds = {"and": exp.Intersect, "or": exp.Union, "but_not": exp.Except}
    identity = exp.column(id_column, quoted=True)
    sides = [exp.select(identity.copy()).from_(exp.to_table(name)) for name in ("first", "second")]
    both = kinds[operation](this=sides[0], expression=sides[1], distinct=True)
    return exp.select(identity).from_(both.subquery("both")).order_by(identity.copy())


def _require_subject(snapshot: AudienceSnapshot, subject: str) -> None:
    if snapshot.subject != subject:
        raise SnapshotMismatchError(
            f"A snapshot of {snapshot.subject} ids does not go with {subject} ids.",
            remedy="Take both of the same kind of subject.",
            zh=f"{snapshot.subject} 快照不能与 {subject} 一起使用，请选择同一对象的数据。",
        )
