"""Plans (方案): the paper of a campaign, from market analysis to the library.

What a plan says is a line of immutable revisions, each with the hash of its content. Rehearsals,
assessments and approvals hang on that hash. See ``plan_course`` for what happens to a plan.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ForeignKey, String, Text, event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapped, Mapper, mapped_column

from bihuan.kernel import DefectError
from bihuan.server.control.base import Scoped, Shared, Table, Versioned


class Plan(Versioned, Shared, Table):
    """A campaign's plan. ``unit_id`` is the org unit that owns it.

    ``moves`` counts what was done to it; it changes with every step, so that two people who move
    one plan at the same time meet in its version. ``inherits`` says that a city carries out the
    plan of ``parent_id`` unchanged, under the parent's approval.
    """

    __tablename__ = "plan"

    plan_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    title_zh: Mapped[str] = mapped_column(String(200))
    title_en: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(32), index=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    moves: Mapped[int]
    revision_id: Mapped[str] = mapped_column(String(64))
    content_hash: Mapped[str] = mapped_column(String(64))
    frame_id: Mapped[str | None] = mapped_column(ForeignKey("plan_frame.frame_id"), index=True)
    origin_id: Mapped[str | None] = mapped_column(String(64), index=True)
    origin_revision_id: Mapped[str | None] = mapped_column(String(64))
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("plan.plan_id"), index=True)
    inherits: Mapped[bool] = mapped_column(default=False)
    created_by: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    valid_until: Mapped[date | None]
    next_run_at: Mapped[datetime | None] = mapped_column(index=True)
    starts_on: Mapped[date | None]
    ends_on: Mapped[date | None]
    budget: Mapped[Decimal | None]
    channels: Mapped[str] = mapped_column(String(400), default=",")
    words: Mapped[str] = mapped_column(Text, default="")
    result: Mapped[str | None] = mapped_column(String(16))
    counts: Mapped[dict[str, Any]] = mapped_column(default=dict)


class PlanRevision(Shared, Table):
    """What a plan said at one time; never changed. Only its sharing follows the plan's."""

    __tablename__ = "plan_revision"

    revision_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    plan_id: Mapped[str] = mapped_column(ForeignKey("plan.plan_id"))
    number: Mapped[int]
    content: Mapped[dict[str, Any]]
    content_hash: Mapped[str] = mapped_column(String(64), index=True)
    author_id: Mapped[str] = mapped_column(String(64))
    note: Mapped[str] = mapped_column(String(1000), default="")
    at: Mapped[datetime]

    __table_args__ = (sa.UniqueConstraint("plan_id", "number"),)


class PlanFrame(Versioned, Shared, Table):
    """What a level above lays down for the plans of the units below: fixed parts, free ranges.

    ``state`` is ``draft``, ``published`` (seen by all units below, no longer changed) or
    ``withdrawn``. ``template`` is the content that a plan inside the frame begins with.
    """

    __tablename__ = "plan_frame"

    frame_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    title_zh: Mapped[str] = mapped_column(String(200))
    title_en: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(16))
    limits: Mapped[list[Any]]
    template: Mapped[dict[str, Any]]
    created_by: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    published_by: Mapped[str | None] = mapped_column(String(64))
    published_at: Mapped[datetime | None]
    valid_until: Mapped[date | None]


class MarketAnalysis(Scoped, Table):
    """The market, the competition and the customers that a plan is for; never changed."""

    __tablename__ = "market_analysis"

    analysis_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    plan_id: Mapped[str] = mapped_column(ForeignKey("plan.plan_id"), index=True)
    document: Mapped[dict[str, Any]]
    content_hash: Mapped[str] = mapped_column(String(64))
    author_id: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime]


class RehearsalRecord(Scoped, Table):
    """A rehearsal of exactly the content with ``content_hash``."""

    __tablename__ = "rehearsal_record"

    record_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    plan_id: Mapped[str] = mapped_column(ForeignKey("plan.plan_id"), index=True)
    revision_id: Mapped[str] = mapped_column(String(64))
    content_hash: Mapped[str] = mapped_column(String(64), index=True)
    rehearsal_id: Mapped[str] = mapped_column(String(64))
    as_of: Mapped[date]
    customers: Mapped[int]
    contacts: Mapped[int]
    verdict: Mapped[str] = mapped_column(String(8))
    judgements: Mapped[dict[str, Any]]
    document: Mapped[dict[str, Any]]
    by: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime]


class Assessment(Scoped, Table):
    """Four judgements of a person, each with a reason, on the content with ``content_hash``."""

    __tablename__ = "assessment"

    assessment_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    plan_id: Mapped[str] = mapped_column(ForeignKey("plan.plan_id"), index=True)
    record_id: Mapped[str] = mapped_column(ForeignKey("rehearsal_record.record_id"))
    content_hash: Mapped[str] = mapped_column(String(64), index=True)
    judgements: Mapped[dict[str, Any]]
    verdict: Mapped[str] = mapped_column(String(8))
    comment: Mapped[str] = mapped_column(String(2000), default="")
    by: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime]


class ImpactAssessment(Versioned, Shared, Table):
    """Impact of automated decisions on personal information, for one plan or a kind of plan.

    It is shared downward, so an assessment of the province for a kind covers the plans of all its
    units. ``keep_until`` lies three years or more after ``valid_until``; it is never deleted
    before.
    """

    __tablename__ = "impact_assessment"

    impact_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    plan_id: Mapped[str | None] = mapped_column(ForeignKey("plan.plan_id"), index=True)
    kind: Mapped[str | None] = mapped_column(String(32), index=True)
    document: Mapped[dict[str, Any]]
    conclusion: Mapped[str] = mapped_column(String(16))
    valid_from: Mapped[date]
    valid_until: Mapped[date]
    keep_until: Mapped[date]
    by: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime]
    revoked_by: Mapped[str | None] = mapped_column(String(64))
    revoked_at: Mapped[datetime | None]
    revoked_why: Mapped[str] = mapped_column(String(1000), default="")


_FIXED: tuple[tuple[type[Table], frozenset[str]], ...] = (
    (PlanRevision, frozenset({"sharing", "unit_id"})),
    (MarketAnalysis, frozenset({"unit_id"})),
    (RehearsalRecord, frozenset({"unit_id"})),
    (Assessment, frozenset({"unit_id"})),
)


def _keep_fixed(free: frozenset[str], row: Table) -> None:
    changed = {a.key for a in sa.inspect(row).attrs if a.history.has_changes()} - free
    if changed:
        msg = f"{row.__tablename__} is history; {', '.join(sorted(changed))} may not change"
        raise DefectError(msg)


def _fix(table: type[Table], free: frozenset[str]) -> None:
    @event.listens_for(table, "before_update")
    def refuse(mapper: Mapper[Any], connection: Connection, row: Table) -> None:
        _keep_fixed(free, row)


for _table, _free in _FIXED:
    _fix(_table, _free)
