"""What happens to a plan: filings and their steps, stops, runs, results, and every move."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from bihuan.server.control.base import Scoped, Table, Versioned


class PlanMove(Scoped, Table):
    """One step of a plan through its states."""

    __tablename__ = "plan_move"

    move_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    plan_id: Mapped[str] = mapped_column(ForeignKey("plan.plan_id"))
    number: Mapped[int]
    event: Mapped[str] = mapped_column(String(16))
    before: Mapped[str] = mapped_column(String(16))
    after: Mapped[str] = mapped_column(String(16))
    content_hash: Mapped[str] = mapped_column(String(64))
    comment: Mapped[str] = mapped_column(String(2000), default="")
    by: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime]

    __table_args__ = (sa.UniqueConstraint("plan_id", "number"),)


class Filing(Scoped, Table):
    """One submission of a plan for approval: what was filed, and by which rule it is decided.

    ``state`` is ``open``, ``approved``, ``returned``, ``withdrawn`` or ``void``. ``tiers`` holds,
    per kind of offer, the tiers that may decide on it; ``needs_review`` asks for one further
    approver. Both are kept as they were at the submission.
    """

    __tablename__ = "filing"

    filing_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    plan_id: Mapped[str] = mapped_column(ForeignKey("plan.plan_id"), index=True)
    number: Mapped[int]
    revision_id: Mapped[str] = mapped_column(String(64))
    content_hash: Mapped[str] = mapped_column(String(64))
    tiers: Mapped[list[Any]]
    needs_review: Mapped[bool]
    state: Mapped[str] = mapped_column(String(16), index=True)
    by: Mapped[str] = mapped_column(String(64))
    comment: Mapped[str] = mapped_column(String(2000), default="")
    at: Mapped[datetime]
    closed_at: Mapped[datetime | None]

    __table_args__ = (sa.UniqueConstraint("plan_id", "number"),)


class ApprovalStep(Versioned, Scoped, Table):
    """One level's part in a filing. ``unit_id`` is the plan's, ``at_unit_id`` the level's.

    ``kind`` is ``record`` (taken on record on the way up), ``decide`` or ``review`` (the further
    approver). ``state`` is ``waiting``, ``open``, ``approved``, ``returned``, ``void`` (the filing
    ended or the plan was edited) or ``superseded`` (the org tree moved).
    """

    __tablename__ = "approval_step"

    step_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    plan_id: Mapped[str] = mapped_column(ForeignKey("plan.plan_id"), index=True)
    filing_id: Mapped[str] = mapped_column(ForeignKey("filing.filing_id"), index=True)
    position: Mapped[int]
    kind: Mapped[str] = mapped_column(String(8))
    at_unit_id: Mapped[str] = mapped_column(ForeignKey("org_unit.unit_id"), index=True)
    content_hash: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), index=True)
    decided_by: Mapped[str | None] = mapped_column(String(64))
    decided_at: Mapped[datetime | None]
    comment: Mapped[str] = mapped_column(String(2000), default="")
    delegated_to: Mapped[str | None] = mapped_column(String(64), index=True)
    delegated_by: Mapped[str | None] = mapped_column(String(64))
    delegated_at: Mapped[datetime | None]
    delegated_why: Mapped[str] = mapped_column(String(1000), default="")


class PlanStop(Scoped, Table):
    """A stop of a running plan, in force until it is lifted. ``unit_id`` is where it holds.

    At the plan's own unit with no channels named it stops the whole plan.
    """

    __tablename__ = "plan_stop"

    stop_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    plan_id: Mapped[str] = mapped_column(ForeignKey("plan.plan_id"), index=True)
    is_whole: Mapped[bool]
    channels: Mapped[list[str]]
    reason: Mapped[str] = mapped_column(String(1000))
    by: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime]
    lifted_by: Mapped[str | None] = mapped_column(String(64))
    lifted_at: Mapped[datetime | None]
    lifted_why: Mapped[str] = mapped_column(String(1000), default="")


class PlanRun(Scoped, Table):
    """One carrying out of an approved plan; a regular plan has one per time it is due.

    ``due_at`` is None for one that a person began. ``state`` is ``open``, ``deployed`` or
    ``missed`` (the approval had ended by then; ``reason`` says so).
    """

    __tablename__ = "plan_run"

    run_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    plan_id: Mapped[str] = mapped_column(ForeignKey("plan.plan_id"))
    due_at: Mapped[datetime | None]
    revision_id: Mapped[str] = mapped_column(String(64))
    content_hash: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(1000), default="")
    deployment_id: Mapped[str | None] = mapped_column(String(64), index=True)
    opened_at: Mapped[datetime]

    __table_args__ = (sa.UniqueConstraint("plan_id", "due_at"),)


class PlanResult(Scoped, Table):
    """What the evaluation of a plan found, with intervals; None where it cannot be told."""

    __tablename__ = "plan_result"

    result_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    plan_id: Mapped[str] = mapped_column(ForeignKey("plan.plan_id"), index=True)
    revision_id: Mapped[str] = mapped_column(String(64))
    content_hash: Mapped[str] = mapped_column(String(64))
    metric: Mapped[str] = mapped_column(String(32))
    result: Mapped[str] = mapped_column(String(16))
    response: Mapped[float | None]
    effect: Mapped[float | None]
    effect_low: Mapped[float | None]
    effect_high: Mapped[float | None]
    roi: Mapped[float | None]
    roi_low: Mapped[float | None]
    roi_high: Mapped[float | None]
    treated: Mapped[int]
    held_out: Mapped[int]
    reason: Mapped[dict[str, Any]] = mapped_column(default=dict)
    document: Mapped[dict[str, Any]] = mapped_column(default=dict)
    by: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime]
