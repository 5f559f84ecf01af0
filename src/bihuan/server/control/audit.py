"""The audit trail: append-only, each entry sealed with the one before it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import String
from sqlalchemy.orm import Mapped, Session, mapped_column

from bihuan.kernel import canonical_json
from bihuan.server.control.base import Table
from bihuan.server.control.scope import UNSCOPED

GENESIS = "0" * 64
"""What the first entry is sealed with."""


class AuditEntry(Table):
    """Who did what to what, when, from where."""

    __tablename__ = "audit_entry"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    account_id: Mapped[str] = mapped_column(String(64), index=True)
    unit_id: Mapped[str | None] = mapped_column(String(64), index=True)
    action: Mapped[str] = mapped_column(String(64), index=True)
    subject_kind: Mapped[str] = mapped_column(String(32))
    subject_id: Mapped[str] = mapped_column(String(64))
    detail: Mapped[dict[str, Any]]
    request_id: Mapped[str] = mapped_column(String(64), default="")
    previous: Mapped[str] = mapped_column(String(64))
    seal: Mapped[str] = mapped_column(String(64))

    __table_args__ = (sa.Index("ix_audit_entry_subject", "subject_kind", "subject_id"),)

    def computed_seal(self) -> str:
        """Return the seal that this entry's content and its predecessor's seal give."""
        return seal_of(
            self.previous,
            {
                "sequence": self.sequence,
                "at": self.at,
                "account_id": self.account_id,
                "unit_id": self.unit_id,
                "action": self.action,
                "subject_kind": self.subject_kind,
                "subject_id": self.subject_id,
                "detail": self.detail,
                "request_id": self.request_id,
            },
        )


class AuditHead(Table):
    """The newest entry's number and seal; its row is the lock that orders the chain."""

    __tablename__ = "audit_head"

    head_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sequence: Mapped[int]
    seal: Mapped[str] = mapped_column(String(64))


def seal_of(previous: str, content: Mapping[str, Any]) -> str:
    """Return SHA-256 over the predecessor's seal and the canonical JSON of ``content``."""
    return hashlib.sha256(f"{previous}{canonical_json(dict(content))}".encode()).hexdigest()


def append_entries(session: Session, entries: list[AuditEntry]) -> None:
    """Chain and add ``entries``; the chain's head stays locked until the commit.

    Called last in a unit of work, so that writers wait for each other's commits only.
    """
    if not entries:
        return
    head = session.scalars(
        sa.select(AuditHead).where(AuditHead.head_id == 1).with_for_update(),
        execution_options={UNSCOPED: "the chain is one for all units", "populate_existing": True},
    ).one_or_none()
    if head is None:
        head = AuditHead(head_id=1, sequence=0, seal=GENESIS)
        session.add(head)
    for entry in entries:
        entry.sequence = head.sequence + 1
        entry.previous = head.seal
        entry.seal = entry.computed_seal()
        head.sequence, head.seal = entry.sequence, entry.seal
        session.add(entry)
