"""Impact assessments of automated decisions on personal information (PIPL articles 55 and 56)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import sqlalchemy as sa

from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, RefusedError, missing
from bihuan.server.app.plan.content import checked_content, decides_on_persons
from bihuan.server.app.plan.reach import find_row, today
from bihuan.server.control import ImpactAssessment, OrgClosure, Plan, UnitOfWork

CONCLUSIONS = ("acceptable", "with_measures", "unacceptable")
PARTS: Mapping[str, str] = {
    "purpose": "处理目的",
    "necessity": "合法、正当、必要",
    "data": "个人信息种类",
    "rights": "对个人权益的影响及安全风险",
    "measures": "保护措施",
}
"""What an assessment says: purpose and manner, necessity, data, effect on persons, measures."""
KEEP_YEARS = 3
"""Records are kept at least so long (PIPL article 56)."""


@dataclass(frozen=True, slots=True)
class NewImpact:
    """An impact assessment to be recorded.

    Parameters
    ----------
    unit_id
        It holds for plans of this unit and of those below.
    plan_id, kind
        The plan, or the kind of plan, that it is about: exactly one.
    document
        A text for each of :data:`PARTS`.
    conclusion
        ``acceptable``, ``with_measures`` or ``unacceptable``.
    valid_from, valid_until
        Days in which it holds, both included.
    """

    unit_id: str
    plan_id: str | None
    kind: str | None
    document: Mapping[str, Any]
    conclusion: str
    valid_from: date
    valid_until: date


def record_impact(work: UnitOfWork, actor: Actor, new: NewImpact) -> ImpactAssessment:
    """Record an impact assessment; it is kept three years beyond its validity.

    Parameters
    ----------
    work
        In the scope of ``impact.manage``.
    actor, new
        Who, and what.

    Raises
    ------
    RefusedError
        If a part is missing, the days are the wrong way round, or it is about both or neither of
        plan and kind.
    """
    empty = [part for part in PARTS if not str(new.document.get(part, "")).strip()]
    if empty:
        raise RefusedError(
            f"The impact assessment says nothing on {', '.join(empty)}.",
            remedy=f"Write a text for each of: {', '.join(PARTS)}.",
            zh="影响评估缺少：" + "、".join(PARTS[part] for part in empty) + "，请补充。",
        )
    if new.conclusion not in CONCLUSIONS or new.valid_until < new.valid_from:
        raise RefusedError(
            f"An impact assessment concludes {', '.join(CONCLUSIONS)} and ends after it begins.",
            remedy="Correct conclusion or days.",
            zh="影响评估的结论或有效期有误，请更正。",
        )
    if (new.plan_id is None) == (new.kind is None):
        raise RefusedError(
            "An impact assessment is about one plan or one kind of plan.",
            remedy="Give plan_id or kind.",
            zh="影响评估须针对一个方案或一类方案，请二选一。",
        )
    if new.plan_id is not None and find_row(work, Plan, new.plan_id) is None:
        raise missing("plan", "方案", new.plan_id)
    impact = ImpactAssessment(
        impact_id=work.new_id("impact"),
        unit_id=new.unit_id,
        sharing="down",
        plan_id=new.plan_id,
        kind=new.kind,
        document=checked_content({"terms": new.document})["terms"],
        conclusion=new.conclusion,
        valid_from=new.valid_from,
        valid_until=new.valid_until,
        keep_until=_years_later(new.valid_until, KEEP_YEARS),
        by=actor.account_id,
        at=work.now,
    )
    work.session.add(impact)
    work.audit(
        "impact.record", "impact", impact.impact_id,
        conclusion=new.conclusion, plan=new.plan_id, plan_kind=new.kind,
    )  # fmt: skip
    return impact


def get_impact(work: UnitOfWork, impact_id: str) -> ImpactAssessment:
    """Return an impact assessment.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    found = find_row(work, ImpactAssessment, impact_id)
    if found is None:
        raise missing("impact assessment", "影响评估", impact_id)
    return found


def find_impacts(
    work: UnitOfWork, *, kind: str | None = None, plan_id: str | None = None
) -> sa.Select[Any]:
    """Return a select of the impact assessments within reach."""
    statement = sa.select(ImpactAssessment)
    if kind is not None:
        statement = statement.where(ImpactAssessment.kind == kind)
    if plan_id is not None:
        statement = statement.where(ImpactAssessment.plan_id == plan_id)
    return statement


def revoke_impact(work: UnitOfWork, actor: Actor, impact: ImpactAssessment, *, why: str) -> None:
    """End an impact assessment from now on; nothing that rests on it alone deploys any more.

    Raises
    ------
    ConflictError
        If it is revoked already.
    """
    if impact.revoked_at is not None:
        raise ConflictError(
            "This impact assessment has been revoked already.",
            remedy="Read it again.",
            zh="该影响评估已被撤销，请刷新。",
        )
    impact.revoked_by, impact.revoked_at, impact.revoked_why = actor.account_id, work.now, why
    work.audit("impact.revoke", "impact", impact.impact_id, why=why)


def find_valid_impact(work: UnitOfWork, plan: Plan) -> ImpactAssessment | None:
    """Return an impact assessment that covers the plan today, or None.

    One about the plan itself, or about its kind by its unit or a unit above.
    """
    day = today(work)
    with work.beyond("an assessment above covers the units below"):
        statement = (
            sa.select(ImpactAssessment)
            .join(OrgClosure, OrgClosure.ancestor_id == ImpactAssessment.unit_id)
            .where(
                OrgClosure.descendant_id == plan.unit_id,
                sa.or_(
                    ImpactAssessment.plan_id == plan.plan_id, ImpactAssessment.kind == plan.kind
                ),
                ImpactAssessment.conclusion != "unacceptable",
                ImpactAssessment.valid_from <= day,
                ImpactAssessment.valid_until >= day,
                ImpactAssessment.revoked_at.is_(None),
            )
            .order_by(ImpactAssessment.valid_until.desc())
            .limit(1)
        )
        return work.session.scalars(statement).first()


def has_impact(work: UnitOfWork, plan: Plan, content: Mapping[str, Any]) -> bool:
    """Whether the plan decides on no person automatically, or is covered by an assessment."""
    return not decides_on_persons(content) or find_valid_impact(work, plan) is not None


def _years_later(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year + years)
    except ValueError:  # the 29th of February
        return date(day.year + years, 3, 1)
