"""Deployments of plans, their stop switch, and strategies for all channels at once."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted
from bihuan.server.app import deployment

router = Router(tag="deployments")

State = Literal["preparing", "frozen", "live", "completed", "withdrawn"]


class DeployBody(Body):
    """On which data the plan is decided."""

    as_of: date | None = Field(
        None, description="Null: the date on which its audience was counted.", examples=[None]
    )


class AcceptedView(View):
    """Work that was accepted; follow it under ``/api/v1/jobs``."""

    job_id: str
    state: str


class DeploymentView(View):
    """A plan carried out."""

    deployment_id: str
    plan_id: str
    unit_id: str
    campaign_id: str
    content_hash: str
    as_of: date
    generation: int
    state: str
    planned: int | None
    strategies: dict[str, Any]
    lake_table: str | None
    valid_from: date | None
    valid_until: date | None
    requested_by: str
    requested_at: datetime
    frozen_at: datetime | None
    live_at: datetime | None
    ended_at: datetime | None
    reconciled_at: datetime | None
    reconciliation: dict[str, Any]
    version: int


class CountView(View):
    """Assignments planned for one channel in one unit; an empty unit: none was assigned."""

    channel: str
    org_unit_id: str
    planned: int


class ListView(CountView):
    """Where the assignments of one channel and unit are."""

    found: dict[str, int]
    reasons: dict[str, int]
    difference: int


class ReconciliationView(View):
    """A deployment's plan held against what the lake holds now."""

    deployment_id: str
    reconciles: bool
    totals: dict[str, int]
    lists: list[ListView]


class StopBody(Body):
    """What stops; nothing named: everything."""

    channels: list[str] = Field([], max_length=20, examples=[[]])
    units: list[str] = Field([], max_length=1000, examples=[[]])
    reason: str = Field(min_length=1, max_length=1000, examples=["客户投诉，先核实"])


class ResumeBody(Body):
    """Which stops are lifted; none named: all within reach."""

    stop_ids: list[str] = Field([], max_length=1000, examples=[[]])
    why: str = Field("", max_length=1000)


class ReasonBody(Body):
    """Why."""

    why: str = Field(min_length=1, max_length=1000, examples=["方案取消"])


class StopView(View):
    """A stop in force, or one that was lifted."""

    stop_id: str
    unit_id: str
    is_whole: bool
    channels: list[str]
    reason: str
    at: datetime
    lifted_at: datetime | None


class ReleaseBody(Body):
    """Whose strategies all channels of a unit work by from now on."""

    unit_id: str = Field(min_length=1, max_length=64)
    title: str = Field(min_length=1, max_length=200, examples=["十一月流量经营"])
    deployment_ids: list[str] = Field(max_length=100, examples=[[]])
    after: int | None = Field(
        None, ge=0, description="Number of the release that it replaces; null: any."
    )


class ReleaseView(View):
    """Strategies that went to all channels together."""

    release_id: str
    unit_id: str
    number: int
    title: str
    items: list[dict[str, Any]]
    content_hash: str
    by: str
    at: datetime


class ChannelView(View):
    """What a channel works by now."""

    release_id: str | None
    number: int
    unit_id: str
    channel: str
    strategies: list[dict[str, Any]]


class AcknowledgeBody(Body):
    """Which channel of which unit works by the release."""

    channel: str = Field(min_length=1, max_length=32, examples=["sms"])
    unit_id: str = Field(min_length=1, max_length=64)


class AcknowledgementView(View):
    """When a channel took a release over, and how long after the switch."""

    release_id: str
    channel: str
    unit_id: str
    at: datetime
    lag_seconds: float


@router.post("/plans/{plan_id}/deployments", status_code=202)
def deploy_plan(
    call: Annotated[Call, permitted("deployment.run")], plan_id: str, body: DeployBody
) -> AcceptedView:
    """Deploy an approved plan in one click.

    Decided, frozen, published, made live and reconciled by a worker; killed anywhere it goes on.
    """
    return call.create(
        lambda work: deployment.request_deployment(work, call.actor, plan_id, body.as_of),
        AcceptedView.model_validate,
        location=lambda view: f"/api/v1/jobs/{view.job_id}",
        status=202,
    )


@router.get("/deployments")
def list_deployments(
    call: Annotated[Call, permitted("deployment.read")],
    page: PageQuery,
    plan_id: str | None = None,
    state: State | None = None,
) -> Page[DeploymentView]:
    """List the deployments of your units, those on the newest data first."""
    with call.read() as work:
        found = deployment.find_deployments(plan_id, state)
        return call.page(work, found, page, DeploymentView.model_validate)


@router.get("/deployments/{deployment_id}")
def get_deployment(
    call: Annotated[Call, permitted("deployment.read")], deployment_id: str
) -> DeploymentView:
    """Return a deployment."""
    with call.read() as work:
        row = deployment.get_deployment(work, deployment_id)
        return call.show(DeploymentView.model_validate(row), row.version)


@router.get("/deployments/{deployment_id}/counts")
def list_counts(
    call: Annotated[Call, permitted("deployment.read")], deployment_id: str
) -> list[CountView]:
    """Return what was planned by channel and org unit, of the units that you see."""
    with call.read() as work:
        deployment.get_deployment(work, deployment_id)
        return [CountView.model_validate(row) for row in deployment.counts_of(work, deployment_id)]


@router.get("/deployments/{deployment_id}/reconciliation")
def reconcile(
    call: Annotated[Call, permitted("deployment.read")], deployment_id: str
) -> ReconciliationView:
    """Hold the plan against the lake now: planned = delivered + suppressed + ... + pending."""
    with call.read() as work:
        deployment.get_deployment(work, deployment_id)
    report = deployment.report_of(call.service, deployment_id)
    return ReconciliationView(
        deployment_id=deployment_id,
        reconciles=not report.breaks,
        totals=report.totals,
        lists=[ListView.model_validate(item) for item in report.lists],
    )


@router.post("/deployments/{deployment_id}/pause")
def pause_deployment(
    call: Annotated[Call, permitted("plan.stop")], deployment_id: str, body: StopBody
) -> list[StopView]:
    """Stop sending, as a whole, in some channels or in some units; holds within two seconds.

    Needs no ETag: who stops something need not have seen its last change.
    """
    with call.change() as work:
        row = deployment.get_deployment(work, deployment_id)
        found = deployment.pause_deployment(
            work, call.actor, row, channels=body.channels, units=body.units, reason=body.reason
        )
        return [StopView.model_validate(stop) for stop in found]


@router.post("/deployments/{deployment_id}/resumption")
def resume_deployment(
    call: Annotated[Call, permitted("plan.stop")], deployment_id: str, body: ResumeBody
) -> list[StopView]:
    """Go on where it was stopped; nothing that was sent is sent again."""
    with call.change() as work:
        row = deployment.get_deployment(work, deployment_id)
        found = deployment.resume_deployment(
            work, call.actor, row, stop_ids=body.stop_ids, why=body.why
        )
        return [StopView.model_validate(stop) for stop in found]


@router.post("/deployments/{deployment_id}/withdrawal")
def withdraw_deployment(
    call: Annotated[Call, permitted("deployment.run")], deployment_id: str, body: ReasonBody
) -> DeploymentView:
    """Give up a deployment that is not live yet."""
    with call.change() as work:
        row = deployment.get_deployment(work, deployment_id)
        call.match(row.version)
        deployment.withdraw(work, deployment_id, body.why)
        work.session.flush()
        return call.show(DeploymentView.model_validate(row), row.version)


@router.post("/strategy-releases", status_code=201)
def publish_release(
    call: Annotated[Call, permitted("strategy.publish")], body: ReleaseBody
) -> ReleaseView:
    """Give the strategies of live deployments to all channels of a unit at one moment."""
    return call.create(
        lambda work: deployment.publish_release(
            work,
            call.service,
            body.unit_id,
            title=body.title,
            deployment_ids=body.deployment_ids,
            after=body.after,
        ),
        ReleaseView.model_validate,
        location=lambda view: f"/api/v1/strategy-releases/{view.release_id}",
    )


@router.get("/strategy-releases")
def list_releases(
    call: Annotated[Call, permitted("deployment.read")],
    page: PageQuery,
    unit_id: str | None = None,
) -> Page[ReleaseView]:
    """List what was released to the channels of your units, newest first."""
    with call.read() as work:
        found = deployment.find_releases(unit_id)
        return call.page(work, found, page, ReleaseView.model_validate)


@router.get("/strategy-releases/{release_id}")
def get_release(
    call: Annotated[Call, permitted("deployment.read")], release_id: str
) -> ReleaseView:
    """Return a release."""
    with call.read() as work:
        return ReleaseView.model_validate(deployment.get_release(work, release_id))


@router.get("/strategy-releases/{release_id}/acknowledgements")
def list_acknowledgements(
    call: Annotated[Call, permitted("deployment.read")], release_id: str
) -> list[AcknowledgementView]:
    """Return which channels work by a release, and how long they took."""
    with call.read() as work:
        deployment.get_release(work, release_id)
        found = deployment.acknowledgements_of(work, release_id)
        return [AcknowledgementView.model_validate(row) for row in found]


@router.put("/strategy-releases/{release_id}/acknowledgements")
def acknowledge_release(
    call: Annotated[Call, permitted("strategy.publish")], release_id: str, body: AcknowledgeBody
) -> AcknowledgementView:
    """Say that a channel works by a release; again keeps the first time."""
    with call.change() as work:
        row = deployment.acknowledge(work, release_id, body.channel, body.unit_id)
        work.session.flush()
        return AcknowledgementView.model_validate(row)


@router.get("/current-strategies/{unit_id}")
def list_current_strategies(
    call: Annotated[Call, permitted("deployment.read")], unit_id: str
) -> list[ChannelView]:
    """Return what all channels of a unit work by at this moment, one release for all."""
    with call.read() as work:
        found = deployment.standing_releases(work, unit_id)
        return [ChannelView.model_validate(part) for part in found]


@router.get("/current-strategies/{unit_id}/{channel}")
def get_current_strategies(
    call: Annotated[Call, permitted("deployment.read")], unit_id: str, channel: str
) -> ChannelView:
    """Return what a channel of a unit works by now; every channel has the same release."""
    with call.read() as work:
        found = deployment.standing_release(work, unit_id, channel)
        return ChannelView.model_validate(found)
