"""The dictionary of indicators, assessment rules, and numbers by them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted
from bihuan.server.app import indicator

router = Router(tag="indicators")

Name = Annotated[str, Field(min_length=1, max_length=64, examples=["churn_rate"])]
_DEFINITION = {
    "name": "churn_rate",
    "title": {"zh": "离网率", "en": "Churn rate"},
    "meaning": {"zh": "离网用户数 ÷ 可离网用户数", "en": "Lost by those that could leave"},
    "inputs": {"left": "left_lines", "all": "lines_at_risk"},
    "formula": "left / all",
    "unit": "ratio",
    "owner": "指标口径组",
    "direction": "lower",
    "effective_from": "2026-12-01",
}
_RULE = {
    "name": "city_quarter",
    "title": {"zh": "地市考核", "en": "Assessment of cities"},
    "subject": "unit",
    "effective_from": "2026-11-01",
    "items": [
        {"indicator": "target_reached", "weight": 0.6, "target": 1.0,
         "bands": [[0.8, 60], [1.0, 100]]},
        {"indicator": "churn_rate", "weight": 0.4, "target": 0.02},
    ],
}  # fmt: skip


class SubmissionBody(Body):
    """A definition put up for review; its version is given by the service."""

    unit_id: str = Field(min_length=1, max_length=64, examples=["province"])
    document: dict[str, Any] = Field(examples=[_DEFINITION])
    reason: str = Field(min_length=1, max_length=500, examples=["统一口径"])


class RuleBody(Body):
    """An assessment rule put up for review."""

    unit_id: str = Field(min_length=1, max_length=64, examples=["province"])
    document: dict[str, Any] = Field(examples=[_RULE])
    reason: str = Field(min_length=1, max_length=500, examples=["年度考核办法"])


class ReviewBody(Body):
    """A checker's decision."""

    approve: bool
    note: str = Field("", max_length=500)


class VersionView(View):
    """One version of an indicator or rule."""

    indicator_id: str
    unit_id: str
    kind: str
    name: str
    number: int
    document: dict[str, Any]
    content_id: str
    effective_from: date
    status: str
    reason: str
    made_by: str
    made_at: datetime
    reviewed_by: str | None
    reviewed_at: datetime | None
    review_note: str

    @classmethod
    def of(cls, row: Any) -> VersionView:
        """Return the view of ``row``."""
        return cls.model_validate(row)


class ValuesView(View):
    """Numbers, with the version of every definition used."""

    month: date
    rows: list[dict[str, Any]]
    versions: dict[str, int]
    missing: dict[str, dict[str, str]]
    unplaced: dict[str, int]


class ListView(View):
    """Some of the rows behind a number."""

    indicator: str
    version: int
    month: date
    unit_id: str
    parts: dict[str, str]
    total: int
    rows: list[dict[str, Any]]


class WhereBody(Body):
    """Which number's rows are wanted."""

    indicator: Name
    unit_id: str = Field(min_length=1, max_length=64, examples=["province"])
    month: date | None = None
    where: dict[str, str | int | float | bool] = Field(
        default_factory=dict, examples=[{"channel": "sms"}]
    )
    limit: int = Field(100, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=100_000_000)


@router.get("/indicators")
def list_indicators(
    call: Annotated[Call, permitted("indicator.read")],
    page: PageQuery,
    name: Annotated[str | None, Query(max_length=64)] = None,
    status: Annotated[str | None, Query(max_length=16)] = None,
) -> Page[VersionView]:
    """List versions of indicators, newest first."""
    with call.read() as work:
        found = indicator.find_versions("indicator", name=name, status=status)
        return call.page(work, found, page, VersionView.of)


@router.post("/indicators", status_code=201)
def submit_indicator(
    call: Annotated[Call, permitted("indicator.manage")], body: SubmissionBody
) -> VersionView:
    """Put an indicator up for review: a new one, or the next version of one."""
    return call.create(
        lambda work: indicator.submit_indicator(
            work, call.service, call.actor, body.unit_id, body.document, reason=body.reason
        ),
        VersionView.of,
        location=lambda view: f"/api/v1/indicators/{view.indicator_id}",
    )


@router.get("/indicators/{indicator_id}")
def get_indicator(
    call: Annotated[Call, permitted("indicator.read")], indicator_id: str
) -> VersionView:
    """Return one version of an indicator."""
    return _show(call, indicator_id, "indicator")


@router.post("/indicators/{indicator_id}/review")
def review_indicator(
    call: Annotated[Call, permitted("indicator.approve")], indicator_id: str, body: ReviewBody
) -> VersionView:
    """Approve or reject a submitted indicator; another person's only."""
    return _review(call, indicator_id, "indicator", body)


@router.post("/indicators/{indicator_id}/withdrawal")
def withdraw_indicator(
    call: Annotated[Call, permitted("indicator.manage")], indicator_id: str
) -> VersionView:
    """Take back what you have submitted."""
    return _withdraw(call, indicator_id, "indicator")


@router.get("/assessment-rules")
def list_rules(
    call: Annotated[Call, permitted("indicator.read")],
    page: PageQuery,
    name: Annotated[str | None, Query(max_length=64)] = None,
    status: Annotated[str | None, Query(max_length=16)] = None,
) -> Page[VersionView]:
    """List versions of assessment rules, newest first."""
    with call.read() as work:
        found = indicator.find_versions("rule", name=name, status=status)
        return call.page(work, found, page, VersionView.of)


@router.post("/assessment-rules", status_code=201)
def submit_rule(
    call: Annotated[Call, permitted("indicator.manage")], body: RuleBody
) -> VersionView:
    """Put an assessment rule up for review; it holds for every line and city alike."""
    return call.create(
        lambda work: indicator.submit_rule(
            work, call.actor, body.unit_id, body.document, reason=body.reason
        ),
        VersionView.of,
        location=lambda view: f"/api/v1/assessment-rules/{view.indicator_id}",
    )


@router.get("/assessment-rules/{rule_id}")
def get_rule(call: Annotated[Call, permitted("indicator.read")], rule_id: str) -> VersionView:
    """Return one version of an assessment rule."""
    return _show(call, rule_id, "rule")


@router.post("/assessment-rules/{rule_id}/review")
def review_rule(
    call: Annotated[Call, permitted("indicator.approve")], rule_id: str, body: ReviewBody
) -> VersionView:
    """Approve or reject a submitted rule; another person's only."""
    return _review(call, rule_id, "rule", body)


@router.post("/assessment-rules/{rule_id}/withdrawal")
def withdraw_rule(
    call: Annotated[Call, permitted("indicator.manage")], rule_id: str
) -> VersionView:
    """Take back a rule that you have submitted."""
    return _withdraw(call, rule_id, "rule")


@router.get("/indicator-values")
def get_values(
    call: Annotated[Call, permitted("indicator.read")],
    unit_id: Annotated[str, Query(max_length=64)],
    name: Annotated[list[str], Query(min_length=1, max_length=300)],
    month: date | None = None,
    by: Annotated[list[str] | None, Query(max_length=5)] = None,
    children: bool = False,
) -> ValuesView:
    """Compute indicators of a unit, and of the units right below it, by the one dictionary."""
    asked = indicator.Asked(
        tuple(dict.fromkeys(name)), unit_id, month, tuple(dict.fromkeys(by or ())), children
    )
    with call.read() as work:
        return ValuesView.model_validate(indicator.values_json(work, call.service, asked))


@router.post("/indicator-lists")
def list_behind(call: Annotated[Call, permitted("customer.read")], body: WhereBody) -> ListView:
    """Return the rows behind a number; who looks is put on record."""
    asked = indicator.Asked((body.indicator,), body.unit_id, body.month)
    with call.change() as work:
        return ListView.model_validate(
            indicator.list_json(
                work, call.service, call.actor, asked, where=body.where, limit=body.limit,
                offset=body.offset,
            )
        )  # fmt: skip


def _show(call: Call, indicator_id: str, kind: str) -> VersionView:
    with call.read() as work:
        row = indicator.get_version(work, indicator_id, kind)
        return call.show(VersionView.of(row), row.version)


def _review(call: Call, indicator_id: str, kind: str, body: ReviewBody) -> VersionView:
    with call.change() as work:
        row = indicator.get_version(work, indicator_id, kind)
        call.match(row.version)
        indicator.review(work, call.actor, row, approve=body.approve, note=body.note)
        work.session.flush()
        return call.show(VersionView.of(row), row.version)


def _withdraw(call: Call, indicator_id: str, kind: str) -> VersionView:
    with call.change() as work:
        row = indicator.get_version(work, indicator_id, kind)
        call.match(row.version)
        indicator.withdraw(work, call.actor, row)
        work.session.flush()
        return call.show(VersionView.of(row), row.version)
