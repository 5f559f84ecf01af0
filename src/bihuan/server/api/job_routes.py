"""Jobs, schedules and workers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Literal

import anyio
from fastapi import Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, Field
from starlette.concurrency import run_in_threadpool

from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted
from bihuan.server.app import job as jobs

router = Router(tag="jobs")

LOOK_SECONDS = 0.5
LONGEST_LOOKS = 1200
"""A stream of events ends after ten minutes; the browser comes again and shows its sign-in."""

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Missed = Literal["run_once", "skip"]
UnitId = Annotated[str | None, Field(max_length=64, description="None: your home unit.")]


class KindView(View):
    """A kind of job that can be submitted."""

    name: str
    title: dict[str, str]
    permission: str
    arguments: dict[str, Any] = Field(description="JSON Schema of the arguments.")

    @classmethod
    def of(cls, kind: jobs.Kind) -> KindView:
        """Return the view of ``kind``."""
        return cls(
            name=kind.name,
            title=dict(kind.title),
            permission=kind.permission,
            arguments=kind.arguments.model_json_schema(),
        )


class JobBody(Body):
    """A job to be run."""

    kind: str = Field(min_length=1, max_length=32, examples=["tag_refresh"])
    arguments: dict[str, Any] = Field(default_factory=dict, examples=[{"as_of": "2026-10-31"}])
    unit_id: UnitId = None


class JobView(View):
    """A job: what it is, how far it is, what came of it."""

    job_id: str
    kind: str
    unit_id: str
    arguments: dict[str, Any]
    state: State
    owner_id: str
    schedule_id: str | None
    progress: dict[str, Any] = Field(
        description="percent, step of steps, stage in zh and en, done of total units."
    )
    result: dict[str, Any] | None
    error: dict[str, Any] | None = Field(description="message, remedy, zh")
    attempts: int
    epoch: int = Field(description="Rises whenever a worker claims it or it is taken away.")
    worker_id: str | None
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, row: Any) -> JobView:
        """Return the view of a job."""
        return cls.model_validate(row)


class LineView(View):
    """One line of a job's log."""

    at: datetime
    zh: str
    en: str


class ScheduleBody(Body):
    """Which job is run when."""

    name: str = Field(min_length=1, max_length=100, examples=["每月标签刷新"])
    kind: str = Field(min_length=1, max_length=32, examples=["tag_refresh"])
    arguments: dict[str, Any] = Field(default_factory=dict)
    cron: str = Field(
        min_length=1,
        max_length=100,
        examples=["0 6 1 * *"],
        description="Minute, hour, day, month, weekday; six fields begin with the second.",
    )
    time_zone: str = Field("Asia/Shanghai", min_length=1, max_length=64)
    missed: Missed = Field(
        "run_once", description="What becomes of times missed while no worker lived."
    )
    valid_until: AwareDatetime | None = None

    def wish(self) -> jobs.Wish:
        """Return what the schedule is to be."""
        return jobs.Wish(**self.model_dump(exclude={"unit_id"}))


class NewScheduleBody(ScheduleBody):
    """A new schedule."""

    unit_id: UnitId = None


class ScheduleView(View):
    """A schedule and when it is due next."""

    schedule_id: str
    name: str
    kind: str
    unit_id: str
    owner_id: str
    arguments: dict[str, Any]
    cron: str
    time_zone: str
    missed: Missed
    enabled: bool
    valid_until: datetime | None
    next_fire_at: datetime | None
    last_fire_at: datetime | None
    problem: dict[str, Any] | None = Field(description="Why the last fire gave no job.")
    version: int

    @classmethod
    def of(cls, row: Any) -> ScheduleView:
        """Return the view of a schedule."""
        return cls.model_validate(row)


class FireView(View):
    """A fire time and its job."""

    fire_at: datetime
    fired_at: datetime
    job_id: str | None


class WorkerView(View):
    """A process that runs jobs."""

    worker_id: str
    state: Literal["alive", "dead", "stopped"]
    host: str
    pid: int
    threads: int
    started_at: datetime
    heartbeat_at: datetime
    ended_at: datetime | None


@router.get("/job-kinds")
def list_kinds(call: Annotated[Call, permitted("job.read")]) -> list[KindView]:
    """List the kinds of jobs that you may submit."""
    return [KindView.of(kind) for kind in jobs.list_kinds() if call.actor.may(kind.permission)]


@router.post("/jobs", status_code=202)
def submit_job(call: Annotated[Call, permitted("job.run")], body: JobBody) -> JobView:
    """Submit a job; it runs on your behalf as soon as a worker is free."""
    return call.create(
        lambda work: jobs.submit(work, call.actor, body.kind, body.arguments, unit_id=body.unit_id),
        JobView.of,
        location=lambda view: f"/api/v1/jobs/{view.job_id}",
        status=202,
    )


@router.get("/jobs")
def list_jobs(
    call: Annotated[Call, permitted("job.read")],
    page: PageQuery,
    state: State | None = None,
    kind: Annotated[str | None, Query(max_length=32)] = None,
    schedule_id: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[JobView]:
    """List the jobs of your units, newest first."""
    with call.read() as work:
        found = jobs.find_jobs(state=state, kind=kind, schedule_id=schedule_id)
        return call.page(work, found, page, JobView.of)


@router.get("/job-counts")
def count_jobs(call: Annotated[Call, permitted("job.read")]) -> dict[State, int]:
    """Count the jobs of your units by state."""
    with call.read() as work:
        return jobs.state_counts(work)  # type: ignore[return-value]  # its keys are the states


@router.get("/jobs/{job_id}")
def get_job(call: Annotated[Call, permitted("job.read")], job_id: str) -> JobView:
    """Get a job with its progress, and its result or error once it has ended."""
    with call.read() as work:
        return JobView.of(jobs.get_job(work, job_id))


@router.get("/jobs/{job_id}/log")
def get_log(call: Annotated[Call, permitted("job.read")], job_id: str) -> list[LineView]:
    """Get the newest 200 lines of a job's log, oldest first."""
    with call.read() as work:
        return [LineView.model_validate(line) for line in jobs.get_job(work, job_id).log]


@router.post("/jobs/{job_id}/cancellation", status_code=202)
def cancel_job(call: Annotated[Call, permitted("job.run")], job_id: str) -> JobView:
    """Cancel a job: at once while it waits, at its next step while it runs."""
    with call.change() as work:
        return JobView.of(jobs.cancel(work, call.actor, job_id))


@router.get(
    "/jobs/{job_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Server-sent events."}},
)
def stream_events(call: Annotated[Call, permitted("job.read")], job_id: str) -> StreamingResponse:
    """Follow a job: an event `job` with its view whenever it changes, until it has ended."""
    _read(call, job_id)  # a job out of reach is 404, not an empty stream
    return StreamingResponse(
        _events(call, job_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.get("/schedules")
def list_schedules(
    call: Annotated[Call, permitted("job.read")],
    page: PageQuery,
    kind: Annotated[str | None, Query(max_length=32)] = None,
    enabled: bool | None = None,
) -> Page[ScheduleView]:
    """List the schedules of your units."""
    with call.read() as work:
        found = jobs.find_schedules(kind=kind, enabled=enabled)
        return call.page(work, found, page, ScheduleView.of)


@router.post("/schedules", status_code=201)
def create_schedule(
    call: Annotated[Call, permitted("job.run")], body: NewScheduleBody
) -> ScheduleView:
    """Set up a schedule; its jobs run on your behalf as long as you may run them."""
    return call.create(
        lambda work: jobs.set_up(work, call.actor, body.wish(), unit_id=body.unit_id),
        ScheduleView.of,
        location=lambda view: f"/api/v1/schedules/{view.schedule_id}",
    )


@router.get("/schedules/{schedule_id}")
def get_schedule(call: Annotated[Call, permitted("job.read")], schedule_id: str) -> ScheduleView:
    """Get a schedule and when it is due next."""
    with call.read() as work:
        row = jobs.get_schedule(work, schedule_id)
        return call.show(ScheduleView.of(row), row.version)


@router.get("/schedules/{schedule_id}/fires")
def list_fires(call: Annotated[Call, permitted("job.read")], schedule_id: str) -> list[FireView]:
    """List the newest 50 fire times of a schedule with their jobs."""
    with call.read() as work:
        jobs.get_schedule(work, schedule_id)
        return [FireView.model_validate(row) for row in jobs.list_fires(work, schedule_id)]


@router.put("/schedules/{schedule_id}")
def change_schedule(
    call: Annotated[Call, permitted("job.run")], schedule_id: str, body: ScheduleBody
) -> ScheduleView:
    """Change a schedule; from now on its jobs run on your behalf."""
    with call.change() as work:
        row = jobs.get_schedule(work, schedule_id)
        call.match(row.version)
        jobs.change(work, call.actor, row, body.wish())
        return call.show(ScheduleView.of(row), row.version)


@router.post("/schedules/{schedule_id}/pause")
def pause_schedule(call: Annotated[Call, permitted("job.run")], schedule_id: str) -> ScheduleView:
    """Pause a schedule; jobs that run go on."""
    with call.change() as work:
        row = jobs.get_schedule(work, schedule_id)
        call.match(row.version)
        jobs.pause(work, call.actor, row)
        return call.show(ScheduleView.of(row), row.version)


@router.post("/schedules/{schedule_id}/resumption")
def resume_schedule(call: Annotated[Call, permitted("job.run")], schedule_id: str) -> ScheduleView:
    """Resume a paused schedule, from now on."""
    with call.change() as work:
        row = jobs.get_schedule(work, schedule_id)
        call.match(row.version)
        jobs.resume(work, call.actor, row)
        return call.show(ScheduleView.of(row), row.version)


@router.post("/schedules/{schedule_id}/jobs", status_code=202)
def trigger_schedule(call: Annotated[Call, permitted("job.run")], schedule_id: str) -> JobView:
    """Submit the schedule's job now, besides its times."""
    return call.create(
        lambda work: jobs.trigger(work, call.actor, jobs.get_schedule(work, schedule_id)),
        JobView.of,
        location=lambda view: f"/api/v1/jobs/{view.job_id}",
        status=202,
    )


@router.delete("/schedules/{schedule_id}", status_code=204)
def remove_schedule(call: Annotated[Call, permitted("job.run")], schedule_id: str) -> None:
    """Remove a schedule; its jobs stay."""
    with call.change() as work:
        row = jobs.get_schedule(work, schedule_id)
        call.match(row.version)
        jobs.remove(work, call.actor, row)


@router.get("/workers")
def list_workers(call: Annotated[Call, permitted("job.read")]) -> list[WorkerView]:
    """List the workers of the last week, those that live first."""
    with call.read() as work:
        return [WorkerView.model_validate(row) for row in jobs.list_workers(work)]


def _read(call: Call, job_id: str) -> JobView:
    with call.read() as work:
        return JobView.of(jobs.get_job(work, job_id))


async def _events(call: Call, job_id: str) -> AsyncIterator[str]:
    """Yield the job whenever it has changed; reads in a thread, waits without one."""
    shown = ""
    for look in range(LONGEST_LOOKS):
        view = await run_in_threadpool(_read, call, job_id)
        text = view.model_dump_json()
        if text != shown:
            shown = text
            yield f"event: job\ndata: {text}\n\n"
        elif look % 30 == 0:
            yield ": still here\n\n"  # keeps proxies from closing a quiet stream
        if view.state in jobs.FINISHED:
            yield f"event: end\ndata: {json.dumps(view.state)}\n\n"
            return
        await anyio.sleep(LOOK_SECONDS)
