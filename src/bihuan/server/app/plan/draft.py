"""Making a plan: market analysis, drafts, rehearsal, assessment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import sqlalchemy as sa

from bihuan.decision.rehearsal import JUDGEMENTS
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import RefusedError, StaleError, missing
from bihuan.server.app.plan.content import (
    checked_content,
    content_hash,
    head_of,
    is_complete,
)
from bihuan.server.app.plan.frame import require_within
from bihuan.server.app.plan.machine import move, numbered, require_allowed
from bihuan.server.app.plan.reach import find_row
from bihuan.server.app.plan.steps import end_filing
from bihuan.server.control import (
    Assessment,
    MarketAnalysis,
    Plan,
    PlanRevision,
    RehearsalRecord,
    UnitOfWork,
)

VERDICTS = ("pass", "warn", "fail")
KINDS: Mapping[str, Mapping[str, str]] = {
    "retention": {"zh": "客户维系", "en": "retention"},
    "upgrade": {"zh": "升档提值", "en": "upgrade"},
    "convergence": {"zh": "融合", "en": "convergence"},
    "pack": {"zh": "加装包", "en": "add-on packs"},
    "service": {"zh": "增值业务", "en": "value-added services"},
    "terminal": {"zh": "终端合约", "en": "terminals and contracts"},
    "leased_line": {"zh": "专线", "en": "leased lines"},
    "acquisition": {"zh": "新增与异网", "en": "new and off-net customers"},
    "care": {"zh": "服务关怀", "en": "care"},
    "other": {"zh": "其他", "en": "other"},
}
"""What a plan is about."""


@dataclass(frozen=True, slots=True)
class NewPlan:
    """What a new plan begins with.

    Parameters
    ----------
    unit_id
        Org unit that owns it.
    kind
        One of :data:`KINDS`.
    title
        ``{"zh": ..., "en": ...}``.
    content
        What is known already; may be empty.
    frame_id
        Frame of a level above that it keeps within.
    note
        For the first revision.
    """

    unit_id: str
    kind: str
    title: Mapping[str, str]
    content: Mapping[str, Any]
    frame_id: str | None = None
    note: str = ""


def get_plan(work: UnitOfWork, plan_id: str) -> Plan:
    """Return a plan.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    found = find_row(work, Plan, plan_id)
    if found is None:
        raise missing("plan", "方案", plan_id)
    return found


def current_revision(work: UnitOfWork, plan: Plan) -> PlanRevision:
    """Return what the plan says now.

    Raises
    ------
    NotFoundError
        If its text is not shared with the caller.
    """
    found = find_row(work, PlanRevision, plan.revision_id)
    if found is None:
        raise missing("plan", "方案", plan.plan_id)
    return found


def open_plan(work: UnitOfWork, actor: Actor, new: NewPlan, **origin: Any) -> Plan:
    """Begin a plan in the state ``analysis``, or ``drafting`` where it comes with a campaign.

    Parameters
    ----------
    work
        In the scope of ``plan.edit``.
    actor
        Who begins it.
    new
        What it begins with.
    **origin
        ``origin_id``, ``origin_revision_id`` of what it was copied from.

    Raises
    ------
    ContentError
        If the content has not the form of one.
    FrameError
        If it leaves its frame; names the fields and the frame's limits.
    """
    if new.kind not in KINDS:
        raise RefusedError(
            f"'{new.kind}' is not a kind of plan.",
            remedy=f"Choose one of: {', '.join(KINDS)}.",
            zh=f"没有方案类别 {new.kind}，可选：{'、'.join(KINDS)}。",
        )
    content = checked_content(new.content)
    plan = Plan(
        plan_id=work.new_id("plan"),
        unit_id=new.unit_id,
        sharing="own",
        title_zh=new.title["zh"],
        title_en=new.title["en"],
        kind=new.kind,
        state="drafting" if content.get("campaign") else "analysis",
        moves=0,
        revision_id="",
        content_hash="",
        frame_id=new.frame_id,
        created_by=actor.account_id,
        created_at=work.now,
        changed_at=work.now,
        inherits=False,
        counts={},
        **origin,
    )
    require_within(work, plan, content, complete=False)
    revision = _revise(work, actor, plan, content, note=new.note, number=1)
    work.session.add(plan)
    work.session.flush()
    work.session.add(revision)
    work.audit("plan.open", "plan", plan.plan_id, unit=new.unit_id, content_hash=plan.content_hash)
    return plan


def edit_plan(
    work: UnitOfWork,
    actor: Actor,
    plan: Plan,
    content: Mapping[str, Any],
    *,
    title: Mapping[str, str] | None = None,
    note: str = "",
) -> PlanRevision:
    """Give the plan a new revision; every approval, rehearsal and assessment of the old is void.

    They stay as history. The plan goes back to ``drafting``.

    Raises
    ------
    IllegalMoveError
        If the plan runs or is closed.
    ContentError, FrameError
        As for :func:`open_plan`.
    """
    return _change(work, actor, plan, "edit", content, title=title, note=note)


def record_analysis(
    work: UnitOfWork, actor: Actor, plan: Plan, document: Mapping[str, Any]
) -> MarketAnalysis:
    """Record the market analysis (市场分析) that the plan rests on.

    Parameters
    ----------
    work, actor, plan
        As ever.
    document
        ``market``, ``competition``, ``customers`` and ``findings``, as the analyst wrote them;
        ``market`` and ``competition`` are needed.

    Returns
    -------
    MarketAnalysis
        Immutable; the plan's content names it by hash, so a new analysis is a new revision.

    Raises
    ------
    RefusedError
        If market or competition is missing.
    """
    require_allowed(plan, "analyse")
    for field, zh in (("market", "市场"), ("competition", "竞争")):
        if not document.get(field):
            raise RefusedError(
                f"The market analysis says nothing about the {field}.",
                remedy=f"Give the field {field}.",
                zh=f"市场分析缺少{zh}情况，请填写 {field}。",
            )
    fixed = checked_content({"terms": document})["terms"]
    analysis = MarketAnalysis(
        analysis_id=work.new_id("analysis"),
        plan_id=plan.plan_id,
        unit_id=plan.unit_id,
        document=fixed,
        content_hash=content_hash(fixed),
        author_id=actor.account_id,
        at=work.now,
    )
    work.session.add(analysis)
    content = {
        **current_revision(work, plan).content,
        "analysis": {
            "analysis_id": analysis.analysis_id,
            "content_hash": analysis.content_hash,
        },
    }
    _change(work, actor, plan, "analyse", content, note="market analysis")
    return analysis


def record_rehearsal(
    work: UnitOfWork, actor: Actor, plan: Plan, result: Mapping[str, Any], *, content_hash: str
) -> RehearsalRecord:
    """Record a rehearsal (方案预演) of the plan's present content.

    Parameters
    ----------
    work, actor, plan
        As ever.
    result
        What :meth:`bihuan.decision.rehearsal.Rehearsal.to_json` wrote, parsed.
    content_hash
        Of the content that was rehearsed.

    Raises
    ------
    StaleError
        If the plan was changed since.
    RefusedError
        If the result lacks one of the four judgements.
    """
    require_allowed(plan, "rehearse")
    if content_hash != plan.content_hash:
        raise StaleError(
            "The plan was changed while it was rehearsed.",
            remedy="Rehearse it again.",
            zh="预演期间方案已被修改，请重新预演。",
        )
    judgements = {
        str(one.get("name")): {"verdict": one.get("verdict"), "score": one.get("score")}
        for one in result.get("judgements", ())
    }
    _require_four(judgements)
    reach = result.get("findings", {}).get("reach", ())
    facts = {"complete": is_complete(current_revision(work, plan).content)}
    move(work, plan, "rehearse", facts=facts, comment=_worst(judgements))
    record = RehearsalRecord(
        record_id=numbered(plan, "r", plan.moves),
        plan_id=plan.plan_id,
        unit_id=plan.unit_id,
        revision_id=plan.revision_id,
        content_hash=content_hash,
        rehearsal_id=str(result["rehearsal_id"]),
        as_of=date.fromisoformat(str(result["as_of"])),
        customers=int(reach[0]["left"]) if reach else int(result["sample"]["population"]),
        contacts=int(reach[-1]["left"]) if reach else 0,
        verdict=_worst(judgements),
        judgements=judgements,
        document=dict(result),
        by=actor.account_id,
        at=work.now,
    )
    work.session.add(record)
    return record


def record_assessment(
    work: UnitOfWork,
    actor: Actor,
    plan: Plan,
    judgements: Mapping[str, Mapping[str, str]],
    *,
    comment: str = "",
) -> Assessment:
    """Judge the plan: feasibility, reasonableness, scientific soundness, expected effect.

    Parameters
    ----------
    work, actor, plan
        As ever.
    judgements
        By name of the four, ``{"verdict": pass | warn | fail, "comment": ...}``. A verdict that is
        better than the rehearsal's needs a comment.
    comment
        On the whole.

    Returns
    -------
    Assessment
        Its verdict is the worst of the four; a plan that fails is not filed.

    Raises
    ------
    RefusedError
        If one of the four is missing, or a better verdict has no reason.
    UnmetGuardError
        If the present content has not been rehearsed.
    """
    require_allowed(plan, "assess")
    _require_four(judgements)
    record = last_rehearsal(work, plan)
    if record is not None:
        _require_reasons(record, judgements)
    move(work, plan, "assess", facts={"rehearsed": record is not None}, comment=comment)
    assert record is not None  # the guard has seen to it
    assessment = Assessment(
        assessment_id=numbered(plan, "a", plan.moves),
        plan_id=plan.plan_id,
        unit_id=plan.unit_id,
        record_id=record.record_id,
        content_hash=plan.content_hash,
        judgements={name: dict(judgement) for name, judgement in judgements.items()},
        verdict=_worst(judgements),
        comment=comment,
        by=actor.account_id,
        at=work.now,
    )
    work.session.add(assessment)
    return assessment


def last_rehearsal(work: UnitOfWork, plan: Plan) -> RehearsalRecord | None:
    """Return the newest rehearsal of the plan's present content, or None."""
    statement = (
        sa.select(RehearsalRecord)
        .where(
            RehearsalRecord.plan_id == plan.plan_id,
            RehearsalRecord.content_hash == plan.content_hash,
        )
        .order_by(RehearsalRecord.record_id.desc())
        .limit(1)
    )
    return work.session.scalars(statement).first()


def last_assessment(work: UnitOfWork, plan: Plan) -> Assessment | None:
    """Return the newest assessment of the plan's present content, or None."""
    statement = (
        sa.select(Assessment)
        .where(Assessment.plan_id == plan.plan_id, Assessment.content_hash == plan.content_hash)
        .order_by(Assessment.assessment_id.desc())
        .limit(1)
    )
    return work.session.scalars(statement).first()


def _change(
    work: UnitOfWork,
    actor: Actor,
    plan: Plan,
    event: str,
    content: Mapping[str, Any],
    **what: Any,
) -> PlanRevision:
    require_allowed(plan, event)
    title = what.get("title")
    fixed = checked_content(content)
    require_within(work, plan, fixed, complete=False)
    if title:
        plan.title_zh, plan.title_en = title["zh"], title["en"]
    number = 1 + int(
        work.session.scalars(
            sa.select(sa.func.max(PlanRevision.number)).where(PlanRevision.plan_id == plan.plan_id)
        ).one()
    )
    end_filing(work, plan, "void")
    revision = _revise(work, actor, plan, fixed, note=what.get("note", ""), number=number)
    work.session.add(revision)
    plan.sharing, plan.inherits = "own", False
    move(work, plan, event, comment=what.get("note", ""))
    return revision


def _revise(
    work: UnitOfWork,
    actor: Actor,
    plan: Plan,
    content: dict[str, Any],
    *,
    note: str,
    number: int,
) -> PlanRevision:
    revision = PlanRevision(
        revision_id=numbered(plan, "v", number),
        plan_id=plan.plan_id,
        unit_id=plan.unit_id,
        sharing="own",
        number=number,
        content=content,
        content_hash=content_hash(content),
        author_id=actor.account_id,
        note=note,
        at=work.now,
    )
    head = head_of(content, plan.title_zh, plan.title_en)
    plan.revision_id, plan.content_hash = revision.revision_id, revision.content_hash
    plan.starts_on, plan.ends_on, plan.budget = head.starts_on, head.ends_on, head.budget
    plan.channels = f",{','.join(head.channels)},"[:400]
    plan.words = head.words
    plan.valid_until = plan.next_run_at = None
    return revision


def _require_four(judgements: Mapping[str, Mapping[str, Any]]) -> None:
    right = all(one.get("verdict") in VERDICTS for one in judgements.values())
    if set(judgements) != set(JUDGEMENTS) or not right:
        raise RefusedError(
            f"An assessment judges {', '.join(JUDGEMENTS)}, each pass, warn or fail.",
            remedy="Give all four and no others.",
            zh="评估须包含可行性、合理性、科学性、成效四项，结论为 pass、warn 或 fail。",
        )


def _require_reasons(record: RehearsalRecord, judgements: Mapping[str, Mapping[str, str]]) -> None:
    for name, judgement in judgements.items():
        found = record.judgements[name]["verdict"]
        better = VERDICTS.index(judgement["verdict"]) < VERDICTS.index(found)
        if better and not judgement.get("comment", "").strip():
            raise RefusedError(
                f"The rehearsal says '{found}' on {name}, the assessment says"
                f" '{judgement['verdict']}' without a reason.",
                remedy="Write in its comment why it is better.",
                zh=f"{JUDGEMENTS[name]['zh']}的评估结论优于预演结论，请填写理由。",
            )


def _worst(judgements: Mapping[str, Mapping[str, Any]]) -> str:
    return max((str(one["verdict"]) for one in judgements.values()), key=VERDICTS.index)
