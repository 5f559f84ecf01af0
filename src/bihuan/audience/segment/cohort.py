"""Snapshot cohorts (拍照用户): members frozen at one date, followed afterwards.

A cohort keeps, for everyone of the base on that day, whether he is a member and what he was worth.
Whoever leaves later stays a member and is counted as lost: a cohort that forgot its losses would
look better every month.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlglot import exp

from bihuan.audience.algebra import Node
from bihuan.audience.json_form import from_json, to_json
from bihuan.audience.literal import AudienceError
from bihuan.audience.segment.reader import require_numeric
from bihuan.audience.snapshot import AudienceSnapshot
from bihuan.audience.sql import tag_columns
from bihuan.data import Engine, Lake, LakeView, Snapshot
from bihuan.kernel import Clock, DefectError, hash_id
from bihuan.tag import TagTable

TABLE_PREFIX = "cohort__"


class CohortError(AudienceError):
    """A cohort cannot be taken or followed as asked."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Members of an audience at one date, with the rest of the base beside them; immutable.

    Parameters
    ----------
    id
        Hash of the members' snapshot, the base and the values kept.
    name
        As given.
    tree
        The audience in normal form.
    as_of
        The date.
    members, rest
        Customers inside, and the others of the base.
    values
        Numeric tags whose values of that day are kept.
    subject, id_column
        What the members are.
    taken_at
        When it was taken.
    who, why
        Who took it and for what.
    audience_id
        Id of the members' audience snapshot.
    stored
        Lake snapshot with the id, ``in_cohort`` and the values, one row per customer of the base.
    """

    id: str
    name: str
    tree: Node
    as_of: date
    members: int
    rest: int
    values: tuple[str, ...]
    subject: str
    id_column: str
    taken_at: datetime
    who: str
    why: str
    audience_id: str
    stored: Snapshot


def take_cohort(  # noqa: PLR0913 - what, from what, by whom, and where it is kept
    name: str,
    snapshot: AudienceSnapshot,
    tags: TagTable,
    *,
    values: Sequence[str] = (),
    who: str = "",
    why: str = "",
    lake: Lake,
    engine: Engine,
    clock: Clock,
) -> Cohort:
    """Freeze an audience as a cohort, or find the one taken before under that name.

    Parameters
    ----------
    name
        Unique in the lake.
    snapshot
        The members, from the same tags.
    tags
        Tag values at the snapshot's date.
    values
        Numeric tags whose values of that day are kept.
    who, why
        Who takes it and for what.
    lake, engine, clock
        Where it is stored, what runs the query, what stamps it.

    Raises
    ------
    CohortError
        If the name is taken by another cohort, the audience is empty, or tags and snapshot do
        not go together.
    """
    if tags.as_of != snapshot.as_of or str(tags.subject) != snapshot.subject or not snapshot.size:
        raise CohortError(
            f"Cohort '{name}' would be empty, or its tags are of another date or subject.",
            remedy="Take it from an audience that has members, with the tags of that date.",
            zh=f"拍照群“{name}”为空，或标签与快照的日期、对象不一致。",
        )
    for value in values:
        require_numeric(value, tags)
    kept = tuple(dict.fromkeys(values))
    cohort_id = hash_id("cohort", name, snapshot.id, kept, [tags.versions[v] for v in kept])
    found = find_cohort(lake.view(), name)
    if found is not None:
        if found.id != cohort_id:
            raise CohortError(
                f"There is a cohort '{name}' of {found.as_of} with {found.members:,} members.",
                remedy="Choose another name; a cohort is never replaced.",
                zh=f"已有名为“{name}”的拍照群（{found.as_of}，{found.members:,} 户），请更换名称。",
            )
        return found
    lineage = {
        "cohort": cohort_id,
        "name": name,
        "tree": to_json(snapshot.tree),
        "members": snapshot.size,
        "values": list(kept),
        "subject": snapshot.subject,
        "id_column": snapshot.id_column,
        "audience": snapshot.id,
        "who": who,
        "why": why,
    }
    query, sources = _base(snapshot, tags, kept)
    with (
        lake.publication(clock) as publication,
        publication.folder(_table(name), tags.as_of, lineage=lineage) as folder,
    ):
        engine.write(query, sources, folder)
    cohort = find_cohort(lake.view(), name)
    if cohort is None or cohort.members + cohort.rest != tags.rows:
        raise DefectError(f"Cohort '{name}' was not stored with the whole base.")
    return cohort


def find_cohort(view: LakeView, name: str) -> Cohort | None:
    """Return the cohort of that name, or None."""
    stored = view.find(_table(name))
    return None if stored is None else _opened(stored)


def list_cohorts(view: LakeView) -> list[Cohort]:
    """Return every cohort, by date and name."""
    found = [_opened(view.get(table)) for table in view.tables if table.startswith(TABLE_PREFIX)]
    return sorted(found, key=lambda cohort: (cohort.as_of, cohort.name))


# ------------------------------------------------------------------------------------------ inside


def _table(name: str) -> str:
    return f"{TABLE_PREFIX}{hash_id('cohort name', name)[:16]}"


def _opened(stored: Snapshot) -> Cohort:
    facts: Mapping[str, Any] = stored.lineage
    return Cohort(
        id=facts["cohort"],
        name=facts["name"],
        tree=from_json(facts["tree"]),
        as_of=stored.as_of,
        members=facts["members"],
        rest=stored.rows - facts["members"],
        values=tuple(facts["values"]),
        subject=facts["subject"],
        id_column=facts["id_column"],
        taken_at=datetime.fromisoformat(stored.published_at),
        who=facts["who"],
        why=facts["why"],
        audience_id=facts["audience"],
        stored=stored,
    )


def _base(
    snapshot: AudienceSnapshot, tags: TagTable, values: Sequence[str]
) -> tuple[exp.Select, dict[str, Any]]:
    """Build the cohort's rows: the whole base, who is a member, and the values of that day."""
    relation, sources = tags.relation(values)
    column = tag_columns(tags.fields)
    identity = exp.column(tags.id_column, table="base", quoted=True)
    member = exp.column(snapshot.id_column, table="members", quoted=True)
    query = (
        exp.select(
            identity,
            exp.alias_(exp.Not(this=exp.Is(this=member, expression=exp.null())), "in_cohort"),
            *(exp.alias_(column(tag), tag, quoted=True) for tag in values),
        )
        .from_(relation.subquery("base"))
        .join(exp.to_table("members"), on=identity.copy().eq(member.copy()), join_type="left")
        .order_by(identity.copy())
    )
    return query, {**sources, "members": snapshot.stored}
