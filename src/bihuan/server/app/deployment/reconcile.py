"""Reconciliation: the control database's plan held against what the lake holds and what came back.

For every channel and unit: planned = delivered + suppressed + failed + expired + unknown +
pending. Planned is what the control database recorded when the deployment was frozen; the other
side is counted in the lake now. Where the two differ, the report says where and by how many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from bihuan.delivery import MARKET_ZONE, Deployment
from bihuan.feedback import OutcomeLedger, outcome_snapshots
from bihuan.kernel.crash import crash_point
from bihuan.server.app.actor import Actor
from bihuan.server.app.deployment.record import (
    counts_of,
    frozen_deployment,
    get_deployment,
    opened,
    record_reconciliation,
)
from bihuan.server.app.service import Service
from bihuan.server.control import PlanDeployment
from bihuan.workspace import Workspace

REACHED = ("delivered", "connected", "accepted", "refused", "ordered")
SIDES = ("delivered", "suppressed", "failed", "expired", "unknown", "pending")


@dataclass(frozen=True, slots=True)
class ListCount:
    """Where the assignments of one channel and unit are.

    Parameters
    ----------
    channel, org_unit_id
        The list; an empty unit: none was assigned.
    planned
        As recorded at freezing.
    found
        By side, a name of :data:`SIDES`.
    reasons
        Of the suppressed, by reason.
    """

    channel: str
    org_unit_id: str
    planned: int
    found: Mapping[str, int]
    reasons: Mapping[str, int]

    @property
    def difference(self) -> int:
        """Planned less found; 0 where it reconciles."""
        return self.planned - sum(self.found.values())


@dataclass(frozen=True, slots=True)
class ReconciliationReport:
    """A deployment's plan against the lake.

    Parameters
    ----------
    row
        The deployment.
    lists
        By channel and unit.
    """

    row: PlanDeployment
    lists: tuple[ListCount, ...]

    @property
    def breaks(self) -> tuple[ListCount, ...]:
        """Lists that do not reconcile."""
        return tuple(item for item in self.lists if item.difference)

    @property
    def totals(self) -> dict[str, int]:
        """Planned and every side, over all lists."""
        sides = {side: sum(item.found.get(side, 0) for item in self.lists) for side in SIDES}
        return {"planned": sum(item.planned for item in self.lists), **sides}

    @property
    def is_done(self) -> bool:
        """Whether it reconciles and nothing is pending or in doubt."""
        totals = self.totals
        return not self.breaks and totals["pending"] == 0 and totals["unknown"] == 0

    def to_json(self) -> dict[str, Any]:
        """Return the summary that the deployment's row keeps."""
        return {
            **self.totals,
            "reconciles": not self.breaks,
            "breaks": [
                {"channel": b.channel, "org_unit_id": b.org_unit_id, "difference": b.difference}
                for b in self.breaks[:100]
            ],
        }


def reconcile_deployment(
    service: Service, actor: Actor | None, deployment_id: str
) -> ReconciliationReport:
    """Count a deployment in the lake, hold it against the plan and keep the summary.

    Parameters
    ----------
    service
        The running service.
    actor
        Who asks, in the scope of ``deployment.run``; None: the system.
    deployment_id
        Frozen, at least.
    """
    with opened(service, actor) as work:
        get_deployment(work, deployment_id)
    report = report_of(service, deployment_id)
    crash_point("deploy.before_reconcile")
    with opened(service, actor) as work:
        row = record_reconciliation(work, deployment_id, report.to_json(), is_done=report.is_done)
    crash_point("deploy.reconciled")
    return ReconciliationReport(row, report.lists)


def report_of(service: Service, deployment_id: str) -> ReconciliationReport:
    """Hold a whole deployment against the lake; nothing is written.

    Counted by the system, which sees every unit: a part of a plan does not reconcile.
    """
    workspace = service.workspace
    with service.system_work(read_only=True) as work:
        row = get_deployment(work, deployment_id)
        planned = {(c.channel, c.org_unit_id): c.planned for c in counts_of(work, deployment_id)}
    frozen = frozen_deployment(workspace.lake.view(), row)
    found = _found(workspace, frozen)
    return ReconciliationReport(row, tuple(_lists(planned, found)))


def _found(workspace: Workspace, frozen: Deployment) -> list[dict[str, Any]]:
    """Count assignments by channel, unit, state and reason."""
    view = workspace.lake.view()
    if not outcome_snapshots(view, frozen.deployment_id) and not _is_over(workspace, frozen):
        counts = frozen.counts(view, workspace.engine)
        return [{**row, "state": "pending", "reason": None} for row in counts.to_pylist()]
    ledger = OutcomeLedger(
        workspace.lake,
        frozen,
        workspace.layout.quarantine,
        workspace.clock,
        engine=workspace.engine,
    )
    states = ledger.states()
    keys = ["channel", "org_unit_id", "state", "reason"]
    counted: pa.Table = states.group_by(keys).aggregate([([], "count_all")])
    return [{**row, "planned": row["count_all"]} for row in counted.to_pylist()]


def _is_over(workspace: Workspace, frozen: Deployment) -> bool:
    today = workspace.clock.now().astimezone(ZoneInfo(MARKET_ZONE)).date()
    return frozen.valid_until < today


def _lists(planned: Mapping[tuple[str, str], int], found: list[dict[str, Any]]) -> list[ListCount]:
    sides: dict[tuple[str, str], dict[str, int]] = {key: {} for key in planned}
    reasons: dict[tuple[str, str], dict[str, int]] = {}
    for row in found:
        key = (row["channel"], row["org_unit_id"] or "")
        side = "delivered" if row["state"] in REACHED else row["state"]
        at = sides.setdefault(key, {})
        at[side] = at.get(side, 0) + row["planned"]
        if side == "suppressed":
            why = reasons.setdefault(key, {})
            why[row["reason"] or ""] = why.get(row["reason"] or "", 0) + row["planned"]
    return [
        ListCount(channel, unit, planned.get((channel, unit), 0), found_at,
                  reasons.get((channel, unit), {}))
        for (channel, unit), found_at in sorted(sides.items())
    ]  # fmt: skip
