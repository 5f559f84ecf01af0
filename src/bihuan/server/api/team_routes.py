"""Teams and mergers, operating processes, training."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted
from bihuan.server.app import team

router = Router(tag="teams")

Id = Annotated[str, Field(min_length=1, max_length=64)]
Planned = Annotated[
    dict[str, Annotated[int, Field(ge=0, le=100_000)]],
    Field(examples=[{"operator": 25, "lead": 5}]),
]


class Title(Body):
    """A text in both languages."""

    zh: str = Field(min_length=1, max_length=100)
    en: str = Field(min_length=1, max_length=200)


class TeamBody(Body):
    """A new team."""

    unit_id: Id
    kind: str = Field(max_length=32, examples=["touchpoint"])
    name: Title
    planned: Planned


class PlannedBody(Body):
    """Planned people by post."""

    planned: Planned


class MemberBody(Body):
    """A person who joins."""

    staff_id: Id
    post: str = Field(max_length=32, examples=["operator"])
    since: date


class ReleaseBody(Body):
    """A person who leaves."""

    staff_id: Id
    until: date


class MergerBody(Body):
    """A merger into a team."""

    others: list[Id] = Field(min_length=1, max_length=100)
    posts: dict[str, str] = Field(default_factory=dict, examples=[{"lead": "support"}])
    on: date
    reason: str = Field(min_length=1, max_length=500)


class StepBody(Body):
    """A step of a process."""

    name: str = Field(min_length=1, max_length=64)
    title: Title
    team_kind: str = Field(max_length=32, examples=["digital_support"])
    post: str = Field(max_length=32, examples=["product_configuration"])
    days: int = Field(ge=0, le=365)


class ProcessBody(Body):
    """A process, or its next version."""

    unit_id: Id
    name: str = Field(min_length=1, max_length=64, examples=["product_listing"])
    title: Title
    steps: list[StepBody] = Field(min_length=1, max_length=50)


class RunBody(Body):
    """Something that goes through a process."""

    unit_id: Id
    subject: str = Field(min_length=1, max_length=200)


class AdvanceBody(Body):
    """The step that is finished."""

    step: str = Field(min_length=1, max_length=64)
    note: str = Field("", max_length=500)


class ReasonBody(Body):
    """Why."""

    reason: str = Field(min_length=1, max_length=500)


class CourseBody(Body):
    """A new course."""

    unit_id: Id
    title: Title
    hours: float = Field(gt=0, le=1000)
    team_kinds: list[str] = Field(min_length=1, max_length=20, examples=[["touchpoint"]])
    pass_mark: float = Field(ge=0, le=100)
    due_on: date


class ResultBody(Body):
    """A person's mark."""

    staff_id: Id
    mark: float = Field(ge=0, le=100)
    on: date


class TeamView(View):
    """A team."""

    team_id: str
    unit_id: str
    kind: str
    name_zh: str
    name_en: str
    planned: dict[str, int]
    status: str
    merged_into: str | None
    made_at: datetime
    version: int


class MemberView(View):
    """A person's time in a team."""

    team_member_id: str
    team_id: str
    staff_id: str
    post: str
    since: date
    until: date | None
    change_id: str | None


class ChangeView(View):
    """A merger."""

    team_change_id: str
    into_team_id: str
    from_team_ids: list[str]
    moved: list[dict[str, str]]
    reason: str
    on_date: date
    made_by: str


class HeadcountView(View):
    """Planned and actual people of one kind of team at one level."""

    tier: str
    kind: str
    teams: int
    planned: int
    actual: int
    by_post: dict[str, tuple[int, int]]


class ProcessView(View):
    """A process."""

    process_id: str
    unit_id: str
    name: str
    number: int
    title_zh: str
    title_en: str
    steps: list[dict[str, Any]]
    status: str


class RunView(View):
    """One time through a process."""

    process_run_id: str
    process_id: str
    unit_id: str
    subject: str
    steps: list[dict[str, Any]]
    at_step: int
    status: str
    log: list[dict[str, Any]]
    version: int


class CourseView(View):
    """A course."""

    course_id: str
    unit_id: str
    title_zh: str
    title_en: str
    hours: float
    team_kinds: list[str]
    pass_mark: float
    due_on: date


class RecordView(View):
    """A person's result."""

    training_record_id: str
    course_id: str
    staff_id: str
    unit_id: str
    mark: float
    passed: bool
    completed_on: date


class CompletionView(View):
    """How far a course has come at a unit."""

    unit_id: str
    due: int
    passed: int
    failed: int
    rate: float | None


_team, _run = TeamView.model_validate, RunView.model_validate
_process, _course = ProcessView.model_validate, CourseView.model_validate


@router.get("/teams")
def list_teams(
    call: Annotated[Call, permitted("team.read")],
    page: PageQuery,
    kind: Annotated[str | None, Query(max_length=32)] = None,
    status: Annotated[str | None, Query(max_length=16)] = None,
) -> Page[TeamView]:
    """List the teams of your units."""
    with call.read() as work:
        return call.page(work, team.find_teams(kind, status), page, _team)


@router.post("/teams", status_code=201)
def open_team(call: Annotated[Call, permitted("team.manage")], body: TeamBody) -> TeamView:
    """Set up a team with planned people by post."""
    return call.create(
        lambda work: team.open_team(
            work, body.unit_id, body.kind, body.name.model_dump(), body.planned
        ),
        _team,
        location=lambda view: f"/api/v1/teams/{view.team_id}",
    )


@router.get("/teams/{team_id}")
def get_team(call: Annotated[Call, permitted("team.read")], team_id: str) -> TeamView:
    """Return a team."""
    with call.read() as work:
        row = team.get_team(work, team_id)
        return call.show(_team(row), row.version)


@router.put("/teams/{team_id}/planned")
def set_planned(
    call: Annotated[Call, permitted("team.manage")], team_id: str, body: PlannedBody
) -> TeamView:
    """Change a team's planned people."""
    with call.change() as work:
        row = team.get_team(work, team_id)
        call.match(row.version)
        team.set_planned(work, row, body.planned)
        work.session.flush()
        return call.show(_team(row), row.version)


@router.get("/teams/{team_id}/members")
def list_members(
    call: Annotated[Call, permitted("team.read")], team_id: str, past: bool = False
) -> list[MemberView]:
    """Return a team's members; with `past` also those who have left."""
    with call.read() as work:
        row = team.get_team(work, team_id)
        found = team.members_of(work, row.team_id, past=past)
        return [MemberView.model_validate(one) for one in found]


@router.post("/teams/{team_id}/members", status_code=201)
def add_member(
    call: Annotated[Call, permitted("team.manage")], team_id: str, body: MemberBody
) -> MemberView:
    """Let a person into a team."""
    return call.create(
        lambda work: team.add_member(
            work, team.get_team(work, team_id), body.staff_id, body.post, since=body.since
        ),
        MemberView.model_validate,
    )


@router.post("/teams/{team_id}/releases", status_code=201)
def release_member(
    call: Annotated[Call, permitted("team.manage")], team_id: str, body: ReleaseBody
) -> MemberView:
    """Let a person leave a team."""
    return call.create(
        lambda work: team.release_member(
            work, team.get_team(work, team_id), body.staff_id, until=body.until
        ),
        MemberView.model_validate,
    )


@router.post("/teams/{team_id}/mergers", status_code=201)
def merge_teams(
    call: Annotated[Call, permitted("team.manage")], team_id: str, body: MergerBody
) -> ChangeView:
    """Merge other teams into this one; their people move and the history stays."""
    return call.create(
        lambda work: team.merge_teams(
            work, call.actor, team.get_team(work, team_id),
            [team.get_team(work, other) for other in body.others],
            posts=body.posts, on=body.on, reason=body.reason,
        ),
        ChangeView.model_validate,
    )  # fmt: skip


@router.get("/teams/{team_id}/mergers")
def list_mergers(
    call: Annotated[Call, permitted("team.read")], team_id: str, page: PageQuery
) -> Page[ChangeView]:
    """List the mergers into a team."""
    with call.read() as work:
        row = team.get_team(work, team_id)
        return call.page(work, team.find_changes(row.team_id), page, ChangeView.model_validate)


@router.get("/headcounts")
def get_headcounts(
    call: Annotated[Call, permitted("team.read")],
    unit_id: Annotated[str, Query(max_length=64)],
) -> list[HeadcountView]:
    """Compare planned and actual people by level and kind of team."""
    with call.read() as work:
        return [HeadcountView.model_validate(one) for one in team.headcount(work, unit_id)]


@router.get("/processes")
def list_processes(
    call: Annotated[Call, permitted("team.read")],
    page: PageQuery,
    name: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[ProcessView]:
    """List operating processes."""
    with call.read() as work:
        return call.page(work, team.find_processes(name), page, _process)


@router.post("/processes", status_code=201)
def define_process(
    call: Annotated[Call, permitted("team.manage")], body: ProcessBody
) -> ProcessView:
    """Lay a process down, or its next version."""
    return call.create(
        lambda work: team.define_process(
            work, call.actor, body.unit_id, body.name, body.title.model_dump(),
            [step.model_dump() for step in body.steps],
        ),
        _process,
    )  # fmt: skip


@router.get("/process-runs")
def list_runs(
    call: Annotated[Call, permitted("team.read")],
    page: PageQuery,
    status: Annotated[str | None, Query(max_length=16)] = None,
) -> Page[RunView]:
    """List what goes or has gone through processes."""
    with call.read() as work:
        return call.page(work, team.find_runs(status), page, _run)


@router.post("/processes/{process_id}/runs", status_code=201)
def start_run(
    call: Annotated[Call, permitted("team.read")], process_id: str, body: RunBody
) -> RunView:
    """Begin to go through a process."""
    return call.create(
        lambda work: team.start_run(
            work, call.actor, team.get_process(work, process_id), body.unit_id, body.subject
        ),
        _run,
    )


@router.get("/process-runs/{run_id}")
def get_run(call: Annotated[Call, permitted("team.read")], run_id: str) -> RunView:
    """Return a run."""
    with call.read() as work:
        row = team.get_run(work, run_id)
        return call.show(_run(row), row.version)


@router.post("/process-runs/{run_id}/advance")
def advance_run(
    call: Annotated[Call, permitted("team.read")], run_id: str, body: AdvanceBody
) -> RunView:
    """Finish the present step; only a member with the step's post can."""
    with call.change() as work:
        row = team.get_run(work, run_id)
        call.match(row.version)
        team.advance_run(work, call.actor, row, body.step, note=body.note)
        work.session.flush()
        return call.show(_run(row), row.version)


@router.post("/process-runs/{run_id}/stop")
def stop_run(
    call: Annotated[Call, permitted("team.manage")], run_id: str, body: ReasonBody
) -> RunView:
    """Give a run up."""
    with call.change() as work:
        row = team.get_run(work, run_id)
        call.match(row.version)
        team.stop_run(work, call.actor, row, reason=body.reason)
        work.session.flush()
        return call.show(_run(row), row.version)


@router.get("/courses")
def list_courses(
    call: Annotated[Call, permitted("team.read")], page: PageQuery
) -> Page[CourseView]:
    """List training courses."""
    with call.read() as work:
        return call.page(work, team.find_courses(), page, _course)


@router.post("/courses", status_code=201)
def open_course(call: Annotated[Call, permitted("team.manage")], body: CourseBody) -> CourseView:
    """Lay a course on."""
    return call.create(
        lambda work: team.open_course(
            work, call.actor, body.unit_id, body.title.model_dump(), hours=body.hours,
            team_kinds=body.team_kinds, pass_mark=body.pass_mark, due_on=body.due_on,
        ),
        _course,
    )  # fmt: skip


@router.get("/courses/{course_id}/results")
def list_results(
    call: Annotated[Call, permitted("team.read")], course_id: str, page: PageQuery
) -> Page[RecordView]:
    """List the results of the people of your units."""
    with call.read() as work:
        row = team.get_course(work, course_id)
        return call.page(work, team.find_records(row.course_id), page, RecordView.model_validate)


@router.post("/courses/{course_id}/results", status_code=201)
def record_result(
    call: Annotated[Call, permitted("team.manage")], course_id: str, body: ResultBody
) -> RecordView:
    """Put a person's mark down; the better of two stands."""
    return call.create(
        lambda work: team.record_result(
            work, call.actor, team.get_course(work, course_id), body.staff_id, mark=body.mark,
            on=body.on,
        ),
        RecordView.model_validate,
    )  # fmt: skip


@router.get("/courses/{course_id}/completion")
def get_completion(
    call: Annotated[Call, permitted("team.read")],
    course_id: str,
    unit_id: Annotated[str, Query(max_length=64)],
) -> list[CompletionView]:
    """Tell how many have passed, of a unit and of each unit right below it."""
    with call.read() as work:
        found = team.completion(work, team.get_course(work, course_id), unit_id)
        return [CompletionView.model_validate(one) for one in found]
