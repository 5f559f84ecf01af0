"""The knowledge base (知识库): problems, solutions, experience; reviewed, linked, voted on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, RefusedError, missing
from bihuan.server.app.plan.content import Change, differences
from bihuan.server.app.plan.library import matching
from bihuan.server.app.plan.reach import find_row
from bihuan.server.control import KnowledgeEntry, KnowledgeRevision, UnitOfWork

CATEGORIES: Mapping[str, Mapping[str, str]] = {
    "data_quality": {"zh": "数据质量解决方案", "en": "data quality solutions"},
    "data_operation": {"zh": "数据运营经验", "en": "data operation"},
    "campaign": {"zh": "营销方案经验", "en": "campaign experience"},
    "retention": {"zh": "维系经验", "en": "retention experience"},
    "channel": {"zh": "渠道与触点", "en": "channels and touchpoints"},
    "script": {"zh": "话术", "en": "scripts"},
    "product": {"zh": "产品与套餐", "en": "products and offers"},
    "system": {"zh": "系统使用", "en": "use of the system"},
}
LINKS = ("plan", "table", "tag", "offer", "indicator", "case")
"""What an entry may point to."""
_LABEL = re.compile(r"[^,\x00]{1,40}")
_LINK = re.compile(r"[^,\x00]{1,80}")


@dataclass(frozen=True, slots=True)
class Entry:
    """What an entry says.

    Parameters
    ----------
    category
        One of :data:`CATEGORIES`.
    title, problem, solution
        Texts; the problem may be empty for plain experience.
    labels
        Free labels, at most 20.
    links
        ``{"kind": one of LINKS, "id": ...}``, at most 20.
    """

    category: str
    title: str
    problem: str
    solution: str
    labels: Sequence[str] = ()
    links: Sequence[Mapping[str, str]] = field(default=())


def find_entries(
    work: UnitOfWork,
    *,
    text: str | None = None,
    category: str | None = None,
    label: str | None = None,
    link: tuple[str, str] | None = None,
    state: str | None = None,
) -> sa.Select[Any]:
    """Return a select of the entries within reach: own ones, and what is published to all.

    Parameters
    ----------
    work
        The unit of work.
    text
        Words, all of which must stand in title, problem, solution or labels.
    category, label, state
        As named.
    link
        Kind and id of what the entry points to: all that is known about a table, a tag, a plan.
    """
    statement = matching(sa.select(KnowledgeEntry), KnowledgeEntry.words, text)
    if category is not None:
        statement = statement.where(KnowledgeEntry.category == category)
    if label is not None:
        wanted = f",{label.casefold()},"
        statement = statement.where(KnowledgeEntry.label_text.contains(wanted, autoescape=True))
    if link is not None:
        wanted = f",{link[0]}:{link[1]},"
        statement = statement.where(KnowledgeEntry.link_text.contains(wanted, autoescape=True))
    if state is not None:
        statement = statement.where(KnowledgeEntry.state == state)
    return statement


def get_entry(work: UnitOfWork, entry_id: str) -> KnowledgeEntry:
    """Return an entry.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    found = find_row(work, KnowledgeEntry, entry_id)
    if found is None:
        raise missing("knowledge entry", "知识条目", entry_id)
    return found


def write_entry(work: UnitOfWork, actor: Actor, unit_id: str, entry: Entry) -> KnowledgeEntry:
    """Write an entry as a draft of a unit.

    Raises
    ------
    RefusedError
        If category, labels or links are not as they should be, or it says nothing.
    """
    _require_sound(entry)
    row = KnowledgeEntry(
        entry_id=work.new_id("entry"),
        unit_id=unit_id,
        sharing="own",
        state="draft",
        revision=0,
        author_id=actor.account_id,
        created_at=work.now,
        review_comment="",
    )
    revision = _revise(work, actor, row, entry, note="")
    work.session.add(row)
    work.session.flush()
    work.session.add(revision)
    work.audit("knowledge.write", "entry", row.entry_id, unit=unit_id)
    return row


def revise_entry(
    work: UnitOfWork, actor: Actor, row: KnowledgeEntry, entry: Entry, *, note: str = ""
) -> KnowledgeRevision:
    """Give an entry a new revision; it is a draft again until it is reviewed.

    Raises
    ------
    RefusedError
        As for :func:`write_entry`.
    ConflictError
        If the entry is retired.
    """
    _require_sound(entry)
    _require_state(row, "draft", "in_review", "published")
    revision = _revise(work, actor, row, entry, note=note)
    row.state, row.sharing = "draft", "own"
    row.reviewed_by = row.reviewed_at = None
    work.session.add(revision)
    work.audit("knowledge.revise", "entry", row.entry_id, number=row.revision)
    return revision


def submit_entry(work: UnitOfWork, actor: Actor, row: KnowledgeEntry) -> None:
    """Ask a colleague to review a draft."""
    _require_state(row, "draft")
    row.state, row.changed_at = "in_review", work.now
    work.audit("knowledge.submit", "entry", row.entry_id)


def review_entry(
    work: UnitOfWork, actor: Actor, row: KnowledgeEntry, *, accept: bool, comment: str = ""
) -> None:
    """Publish an entry to everybody, or send it back with a comment.

    Parameters
    ----------
    work, actor
        In the scope of ``knowledge.edit``; the actor has written no revision of the entry.
    row
        In review.
    accept
        True to publish.
    comment
        Needed to send it back.

    Raises
    ------
    RefusedError
        If the actor has written it, or sends it back without a comment.
    ConflictError
        If it is not in review.
    """
    _require_state(row, "in_review")
    authors = set(
        work.session.scalars(
            sa.select(KnowledgeRevision.author_id).where(KnowledgeRevision.entry_id == row.entry_id)
        )
    )
    if actor.account_id in {*authors, row.author_id}:
        raise RefusedError(
            "Who has written an entry does not review it.",
            remedy="Ask a colleague.",
            zh="编写人不能评审自己的条目，请由同事评审。",
        )
    if not accept and not comment.strip():
        raise RefusedError(
            "An entry is sent back with a comment.",
            remedy="Write what is missing.",
            zh="退回须填写意见。",
        )
    row.state = "published" if accept else "draft"
    row.sharing = "all" if accept else "own"
    row.reviewed_by, row.reviewed_at, row.review_comment = actor.account_id, work.now, comment
    row.changed_at = work.now
    newest = work.session.scalars(
        sa.select(KnowledgeRevision).where(
            KnowledgeRevision.entry_id == row.entry_id, KnowledgeRevision.number == row.revision
        )
    ).one()
    newest.sharing = row.sharing
    work.audit("knowledge.review", "entry", row.entry_id, accepted=accept, comment=comment)


def retire_entry(work: UnitOfWork, actor: Actor, row: KnowledgeEntry, *, why: str) -> None:
    """Take an entry that no longer holds out of sight of others."""
    _require_state(row, "draft", "in_review", "published")
    row.state, row.sharing, row.changed_at = "retired", "own", work.now
    row.review_comment = why
    work.audit("knowledge.retire", "entry", row.entry_id, why=why)


def entry_revisions(work: UnitOfWork, row: KnowledgeEntry) -> sa.Select[Any]:
    """Return a select of an entry's revisions within reach."""
    return sa.select(KnowledgeRevision).where(KnowledgeRevision.entry_id == row.entry_id)


def compare_entry(work: UnitOfWork, row: KnowledgeEntry, old: int, new: int) -> tuple[Change, ...]:
    """Return every field in which two revisions of an entry differ.

    Raises
    ------
    NotFoundError
        If one of them is not within reach.
    """
    found = {
        revision.number: revision.content
        for revision in work.session.scalars(
            entry_revisions(work, row).where(KnowledgeRevision.number.in_((old, new)))
        )
    }
    for number in (old, new):
        if number not in found:
            raise missing("revision", "版本", f"{row.entry_id}/{number}")
    return differences(found[old], found[new])


def _revise(
    work: UnitOfWork, actor: Actor, row: KnowledgeEntry, entry: Entry, *, note: str
) -> KnowledgeRevision:
    labels = list(dict.fromkeys(label.strip() for label in entry.labels))
    links = [{"kind": str(one["kind"]), "id": str(one["id"])} for one in entry.links]
    row.category, row.title = entry.category, entry.title
    row.problem, row.solution = entry.problem, entry.solution
    row.labels, row.links = labels, links
    row.label_text = f",{','.join(labels).casefold()},"
    targets = [":".join((one["kind"], one["id"])) for one in links]
    row.link_text = f",{','.join(targets)},"
    row.words = "\n".join((entry.title, entry.problem, entry.solution, *labels)).casefold()
    row.revision += 1
    row.changed_at = work.now
    return KnowledgeRevision(
        revision_id=work.new_id("knowledge"),
        entry_id=row.entry_id,
        unit_id=row.unit_id,
        sharing="own",
        number=row.revision,
        content={
            "category": entry.category,
            "title": entry.title,
            "problem": entry.problem,
            "solution": entry.solution,
            "labels": labels,
            "links": links,
        },
        author_id=actor.account_id,
        note=note,
        at=work.now,
    )


def _require_sound(entry: Entry) -> None:
    if entry.category not in CATEGORIES:
        raise _wrong(f"category is one of {', '.join(CATEGORIES)}", "类别有误")
    if not entry.title.strip() or not entry.solution.strip():
        raise _wrong("title and solution say something", "标题与解决方案不能为空")
    if len(entry.labels) > 20 or not all(_LABEL.fullmatch(one.strip()) for one in entry.labels):
        raise _wrong("labels are at most 20, without commas", "标签最多 20 个且不含逗号")
    sound = all(
        one.get("kind") in LINKS and _LINK.fullmatch(str(one.get("id", ""))) for one in entry.links
    )
    if len(entry.links) > 20 or not sound:
        raise _wrong(
            f"links are at most 20, each a kind ({', '.join(LINKS)}) and an id", "关联对象有误"
        )


def _require_state(row: KnowledgeEntry, *states: str) -> None:
    if row.state not in states:
        raise ConflictError(
            f"The entry is {row.state}, not {' or '.join(states)}.",
            remedy="Read it again.",
            zh=f"条目当前状态为 {row.state}，请刷新。",
        )


def _wrong(en: str, zh: str) -> RefusedError:
    return RefusedError(
        f"The entry is wrong: {en}.", remedy="Correct it.", zh=f"知识条目有误：{zh}，请更正。"
    )
