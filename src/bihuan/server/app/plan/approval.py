"""Filing and approval: level by level, by somebody else than the makers, of exactly one content."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from bihuan.kernel import DefectError, UserError
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, RefusedError, StaleError
from bihuan.server.app.permission import PermissionDeniedError
from bihuan.server.app.plan.content import is_complete
from bihuan.server.app.plan.draft import current_revision, last_assessment, last_rehearsal
from bihuan.server.app.plan.frame import require_within
from bihuan.server.app.plan.impact import has_impact
from bihuan.server.app.plan.machine import move, require_allowed
from bihuan.server.app.plan.reach import approvers_at, path_to_top
from bihuan.server.app.plan.regular import first_run, validity_of
from bihuan.server.app.plan.steps import (
    DECIDE,
    PENDING,
    REVIEW,
    NoApproverError,
    end_filing,
    find_filing,
    makers_of,
    refresh_steps,
    steps_of,
)
from bihuan.server.control import ApprovalStep, Filing, OrgClosure, Plan, UnitOfWork


class MakerCheckerError(RefusedError):
    """Who made a plan, or has approved it already, wants to approve it."""


class NotYourStepError(PermissionDeniedError):
    """The open step belongs to another level."""


@dataclass(frozen=True, slots=True)
class FilingTerms:
    """By what rules a plan is filed.

    Parameters
    ----------
    review_customers, review_budget
        A plan for more customers, or above this budget (workspace's currency), needs one further
        approver at the top.
    tiers
        Per kind of offer in the plan, the tiers that may decide on it; empty: no rule.
    """

    review_customers: int = 100_000
    review_budget: Decimal = Decimal(500_000)
    tiers: tuple[tuple[str, ...], ...] = ()


def file_plan(
    work: UnitOfWork, actor: Actor, plan: Plan, terms: FilingTerms, *, comment: str = ""
) -> Filing:
    """File the plan upward, level by level (逐级上报备案).

    Parameters
    ----------
    work
        In the scope of ``plan.edit``.
    actor
        Who files it; becomes one of its makers.
    plan
        Assessed, with a valid impact assessment if it decides automatically on persons.
    terms
        By what rules; see :func:`filing_terms`.
    comment
        For the approvers.

    Raises
    ------
    IllegalMoveError, UnmetGuardError
        If it is not assessed, failed, is not complete, or has no valid impact assessment.
    FrameError
        If it leaves its frame.
    NoApproverError
        If a level that has to decide has nobody who may.
    """
    require_allowed(plan, "file")
    content = current_revision(work, plan).content
    assessment, rehearsal = last_assessment(work, plan), last_rehearsal(work, plan)
    facts = {
        "complete": is_complete(content),
        "analysed": bool(content.get("analysis")),
        "rehearsed": rehearsal is not None,
        "assessed": assessment is not None and assessment.verdict != "fail",
        "impact": has_impact(work, plan, content),
    }
    require_within(work, plan, content, complete=True)
    move(work, plan, "file", facts=facts, comment=comment)
    assert rehearsal is not None  # the guard has seen to it
    customers = max(rehearsal.customers, int(content.get("audience", {}).get("customers") or 0))
    budget = plan.budget if plan.budget is not None else Decimal(0)
    filing = Filing(
        filing_id=work.new_id("filing"),
        plan_id=plan.plan_id,
        unit_id=plan.unit_id,
        number=1 + _filings(work, plan),
        revision_id=plan.revision_id,
        content_hash=plan.content_hash,
        tiers=[list(one) for one in terms.tiers],
        needs_review=customers > terms.review_customers or budget > terms.review_budget,
        state="open",
        by=actor.account_id,
        comment=comment,
        at=work.now,
    )
    work.session.add(filing)
    work.session.flush()  # whoever files counts as a maker from here on
    refresh_steps(work, plan, filing)
    return filing


def approve_plan(
    work: UnitOfWork,
    actor: Actor,
    plan: Plan,
    *,
    content_hash: str,
    step_id: str | None = None,
    comment: str = "",
) -> ApprovalStep:
    """Approve the open step of a filed plan, as the level's approver or its delegate.

    Parameters
    ----------
    work
        In the scope of ``plan.approve``.
    actor
        Who approves; none of the plan's makers.
    plan
        The plan.
    content_hash
        Of the content that the approver has seen.
    step_id
        The step meant; None: whichever is open.
    comment
        For the record.

    Raises
    ------
    IllegalMoveError
        If the plan is not filed (any more).
    StaleError
        If the content is another than the approver has seen.
    ConflictError
        If somebody has decided the step, or the whole plan, before.
    MakerCheckerError
        If the actor made it, or is to be a further approver and is not another person.
    NotYourStepError
        If the step belongs to another level.
    """
    filing, step = _open_step(work, plan, "approve")
    require_seen(plan, filing, content_hash)
    if step_id not in (None, step.step_id):
        raise _decided(work, filing, step_id)
    require_decider(work, actor, plan, step)
    step.state, step.decided_by, step.decided_at = "approved", actor.account_id, work.now
    step.comment = comment
    if refresh_steps(work, plan, filing) is not None:
        move(work, plan, "pass", comment=comment)
        return step
    filing.state, filing.closed_at = "approved", work.now
    content = current_revision(work, plan).content
    move(
        work, plan, "approve",
        facts={"impact": has_impact(work, plan, content)}, comment=comment,
    )  # fmt: skip
    plan.valid_until = validity_of(content)
    plan.next_run_at = first_run(content, work.now)
    return step


def return_plan(
    work: UnitOfWork, actor: Actor, plan: Plan, *, comment: str, content_hash: str | None = None
) -> None:
    """Return a plan to its makers with a comment; every approval of it is void.

    A filed plan is returned by who may decide the open step, an approved one that does not run
    yet by an approver of the level that decided on it.

    Raises
    ------
    RefusedError
        If there is no comment.
    IllegalMoveError, StaleError, MakerCheckerError, NotYourStepError
        As for :func:`approve_plan`.
    """
    require_allowed(plan, "return")
    if not comment.strip():
        raise RefusedError(
            "A plan is returned with a comment.",
            remedy="Write what should be changed.",
            zh="退回方案须填写意见，请说明需要修改的内容。",
        )
    if plan.state == "filed":
        filing, step = _open_step(work, plan, "return")
        require_seen(plan, filing, content_hash or plan.content_hash)
        require_decider(work, actor, plan, step)
        step.state, step.decided_by, step.decided_at = "returned", actor.account_id, work.now
        step.comment = comment
    else:
        found = find_filing(work, plan, "approved")
        if found is None:  # an approval that it shares with the plan above ends there
            raise NotYourStepError(
                "This plan is approved with the plan above it.",
                remedy="Ask the unit that owns the plan above.",
                zh="此方案随上级方案获批，请联系上级方案所属单位。",
            )
        _require_level(actor, [s for s in steps_of(work, found) if s.kind == DECIDE])
    end_filing(work, plan, "returned")
    plan.valid_until = plan.next_run_at = None
    move(work, plan, "return", comment=comment)


def take_back(work: UnitOfWork, actor: Actor, plan: Plan, *, comment: str = "") -> None:
    """Take a filed plan back before it is decided; it stays as it is, and can be filed anew."""
    require_allowed(plan, "take_back")
    end_filing(work, plan, "withdrawn")
    move(work, plan, "take_back", comment=comment)


def delegate_step(
    work: UnitOfWork, actor: Actor, plan: Plan, to_account: str, *, why: str
) -> ApprovalStep:
    """Let a named account decide the open step too; recorded with who, whom, when and why.

    Raises
    ------
    MakerCheckerError
        If the delegate made the plan.
    RefusedError
        If the delegate is the actor, or holds no post of an approver at the level or above.
    """
    filing, step = _open_step(work, plan, "approve")
    del filing
    _require_level(actor, [step])
    _require_not_maker(work, plan, actor.account_id)
    units = [unit.unit_id for unit in path_to_top(work, step.at_unit_id)]
    eligible = frozenset[str]().union(*approvers_at(work, units).values())
    if to_account == actor.account_id or to_account not in eligible:
        raise RefusedError(
            f"Account '{to_account}' cannot decide this step: it takes another approver of"
            f" {step.at_unit_id} or a unit above it.",
            remedy="Name a colleague with the post of an approver there.",
            zh=f"账号 {to_account} 不能代为审批：须为 {step.at_unit_id} 或其上级单位的其他审批人。",
        )
    _require_not_maker(work, plan, to_account)
    step.delegated_to, step.delegated_by = to_account, actor.account_id
    step.delegated_at, step.delegated_why = work.now, why
    plan.moves += 1
    work.audit(
        "plan.delegate", "plan", plan.plan_id, step=step.step_id, to=to_account, why=why
    )  # fmt: skip
    return step


def withdraw_plan(work: UnitOfWork, actor: Actor, plan: Plan, *, comment: str = "") -> None:
    """Give a plan up that does not run."""
    require_allowed(plan, "withdraw")
    end_filing(work, plan, "withdrawn")
    move(work, plan, "withdraw", comment=comment)


def void_plan(work: UnitOfWork, actor: Actor, plan: Plan, *, comment: str) -> None:
    """Void a plan for good, also one that runs: everything that asks for stops is stopped.

    Raises
    ------
    RefusedError
        If there is no comment.
    """
    require_allowed(plan, "void")
    if not comment.strip():
        raise RefusedError(
            "A plan is voided with a comment.",
            remedy="Write why.",
            zh="作废方案须填写原因。",
        )
    end_filing(work, plan, "void")
    move(work, plan, "void", comment=comment)


def rederive_steps(work: UnitOfWork, unit_ids: Iterable[str]) -> int:
    """Bring all open filings of plans at or below ``unit_ids`` in line with the org tree.

    Called after units were moved; every decision does the same for its own plan, so a filing that
    is missed here is never decided by the old tree.

    Returns
    -------
    int
        Filings looked at.
    """
    statement = (
        sa.select(Plan)
        .join(OrgClosure, OrgClosure.descendant_id == Plan.unit_id)
        .where(OrgClosure.ancestor_id.in_(sorted(unit_ids)), Plan.state == "filed")
        .distinct()
    )
    plans = work.session.scalars(statement).all()
    for plan in plans:
        filing = _require_filing(work, plan)
        try:
            refresh_steps(work, plan, filing)
        except NoApproverError:  # a unit may stand where nobody approves; the plan waits there
            for step in steps_of(work, filing):
                if step.state in PENDING:
                    step.state = "superseded"
        plan.moves += 1
    return len(plans)


def require_seen(plan: Plan, filing: Filing, content_hash: str) -> None:
    """Refuse a decision on another content than the one that is filed and current."""
    if not content_hash == filing.content_hash == plan.content_hash:
        raise StaleError(
            "The plan's content is another than the one you have seen.",
            remedy="Read it again, then decide.",
            zh="方案内容与您看到的版本不同，请重新阅读后再审批。",
        )


def require_decider(work: UnitOfWork, actor: Actor, plan: Plan, step: ApprovalStep) -> None:
    """Refuse an actor who may not decide the step: another level, a maker, the same person twice.

    Raises
    ------
    NotYourStepError, MakerCheckerError
        Says which.
    """
    roots = actor.scope("plan.approve").roots or frozenset()
    units = {step.at_unit_id}
    if actor.account_id == step.delegated_to:
        units = {unit.unit_id for unit in path_to_top(work, step.at_unit_id)}
    if not units & roots:
        raise _decided_or_not_yours(work, step, roots)
    _require_not_maker(work, plan, actor.account_id)
    if step.kind == REVIEW:
        before = sa.select(ApprovalStep).where(
            ApprovalStep.filing_id == step.filing_id,
            ApprovalStep.state == "approved",
            ApprovalStep.decided_by == actor.account_id,
        )
        if work.session.scalars(before).first() is not None:
            raise MakerCheckerError(
                "You have approved this plan already; it takes one further person.",
                remedy="Leave it to a colleague.",
                zh="您已审批过此方案，复核须由另一人进行。",
            )


def _require_not_maker(work: UnitOfWork, plan: Plan, account_id: str) -> None:
    if account_id in makers_of(work, plan):
        raise MakerCheckerError(
            f"Account '{account_id}' has made this plan and may not approve it.",
            remedy="Leave it to a colleague who has neither written nor filed it.",
            zh=f"账号 {account_id} 参与了方案编制或上报，不能审批此方案（编审分离）。",
        )


def _require_level(actor: Actor, steps: Iterable[ApprovalStep]) -> None:
    roots = actor.scope("plan.approve").roots or frozenset()
    steps = list(steps)
    if not any(step.at_unit_id in roots for step in steps):
        raise _not_yours(*steps)


def _decided_or_not_yours(work: UnitOfWork, step: ApprovalStep, roots: frozenset[str]) -> UserError:
    """Tell one of two approvers of a level, who comes second, that the level has decided."""
    before = sa.select(ApprovalStep).where(
        ApprovalStep.filing_id == step.filing_id,
        ApprovalStep.state == "approved",
        ApprovalStep.at_unit_id.in_(sorted(roots)),
    )
    found = work.session.scalars(before).first()
    return _not_yours(step) if found is None else _already(found.decided_by)


def _decided(work: UnitOfWork, filing: Filing, step_id: str | None) -> ConflictError:
    step = next((s for s in steps_of(work, filing) if s.step_id == step_id), None)
    return _already(step.decided_by if step is not None else None)


def _already(by: str | None) -> ConflictError:
    return ConflictError(
        f"This step is not open any more{f': account {by!r} has decided it' if by else ''}.",
        remedy="Read the plan again.",
        zh=f"此审批环节已不再待办{f'（账号 {by} 已处理）' if by else ''}，请刷新。",
    )


def _not_yours(*steps: ApprovalStep) -> NotYourStepError:
    units = ", ".join(sorted({step.at_unit_id for step in steps}))
    return NotYourStepError(
        f"This step is decided by an approver of {units}.",
        remedy="Ask that level, or have it delegated to you.",
        zh=f"此环节由 {units} 的审批人处理，请联系该单位或由其委托。",
    )


def _open_step(work: UnitOfWork, plan: Plan, event: str) -> tuple[Filing, ApprovalStep]:
    if plan.state != "filed":
        _refuse_second(work, plan)
    require_allowed(plan, event)
    filing = _require_filing(work, plan)
    step = refresh_steps(work, plan, filing)
    if step is None:
        msg = f"filing {filing.filing_id} is open and every level has decided"
        raise DefectError(msg)
    return filing, step


def _refuse_second(work: UnitOfWork, plan: Plan) -> None:
    """Tell an approver who comes second that somebody has decided already."""
    filing = find_filing(work, plan, "approved")
    steps = steps_of(work, filing) if filing is not None else []
    if plan.state == "approved" and steps:
        raise _already(max(steps, key=lambda step: step.position).decided_by)


def _require_filing(work: UnitOfWork, plan: Plan) -> Filing:
    filing = find_filing(work, plan, "open")
    if filing is None:
        msg = f"plan {plan.plan_id} is filed and has no open filing"
        raise DefectError(msg)
    return filing


def _filings(work: UnitOfWork, plan: Plan) -> int:
    return int(
        work.session.scalars(
            sa.select(sa.func.count()).select_from(Filing).where(Filing.plan_id == plan.plan_id)
        ).one()
    )
