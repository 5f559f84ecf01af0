"""Plans: written, analysed, rehearsed, assessed, measured, closed."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field

from bihuan.server.api.frame import Body, Call, Criteria, Page, PageQuery, Router, View, permitted
from bihuan.server.app.plan import course, draft, library, local, prepare, result
from bihuan.server.app.plan.machine import events_from

router = Router(tag="plans")

Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")]
Read = Annotated[Call, permitted("plan.read")]
Edit = Annotated[Call, permitted("plan.edit")]
_GOAL = {
    "metric": "retained",
    "target": 0.02,
    "reason": {"zh": "离网上升", "en": "more customers leave"},
    "needs": {"zh": "关注与实惠", "en": "care and savings"},
    "starts_on": "2026-11-01",
    "ends_on": "2026-11-30",
}
_CONTENT = {
    "campaign": {"campaign_id": "keep-2026-11", "goal": _GOAL, "audience": "churn_score >= 0.1"}
}


class Title(Body):
    """A name in both languages."""

    zh: str = Field(min_length=1, max_length=200, examples=["存量客户保有"])
    en: str = Field(min_length=1, max_length=200, examples=["Keeping customers"])


class PlanBody(Body):
    """A new plan."""

    unit_id: Id = Field(examples=["city-1301"])
    kind: str = Field(max_length=32, examples=["retention"])
    title: Title
    content: dict[str, Any] = Field(default_factory=dict, examples=[_CONTENT])
    frame_id: Id | None = None
    note: str = Field("", max_length=1000)


class ContentBody(Body):
    """What the plan says from now on; a whole, not a part."""

    content: dict[str, Any] = Field(examples=[_CONTENT])
    title: Title | None = None
    note: str = Field("", max_length=1000)


class AnalysisBody(Body):
    """A market analysis."""

    document: dict[str, Any] = Field(
        examples=[{"market": {"zh": "稳中有降"}, "competition": ["异网低价套餐"]}]
    )


class RehearsalBody(Body):
    """How to rehearse."""

    as_of: date = Field(examples=["2026-10-31"])
    sample: int | None = Field(None, ge=1, le=10_000_000, description="Customers; none: all.")
    confirmed: list[str] = Field(default_factory=list, max_length=50)


class Judgement(Body):
    """One of the four judgements."""

    verdict: Literal["pass", "warn", "fail"]
    comment: str = Field("", max_length=2000)


class AssessmentBody(Body):
    """The four judgements of a plan."""

    feasibility: Judgement
    reasonableness: Judgement
    soundness: Judgement
    effect: Judgement
    comment: str = Field("", max_length=2000)


class CommentBody(Body):
    """Why."""

    comment: str = Field("", max_length=2000, examples=["已完成"])


class ChildrenBody(Body):
    """Units that carry the plan out."""

    units: list[Id] = Field(min_length=1, max_length=200, examples=[["city-1301"]])


class IntervalBody(Body):
    """An estimate with its interval, or the reason why there is none."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    reason: Title | None = None


class ResultBody(Body):
    """What the evaluation found."""

    metric: str = Field(max_length=32, examples=["retained"])
    response: float | None = None
    effect: IntervalBody
    roi: IntervalBody
    treated: int = Field(ge=0, le=2_000_000_000)
    held_out: int = Field(ge=0, le=2_000_000_000)
    document: dict[str, Any] = Field(default_factory=dict)


class PlanView(View):
    """A plan."""

    plan_id: str
    unit_id: str
    sharing: str
    title_zh: str
    title_en: str
    kind: str
    state: str
    allows: list[str]
    revision_id: str
    content_hash: str
    frame_id: str | None
    origin_id: str | None
    parent_id: str | None
    inherits: bool
    created_by: str
    created_at: datetime
    changed_at: datetime
    valid_until: date | None
    next_run_at: datetime | None
    starts_on: date | None
    ends_on: date | None
    budget: Decimal | None
    channels: list[str]
    result: str | None
    counts: dict[str, Any]
    version: int

    @classmethod
    def of(cls, plan: Any) -> PlanView:
        """Return the view of a plan."""
        own = {name: getattr(plan, name) for name in cls.model_fields if hasattr(plan, name)}
        listed = [name for name in plan.channels.split(",") if name]
        return cls(**{**own, "channels": listed, "allows": list(events_from(plan.state))})


class RevisionView(View):
    """What a plan said at one time."""

    revision_id: str
    plan_id: str
    number: int
    content: dict[str, Any]
    content_hash: str
    author_id: str
    note: str
    at: datetime


class RevisionLine(View):
    """A revision in a list, without its content."""

    revision_id: str
    number: int
    content_hash: str
    author_id: str
    note: str
    at: datetime


class ChangeView(View):
    """One field in which two contents differ."""

    path: str
    kind: str
    old: Any
    new: Any


class AnalysisView(View):
    """A market analysis."""

    analysis_id: str
    plan_id: str
    document: dict[str, Any]
    content_hash: str
    author_id: str
    at: datetime


class RehearsalView(View):
    """A rehearsal on record."""

    record_id: str
    plan_id: str
    content_hash: str
    rehearsal_id: str
    as_of: date
    customers: int
    contacts: int
    verdict: str
    judgements: dict[str, Any]
    by: str
    at: datetime


class AssessmentView(View):
    """An assessment on record."""

    assessment_id: str
    plan_id: str
    record_id: str
    content_hash: str
    judgements: dict[str, Any]
    verdict: str
    comment: str
    by: str
    at: datetime


class ResultView(View):
    """A result on record."""

    result_id: str
    plan_id: str
    content_hash: str
    metric: str
    result: str
    response: float | None
    effect: float | None
    effect_low: float | None
    effect_high: float | None
    roi: float | None
    roi_low: float | None
    roi_high: float | None
    treated: int
    held_out: int
    reason: dict[str, Any]
    by: str
    at: datetime


class ChildrenView(View):
    """Plans of the units that carry a plan out."""

    items: list[PlanView]


class PlanQuery(Criteria):
    """What to look for."""

    text: str | None = Field(None, max_length=200, description="Words in title, goal, audience.")
    state: str | None = Field(None, max_length=16)
    kind: str | None = Field(None, max_length=32)
    channel: str | None = Field(None, max_length=32)
    result: Literal["positive", "negative", "open", "unknown"] | None = None
    unit_id: str | None = Field(None, max_length=64, description="Owned there or below.")
    since: date | None = None
    until: date | None = None
    frame_id: str | None = Field(None, max_length=64)
    origin_id: str | None = Field(None, max_length=64)


@router.get("/plans")
def list_plans(
    call: Read, page: PageQuery, wanted: Annotated[PlanQuery, Query()]
) -> Page[PlanView]:
    """List the plans of your units, and what others share with you."""
    with call.read() as work:
        found = library.find_plans(work, library.Wanted(**wanted.model_dump()))
        return call.page(work, found, page, PlanView.of)


@router.post("/plans", status_code=201)
def create_plan(call: Edit, body: PlanBody) -> PlanView:
    """Begin a plan."""
    new = draft.NewPlan(
        body.unit_id, body.kind, body.title.model_dump(), body.content, body.frame_id, body.note
    )
    return call.create(
        lambda work: draft.open_plan(work, call.actor, new),
        PlanView.of,
        location=lambda view: f"/api/v1/plans/{view.plan_id}",
    )


@router.get("/plans/{plan_id}")
def get_plan(call: Read, plan_id: str) -> PlanView:
    """Return a plan; its content stands under `revisions`."""
    with call.read() as work:
        plan = draft.get_plan(work, plan_id)
        return call.show(PlanView.of(plan), plan.version)


@router.put("/plans/{plan_id}/content")
def put_content(call: Edit, plan_id: str, body: ContentBody) -> PlanView:
    """Give the plan a new revision; approvals, rehearsals and assessments of the old are void."""
    with call.change() as work:
        plan = draft.get_plan(work, plan_id)
        call.match(plan.version)
        title = body.title.model_dump() if body.title else None
        draft.edit_plan(work, call.actor, plan, body.content, title=title, note=body.note)
        work.session.flush()
        return call.show(PlanView.of(plan), plan.version)


@router.get("/plans/{plan_id}/revisions")
def list_revisions(call: Read, plan_id: str, page: PageQuery) -> Page[RevisionLine]:
    """List what the plan has said, newest first."""
    with call.read() as work:
        found = library.revisions_of(work, draft.get_plan(work, plan_id))
        return call.page(work, found, page, RevisionLine.model_validate)


@router.get("/plans/{plan_id}/revisions/{number}")
def get_revision(call: Read, plan_id: str, number: int) -> RevisionView:
    """Return one revision with its content; number 0 is the present one."""
    with call.read() as work:
        plan = draft.get_plan(work, plan_id)
        found = (
            library.get_revision(work, plan, number)
            if number
            else draft.current_revision(work, plan)
        )
        return RevisionView.model_validate(found)


@router.get("/plans/{plan_id}/differences")
def list_differences(
    call: Read, plan_id: str, old: int, new: int | None = None, other: str | None = None
) -> list[ChangeView]:
    """Return every field in which two revisions differ, or the plan and an `other` plan."""
    with call.read() as work:
        plan = draft.get_plan(work, plan_id)
        if other is not None:
            found = library.compare_plans(work, plan, draft.get_plan(work, other))
        else:
            last = new if new is not None else draft.current_revision(work, plan).number
            found = library.compare_revisions(work, plan, old, last)
        return [ChangeView.model_validate(change) for change in found]


@router.post("/plans/{plan_id}/analyses", status_code=201)
def create_analysis(call: Edit, plan_id: str, body: AnalysisBody) -> AnalysisView:
    """Record the market analysis that the plan rests on; a new revision of the plan."""
    return call.create(
        lambda work: draft.record_analysis(
            work, call.actor, draft.get_plan(work, plan_id), body.document
        ),
        AnalysisView.model_validate,
    )


@router.get("/plans/{plan_id}/analyses")
def list_analyses(call: Read, plan_id: str, page: PageQuery) -> Page[AnalysisView]:
    """List the market analyses of a plan."""
    with call.read() as work:
        found = course.find_records(work, draft.get_plan(work, plan_id), "analyses")
        return call.page(work, found, page, AnalysisView.model_validate)


@router.post("/plans/{plan_id}/rehearsals", status_code=201)
def create_rehearsal(call: Edit, plan_id: str, body: RehearsalBody) -> RehearsalView:
    """Rehearse the plan's present content now and record the result."""
    wish = prepare.RehearsalWish(body.as_of, body.sample, frozenset(body.confirmed))
    found, content_hash = prepare.run_rehearsal(call.service, call.actor, plan_id, wish)
    return call.create(
        lambda work: draft.record_rehearsal(
            work, call.actor, draft.get_plan(work, plan_id), found, content_hash=content_hash
        ),
        RehearsalView.model_validate,
    )


@router.get("/plans/{plan_id}/rehearsals")
def list_rehearsals(call: Read, plan_id: str, page: PageQuery) -> Page[RehearsalView]:
    """List the rehearsals of a plan."""
    with call.read() as work:
        found = course.find_records(work, draft.get_plan(work, plan_id), "rehearsals")
        return call.page(work, found, page, RehearsalView.model_validate)


@router.post("/plans/{plan_id}/assessments", status_code=201)
def create_assessment(call: Edit, plan_id: str, body: AssessmentBody) -> AssessmentView:
    """Judge feasibility, reasonableness, scientific soundness and expected effect."""
    given = body.model_dump()
    comment = given.pop("comment")
    return call.create(
        lambda work: draft.record_assessment(
            work, call.actor, draft.get_plan(work, plan_id), given, comment=comment
        ),
        AssessmentView.model_validate,
    )


@router.get("/plans/{plan_id}/assessments")
def list_assessments(call: Read, plan_id: str, page: PageQuery) -> Page[AssessmentView]:
    """List the assessments of a plan."""
    with call.read() as work:
        found = course.find_records(work, draft.get_plan(work, plan_id), "assessments")
        return call.page(work, found, page, AssessmentView.model_validate)


@router.post("/plans/{plan_id}/children", status_code=201)
def create_children(call: Edit, plan_id: str, body: ChildrenBody) -> ChildrenView:
    """Hand an approved plan to units below, each of which carries it out (两级执行)."""
    return call.create(
        lambda work: local.open_children(
            work, call.actor, draft.get_plan(work, plan_id), body.units
        ),
        lambda found: ChildrenView(items=[PlanView.of(child) for child in found]),
    )


@router.get("/plans/{plan_id}/children")
def list_children(call: Read, plan_id: str) -> ChildrenView:
    """List the plans of units that carry the plan out."""
    with call.read() as work:
        found = local.children_of(work, draft.get_plan(work, plan_id))
        return ChildrenView(items=[PlanView.of(child) for child in found])


@router.get("/plans/{plan_id}/counts")
def get_counts(call: Read, plan_id: str) -> dict[str, dict[str, int]]:
    """Return what was planned, contacted, ordered, by unit and in all."""
    with call.read() as work:
        return local.counts_of(work, draft.get_plan(work, plan_id))


@router.post("/plans/{plan_id}/completion")
def complete(call: Edit, plan_id: str, body: CommentBody) -> PlanView:
    """Say that the plan's execution is over."""
    with call.change() as work:
        plan = draft.get_plan(work, plan_id)
        call.match(plan.version)
        result.complete_plan(work, call.actor, plan, comment=body.comment)
        work.session.flush()
        return call.show(PlanView.of(plan), plan.version)


@router.post("/plans/{plan_id}/results", status_code=201)
def create_result(call: Edit, plan_id: str, body: ResultBody) -> ResultView:
    """Record what the evaluation of a completed plan found."""
    given = body.model_dump(exclude_none=True)
    return call.create(
        lambda work: result.record_evaluation(
            work, call.actor, draft.get_plan(work, plan_id), given
        ),
        ResultView.model_validate,
    )


@router.get("/plans/{plan_id}/results")
def list_results(call: Read, plan_id: str, page: PageQuery) -> Page[ResultView]:
    """List the results of a plan."""
    with call.read() as work:
        found = course.find_records(work, draft.get_plan(work, plan_id), "results")
        return call.page(work, found, page, ResultView.model_validate)


@router.post("/plans/{plan_id}/shelving")
def shelve(call: Edit, plan_id: str, body: CommentBody) -> PlanView:
    """Put an evaluated plan into the library."""
    with call.change() as work:
        plan = draft.get_plan(work, plan_id)
        call.match(plan.version)
        result.shelve_plan(work, call.actor, plan, comment=body.comment)
        work.session.flush()
        return call.show(PlanView.of(plan), plan.version)
