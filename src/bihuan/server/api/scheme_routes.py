"""Schemes designed from the data, and the branches coached in carrying them out."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field

from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted
from bihuan.server.app import scheme

router = Router(tag="schemes")

_TERMS = {
    "score": "churn_score",
    "kind": "risk",
    "model": "churn",
    "within": "not has_left",
    "channels": {"outbound": {"unit_cost": 2, "acceptance": 0.25, "capacity": 400}},
    "starts_on": "2026-12-01",
    "ends_on": "2026-12-31",
    "kept_share": 0.6,
}


class DesignBody(Body):
    """The order for a scheme."""

    product: str = Field(min_length=1, max_length=64, examples=["fee_basic_12"])
    unit_id: str = Field(min_length=1, max_length=64, examples=["province"])
    terms: dict[str, Any] = Field(examples=[_TERMS])
    as_of: date | None = None
    draft: bool = Field(True, description="Whether a plan is drafted from it.")


class TickBody(Body):
    """A task that is done."""

    quantity: int | None = Field(None, ge=0, le=1_000_000_000)
    note: str = Field("", max_length=500)


class NoteBody(Body):
    """Why."""

    note: str = Field("", max_length=500)


class FeedbackBody(Body):
    """What a branch says."""

    kind: Literal["problem", "suggestion", "practice"]
    text: str = Field(min_length=1, max_length=2000)


class ReplyBody(Body):
    """What it is answered."""

    text: str = Field(min_length=1, max_length=2000)


class SchemeView(View):
    """A designed scheme."""

    scheme_id: str
    unit_id: str
    product: str
    title_zh: str
    title_en: str
    as_of: date
    terms: dict[str, Any]
    content: dict[str, Any]
    proposal: dict[str, Any]
    plan_id: str | None
    made_by: str
    made_at: datetime

    @classmethod
    def of(cls, row: Any) -> SchemeView:
        """Return the view of ``row``."""
        return cls.model_validate(row)


class GuideView(View):
    """What a branch has to do."""

    guide_id: str
    scheme_id: str
    unit_id: str
    title_zh: str
    title_en: str
    targets: dict[str, Any]
    advice: dict[str, Any]
    made_at: datetime

    @classmethod
    def of(cls, row: Any) -> GuideView:
        """Return the view of ``row``."""
        return cls.model_validate(row)


class GuidesView(View):
    """The guides of a scheme."""

    items: list[GuideView]


class TaskView(View):
    """One thing to do."""

    guide_task_id: str
    guide_id: str
    unit_id: str
    number: int
    what_zh: str
    what_en: str
    post: str
    starts_on: date
    ends_on: date
    quantity: int | None
    done_at: datetime | None
    done_by: str | None
    done_quantity: int | None
    note: str
    version: int


class FeedbackView(View):
    """What was said and answered."""

    guide_feedback_id: str
    guide_id: str
    unit_id: str
    kind: str
    text: str
    made_by: str
    made_at: datetime
    reply: str
    replied_by: str | None
    replied_at: datetime | None
    version: int

    @classmethod
    def of(cls, row: Any) -> FeedbackView:
        """Return the view of ``row``."""
        return cls.model_validate(row)


class ProgressView(View):
    """How far a branch has come."""

    unit_id: str
    tasks: int
    done: int
    late: int
    planned: int
    made: int


@router.get("/schemes")
def list_schemes(
    call: Annotated[Call, permitted("plan.read")],
    page: PageQuery,
    product: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[SchemeView]:
    """List designed schemes, newest first."""
    with call.read() as work:
        return call.page(work, scheme.find_schemes(product), page, SchemeView.of)


@router.post("/schemes", status_code=201)
def design(call: Annotated[Call, permitted("plan.edit")], body: DesignBody) -> SchemeView:
    """Design a scheme: refresh tags, score, propose, rehearse, and leave a draft of a plan.

    It answers when the scheme is there. Submit the job kind `scheme_design` for long runs.
    """
    found = scheme.propose(
        call.service, call.actor, body.product, unit_id=body.unit_id, terms=body.terms,
        as_of=body.as_of,
    )  # fmt: skip

    def keep(work: Any) -> Any:
        row = scheme.keep_scheme(work, call.actor, found, body.terms)
        return scheme.draft_plan(work, call.service, call.actor, row) if body.draft else row

    return call.create(
        keep, SchemeView.of, location=lambda view: f"/api/v1/schemes/{view.scheme_id}"
    )


@router.get("/schemes/{scheme_id}")
def get_scheme(call: Annotated[Call, permitted("plan.read")], scheme_id: str) -> SchemeView:
    """Return a scheme."""
    with call.read() as work:
        row = scheme.get_scheme(work, scheme_id)
        return call.show(SchemeView.of(row), row.version)


@router.post("/schemes/{scheme_id}/guides", status_code=201)
def issue_guides(call: Annotated[Call, permitted("plan.edit")], scheme_id: str) -> GuidesView:
    """Issue the guide of every branch; their targets sum to the scheme's."""
    return call.create(
        lambda work: scheme.issue_guides(work, call.actor, scheme.get_scheme(work, scheme_id)),
        lambda rows: GuidesView(items=[GuideView.of(row) for row in rows]),
    )


@router.get("/schemes/{scheme_id}/progress")
def get_progress(
    call: Annotated[Call, permitted("plan.read")], scheme_id: str
) -> list[ProgressView]:
    """Tell how far each branch within reach has come."""
    with call.read() as work:
        row = scheme.get_scheme(work, scheme_id)
        found = scheme.progress_of(work, row, work.now.date())
        return [ProgressView.model_validate(one) for one in found]


@router.get("/guides")
def list_guides(
    call: Annotated[Call, permitted("plan.read")],
    page: PageQuery,
    scheme_id: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[GuideView]:
    """List the guides of your units."""
    with call.read() as work:
        return call.page(work, scheme.find_guides(scheme_id), page, GuideView.of)


@router.get("/guides/{guide_id}")
def get_guide(call: Annotated[Call, permitted("plan.read")], guide_id: str) -> GuideView:
    """Return a guide."""
    with call.read() as work:
        row = scheme.get_guide(work, guide_id)
        return call.show(GuideView.of(row), row.version)


@router.get("/guides/{guide_id}/tasks")
def list_tasks(call: Annotated[Call, permitted("plan.read")], guide_id: str) -> list[TaskView]:
    """Return a guide's tasks in order."""
    with call.read() as work:
        row = scheme.get_guide(work, guide_id)
        rows = work.session.scalars(scheme.find_tasks(row.guide_id))
        return [TaskView.model_validate(one) for one in rows]


@router.post("/guide-tasks/{task_id}/tick")
def tick(call: Annotated[Call, permitted("guide.work")], task_id: str, body: TickBody) -> TaskView:
    """Tick a task off."""
    with call.change() as work:
        row = scheme.get_task(work, task_id)
        call.match(row.version)
        scheme.tick(work, call.actor, row, quantity=body.quantity, note=body.note)
        work.session.flush()
        return call.show(TaskView.model_validate(row), row.version)


@router.post("/guide-tasks/{task_id}/reopening")
def reopen(
    call: Annotated[Call, permitted("guide.work")], task_id: str, body: NoteBody
) -> TaskView:
    """Take a tick back."""
    with call.change() as work:
        row = scheme.get_task(work, task_id)
        call.match(row.version)
        scheme.reopen(work, call.actor, row, note=body.note)
        work.session.flush()
        return call.show(TaskView.model_validate(row), row.version)


@router.get("/guides/{guide_id}/feedback")
def list_feedback(
    call: Annotated[Call, permitted("plan.read")], guide_id: str, page: PageQuery
) -> Page[FeedbackView]:
    """List what a branch has said."""
    with call.read() as work:
        row = scheme.get_guide(work, guide_id)
        return call.page(work, scheme.find_feedback(row.guide_id), page, FeedbackView.of)


@router.post("/guides/{guide_id}/feedback", status_code=201)
def say(
    call: Annotated[Call, permitted("guide.work")], guide_id: str, body: FeedbackBody
) -> FeedbackView:
    """Say what is wrong, what could be better, or what has worked."""
    return call.create(
        lambda work: scheme.say(
            work, call.actor, scheme.get_guide(work, guide_id), kind=body.kind, text=body.text
        ),
        FeedbackView.of,
    )


@router.post("/guide-feedback/{feedback_id}/reply")
def reply(
    call: Annotated[Call, permitted("plan.edit")], feedback_id: str, body: ReplyBody
) -> FeedbackView:
    """Answer a branch."""
    with call.change() as work:
        row = scheme.get_feedback(work, feedback_id)
        call.match(row.version)
        scheme.answer(work, call.actor, row, text=body.text)
        work.session.flush()
        return call.show(FeedbackView.of(row), row.version)
