"""Deployment in one click: decide, freeze, count, switch, reconcile; killed anywhere, it goes on.

Nothing here remembers how far it came. Every step looks at what is there and does what is
missing: the decisions are in the log of the lake, the assignments under the hash of what they
are made from, the rest in one row of the control database.
"""

from __future__ import annotations

from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from bihuan.data import Snapshot
from bihuan.delivery import MARKET_ZONE, Deployment, deploy
from bihuan.kernel import Progress, SilentProgress
from bihuan.kernel.crash import crash_point
from bihuan.server.app.actor import Actor
from bihuan.server.app.deployment.reconcile import reconcile_deployment
from bihuan.server.app.deployment.record import go_live, opened, prepare, record_frozen
from bihuan.server.app.errors import RefusedError
from bihuan.server.app.job import submit
from bihuan.server.app.plan import ApprovedPlan, require_deployable
from bihuan.server.app.plan.content import parsed_campaign
from bihuan.server.app.service import Service
from bihuan.server.control import Job, PlanDeployment, UnitOfWork
from bihuan.step import choose_audience, decide_campaign
from bihuan.strategy import Campaign
from bihuan.workspace import Workspace


class NoDataError(RefusedError):
    """There is no date of customer data on which the plan could be decided."""


def deploy_plan(
    service: Service,
    actor: Actor | None,
    plan_id: str,
    *,
    as_of: date | None = None,
    progress: Progress | None = None,
) -> PlanDeployment:
    """Deploy an approved plan, or go on where an earlier attempt was broken off.

    Parameters
    ----------
    service
        The running service.
    actor
        Who deploys it; None: the system itself (a due run of a regular plan).
    plan_id
        The plan.
    as_of
        Date of the data; None: the one its audience was counted on, else the newest.
    progress
        Where the steps are reported.

    Returns
    -------
    PlanDeployment
        Live and reconciled. The same plan, content and date again give the same one.

    Raises
    ------
    NotFoundError, NotApprovedError, StoppedError
        From the gate, before anything is written and again in the moment of going live.
    NoDataError, DecisionRefusedError, UserError
        If the campaign cannot be decided or frozen.
    ContentChangedError, ExpiredError, TakenOverError
        If the plan changed, ended or was taken over meanwhile.
    """
    progress = progress or SilentProgress()
    workspace = service.workspace
    crash_point("deploy.begin")
    with progress.task("deploy plan", total=5, unit="steps") as task:
        with opened(service, actor) as work:
            approved = require_deployable(work, plan_id)
            day = as_of or _day_of(approved, workspace)
            row = prepare(work, approved, day)
        crash_point("deploy.prepared")
        task.advance()
        if row.state == "preparing":
            frozen = _freeze(workspace, approved, row, progress)
            crash_point("deploy.frozen_in_lake")
            task.advance()
            counts = frozen.counts(workspace.lake.view(), workspace.engine)
            crash_point("deploy.counted")
            with opened(service, actor) as work:
                row = record_frozen(work, row.deployment_id, row.fence, frozen, counts)
            crash_point("deploy.frozen")
        task.advance()
        if row.state == "frozen":
            today = service.clock.now().astimezone(ZoneInfo(MARKET_ZONE)).date()
            with opened(service, actor) as work:
                row = go_live(work, row.deployment_id, row.fence, today)
            crash_point("deploy.live")
        task.advance()
        if row.state == "live" and row.reconciled_at is None:
            row = reconcile_deployment(service, actor, row.deployment_id).row
        task.advance()
    return row


def request_deployment(
    work: UnitOfWork, actor: Actor, plan_id: str, as_of: date | None = None
) -> Job:
    """Submit the deployment of a plan as a job, if the gate lets it pass now.

    Parameters
    ----------
    work
        In the scope of ``deployment.run``; the job exists if and only if it commits.
    actor, plan_id, as_of
        As for :func:`deploy_plan`.
    """
    approved = require_deployable(work, plan_id)
    arguments = {"plan_id": plan_id, "as_of": None if as_of is None else as_of.isoformat()}
    return submit(work, actor, "deployment", arguments, unit_id=approved.unit_id)


def _day_of(approved: ApprovedPlan, workspace: Workspace) -> date:
    counted = approved.content.get("audience")
    if isinstance(counted, dict) and counted.get("as_of"):
        return date.fromisoformat(str(counted["as_of"]))
    dates = workspace.view.dates("customer")
    if not dates:
        raise NoDataError(
            "The lake has no customers, so nothing can be decided.",
            remedy="Ingest the customers and refresh the tags first.",
            zh="数据湖中没有客户数据，请先导入客户并刷新标签。",
        )
    return dates[-1]


def _freeze(
    workspace: Workspace, approved: ApprovedPlan, row: PlanDeployment, progress: Progress
) -> Deployment:
    campaign = parsed_campaign(approved.content, workspace.catalogue)
    decisions = _decided(workspace, campaign, row.as_of)
    return deploy(
        decisions,
        campaign_id=campaign.campaign_id,
        lake=workspace.lake,
        clock=workspace.clock,
        period=(campaign.goal.starts_on, campaign.goal.ends_on),
        scripts={(item.offer_id, kind): item.scripts[kind] for item, kind in campaign.candidates()},
        generation=row.generation,
        engine=workspace.engine,
        progress=progress,
    )


def _decided(workspace: Workspace, campaign: Campaign, as_of: date) -> Snapshot:
    """Return the logged decisions of exactly this content; decide it where they are another's."""
    if not _is_logged(workspace, campaign, as_of):
        target = choose_audience(workspace.rooms, campaign, as_of)
        rules = workspace.recommender.rules(as_of)
        decide_campaign(workspace.rooms, campaign, target, rules=rules)
    return workspace.lake.view().get("decision", as_of)


def _is_logged(workspace: Workspace, campaign: Campaign, as_of: date) -> bool:
    logged = workspace.lake.view().find("decision", as_of)
    if logged is None:
        return False
    about: dict[str, Any] = logged.lineage.get("campaigns", {}).get(campaign.campaign_id, {})
    return about.get("campaign") == campaign.content_id
