"""Changes of policies: who proposed what for which unit, and who put it in force."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from bihuan.server.control.base import Scoped, Table, Versioned


class PolicyProposal(Versioned, Scoped, Table):
    """A statement that a unit wants to lay down, or to take out, and what became of it."""

    __tablename__ = "policy_proposal"

    proposal_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    policy_id: Mapped[str] = mapped_column(String(100), index=True)
    statement: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    proposed_by: Mapped[str] = mapped_column(String(64))
    proposed_at: Mapped[datetime]
    decided_by: Mapped[str | None] = mapped_column(String(64))
    decided_at: Mapped[datetime | None]
    comment: Mapped[str] = mapped_column(String(400), default="")
