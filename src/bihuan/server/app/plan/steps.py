"""Which levels a filed plan passes, in which order, and what becomes of them when the tree moves.

A plan goes on record at each superior level that has an approver, and the deciding level decides.
Who decides: the level that the policies name for the kinds of offer in it, otherwise the next
superior unit with an approver. A plan of the topmost unit is decided there, by somebody else than
its makers. A large one is approved by one further person at the top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from bihuan.server.app.errors import RefusedError
from bihuan.server.app.plan.reach import approvers_at, path_to_top
from bihuan.server.control import ApprovalStep, Filing, OrgUnit, Plan, PlanRevision, UnitOfWork

PENDING = ("waiting", "open")
RECORD, DECIDE, REVIEW = "record", "decide", "review"


class NoApproverError(RefusedError):
    """No unit above has somebody who may approve the plan and has not made it."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level that a filing passes: a unit, and what it does there."""

    unit_id: str
    kind: str


def makers_of(work: UnitOfWork, plan: Plan) -> frozenset[str]:
    """Return who made the plan: authors of any revision, and who ever filed it.

    Nobody of them may approve it, now or later, at any level, also not as a delegate.
    """
    authors = work.session.scalars(
        sa.select(PlanRevision.author_id).where(PlanRevision.plan_id == plan.plan_id)
    )
    filers = work.session.scalars(sa.select(Filing.by).where(Filing.plan_id == plan.plan_id))
    return frozenset((plan.created_by, *authors, *filers))


def find_filing(work: UnitOfWork, plan: Plan, state: str) -> Filing | None:
    """Return the plan's newest filing in ``state``, or None."""
    statement = (
        sa.select(Filing)
        .where(Filing.plan_id == plan.plan_id, Filing.state == state)
        .order_by(Filing.number.desc())
        .limit(1)
    )
    return work.session.scalars(statement).first()


def steps_of(work: UnitOfWork, filing: Filing) -> list[ApprovalStep]:
    """Return the steps of a filing, in order, superseded ones included."""
    statement = (
        sa.select(ApprovalStep)
        .where(ApprovalStep.filing_id == filing.filing_id)
        .order_by(ApprovalStep.position, ApprovalStep.step_id)
    )
    return list(work.session.scalars(statement))


def end_filing(work: UnitOfWork, plan: Plan, state: str) -> None:
    """End the plan's open or approved filing as ``state``; all its steps are void.

    The steps keep who decided what and when, as history.
    """
    for before in ("open", "approved"):
        filing = find_filing(work, plan, before)
        if filing is None:
            continue
        filing.state, filing.closed_at = state, work.now
        for step in steps_of(work, filing):
            if step.state in ("approved", *PENDING):
                step.state = "void"


def derive_levels(
    work: UnitOfWork,
    plan: Plan,
    tiers: Sequence[Sequence[str]],
    *,
    needs_review: bool,
    decided: Mapping[str, frozenset[str]] | None = None,
) -> list[Level]:
    """Return the levels that the plan has to pass by the org tree as it is now.

    Parameters
    ----------
    work, plan
        As ever.
    tiers
        Per kind of offer in the plan, the tiers that may decide on it; empty: no rule.
    needs_review
        Whether one further person at the top has to approve.
    decided
        By unit, who has approved there in this filing: they count, even if they have left since.

    Raises
    ------
    NoApproverError
        If a level that has to decide has nobody who may.
    """
    path = path_to_top(work, plan.unit_id)
    makers = makers_of(work, plan)
    holders = {
        unit: accounts.union((decided or {}).get(unit, ())) - makers
        for unit, accounts in approvers_at(work, [unit.unit_id for unit in path]).items()
    }
    superiors = path[1:] or path[:1]
    lowest = max((_deciding(path, one) for one in tiers), default=1)
    reached = [
        (index, unit)
        for index, unit in enumerate(superiors, start=len(path) - len(superiors))
        if holders[unit.unit_id]
    ]
    deciding = next((index for index, _ in reached if index >= min(lowest, len(path) - 1)), None)
    if deciding is None:
        raise _nobody(superiors[-1])
    levels = [
        Level(unit.unit_id, DECIDE if index == deciding else RECORD)
        for index, unit in reached
        if index <= deciding
    ]
    if needs_review:
        top = path[-1]
        wanted = 1 + sum(level.unit_id == top.unit_id for level in levels)
        if len(holders[top.unit_id]) < wanted:
            raise _nobody(top, wanted)
        levels.append(Level(top.unit_id, REVIEW))
    return levels


def _deciding(path: Sequence[OrgUnit], tiers: Sequence[str]) -> int:
    """Return how far up the path a kind of offer with these tiers is decided, at least 1."""
    if path[0].tier in tiers:
        return 1  # the owner may decide on it, so its next superior approves
    return next((index for index, unit in enumerate(path) if index and unit.tier in tiers), 1)


def _nobody(unit: OrgUnit, wanted: int = 1) -> NoApproverError:
    more = f"{wanted} people" if wanted > 1 else "anybody"
    return NoApproverError(
        f"Up to {unit.name_en or unit.name_zh} ({unit.unit_id}) there is not {more} who may"
        " approve this plan and has not made it.",
        remedy="Have the post of an approver filled there, then file it again.",
        zh=f"到{unit.name_zh}为止，没有足够的非编制人员可审批此方案（需要 {wanted} 人），"
        "请先在该单位设置审批岗位。",
    )


def refresh_steps(work: UnitOfWork, plan: Plan, filing: Filing) -> ApprovalStep | None:
    """Bring the steps of an open filing in line with the org tree; return the one that is open.

    What is decided stays decided, and counts where its level is still one of the plan's. Open and
    waiting steps of levels that the plan no longer passes are superseded, new levels get steps.

    Returns
    -------
    ApprovalStep or None
        None where every level has decided.

    Raises
    ------
    NoApproverError
        If a level that has to decide has nobody who may.
    """
    steps = steps_of(work, filing)
    levels = derive_levels(
        work, plan, filing.tiers, needs_review=filing.needs_review, decided=_deciders(steps)
    )
    kept: dict[Level, ApprovalStep] = {}
    for step in steps:
        level = Level(step.at_unit_id, step.kind)
        if step.state == "approved" or (step.state in PENDING and level not in kept):
            kept[level] = step
    position = max((step.position for step in steps), default=0)
    current: ApprovalStep | None = None
    for level in levels:
        if level not in kept:
            position += 1
            kept[level] = _new_step(work, plan, filing, level, position)
        step = kept[level]
        if step.state != "approved":
            wanted = "waiting" if current is not None else "open"
            if step.state != wanted:
                step.state = wanted
            current = current or step
    for level, step in kept.items():
        if level not in levels and step.state in PENDING:
            step.state = "superseded"
    return current


def _deciders(steps: Sequence[ApprovalStep]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for step in steps:
        if step.state == "approved" and step.decided_by is not None:
            unit = step.at_unit_id
            found[unit] = found.get(unit, frozenset()) | {step.decided_by}
    return found


def _new_step(
    work: UnitOfWork, plan: Plan, filing: Filing, level: Level, position: int
) -> ApprovalStep:
    step = ApprovalStep(
        step_id=work.new_id("step"),
        plan_id=plan.plan_id,
        unit_id=plan.unit_id,
        filing_id=filing.filing_id,
        position=position,
        kind=level.kind,
        at_unit_id=level.unit_id,
        content_hash=filing.content_hash,
        state="waiting",
        comment="",
        delegated_why="",
    )
    work.session.add(step)
    return step


def required_levels(steps: Sequence[ApprovalStep]) -> Mapping[Level, ApprovalStep]:
    """Return the steps that count, by level: all but the superseded ones."""
    return {Level(step.at_unit_id, step.kind): step for step in steps if step.state != "superseded"}
