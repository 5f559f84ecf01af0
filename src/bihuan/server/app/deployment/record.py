"""The row of a deployment, step by step; each step is one transaction and may be done again.

::

    preparing ──freeze──▶ frozen ──go live──▶ live ──▶ completed
        └──────────────────┴──────▶ withdrawn
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from bihuan.data import LakeView
from bihuan.delivery import Deployment
from bihuan.delivery import get_deployment as get_frozen
from bihuan.kernel import hash_id
from bihuan.kernel.crash import crash_point
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, RefusedError, missing
from bihuan.server.app.plan import ApprovedPlan, mark_deployed, require_deployable
from bihuan.server.app.plan.local import record_counts
from bihuan.server.app.service import Service
from bihuan.server.app.unit_scope import units_in_scope
from bihuan.server.control import DeploymentCount, PlanDeployment, UnitOfWork

DEPLOY = "deployment.run"
BEFORE_LIVE = ("preparing", "frozen")


class ContentChangedError(ConflictError):
    """The plan's approved content is another than the one that was frozen."""


class TakenOverError(ConflictError):
    """Another worker has taken the deployment over since."""


class ExpiredError(RefusedError):
    """The last day of the deployment is over."""


@contextmanager
def opened(
    service: Service, actor: Actor | None, *, action: str = DEPLOY, read_only: bool = False
) -> Iterator[UnitOfWork]:
    """Open a unit of work for an actor doing ``action``; None: for the system itself."""
    unit = (
        service.system_work(read_only=read_only)
        if actor is None
        else service.work(actor, action, read_only=read_only)
    )
    with unit as work:
        yield work


def frozen_deployment(view: LakeView, row: PlanDeployment) -> Deployment:
    """Return what the lake holds of a deployment.

    Raises
    ------
    RefusedError
        If it is not frozen yet.
    DeploymentNotFoundError
        If the lake lost it.
    """
    if row.frozen_id is None:
        raise RefusedError(
            f"Deployment {row.deployment_id} is not frozen yet.",
            remedy="Wait until it is, or deploy the plan again.",
            zh=f"部署 {row.deployment_id} 尚未冻结，请等待或重新部署。",
        )
    return get_frozen(view, row.frozen_id)


def get_deployment(work: UnitOfWork, deployment_id: str) -> PlanDeployment:
    """Return the deployment of a plan.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    row = work.session.get(PlanDeployment, deployment_id)
    if row is None:
        raise missing("deployment", "部署", deployment_id)
    return row


def find_deployments(
    plan_id: str | None = None, state: str | None = None
) -> sa.Select[PlanDeployment]:
    """Return the statement that lists deployments, of one plan and one state or of all."""
    statement = sa.select(PlanDeployment)
    if plan_id is not None:
        statement = statement.where(PlanDeployment.plan_id == plan_id)
    if state is not None:
        statement = statement.where(PlanDeployment.state == state)
    return statement


def counts_of(work: UnitOfWork, deployment_id: str) -> list[DeploymentCount]:
    """Return the planned counts within reach, by channel and unit."""
    statement = (
        sa.select(DeploymentCount)
        .where(DeploymentCount.deployment_id == deployment_id)
        .order_by(DeploymentCount.channel, DeploymentCount.org_unit_id)
    )
    return list(work.session.scalars(statement))


def prepare(work: UnitOfWork, approved: ApprovedPlan, as_of: date) -> PlanDeployment:
    """Record that a plan is being deployed, or take over what another began.

    Parameters
    ----------
    work
        In the scope of ``deployment.run``.
    approved
        From the gate, in this transaction.
    as_of
        Date of the data on which it is decided.
    """
    name = hash_id("deployment of", approved.plan_id, approved.content_hash, as_of)
    deployment_id = f"deployment_{as_of:%Y%m%d}_{name}"  # lists sort by id, newest data first
    row = work.session.get(PlanDeployment, deployment_id, with_for_update=True)
    if row is None:
        generations = sa.select(sa.func.max(PlanDeployment.generation)).where(
            PlanDeployment.plan_id == approved.plan_id
        )
        last: int | None = work.session.scalars(generations).one()
        row = PlanDeployment(
            deployment_id=deployment_id,
            unit_id=approved.unit_id,
            plan_id=approved.plan_id,
            campaign_id=str(approved.content["campaign"]["campaign_id"]),
            revision_id=approved.revision_id,
            content_hash=approved.content_hash,
            as_of=as_of,
            generation=0 if last is None else last + 1,
            state="preparing",
            fence=0,
            requested_by=work.account_id,
            requested_at=work.now,
        )
        work.session.add(row)
        work.audit("deployment.begin", "deployment", deployment_id, plan=approved.plan_id)
    if row.state in BEFORE_LIVE:
        row.fence += 1
    return row


def record_frozen(
    work: UnitOfWork, deployment_id: str, fence: int, frozen: Deployment, counts: pa.Table
) -> PlanDeployment:
    """Record what the lake holds, with its counts; again changes nothing.

    Parameters
    ----------
    work
        In the scope of ``deployment.run``.
    deployment_id, fence
        Which, and as whose.
    frozen
        The deployment of the lake.
    counts
        From :meth:`bihuan.delivery.Deployment.counts`.
    """
    row = get_deployment(work, deployment_id)
    if row.state != "preparing":
        return row
    _require_fence(row, fence)
    by_list: dict[tuple[str, str], int] = {}
    strategies: dict[str, int] = {}
    for count in counts.to_pylist():
        key = (count["channel"], count["org_unit_id"] or "")
        by_list[key] = by_list.get(key, 0) + count["planned"]
        strategies[count["offer_id"]] = strategies.get(count["offer_id"], 0) + count["planned"]
    if sum(by_list.values()) != frozen.planned:
        raise ConflictError(
            f"{frozen.planned} assignments were planned and {sum(by_list.values())} are there.",
            remedy="Run the check of the lake, then deploy again.",
            zh=f"应有 {frozen.planned} 条，数据湖实有 {sum(by_list.values())} 条，请检查后重试。",
        )
    known = units_in_scope(work, {unit for _, unit in by_list})
    work.session.add_all(
        DeploymentCount(
            deployment_id=deployment_id,
            unit_id=unit if unit in known else row.unit_id,
            channel=channel,
            org_unit_id=unit,
            planned=planned,
        )
        for (channel, unit), planned in by_list.items()
    )
    row.frozen_id, row.lake_table = frozen.deployment_id, frozen.table
    row.decisions_hash, row.planned = frozen.content_hash, frozen.planned
    row.valid_from, row.valid_until = frozen.valid_from, frozen.valid_until
    row.strategies = dict(sorted(strategies.items()))
    row.state, row.frozen_at = "frozen", work.now
    work.audit("deployment.freeze", "deployment", deployment_id, planned=frozen.planned)
    return row


def go_live(work: UnitOfWork, deployment_id: str, fence: int, today: date) -> PlanDeployment:
    """Make a frozen deployment live: one UPDATE, if the plan may still be deployed as it is.

    Parameters
    ----------
    work
        In the scope of ``deployment.run``.
    deployment_id, fence
        Which, and as whose.
    today
        The present day in the market's zone.

    Raises
    ------
    NotApprovedError, StoppedError
        From the gate.
    ContentChangedError, ExpiredError, TakenOverError
        If the content is no longer the one that was frozen, the last day is over, or another
        worker has the deployment.
    """
    row = get_deployment(work, deployment_id)
    if row.state == "live":
        return row
    approved = require_deployable(work, row.plan_id)
    if approved.content_hash != row.content_hash:
        raise ContentChangedError(
            f"Plan {row.plan_id} was changed and approved anew after it was frozen.",
            remedy="Deploy it again: the new content is frozen as another deployment.",
            zh=f"方案 {row.plan_id} 冻结后内容已变更并重新获批，请重新部署。",
        )
    if row.valid_until is None or row.valid_until < today:
        raise ExpiredError(
            f"Deployment {deployment_id} ended on {row.valid_until}.",
            remedy="Give the plan a new period and have it approved.",
            zh=f"部署 {deployment_id} 已于 {row.valid_until} 到期，请调整方案时间并重新报批。",
        )
    crash_point("deploy.before_live")
    switch = (
        sa.update(PlanDeployment)
        .where(
            PlanDeployment.deployment_id == deployment_id,
            PlanDeployment.state == "frozen",
            PlanDeployment.fence == fence,
            PlanDeployment.content_hash == approved.content_hash,
        )
        .values(state="live", live_at=work.now, version=PlanDeployment.version + 1)
        .execution_options(synchronize_session=False)
    )
    done: Any = work.session.execute(switch)
    if done.rowcount != 1:
        raise _taken_over(deployment_id)
    work.session.expire(row)
    mark_deployed(work, row.plan_id, deployment_id)
    work.audit(
        "deployment.live", "deployment", deployment_id, plan=row.plan_id, planned=row.planned
    )
    crash_point("deploy.live_unsealed")
    return row


def withdraw(work: UnitOfWork, deployment_id: str, why: str) -> PlanDeployment:
    """Give up a deployment that is not live; its assignments stay in the lake, undrained.

    Raises
    ------
    ConflictError
        If it is live already: then its plan is stopped instead.
    """
    row = get_deployment(work, deployment_id)
    if row.state not in BEFORE_LIVE:
        raise ConflictError(
            f"Deployment {deployment_id} is {row.state}.",
            remedy="Stop its plan instead.",
            zh=f"部署 {deployment_id} 状态为 {row.state}，不能撤销，请暂停其方案。",
        )
    row.state, row.ended_at = "withdrawn", work.now
    work.audit("deployment.withdraw", "deployment", deployment_id, why=why)
    return row


def record_reconciliation(
    work: UnitOfWork, deployment_id: str, report: Mapping[str, Any], *, is_done: bool
) -> PlanDeployment:
    """Keep the newest reconciliation; complete the deployment when nothing is open any more."""
    row = get_deployment(work, deployment_id)
    row.reconciliation, row.reconciled_at = dict(report), work.now
    if is_done and row.state == "live":
        row.state, row.ended_at = "completed", work.now
        work.audit("deployment.complete", "deployment", deployment_id)
    record_counts(work, row.plan_id, _carried_out(work, row.plan_id))
    return row


def _carried_out(work: UnitOfWork, plan_id: str) -> dict[str, int]:
    """Return what all deployments of a plan have done, by the names of a reconciliation."""
    done: Counter[str] = Counter()
    for report in work.session.scalars(
        sa.select(PlanDeployment.reconciliation).where(
            PlanDeployment.plan_id == plan_id, PlanDeployment.state.in_(("live", "completed"))
        )
    ):
        done.update({name: n for name, n in (report or {}).items() if type(n) is int})
    return dict(done)


def _require_fence(row: PlanDeployment, fence: int) -> None:
    if row.fence != fence:
        raise _taken_over(row.deployment_id)


def _taken_over(deployment_id: str) -> TakenOverError:
    return TakenOverError(
        f"Another worker has taken deployment {deployment_id} over.",
        remedy="Look at its state; nothing more is to be done here.",
        zh=f"部署 {deployment_id} 已由其他进程接管，请查看其状态。",
    )
