"""Audiences that people keep: a rule with a name, and how many it had when last counted."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from bihuan.server.control.base import Shared, Table, Versioned


class SavedAudience(Versioned, Shared, Table):
    """A rule with a name; its members follow the data, the count says as of when."""

    __tablename__ = "saved_audience"

    audience_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    title: Mapped[str] = mapped_column(String(100))
    rule: Mapped[str] = mapped_column(Text)
    note: Mapped[str] = mapped_column(String(400), default="")
    created_by: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    size: Mapped[int | None]
    size_as_of: Mapped[date | None]
    counted_at: Mapped[datetime | None]
