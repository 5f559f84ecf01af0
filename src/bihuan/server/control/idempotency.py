"""Replies that are kept, so that a repeated request does nothing twice."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from bihuan.server.control.base import Table


class KeptReply(Table):
    """The reply to one creating request, by account and idempotency key."""

    __tablename__ = "kept_reply"

    account_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(100), primary_key=True)
    request_hash: Mapped[str] = mapped_column(String(64))
    status: Mapped[int]
    body: Mapped[dict[str, Any]]
    headers: Mapped[dict[str, Any]]
    kept_at: Mapped[datetime]
