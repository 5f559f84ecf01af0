"""Performance: assessments by the uniform rules, every point explained, and appeals."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted
from bihuan.server.app import team

router = Router(tag="performance")

Id = Annotated[str, Field(min_length=1, max_length=64)]


class AssessBody(Body):
    """An assessment of a month."""

    unit_id: Id
    rule: str = Field(min_length=1, max_length=64)
    tier: str = Field(max_length=16, examples=["city"])
    month: date


class AppealBody(Body):
    """An objection to the points of one indicator."""

    indicator: str = Field(min_length=1, max_length=64)
    reason: str = Field(min_length=1, max_length=2000)


class DecisionBody(Body):
    """The decision on an appeal; without points it is refused."""

    points: float | None = Field(None, ge=0, le=1000)
    decision: str = Field(min_length=1, max_length=2000)


class PerformanceView(View):
    """An assessment."""

    performance_id: str
    unit_id: str
    rule: str
    rule_number: int
    rule_document: dict[str, Any]
    indicator_versions: dict[str, int]
    subject: str
    tier: str
    month: date
    status: str
    version: int


class ScoreView(View):
    """Points, rank and why."""

    performance_score_id: str
    unit_id: str
    subject_id: str
    total: float
    corrected: float | None
    rank: int
    items: list[dict[str, Any]]
    version: int


class AppealView(View):
    """An appeal."""

    performance_appeal_id: str
    performance_score_id: str
    unit_id: str
    indicator: str
    reason: str
    status: str
    made_by: str
    made_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    decision: str
    points_before: float | None
    points_after: float | None
    version: int


_performance, _score = PerformanceView.model_validate, ScoreView.model_validate
_appeal = AppealView.model_validate


@router.get("/performances")
def list_performances(
    call: Annotated[Call, permitted("team.read")],
    page: PageQuery,
    rule: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[PerformanceView]:
    """List assessments."""
    with call.read() as work:
        return call.page(work, team.find_performances(rule), page, _performance)


@router.post("/performances", status_code=201)
def assess(call: Annotated[Call, permitted("team.manage")], body: AssessBody) -> PerformanceView:
    """Assess the units of a tier, or the staff, of a unit by a uniform rule."""
    return call.create(
        lambda work: team.assess_performance(
            work, call.service, call.actor, body.unit_id, rule_name=body.rule, tier=body.tier,
            month=body.month,
        ),
        _performance,
        location=lambda view: f"/api/v1/performances/{view.performance_id}",
    )  # fmt: skip


@router.get("/performances/{performance_id}")
def get_performance(
    call: Annotated[Call, permitted("team.read")], performance_id: str
) -> PerformanceView:
    """Return an assessment with the rule it went by."""
    with call.read() as work:
        row = team.get_performance(work, performance_id)
        return call.show(_performance(row), row.version)


@router.get("/performances/{performance_id}/scores")
def list_scores(
    call: Annotated[Call, permitted("team.read")], performance_id: str
) -> list[ScoreView]:
    """Return the scores within reach by rank, each point explained."""
    with call.read() as work:
        row = team.get_performance(work, performance_id)
        return [_score(one) for _, one in team.ranking(work, row.performance_id)]


@router.post("/performances/{performance_id}/closure")
def close_performance(
    call: Annotated[Call, permitted("team.manage")], performance_id: str
) -> PerformanceView:
    """End an assessment: no more appeals."""
    with call.change() as work:
        row = team.get_performance(work, performance_id)
        call.match(row.version)
        team.close_performance(work, call.actor, row)
        work.session.flush()
        return call.show(_performance(row), row.version)


@router.post("/performance-scores/{score_id}/appeals", status_code=201)
def appeal(
    call: Annotated[Call, permitted("team.read")], score_id: str, body: AppealBody
) -> AppealView:
    """Object to the points of one indicator."""
    return call.create(
        lambda work: team.appeal(
            work, call.actor, team.get_score(work, score_id), indicator=body.indicator,
            reason=body.reason,
        ),
        _appeal,
    )  # fmt: skip


@router.get("/performance-appeals")
def list_appeals(
    call: Annotated[Call, permitted("team.read")],
    page: PageQuery,
    status: Annotated[str | None, Query(max_length=16)] = None,
) -> Page[AppealView]:
    """List appeals of your units."""
    with call.read() as work:
        return call.page(work, team.find_appeals(status), page, _appeal)


@router.post("/performance-appeals/{appeal_id}/decision")
def decide_appeal(
    call: Annotated[Call, permitted("team.manage")], appeal_id: str, body: DecisionBody
) -> AppealView:
    """Grant an appeal with other points, or refuse it, with the reason."""
    with call.change() as work:
        row = team.get_appeal(work, appeal_id)
        call.match(row.version)
        team.decide_appeal(work, call.actor, row, points=body.points, decision=body.decision)
        work.session.flush()
        return call.show(_appeal(row), row.version)
