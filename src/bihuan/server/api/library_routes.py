"""The plan library: found, copied, shared, rated; good cases with their measured effect."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field

from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted
from bihuan.server.api.plan_routes import Id, PlanQuery, PlanView, ResultView, Title
from bihuan.server.app.plan import draft, library, result

router = Router(tag="plan library")

Read = Annotated[Call, permitted("plan.read")]
Edit = Annotated[Call, permitted("plan.edit")]
Share = Annotated[Call, permitted("plan.share")]


class CopyBody(Body):
    """A plan or a good case to begin from, and what is different."""

    plan_id: Id | None = None
    case_id: Id | None = None
    unit_id: Id = Field(examples=["city-1301"])
    title: Title
    campaign_id: str | None = Field(None, min_length=1, max_length=64, pattern=r"^[\w.-]+$")
    frame_id: Id | None = None
    changes: dict[str, Any] = Field(default_factory=dict, examples=[{"budget": 50000}])


class SharingBody(Body):
    """With whom."""

    sharing: Literal["own", "down", "all"]


class CaseBody(Body):
    """A measured plan to share as a good case."""

    plan_id: Id
    lesson: str = Field(min_length=1, max_length=4000, examples=["合约到期前 60 天联系最有效"])
    sharing: Literal["down", "all"] = "all"


class RatingBody(Body):
    """Stars."""

    stars: int = Field(ge=1, le=5)


class MarksView(View):
    """What readers made of it."""

    uses: int
    ratings: int
    stars: float | None
    helpful: int
    unhelpful: int


class ShelfView(View):
    """A plan of the library with its newest result and what readers made of it."""

    plan: PlanView
    result: ResultView | None
    marks: MarksView


class CaseView(View):
    """A good case."""

    case_id: str
    plan_id: str
    unit_id: str
    kind: str
    title_zh: str
    title_en: str
    lesson: str
    content: dict[str, Any]
    content_hash: str
    measured: dict[str, Any]
    sharing: str
    state: str
    shared_by: str
    shared_at: datetime
    version: int


@router.get("/plan-library")
def list_library(
    call: Read, page: PageQuery, wanted: Annotated[PlanQuery, Query()]
) -> Page[ShelfView]:
    """Search the library: plans that were carried out and measured, of your units or shared."""
    asked = library.Wanted(**{**wanted.model_dump(), "state": wanted.state or "library"})
    with call.read() as work:

        def present(plan: Any) -> ShelfView:
            found = result.last_result(work, plan)
            marks = library.marks_of(work, "plan", [plan.plan_id])[plan.plan_id]
            return ShelfView(
                plan=PlanView.of(plan),
                result=ResultView.model_validate(found) if found is not None else None,
                marks=MarksView.model_validate(marks),
            )

        return call.page(work, library.find_plans(work, asked), page, present)


@router.post("/plan-copies", status_code=201)
def create_copy(call: Edit, body: CopyBody) -> PlanView:
    """Begin a plan from another one, or from a good case; it keeps a reference to its origin."""
    copy = library.Copy(
        body.unit_id, body.title.model_dump(), body.campaign_id, body.frame_id, body.changes
    )
    return call.create(
        lambda work: library.copy_as_template(
            work,
            call.actor,
            library.find_origin(work, plan_id=body.plan_id, case_id=body.case_id),
            copy,
        ),
        PlanView.of,
        location=lambda view: f"/api/v1/plans/{view.plan_id}",
    )


@router.put("/plans/{plan_id}/sharing")
def put_sharing(call: Share, plan_id: str, body: SharingBody) -> PlanView:
    """Show an approved plan to the units below, to all, or to nobody else."""
    with call.change() as work:
        plan = draft.get_plan(work, plan_id)
        call.match(plan.version)
        library.share_plan(work, call.actor, plan, body.sharing)
        work.session.flush()
        return call.show(PlanView.of(plan), plan.version)


@router.put("/plans/{plan_id}/rating")
def put_rating(call: Read, plan_id: str, body: RatingBody) -> MarksView:
    """Rate a plan; a second rating of yours replaces the first."""
    with call.change() as work:
        plan = draft.get_plan(work, plan_id)
        library.rate(work, call.actor, plan, body.stars)
        return MarksView.model_validate(library.marks_of(work, "plan", [plan_id])[plan_id])


@router.get("/good-cases")
def list_cases(
    call: Read, page: PageQuery, text: str | None = None, kind: str | None = None
) -> Page[CaseView]:
    """List the good cases that units share, with the effect that was measured."""
    with call.read() as work:
        found = library.find_cases(work, text=text, kind=kind)
        return call.page(work, found, page, CaseView.model_validate)


@router.post("/good-cases", status_code=201)
def create_case(call: Share, body: CaseBody) -> CaseView:
    """Share a measured plan as a good case."""
    return call.create(
        lambda work: library.share_case(
            work,
            call.actor,
            draft.get_plan(work, body.plan_id),
            lesson=body.lesson,
            sharing=body.sharing,
        ),
        CaseView.model_validate,
        location=lambda view: f"/api/v1/good-cases/{view.case_id}",
    )


@router.get("/good-cases/{case_id}")
def get_case(call: Read, case_id: str) -> CaseView:
    """Return a good case with its content."""
    with call.read() as work:
        case = library.get_case(work, case_id)
        return call.show(CaseView.model_validate(case), case.version)


@router.post("/good-cases/{case_id}/withdrawal")
def withdraw_case(call: Share, case_id: str) -> CaseView:
    """Take a good case out of sight of others."""
    with call.change() as work:
        case = library.get_case(work, case_id)
        call.match(case.version)
        library.withdraw_case(work, call.actor, case)
        work.session.flush()
        return call.show(CaseView.model_validate(case), case.version)


@router.put("/good-cases/{case_id}/rating")
def put_case_rating(call: Read, case_id: str, body: RatingBody) -> MarksView:
    """Rate a good case; a second rating of yours replaces the first."""
    with call.change() as work:
        case = library.get_case(work, case_id)
        library.rate(work, call.actor, case, body.stars)
        return MarksView.model_validate(library.marks_of(work, "case", [case_id])[case_id])


@router.get("/good-cases/{case_id}/marks")
def get_case_marks(call: Read, case_id: str) -> MarksView:
    """Return how often a good case was used, and its ratings."""
    with call.read() as work:
        case = library.get_case(work, case_id)
        return MarksView.model_validate(library.marks_of(work, "case", [case.case_id])[case_id])
