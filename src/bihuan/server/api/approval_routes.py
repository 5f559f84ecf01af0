"""Plans: filed level by level, decided, delegated, returned, stopped and resumed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted
from bihuan.server.api.plan_routes import CommentBody, Id, PlanView
from bihuan.server.app.plan import approval, course, draft, gate, prepare, stop

router = Router(tag="plan approvals")

Read = Annotated[Call, permitted("plan.read")]
Edit = Annotated[Call, permitted("plan.edit")]
Approve = Annotated[Call, permitted("plan.approve")]
Stop = Annotated[Call, permitted("plan.stop")]


class DecisionBody(Body):
    """An approval of what was seen."""

    content_hash: str = Field(pattern=r"^[0-9a-f]{64}$", examples=["0" * 64])
    step_id: Id | None = None
    comment: str = Field("", max_length=2000)


class ReasonBody(Body):
    """A needed reason."""

    comment: str = Field(min_length=1, max_length=2000, examples=["对照组太小"])


class DelegationBody(Body):
    """To whom, and why."""

    account_id: Id = Field(examples=["account_1"])
    why: str = Field(min_length=1, max_length=1000, examples=["出差"])


class StopBody(Body):
    """What to stop; neither channels nor units: the whole plan."""

    reason: str = Field(min_length=1, max_length=1000, examples=["投诉上升"])
    channels: list[Id] | None = Field(None, max_length=20)
    units: list[Id] | None = Field(None, max_length=200)


class ResumptionBody(Body):
    """Which stops to lift; none named: all within reach."""

    stop_ids: list[Id] | None = Field(None, max_length=200)
    why: str = Field("", max_length=1000)


class StepView(View):
    """One level's part in a filing."""

    step_id: str
    plan_id: str
    filing_id: str
    position: int
    kind: str
    at_unit_id: str
    content_hash: str
    state: str
    decided_by: str | None
    decided_at: datetime | None
    comment: str
    delegated_to: str | None
    delegated_by: str | None
    delegated_at: datetime | None
    delegated_why: str


class FilingView(View):
    """One submission of a plan."""

    filing_id: str
    number: int
    revision_id: str
    content_hash: str
    needs_review: bool
    state: str
    by: str
    comment: str
    at: datetime
    closed_at: datetime | None


class MoveView(View):
    """One step of a plan through its states."""

    number: int
    event: str
    before: str
    after: str
    content_hash: str
    comment: str
    by: str
    at: datetime


class StopView(View):
    """A stop, lifted or in force."""

    stop_id: str
    plan_id: str
    unit_id: str
    is_whole: bool
    channels: list[str]
    reason: str
    by: str
    at: datetime
    lifted_by: str | None
    lifted_at: datetime | None
    lifted_why: str


class StopsView(View):
    """Stops of a plan."""

    items: list[StopView]


class ActiveStopView(View):
    """A stop in force, the plan above included."""

    stop_id: str
    is_whole: bool
    unit_id: str
    channels: list[str]
    reason: str
    since: datetime


class RunView(View):
    """One carrying out of a plan."""

    run_id: str
    due_at: datetime | None
    content_hash: str
    state: str
    reason: str
    deployment_id: str | None
    opened_at: datetime


@router.post("/plans/{plan_id}/filing")
def file_plan(call: Edit, plan_id: str, body: CommentBody) -> PlanView:
    """File an assessed plan upward, level by level (逐级上报备案)."""
    with call.read() as work:
        content = draft.current_revision(work, draft.get_plan(work, plan_id)).content
    terms = prepare.filing_terms(call.service, content)
    return _move(
        call,
        plan_id,
        lambda work, plan: approval.file_plan(work, call.actor, plan, terms, comment=body.comment),
    )


@router.post("/plans/{plan_id}/retrieval")
def take_back(call: Edit, plan_id: str, body: CommentBody) -> PlanView:
    """Take a filed plan back before it is decided."""
    return _move(
        call,
        plan_id,
        lambda work, plan: approval.take_back(work, call.actor, plan, comment=body.comment),
    )


@router.post("/plans/{plan_id}/approval")
def approve(call: Approve, plan_id: str, body: DecisionBody) -> PlanView:
    """Approve the open step of a filed plan; of exactly the content with `content_hash`."""
    return _move(
        call,
        plan_id,
        lambda work, plan: approval.approve_plan(
            work,
            call.actor,
            plan,
            content_hash=body.content_hash,
            step_id=body.step_id,
            comment=body.comment,
        ),
    )


@router.post("/plans/{plan_id}/return")
def return_plan(call: Approve, plan_id: str, body: ReasonBody) -> PlanView:
    """Return a plan to its makers with a comment; every approval of it is void."""
    return _move(
        call,
        plan_id,
        lambda work, plan: approval.return_plan(work, call.actor, plan, comment=body.comment),
    )


@router.post("/plans/{plan_id}/delegation")
def delegate(call: Approve, plan_id: str, body: DelegationBody) -> PlanView:
    """Let another approver of the level, or of one above, decide the open step too."""
    return _move(
        call,
        plan_id,
        lambda work, plan: approval.delegate_step(
            work, call.actor, plan, body.account_id, why=body.why
        ),
    )


@router.post("/plans/{plan_id}/withdrawal")
def withdraw(call: Edit, plan_id: str, body: CommentBody) -> PlanView:
    """Give a plan up that does not run."""
    return _move(
        call,
        plan_id,
        lambda work, plan: approval.withdraw_plan(work, call.actor, plan, comment=body.comment),
    )


@router.post("/plans/{plan_id}/voiding")
def void(call: Approve, plan_id: str, body: ReasonBody) -> PlanView:
    """Void a plan for good, also one that runs."""
    return _move(
        call,
        plan_id,
        lambda work, plan: approval.void_plan(work, call.actor, plan, comment=body.comment),
    )


@router.get("/waiting-approvals")
def list_waiting(call: Approve, page: PageQuery) -> Page[StepView]:
    """List the steps that wait for you: of your units, or delegated to you."""
    with call.read() as work:
        found = course.find_waiting(work, call.actor)
        return call.page(work, found, page, StepView.model_validate)


@router.get("/plans/{plan_id}/filings")
def list_filings(call: Read, plan_id: str, page: PageQuery) -> Page[FilingView]:
    """List the submissions of a plan, newest first."""
    with call.read() as work:
        found = course.find_records(work, draft.get_plan(work, plan_id), "filings")
        return call.page(work, found, page, FilingView.model_validate)


@router.get("/plans/{plan_id}/steps")
def list_steps(call: Read, plan_id: str, page: PageQuery) -> Page[StepView]:
    """List every level's part in every filing of a plan."""
    with call.read() as work:
        found = course.find_records(work, draft.get_plan(work, plan_id), "steps")
        return call.page(work, found, page, StepView.model_validate)


@router.get("/plans/{plan_id}/moves")
def list_moves(call: Read, plan_id: str, page: PageQuery) -> Page[MoveView]:
    """List the course of a plan through its states, newest first."""
    with call.read() as work:
        found = course.find_records(work, draft.get_plan(work, plan_id), "moves")
        return call.page(work, found, page, MoveView.model_validate)


@router.get("/plans/{plan_id}/runs")
def list_runs(call: Read, plan_id: str, page: PageQuery) -> Page[RunView]:
    """List the runs of a plan, newest first."""
    with call.read() as work:
        found = course.find_records(work, draft.get_plan(work, plan_id), "runs")
        return call.page(work, found, page, RunView.model_validate)


@router.post("/plans/{plan_id}/stops", status_code=201)
def create_stops(call: Stop, plan_id: str, body: StopBody) -> StopsView:
    """Stop a running plan, as a whole or in part; in force at once.

    Needs no If-Match: a stop must not fail because somebody else has just changed the plan.
    """
    return call.create(
        lambda work: stop.pause(
            work,
            call.actor,
            draft.get_plan(work, plan_id),
            channels=body.channels,
            units=body.units,
            reason=body.reason,
        ),
        lambda found: StopsView(items=[StopView.model_validate(one) for one in found]),
    )


@router.post("/plans/{plan_id}/resumption")
def resume(call: Stop, plan_id: str, body: ResumptionBody) -> PlanView:
    """Lift stops of a plan."""
    return _move(
        call,
        plan_id,
        lambda work, plan: stop.resume(
            work, call.actor, plan, stop_ids=body.stop_ids, why=body.why
        ),
    )


@router.get("/plans/{plan_id}/stops")
def list_stops(call: Read, plan_id: str) -> StopsView:
    """List the stops of a plan within reach, lifted ones included."""
    with call.read() as work:
        found = stop.stops_of(work, draft.get_plan(work, plan_id))
        return StopsView(items=[StopView.model_validate(one) for one in found])


@router.get("/plans/{plan_id}/active-stops")
def list_active_stops(call: Read, plan_id: str) -> list[ActiveStopView]:
    """List what stops the plan now, the plan above it and its own state included."""
    with call.read() as work:
        plan = draft.get_plan(work, plan_id)
        return [ActiveStopView.model_validate(one) for one in gate.stops(work, plan.plan_id)]


def _move(call: Call, plan_id: str, do: Callable[[Any, Any], Any]) -> PlanView:
    with call.change() as work:
        plan = draft.get_plan(work, plan_id)
        call.match(plan.version)
        do(work, plan)
        work.session.flush()
        return call.show(PlanView.of(plan), plan.version)
