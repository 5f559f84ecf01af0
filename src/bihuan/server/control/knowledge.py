"""The knowledge base, good cases, and what readers think of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from bihuan.server.control.base import Scoped, Shared, Table, Versioned


class KnowledgeEntry(Versioned, Shared, Table):
    """Something learnt: a problem and its solution, or an experience.

    ``state`` is ``draft``, ``in_review``, ``published`` (seen by everybody) or ``retired``.
    ``revision`` is the number of the newest :class:`KnowledgeRevision`.
    """

    __tablename__ = "knowledge_entry"

    entry_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    category: Mapped[str] = mapped_column(String(32), index=True)
    title: Mapped[str] = mapped_column(String(200))
    problem: Mapped[str] = mapped_column(Text)
    solution: Mapped[str] = mapped_column(Text)
    labels: Mapped[list[str]]
    label_text: Mapped[str] = mapped_column(String(1000), default=",")
    links: Mapped[list[Any]]
    link_text: Mapped[str] = mapped_column(String(2000), default=",")
    words: Mapped[str] = mapped_column(Text, default="")
    state: Mapped[str] = mapped_column(String(16), index=True)
    revision: Mapped[int]
    author_id: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    reviewed_by: Mapped[str | None] = mapped_column(String(64))
    reviewed_at: Mapped[datetime | None]
    review_comment: Mapped[str] = mapped_column(String(1000), default="")


class KnowledgeRevision(Shared, Table):
    """What an entry said at one time."""

    __tablename__ = "knowledge_revision"

    revision_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    entry_id: Mapped[str] = mapped_column(ForeignKey("knowledge_entry.entry_id"))
    number: Mapped[int]
    content: Mapped[dict[str, Any]]
    author_id: Mapped[str] = mapped_column(String(64))
    note: Mapped[str] = mapped_column(String(1000), default="")
    at: Mapped[datetime]

    __table_args__ = (sa.UniqueConstraint("entry_id", "number"),)


class GoodCase(Versioned, Shared, Table):
    """A plan shared as a good case: its content as carried out, and the effect that was measured.

    A copy, so that what others see is what was shared, whatever happens to the plan.
    """

    __tablename__ = "good_case"

    case_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    plan_id: Mapped[str] = mapped_column(ForeignKey("plan.plan_id"), index=True)
    revision_id: Mapped[str] = mapped_column(String(64))
    content_hash: Mapped[str] = mapped_column(String(64))
    result_id: Mapped[str] = mapped_column(ForeignKey("plan_result.result_id"))
    kind: Mapped[str] = mapped_column(String(32), index=True)
    title_zh: Mapped[str] = mapped_column(String(200))
    title_en: Mapped[str] = mapped_column(String(200))
    lesson: Mapped[str] = mapped_column(Text)
    content: Mapped[dict[str, Any]]
    measured: Mapped[dict[str, Any]]
    words: Mapped[str] = mapped_column(Text, default="")
    state: Mapped[str] = mapped_column(String(16), index=True)
    shared_by: Mapped[str] = mapped_column(String(64))
    shared_at: Mapped[datetime]


class ReaderMark(Scoped, Table):
    """What one account made of a plan, case or entry: a rating (1 to 5), a helpful vote, a use.

    ``unit_id`` is the reader's, so that readers can mark what others have shared.
    """

    __tablename__ = "reader_mark"

    mark_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    subject_kind: Mapped[str] = mapped_column(String(16))
    subject_id: Mapped[str] = mapped_column(String(64))
    mark: Mapped[str] = mapped_column(String(8))
    value: Mapped[int]
    once: Mapped[str] = mapped_column(String(64))
    account_id: Mapped[str] = mapped_column(String(64), index=True)
    at: Mapped[datetime]

    __table_args__ = (
        sa.UniqueConstraint("subject_kind", "subject_id", "mark", "account_id", "once"),
    )
