"""The dictionary of indicators and the uniform assessment rules, version by version."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from bihuan.server.control.base import Shared, Table, Versioned


class IndicatorVersion(Versioned, Shared, Table):
    """One version of an indicator's definition; ``kind`` ``rule`` for an assessment rule.

    It holds for everybody, so ``sharing`` is always ``all``. ``status`` is ``submitted``,
    ``approved``, ``rejected`` or ``withdrawn``; only approved ones compute.
    """

    __tablename__ = "indicator_version"

    indicator_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(64), index=True)
    number: Mapped[int]
    title_zh: Mapped[str] = mapped_column(String(100))
    title_en: Mapped[str] = mapped_column(String(200))
    document: Mapped[dict[str, Any]]
    content_id: Mapped[str] = mapped_column(String(64))
    effective_from: Mapped[date]
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(500))
    made_by: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[datetime]
    reviewed_by: Mapped[str | None] = mapped_column(String(64))
    reviewed_at: Mapped[datetime | None]
    review_note: Mapped[str] = mapped_column(String(500), default="")

    __table_args__ = (
        UniqueConstraint("kind", "name", "number"),
        Index("ix_indicator_version_kind_status", "kind", "status"),
    )
