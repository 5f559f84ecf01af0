"""Performance (考核): points by the uniform rules, every one explained; appeals with reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from typing import Any

import sqlalchemy as sa

from bihuan.evaluation.indicator import AssessmentRule, Scorecard, Wanted, assess, rule_document
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, RefusedError, missing
from bihuan.server.app.indicator.dictionary import approved_catalogue, rule_at
from bihuan.server.app.indicator.value import tree_at, values_of
from bihuan.server.app.service import Service
from bihuan.server.app.unit_scope import require_units
from bihuan.server.control import (
    Performance,
    PerformanceAppeal,
    PerformanceScore,
    UnitOfWork,
)


def assess_performance(  # noqa: PLR0913 - by which rule, of whom, when
    work: UnitOfWork,
    service: Service,
    actor: Actor,
    unit_id: str,
    *,
    rule_name: str,
    tier: str,
    month: date,
) -> Performance:
    """Give points to every unit of a tier (or every person) below a unit, for a month.

    Parameters
    ----------
    work
        In the scope of ``team.manage``.
    service
        Whose lake.
    actor
        Who runs it.
    unit_id
        Where: its units of ``tier``, or its staff.
    rule_name
        The uniform rule; the version in force in the month is used.
    tier
        Of the units compared; for rules over staff the tier does not matter.
    month
        Date of the data.

    Raises
    ------
    UnknownIndicatorError
        If there is no approved rule in force.
    ConflictError
        If the same was assessed already.
    RefusedError
        If there is nobody to assess.
    """
    require_units(work, [unit_id])
    rule = rule_at(work, rule_name, month)
    again = sa.select(Performance).where(
        Performance.unit_id == unit_id, Performance.rule == rule_name,
        Performance.month == month, Performance.tier == tier,
    )  # fmt: skip
    if work.session.scalars(again).first() is not None:
        raise ConflictError(
            "This month was assessed by this rule already.",
            remedy="Read it; objections go by appeal.",
            zh="本月已按该规则考核，请直接查看，异议请走申诉。",
        )
    cards, owners, versions = _cards(work, service, rule, unit_id, tier, month)
    if not cards:
        raise RefusedError(
            "There is nobody to assess.",
            remedy="Choose another unit or tier.",
            zh="没有可考核的对象，请更换单位或层级。",
        )
    row = Performance(
        performance_id=work.new_id("performance"), unit_id=unit_id, sharing="down", rule=rule.name,
        rule_number=rule.version, rule_document=rule_document(rule),
        indicator_versions=versions, subject=rule.subject, tier=tier, month=month, status="open",
        made_by=actor.account_id, made_at=work.now,
    )  # fmt: skip
    work.session.add(row)
    work.session.flush()
    for card in cards:
        work.session.add(
            PerformanceScore(
                performance_score_id=work.new_id("score"), performance_id=row.performance_id,
                unit_id=owners[card.subject_id], subject_id=card.subject_id, total=card.total,
                rank=card.rank, items=[_item(one) for one in card.items],
            )
        )  # fmt: skip
    work.session.flush()
    work.audit(
        "performance.assess", "performance", row.performance_id, rule=rule.name,
        number=rule.version, month=month.isoformat(), subjects=len(cards),
    )  # fmt: skip
    return row


def close_performance(work: UnitOfWork, actor: Actor, row: Performance) -> Performance:
    """End an assessment: no more appeals.

    Raises
    ------
    ConflictError
        If it is closed, or an appeal is open.
    """
    _require_open(row)
    waiting = (
        sa.select(PerformanceAppeal)
        .join(
            PerformanceScore,
            PerformanceScore.performance_score_id == PerformanceAppeal.performance_score_id,
        )
        .where(
            PerformanceScore.performance_id == row.performance_id,
            PerformanceAppeal.status == "open",
        )
    )
    if work.session.scalars(waiting).first() is not None:
        raise ConflictError(
            "An appeal is open.",
            remedy="Decide it first.",
            zh="尚有未处理的申诉，请先处理。",
        )
    row.status = "closed"
    work.audit("performance.close", "performance", row.performance_id)
    return row


def appeal(
    work: UnitOfWork, actor: Actor, score: PerformanceScore, *, indicator: str, reason: str
) -> PerformanceAppeal:
    """Object to the points of one indicator.

    Raises
    ------
    ConflictError
        If the assessment is closed or the same objection is open.
    RefusedError
        If the indicator is none of the score's.
    """
    _require_open(get_performance(work, score.performance_id))
    _item_of(score, indicator)
    again = sa.select(PerformanceAppeal).where(
        PerformanceAppeal.performance_score_id == score.performance_score_id,
        PerformanceAppeal.indicator == indicator,
        PerformanceAppeal.status == "open",
    )
    if work.session.scalars(again).first() is not None:
        raise ConflictError(
            "There is an open appeal on this already.",
            remedy="Wait for its decision.",
            zh="该项已有待处理的申诉，请等待处理结果。",
        )
    row = PerformanceAppeal(
        performance_appeal_id=work.new_id("appeal"), unit_id=score.unit_id,
        performance_score_id=score.performance_score_id, indicator=indicator, reason=reason,
        status="open", made_by=actor.account_id, made_at=work.now,
    )  # fmt: skip
    work.session.add(row)
    work.session.flush()
    work.audit("performance.appeal", "score", score.performance_score_id, indicator=indicator)
    return row


def decide_appeal(
    work: UnitOfWork,
    actor: Actor,
    row: PerformanceAppeal,
    *,
    points: float | None,
    decision: str,
) -> PerformanceAppeal:
    """Grant an appeal with other points for its indicator, or refuse it.

    Parameters
    ----------
    work
        In the scope of ``team.manage``.
    actor
        Another person than the one who appealed.
    row
        An open appeal.
    points
        Points of the indicator, weight included, from now on; None refuses.
    decision
        Why.

    Raises
    ------
    ConflictError
        If it was decided.
    NotFoundError
        If the assessment reaches beyond the caller's units.
    RefusedError
        If who appealed decides, or the points lie outside what the rule can give.
    """
    if row.status != "open":
        raise ConflictError(
            "The appeal was decided already.",
            remedy="Read it.",
            zh="该申诉已处理，请直接查看。",
        )
    if row.made_by == actor.account_id:
        raise RefusedError(
            "Nobody decides their own appeal.",
            remedy="Ask another person who manages teams.",
            zh="不能处理本人提出的申诉，请由其他有权限的人员处理。",
        )
    score = get_score(work, row.performance_score_id)
    item = _item_of(score, row.indicator)
    performance = get_performance(work, score.performance_id)
    require_units(work, [performance.unit_id])  # ranks of all its scores may change
    row.points_before = float(item.get("corrected", item["points"]))
    if points is None:
        row.status = "refused"
    else:
        most = _most(performance.rule_document, row.indicator)
        if not 0 <= points <= most + 1e-9:
            raise RefusedError(
                f"The rule gives 0 to {most:g} points for '{row.indicator}'.",
                remedy="Choose points within that.",
                zh=f"按规则该项得分范围为 0 至 {most:g}，请重新填写。",
            )
        row.status, row.points_after = "granted", points
        _correct(work, score, row, points)
    row.decided_by, row.decided_at, row.decision = actor.account_id, work.now, decision
    work.audit(
        "performance.decide", "appeal", row.performance_appeal_id, status=row.status,
        before=row.points_before, after=points, reason=decision,
    )  # fmt: skip
    return row


def ranking(work: UnitOfWork, performance_id: str) -> list[tuple[int, PerformanceScore]]:
    """Return the scores within reach with their rank among all, corrections counted."""
    rows = list(work.session.scalars(find_scores(performance_id)))
    return [(row.rank, row) for row in sorted(rows, key=lambda one: (one.rank, one.subject_id))]


def get_performance(work: UnitOfWork, performance_id: str) -> Performance:
    """Return an assessment by id; raise :class:`NotFoundError` if there is none within reach."""
    row = work.session.get(Performance, performance_id)
    if row is None:
        raise missing("assessment", "考核", performance_id)
    return row


def get_score(work: UnitOfWork, performance_score_id: str) -> PerformanceScore:
    """Return a score by id; raise :class:`NotFoundError` if there is none within reach."""
    row = work.session.get(PerformanceScore, performance_score_id)
    if row is None:
        raise missing("score", "考核得分", performance_score_id)
    return row


def get_appeal(work: UnitOfWork, performance_appeal_id: str) -> PerformanceAppeal:
    """Return an appeal by id; raise :class:`NotFoundError` if there is none within reach."""
    row = work.session.get(PerformanceAppeal, performance_appeal_id)
    if row is None:
        raise missing("appeal", "申诉", performance_appeal_id)
    return row


def find_performances(rule: str | None = None) -> sa.Select[Performance]:
    """Return a select of assessments."""
    statement = sa.select(Performance)
    return statement if rule is None else statement.where(Performance.rule == rule)


def find_scores(performance_id: str) -> sa.Select[PerformanceScore]:
    """Return a select of an assessment's scores."""
    return sa.select(PerformanceScore).where(PerformanceScore.performance_id == performance_id)


def find_appeals(status: str | None = None) -> sa.Select[PerformanceAppeal]:
    """Return a select of appeals."""
    statement = sa.select(PerformanceAppeal)
    return statement if status is None else statement.where(PerformanceAppeal.status == status)


def _cards(
    work: UnitOfWork, service: Service, rule: AssessmentRule, unit_id: str, tier: str, month: date
) -> tuple[tuple[Scorecard, ...], dict[str, str], dict[str, int]]:
    """Return points, the unit that sees each score, and the indicator versions used."""
    catalogue = approved_catalogue(work)
    names = tuple(item.indicator for item in rule.items)
    tree = tree_at(service, month)
    if unit_id not in tree.parent:
        raise missing("org unit", "组织单元", unit_id)
    below = tree.below(unit_id)
    owners: dict[str, str] = {}
    values: dict[str, dict[str, float | None]] = {}
    if rule.subject == "unit":
        units = tuple(unit for unit in below if tree.tier[unit] == tier)
        found = values_of(service, catalogue, Wanted(names, month, units))
        for row in found.rows.to_pylist():
            values[row["unit_id"]] = {name: row[name] for name in names}
            owners[row["unit_id"]] = row["unit_id"]
    else:
        # a person's figures are told at the person's own unit, so that they are not counted twice
        found = values_of(service, catalogue, Wanted(names, month, (unit_id,), ("staff_id",)))
        homes = service.workspace.view.get("staff", month).read(["staff_id", "org_unit_id"])
        home = dict(
            zip(homes["staff_id"].to_pylist(), homes["org_unit_id"].to_pylist(), strict=True)
        )
        for row in found.rows.to_pylist():
            values[row["staff_id"]] = {name: row[name] for name in names}
            owners[row["staff_id"]] = home[row["staff_id"]]
    require_units(work, set(owners.values()))
    directions = {name: catalogue.at(name, month).direction for name in names}
    cards = assess(rule, values, versions=found.versions, directions=directions)
    return cards, owners, dict(found.versions)


def _require_open(row: Performance) -> None:
    if row.status != "open":
        raise ConflictError(
            "The assessment is closed.",
            remedy="Take the matter up in the next one.",
            zh="该考核已关闭，请在下期考核中处理。",
        )


def _item(points: Any) -> dict[str, Any]:
    return {**asdict(points), "why": dict(points.why)}


def _item_of(score: PerformanceScore, indicator: str) -> dict[str, Any]:
    found = next((item for item in score.items if item["indicator"] == indicator), None)
    if found is None:
        raise RefusedError(
            f"'{indicator}' is none of the score's indicators.",
            remedy=f"It has: {', '.join(item['indicator'] for item in score.items)}.",
            zh=f"该考核不含指标 {indicator}。",
        )
    return dict(found)


def _most(rule: Mapping[str, Any], indicator: str) -> float:
    item = next(one for one in rule["items"] if one["indicator"] == indicator)
    full = max((points for _, points in item["bands"]), default=100.0 * item["cap"])
    return float(full * item["weight"])


def _correct(
    work: UnitOfWork, score: PerformanceScore, row: PerformanceAppeal, points: float
) -> None:
    """Put the granted points in and rank all scores of the assessment anew."""
    score.items = [
        {**item, "corrected": points, "appeal_id": row.performance_appeal_id}
        if item["indicator"] == row.indicator
        else item
        for item in score.items
    ]
    total = sum(float(item.get("corrected", item["points"])) for item in score.items)
    score.corrected = round(total, 2)
    scores = list(work.session.scalars(find_scores(score.performance_id)))
    totals = {one.subject_id: _total(one) for one in scores}
    for one in scores:
        one.rank = 1 + sum(other > totals[one.subject_id] for other in totals.values())


def _total(score: PerformanceScore) -> float:
    return score.total if score.corrected is None else score.corrected
