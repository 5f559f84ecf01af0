"""Frames of a level above, and impact assessments: what plans have to keep within."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted
from bihuan.server.api.plan_routes import Id, PlanView, Title
from bihuan.server.app.plan import impact, local

router = Router(tag="plan frames")

Read = Annotated[Call, permitted("plan.read")]
Edit = Annotated[Call, permitted("plan.edit")]
Share = Annotated[Call, permitted("plan.share")]
_LIMITS = [
    {"field": "campaign.control_share", "low": 0.1, "high": 0.3},
    {"field": "campaign.channels", "allowed": ["app", "sms"]},
]
_IMPACT = {
    "purpose": "客户维系推荐",
    "necessity": "履行合同所必需",
    "data": "套餐、账单，不含敏感个人信息",
    "rights": "低风险",
    "measures": "可一键拒绝；不作不合理差别定价",
}


class FrameBody(Body):
    """A frame."""

    unit_id: Id = Field(examples=["province"])
    kind: str = Field(max_length=32, examples=["retention"])
    title: Title
    limits: list[dict[str, Any]] = Field(max_length=100, examples=[_LIMITS])
    template: dict[str, Any] = Field(default_factory=dict)
    valid_until: date | None = None

    def new(self) -> local.NewFrame:
        """Return what the use case takes."""
        return local.NewFrame(
            self.unit_id,
            self.kind,
            self.title.model_dump(),
            self.limits,
            self.template,
            self.valid_until,
        )


class FramedPlanBody(Body):
    """A plan of one's own inside a frame."""

    unit_id: Id = Field(examples=["city-1301"])
    title: Title
    content: dict[str, Any] = Field(default_factory=dict)


class FrameView(View):
    """A frame."""

    frame_id: str
    unit_id: str
    sharing: str
    title_zh: str
    title_en: str
    kind: str
    state: str
    limits: list[Any]
    template: dict[str, Any]
    created_by: str
    created_at: datetime
    published_by: str | None
    published_at: datetime | None
    valid_until: date | None
    version: int


class ImpactBody(Body):
    """An impact assessment; about one plan or one kind of plan."""

    unit_id: Id = Field(examples=["province"])
    plan_id: Id | None = None
    kind: str | None = Field(None, max_length=32, examples=["retention"])
    document: dict[str, str] = Field(examples=[_IMPACT])
    conclusion: Literal["acceptable", "with_measures", "unacceptable"]
    valid_from: date = Field(examples=["2026-11-01"], ge=date(2000, 1, 1), le=date(2200, 1, 1))
    valid_until: date = Field(examples=["2027-10-31"], ge=date(2000, 1, 1), le=date(2200, 1, 1))


class RevocationBody(Body):
    """Why it holds no longer."""

    why: str = Field(min_length=1, max_length=1000, examples=["处理方式改变"])


class ImpactView(View):
    """An impact assessment."""

    impact_id: str
    unit_id: str
    plan_id: str | None
    kind: str | None
    document: dict[str, Any]
    conclusion: str
    valid_from: date
    valid_until: date
    keep_until: date
    by: str
    at: datetime
    revoked_by: str | None
    revoked_at: datetime | None
    revoked_why: str
    version: int


@router.get("/plan-frames")
def list_frames(call: Read, page: PageQuery, state: str | None = None) -> Page[FrameView]:
    """List the frames of your units, and the published ones of the units above."""
    with call.read() as work:
        found = local.find_frames(work, state=state)
        return call.page(work, found, page, FrameView.model_validate)


@router.post("/plan-frames", status_code=201)
def create_frame(call: Edit, body: FrameBody) -> FrameView:
    """Write a frame down as a draft."""
    return call.create(
        lambda work: local.open_frame(work, call.actor, body.new()),
        FrameView.model_validate,
        location=lambda view: f"/api/v1/plan-frames/{view.frame_id}",
    )


@router.get("/plan-frames/{frame_id}")
def get_frame(call: Read, frame_id: str) -> FrameView:
    """Return a frame."""
    with call.read() as work:
        frame = local.get_frame(work, frame_id)
        return call.show(FrameView.model_validate(frame), frame.version)


@router.put("/plan-frames/{frame_id}")
def put_frame(call: Edit, frame_id: str, body: FrameBody) -> FrameView:
    """Change a frame that is not published yet."""
    with call.change() as work:
        frame = local.get_frame(work, frame_id)
        call.match(frame.version)
        local.edit_frame(work, call.actor, frame, body.new())
        work.session.flush()
        return call.show(FrameView.model_validate(frame), frame.version)


@router.post("/plan-frames/{frame_id}/publication")
def publish_frame(call: Share, frame_id: str) -> FrameView:
    """Publish a frame to every unit below; it is fixed from then on."""
    with call.change() as work:
        frame = local.get_frame(work, frame_id)
        call.match(frame.version)
        local.publish_frame(work, call.actor, frame)
        work.session.flush()
        return call.show(FrameView.model_validate(frame), frame.version)


@router.post("/plan-frames/{frame_id}/withdrawal")
def withdraw_frame(call: Share, frame_id: str) -> FrameView:
    """Withdraw a frame: no plan is opened or filed in it any more."""
    with call.change() as work:
        frame = local.get_frame(work, frame_id)
        call.match(frame.version)
        local.withdraw_frame(work, call.actor, frame)
        work.session.flush()
        return call.show(FrameView.model_validate(frame), frame.version)


@router.post("/plan-frames/{frame_id}/plans", status_code=201)
def create_framed_plan(call: Edit, frame_id: str, body: FramedPlanBody) -> PlanView:
    """Open a plan of one's own inside a frame; it begins with the frame's template."""
    return call.create(
        lambda work: local.open_in_frame(
            work,
            call.actor,
            local.get_frame(work, frame_id),
            unit_id=body.unit_id,
            title=body.title.model_dump(),
            content=body.content,
        ),
        PlanView.of,
        location=lambda view: f"/api/v1/plans/{view.plan_id}",
    )


@router.get("/impact-assessments")
def list_impacts(
    call: Annotated[Call, permitted("impact.read")],
    page: PageQuery,
    kind: str | None = None,
    plan_id: str | None = None,
) -> Page[ImpactView]:
    """List the impact assessments of your units, and those above that cover them."""
    with call.read() as work:
        found = impact.find_impacts(work, kind=kind, plan_id=plan_id)
        return call.page(work, found, page, ImpactView.model_validate)


@router.post("/impact-assessments", status_code=201)
def create_impact(
    call: Annotated[Call, permitted("impact.manage")], body: ImpactBody
) -> ImpactView:
    """Record an impact assessment of automated decisions on personal information."""
    new = impact.NewImpact(**body.model_dump())
    return call.create(
        lambda work: impact.record_impact(work, call.actor, new),
        ImpactView.model_validate,
        location=lambda view: f"/api/v1/impact-assessments/{view.impact_id}",
    )


@router.get("/impact-assessments/{impact_id}")
def get_impact(call: Annotated[Call, permitted("impact.read")], impact_id: str) -> ImpactView:
    """Return an impact assessment."""
    with call.read() as work:
        row = impact.get_impact(work, impact_id)
        return call.show(ImpactView.model_validate(row), row.version)


@router.post("/impact-assessments/{impact_id}/revocation")
def revoke_impact(
    call: Annotated[Call, permitted("impact.manage")], impact_id: str, body: RevocationBody
) -> ImpactView:
    """End an impact assessment; what rests on it alone deploys no more."""
    with call.change() as work:
        row = impact.get_impact(work, impact_id)
        call.match(row.version)
        impact.revoke_impact(work, call.actor, row, why=body.why)
        work.session.flush()
        return call.show(ImpactView.model_validate(row), row.version)
