"""What is kept of single customers: refusals, disclosures, erasures, questions about groups."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import Date, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from bihuan.server.control.base import Scoped, Table


class OptOut(Scoped, Table):
    """A customer's refusal on a channel, from its recording to its withdrawal; never removed.

    ``kind`` is ``no_marketing`` or ``no_profiling``; ``channel`` a channel kind or ``all``.
    """

    __tablename__ = "opt_out"

    opt_out_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    customer_id: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    channel: Mapped[str] = mapped_column(String(32))
    effective_at: Mapped[datetime]
    source: Mapped[str] = mapped_column(String(100))
    recorded_at: Mapped[datetime]
    recorded_by: Mapped[str] = mapped_column(String(64))
    withdrawn_at: Mapped[datetime | None]
    withdrawn_by: Mapped[str | None] = mapped_column(String(64))
    withdrawal_source: Mapped[str | None] = mapped_column(String(100))

    __table_args__ = (Index("ix_opt_out_standing", "customer_id", "kind", "channel"),)


class CustomerAlias(Table):
    """Which customer an alias of the audit trail stands for; removed when the customer is erased.

    The trail is never changed, so it names customers by alias only; without this row nobody can
    tell whom an alias meant.
    """

    __tablename__ = "customer_alias"

    alias: Mapped[str] = mapped_column(String(64), primary_key=True)
    customer_id: Mapped[str] = mapped_column(String(64))


class DisclosureDay(Table):
    """How many customers' numbers an account has seen in clear on one day."""

    __tablename__ = "disclosure_day"

    account_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    used: Mapped[int]


class Erasure(Scoped, Table):
    """The erasure of one customer: while it runs, how to go on; afterwards its certificate.

    ``sealed_subject`` holds the ids to look for, encrypted, and is emptied at the end: the
    certificate keeps the alias alone. ``state`` is ``running`` or ``done``.
    """

    __tablename__ = "erasure"

    erasure_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    alias: Mapped[str] = mapped_column(String(64), index=True)
    reason: Mapped[str] = mapped_column(String(200))
    requested_at: Mapped[datetime]
    requested_by: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    sealed_subject: Mapped[str] = mapped_column(Text, default="")
    removed: Mapped[dict[str, Any]]
    left_over: Mapped[list[Any]]
    finished_at: Mapped[datetime | None]


class CountQuestion(Table):
    """A count that an account without clearance asked for, so that two do not give a third."""

    __tablename__ = "count_question"

    question_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[str] = mapped_column(String(64))
    asked_at: Mapped[datetime]
    as_of: Mapped[date] = mapped_column(Date)
    audience_id: Mapped[str] = mapped_column(String(64))
    audience: Mapped[str] = mapped_column(Text)

    __table_args__ = (Index("ix_count_question_recent", "account_id", "as_of", "asked_at"),)
