"""Deployments of plans, their planned counts, and releases of strategies to all channels."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from bihuan.server.control.base import Scoped, Shared, Table, Versioned

DEPLOYMENT_STATES = ("preparing", "frozen", "live", "completed", "withdrawn")
"""``frozen``: the lake holds the assignments, no channel may drain them yet. A stop is no state of
a deployment: it is in the stops of its plan."""


class PlanDeployment(Versioned, Scoped, Table):
    """One carrying out of a plan: its row makes the frozen assignments live.

    ``deployment_id`` is the hash of plan, content and date, so the same wish twice is one row.
    ``frozen_id`` and ``lake_table`` name what the lake holds. ``fence`` counts the takers of the
    work: whoever comes later makes the writes of an earlier one fail.
    """

    __tablename__ = "deployment"

    deployment_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    plan_id: Mapped[str] = mapped_column(ForeignKey("plan.plan_id"), index=True)
    campaign_id: Mapped[str] = mapped_column(String(64), index=True)
    revision_id: Mapped[str] = mapped_column(String(64))
    content_hash: Mapped[str] = mapped_column(String(64))
    as_of: Mapped[date]
    generation: Mapped[int]
    state: Mapped[str] = mapped_column(String(16), index=True)
    fence: Mapped[int]
    frozen_id: Mapped[str | None] = mapped_column(String(64), index=True)
    lake_table: Mapped[str | None] = mapped_column(String(128))
    decisions_hash: Mapped[str | None] = mapped_column(String(64))
    planned: Mapped[int | None]
    strategies: Mapped[dict[str, Any]] = mapped_column(default=dict)
    valid_from: Mapped[date | None]
    valid_until: Mapped[date | None]
    requested_by: Mapped[str] = mapped_column(String(64))
    requested_at: Mapped[datetime]
    frozen_at: Mapped[datetime | None]
    live_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    reconciled_at: Mapped[datetime | None]
    reconciliation: Mapped[dict[str, Any]] = mapped_column(default=dict)

    __table_args__ = (sa.UniqueConstraint("plan_id", "generation"),)


class DeploymentCount(Scoped, Table):
    """What is planned for one channel in one unit of a deployment.

    ``org_unit_id`` is the unit of the lake, empty where none was assigned; ``unit_id`` the unit
    under which the count is seen: the same where the org tree knows it, else the plan's.
    """

    __tablename__ = "deployment_count"

    deployment_id: Mapped[str] = mapped_column(
        ForeignKey("deployment.deployment_id", ondelete="CASCADE"), primary_key=True
    )
    channel: Mapped[str] = mapped_column(String(32), primary_key=True)
    org_unit_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    planned: Mapped[int]


class StrategyRelease(Shared, Table):
    """Strategies that all channels of a unit use together; never changed, seen by units below.

    ``items`` is a list of ``{strategy_id, title, offer_id, audience, deployment_id, lake_table,
    channels: {channel: {script_id, planned}}}``.
    """

    __tablename__ = "strategy_release"

    release_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int]
    title: Mapped[str] = mapped_column(String(200))
    items: Mapped[list[Any]]
    content_hash: Mapped[str] = mapped_column(String(64))
    by: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime]

    __table_args__ = (sa.UniqueConstraint("unit_id", "number"),)


class StrategyHead(Versioned, Table):
    """Which release holds in a unit: the one row that switches every channel at once.

    It has no scope of its own: everybody who works for a unit reads what holds there.
    """

    __tablename__ = "strategy_head"

    unit_id: Mapped[str] = mapped_column(ForeignKey("org_unit.unit_id"), primary_key=True)
    release_id: Mapped[str] = mapped_column(ForeignKey("strategy_release.release_id"))
    number: Mapped[int]
    switched_at: Mapped[datetime]


class StrategyAcknowledgement(Scoped, Table):
    """A channel of a unit says that it works by a release."""

    __tablename__ = "strategy_acknowledgement"

    release_id: Mapped[str] = mapped_column(
        ForeignKey("strategy_release.release_id"), primary_key=True
    )
    channel: Mapped[str] = mapped_column(String(32), primary_key=True)
    unit_id: Mapped[str] = mapped_column(ForeignKey("org_unit.unit_id"), primary_key=True)
    at: Mapped[datetime]
    lag_seconds: Mapped[float]
