"""The end of a plan: completed, measured, and kept in the library."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import RefusedError
from bihuan.server.app.plan.content import checked_content
from bihuan.server.app.plan.machine import move, numbered, require_allowed
from bihuan.server.control import Plan, PlanResult, UnitOfWork

METRICS = ("retained", "ordered", "accepted", "revenue")
"""What a campaign's goal can be measured in."""


def complete_plan(work: UnitOfWork, actor: Actor, plan: Plan, *, comment: str = "") -> None:
    """Say that a plan's execution is over; nothing more of it goes out."""
    move(work, plan, "complete", comment=comment)
    plan.next_run_at = None


def record_evaluation(
    work: UnitOfWork, actor: Actor, plan: Plan, result: Mapping[str, Any]
) -> PlanResult:
    """Record what the evaluation of a completed plan found.

    Parameters
    ----------
    work, actor, plan
        As ever.
    result
        ``metric``; ``response`` of the treated; ``effect`` and ``roi``, each
        ``{"estimate", "low", "high"}`` or ``{"reason": {"zh", "en"}}`` where it cannot be told;
        ``treated`` and ``held_out`` customers; ``document``: the report in full, optional.

    Raises
    ------
    RefusedError
        If the metric is unknown, an interval does not hold its estimate, or a figure is missing
        without a reason.
    """
    require_allowed(plan, "evaluate")
    if result.get("metric") not in METRICS:
        raise _wrong(f"metric must be one of {', '.join(METRICS)}", "指标有误")
    effect, roi = (_interval(result, name) for name in ("effect", "roi"))
    treated, held_out = (_customers(result, name) for name in ("treated", "held_out"))
    label = _label(effect)
    move(work, plan, "evaluate", comment=label)
    row = PlanResult(
        result_id=numbered(plan, "e", plan.moves),
        plan_id=plan.plan_id,
        unit_id=plan.unit_id,
        revision_id=plan.revision_id,
        content_hash=plan.content_hash,
        metric=str(result["metric"]),
        result=label,
        response=_number(result, "response"),
        effect=effect[0],
        effect_low=effect[1],
        effect_high=effect[2],
        roi=roi[0],
        roi_low=roi[1],
        roi_high=roi[2],
        treated=treated,
        held_out=held_out,
        reason={
            name: dict(result[name]["reason"])
            for name in ("effect", "roi")
            if isinstance(result.get(name), Mapping) and result[name].get("reason")
        },
        document=checked_content({"terms": result.get("document") or {}})["terms"],
        by=actor.account_id,
        at=work.now,
    )
    work.session.add(row)
    plan.result = label
    return row


def shelve_plan(work: UnitOfWork, actor: Actor, plan: Plan, *, comment: str = "") -> None:
    """Put an evaluated plan into the library (方案库), where it stays.

    Raises
    ------
    UnmetGuardError
        If it has no result.
    """
    measured = last_result(work, plan) is not None
    move(work, plan, "shelve", facts={"measured": measured}, comment=comment)


def last_result(work: UnitOfWork, plan: Plan) -> PlanResult | None:
    """Return the newest result of a plan, or None."""
    statement = (
        sa.select(PlanResult)
        .where(PlanResult.plan_id == plan.plan_id)
        .order_by(PlanResult.result_id.desc())
        .limit(1)
    )
    return work.session.scalars(statement).first()


Interval = tuple[float | None, float | None, float | None]


def _interval(result: Mapping[str, Any], name: str) -> Interval:
    given = result.get(name)
    if not isinstance(given, Mapping):
        raise _wrong(f"{name} is missing", f"缺少 {name}")
    if given.get("reason"):
        return None, None, None
    found = [_number(given, part) for part in ("estimate", "low", "high")]
    value, low, high = found
    if value is None or low is None:
        raise _wrong(f"{name} has no estimate and no reason", f"{name} 缺少估计值或原因")
    if not low <= value <= (math.inf if high is None else high):
        raise _wrong(
            f"{name}: the estimate lies outside its interval", f"{name} 的估计值不在区间内"
        )
    return value, low, high


def _label(effect: Interval) -> str:
    value, low, high = effect
    if value is None or low is None:
        return "unknown"
    if low > 0:
        return "positive"
    return "negative" if high is not None and high < 0 else "open"


def _number(given: Mapping[str, Any], name: str) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _wrong(f"{name} is no number", f"{name} 不是数值")
    return float(value)


def _customers(result: Mapping[str, Any], name: str) -> int:
    value = result.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise _wrong(f"{name} must be a number of customers", f"{name} 须为客户数")
    return value


def _wrong(en: str, zh: str) -> RefusedError:
    return RefusedError(
        f"The result is wrong: {en}.",
        remedy="Correct it; docs/guide/plans.md has the form.",
        zh=f"评价结果有误：{zh}，请更正。",
    )
