"""The gate before execution: what may be deployed, and what must stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from bihuan.server.app.errors import RefusedError, missing
from bihuan.server.app.plan.content import content_hash
from bihuan.server.app.plan.impact import has_impact
from bihuan.server.app.plan.machine import STATES, move
from bihuan.server.app.plan.reach import find_row, today
from bihuan.server.app.plan.steps import (
    DECIDE,
    find_filing,
    makers_of,
    required_levels,
    steps_of,
)
from bihuan.server.control import (
    Filing,
    OrgClosure,
    Plan,
    PlanRevision,
    PlanRun,
    PlanStop,
    UnitOfWork,
)

DEPLOYABLE = ("approved", "executing")


class NotApprovedError(RefusedError):
    """The content is not approved by everybody who has to, or not any more."""


class StoppedError(RefusedError):
    """The plan is stopped."""


@dataclass(frozen=True, slots=True)
class Approval:
    """One decision that an approval rests on.

    Parameters
    ----------
    unit_id, kind
        The level, and its part: ``record``, ``decide`` or ``review``.
    by, at
        Who, when.
    """

    unit_id: str
    kind: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ApprovedPlan:
    """What may be deployed: exactly the content that was approved.

    Parameters
    ----------
    plan_id, revision_id, content_hash
        Which plan, which of its revisions, and the hash of its content.
    content
        The content; ``content["campaign"]`` is the campaign.
    unit_id
        Org unit that carries it out, with everything below it.
    kind
        Kind of plan.
    valid_until
        Last day on which it may be deployed; None where open.
    approvals
        Who approved it, level by level.
    """

    plan_id: str
    revision_id: str
    content_hash: str
    content: Mapping[str, Any]
    unit_id: str
    kind: str
    valid_until: date | None
    approvals: tuple[Approval, ...]


@dataclass(frozen=True, slots=True)
class ActiveStop:
    """A stop in force.

    Parameters
    ----------
    stop_id
        Its id; ``state:<state>`` where the plan's state itself stops it.
    is_whole
        Whether everything of the plan stops.
    unit_id
        Unit in which it holds, with everything below.
    channels
        Channel kinds that stop; empty: all.
    reason, since
        Why, from when.
    """

    stop_id: str
    is_whole: bool
    unit_id: str
    channels: tuple[str, ...]
    reason: str
    since: datetime


def require_deployable(work: UnitOfWork, plan_id: str) -> ApprovedPlan:
    """Return what may be deployed of a plan, or refuse. The one gate before every deployment.

    Parameters
    ----------
    work
        A unit of work that sees the plan.
    plan_id
        The plan.

    Raises
    ------
    NotFoundError
        If there is no such plan within reach.
    NotApprovedError
        If its present content lacks an approval, was approved by a maker, the approval has ended,
        or its impact assessment has.
    StoppedError
        If the plan is stopped as a whole.
    """
    plan = find_row(work, Plan, plan_id)
    if plan is None:
        raise missing("plan", "方案", plan_id)
    whole = next((stop for stop in stops(work, plan_id) if stop.is_whole), None)
    if plan.state not in DEPLOYABLE:
        raise _not_approved(
            plan,
            f"it is {STATES[plan.state]['en']}",
            f"方案处于“{STATES[plan.state]['zh']}”状态",
        )
    if whole is not None:
        raise StoppedError(
            f"Plan {plan_id} is stopped: {whole.reason}.",
            remedy="Resume it first.",
            zh=f"方案 {plan_id} 已被停止（{whole.reason}），请先恢复。",
        )
    with work.beyond("an approval may stand with the plan above"):
        approvals, content = _approvals(work, plan)
        if not has_impact(work, plan, content):
            raise _not_approved(plan, "its impact assessment has ended", "影响评估已失效")
    if plan.valid_until is not None and today(work) > plan.valid_until:
        raise _not_approved(
            plan,
            f"its approval ended on {plan.valid_until}",
            f"批准已于 {plan.valid_until} 到期",
        )
    return ApprovedPlan(
        plan_id=plan.plan_id,
        revision_id=plan.revision_id,
        content_hash=plan.content_hash,
        content=content,
        unit_id=plan.unit_id,
        kind=plan.kind,
        valid_until=plan.valid_until,
        approvals=approvals,
    )


def mark_deployed(
    work: UnitOfWork, plan_id: str, deployment_id: str, *, run_id: str | None = None
) -> PlanRun:
    """Say that a deployment of the plan is live; asks the gate once more.

    Parameters
    ----------
    work
        The unit of work that makes the deployment live.
    plan_id, deployment_id
        Which plan, which deployment. The same deployment twice counts once.
    run_id
        The due run of a regular plan that it carries out; None: the oldest open one, or none.

    Raises
    ------
    NotFoundError, NotApprovedError, StoppedError
        As :func:`require_deployable`.
    """
    done = sa.select(PlanRun).where(
        PlanRun.plan_id == plan_id, PlanRun.deployment_id == deployment_id
    )
    found = work.session.scalars(done).first()
    if found is not None:
        return found
    approved = require_deployable(work, plan_id)
    plan = work.session.get_one(Plan, plan_id)
    run = _open_run(work, plan_id, run_id)
    if run is None:
        run = PlanRun(
            run_id=work.new_id("run"),
            plan_id=plan_id,
            unit_id=plan.unit_id,
            due_at=None,
            revision_id=approved.revision_id,
            content_hash=approved.content_hash,
            state="open",
            reason="",
            opened_at=work.now,
        )
        work.session.add(run)
    run.state, run.deployment_id = "deployed", deployment_id
    move(work, plan, "deploy", facts={"deployable": True}, comment=deployment_id)
    return run


def stops(work: UnitOfWork, plan_id: str) -> list[ActiveStop]:
    """Return the stops of a plan that are in force now, its parent's included.

    A stop binds whoever asks: it is found also where the caller may not see who set it. A plan
    that is neither approved nor executing is stopped as a whole by its state.

    Raises
    ------
    NotFoundError
        If there is no such plan.
    """
    with work.beyond("a stop binds whoever asks"):
        plans = _with_parents(work, plan_id)
        statement = (
            sa.select(PlanStop)
            .where(
                PlanStop.plan_id.in_([plan.plan_id for plan in plans]),
                PlanStop.lifted_at.is_(None),
            )
            .order_by(PlanStop.stop_id)
        )
        found = [
            ActiveStop(
                row.stop_id, row.is_whole, row.unit_id, tuple(row.channels), row.reason, row.at
            )
            for row in work.session.scalars(statement)
        ]
    found += [
        ActiveStop(
            f"state:{plan.state}", True, plan.unit_id, (), f"the plan is {plan.state}",
            plan.changed_at,
        )
        for plan in plans
        if plan.state not in (*DEPLOYABLE, "paused")
    ]  # fmt: skip
    return found


def find_stop(work: UnitOfWork, plan_id: str, channel: str, unit_id: str) -> ActiveStop | None:
    """Return a stop that holds for one channel in one unit, or None if it may go on.

    Parameters
    ----------
    work
        Any unit of work.
    plan_id
        The plan.
    channel
        Channel kind.
    unit_id
        Unit of the customer or the one who acts.
    """
    found = [s for s in stops(work, plan_id) if not s.channels or channel in s.channels]
    whole = next((stop for stop in found if stop.is_whole), None)
    if whole is not None or not found:
        return whole
    upper = set(
        work.session.scalars(
            sa.select(OrgClosure.ancestor_id).where(OrgClosure.descendant_id == unit_id)
        )
    )
    return next((stop for stop in found if stop.unit_id in upper), None)


def _open_run(work: UnitOfWork, plan_id: str, run_id: str | None) -> PlanRun | None:
    statement = sa.select(PlanRun).where(PlanRun.plan_id == plan_id, PlanRun.state == "open")
    if run_id is not None:
        statement = statement.where(PlanRun.run_id == run_id)
    found = work.session.scalars(
        statement.order_by(PlanRun.due_at, PlanRun.run_id).limit(1)
    ).first()
    if found is None and run_id is not None:
        raise missing("open run", "待执行批次", run_id)
    return found


def _with_parents(work: UnitOfWork, plan_id: str) -> list[Plan]:
    found: list[Plan] = []
    wanted: str | None = plan_id
    while wanted is not None:
        plan = work.session.get(Plan, wanted)
        if plan is None:
            raise missing("plan", "方案", plan_id)
        found.append(plan)
        wanted = plan.parent_id
    return found


def _approvals(work: UnitOfWork, plan: Plan) -> tuple[tuple[Approval, ...], Mapping[str, Any]]:
    """Hold the plan against its approval, and the approval against its rules, anew."""
    holder = _with_parents(work, plan.plan_id)[1] if plan.inherits else plan
    revision = work.session.get(PlanRevision, plan.revision_id)
    filing = find_filing(work, holder, "approved")
    if revision is None or filing is None:
        raise _not_approved(plan, "nobody has approved its content", "当前内容未获批准")
    hashes = {plan.content_hash, filing.content_hash, revision.content_hash}
    if not is_same_content(hashes, revision.content):
        raise _not_approved(
            plan, "its content is another than the approved one", "当前内容与获批内容不一致"
        )
    return _decisions(work, plan, holder, filing), revision.content


def is_same_content(hashes: set[str], content: Mapping[str, Any]) -> bool:
    """Whether plan, revision and filing name one hash, and the content itself has it."""
    return hashes == {content_hash(content)}


def _decisions(work: UnitOfWork, plan: Plan, holder: Plan, filing: Filing) -> tuple[Approval, ...]:
    makers = makers_of(work, holder)
    levels = required_levels(steps_of(work, filing))
    found = []
    for level, step in levels.items():
        if step.state != "approved" or step.decided_by is None or step.decided_at is None:
            raise _not_approved(
                plan, f"{level.unit_id} has not approved it", f"{level.unit_id} 尚未批准"
            )
        if step.decided_by in makers or step.content_hash != filing.content_hash:
            raise _not_approved(
                plan,
                f"the approval of {level.unit_id} does not count",
                f"{level.unit_id} 的批准无效",
            )
        found.append(Approval(level.unit_id, level.kind, step.decided_by, step.decided_at))
    if not any(level.kind == DECIDE for level in levels):
        raise _not_approved(plan, "no level has decided on it", "没有任何层级作出审批")
    return tuple(found)


def _not_approved(plan: Plan, en: str, zh: str) -> NotApprovedError:
    return NotApprovedError(
        f"Plan {plan.plan_id} may not be deployed: {en}.",
        remedy="File it and have it approved.",
        zh=f"方案 {plan.plan_id} 不能部署：{zh}。请先上报并获得批准。",
    )
