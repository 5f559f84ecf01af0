"""Designed marketing schemes, the guides by which branches carry them out, and their progress."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from bihuan.server.control.base import Scoped, Shared, Table, Versioned


class Scheme(Versioned, Shared, Table):
    """A scheme that the designer proposed; ``plan_id`` once it was drafted as a plan."""

    __tablename__ = "scheme"

    scheme_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    product: Mapped[str] = mapped_column(String(64), index=True)
    title_zh: Mapped[str] = mapped_column(String(100))
    title_en: Mapped[str] = mapped_column(String(200))
    as_of: Mapped[date]
    terms: Mapped[dict[str, Any]]
    content: Mapped[dict[str, Any]]
    proposal: Mapped[dict[str, Any]]
    plan_id: Mapped[str | None] = mapped_column(String(64))
    made_by: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[datetime]


class Guide(Versioned, Scoped, Table):
    """What one branch has to do of a scheme."""

    __tablename__ = "guide"

    guide_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    scheme_id: Mapped[str] = mapped_column(ForeignKey("scheme.scheme_id"), index=True)
    title_zh: Mapped[str] = mapped_column(String(100))
    title_en: Mapped[str] = mapped_column(String(200))
    targets: Mapped[dict[str, Any]]
    advice: Mapped[dict[str, Any]]
    made_by: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("scheme_id", "unit_id"),)


class GuideTask(Versioned, Scoped, Table):
    """One thing to do: who, what, until when; ticked off by the branch."""

    __tablename__ = "guide_task"

    guide_task_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    guide_id: Mapped[str] = mapped_column(ForeignKey("guide.guide_id"), index=True)
    number: Mapped[int]
    what_zh: Mapped[str] = mapped_column(String(300))
    what_en: Mapped[str] = mapped_column(String(500))
    post: Mapped[str] = mapped_column(String(64))
    starts_on: Mapped[date]
    ends_on: Mapped[date]
    quantity: Mapped[int | None]
    done_at: Mapped[datetime | None]
    done_by: Mapped[str | None] = mapped_column(String(64))
    done_quantity: Mapped[int | None]
    note: Mapped[str] = mapped_column(String(500), default="")

    __table_args__ = (UniqueConstraint("guide_id", "number"),)


class GuideFeedback(Versioned, Scoped, Table):
    """What a branch says of a scheme, and what it was answered."""

    __tablename__ = "guide_feedback"

    guide_feedback_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    guide_id: Mapped[str] = mapped_column(ForeignKey("guide.guide_id"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    text: Mapped[str] = mapped_column(String(2000))
    made_by: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[datetime]
    reply: Mapped[str] = mapped_column(String(2000), default="")
    replied_by: Mapped[str | None] = mapped_column(String(64))
    replied_at: Mapped[datetime | None]
