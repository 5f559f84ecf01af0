"""Reading what has happened to a plan, and what waits for whom."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from bihuan.server.app.actor import Actor
from bihuan.server.control import (
    ApprovalStep,
    Assessment,
    Filing,
    MarketAnalysis,
    Plan,
    PlanMove,
    PlanResult,
    PlanRun,
    RehearsalRecord,
    Table,
    UnitOfWork,
)

_RECORDS: dict[str, type[Table]] = {
    "moves": PlanMove,
    "filings": Filing,
    "steps": ApprovalStep,
    "analyses": MarketAnalysis,
    "rehearsals": RehearsalRecord,
    "assessments": Assessment,
    "runs": PlanRun,
    "results": PlanResult,
}


def find_records(work: UnitOfWork, plan: Plan, kind: str) -> sa.Select[Any]:
    """Return a select of a plan's records within reach.

    Parameters
    ----------
    work, plan
        As ever.
    kind
        ``moves``, ``filings``, ``steps``, ``analyses``, ``rehearsals``, ``assessments``,
        ``runs`` or ``results``.
    """
    table: Any = _RECORDS[kind]
    return sa.select(table).where(table.plan_id == plan.plan_id)


def find_waiting(work: UnitOfWork, actor: Actor) -> sa.Select[Any]:
    """Return a select of the open steps that wait for the actor: of its units, or delegated.

    Parameters
    ----------
    work
        In the scope of ``plan.approve``.
    actor
        An approver.
    """
    roots = sorted(actor.scope("plan.approve").roots or ())
    return sa.select(ApprovalStep).where(
        ApprovalStep.state == "open",
        sa.or_(ApprovalStep.at_unit_id.in_(roots), ApprovalStep.delegated_to == actor.account_id),
    )
