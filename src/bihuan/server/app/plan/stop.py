"""The stop switch: the whole plan, some channels, or some org subtrees; and going on again."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import RefusedError, missing
from bihuan.server.app.plan.machine import move, require_allowed
from bihuan.server.app.plan.reach import is_above
from bihuan.server.control import Plan, PlanStop, UnitOfWork

PARTLY = ("approved", "executing", "paused")


def pause(
    work: UnitOfWork,
    actor: Actor,
    plan: Plan,
    *,
    channels: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
    reason: str,
) -> list[PlanStop]:
    """Stop a running plan, as a whole or in part; in force with the commit.

    Parameters
    ----------
    work
        In the scope of ``plan.stop``.
    actor
        Who stops it. Below the plan's unit one may stop what is carried out in one's own subtree,
        if the plan is shared downward.
    plan
        The plan.
    channels
        Channel kinds to stop; None: all.
    units
        Units to stop, each with everything below; None: everywhere.
    reason
        Why.

    Returns
    -------
    list of PlanStop
        One per unit.

    Raises
    ------
    RefusedError
        If there is no reason, or the plan has none of the channels or does not reach the unit.
    IllegalMoveError
        If it does not run.
    OutOfScopeError
        At the flush, if a unit is outside what the actor may stop.
    """
    if not reason.strip():
        raise RefusedError(
            "A stop needs a reason.", remedy="Write why.", zh="暂停须填写原因，请补充。"
        )
    is_whole = not channels and not units
    if is_whole or plan.state not in PARTLY:
        require_allowed(plan, "pause")
    _require_parts(work, plan, channels or (), units or ())
    found = [
        PlanStop(
            stop_id=work.new_id("stop"),
            plan_id=plan.plan_id,
            unit_id=unit,
            is_whole=is_whole,
            channels=sorted(set(channels or ())),
            reason=reason,
            by=actor.account_id,
            at=work.now,
            lifted_why="",
        )
        for unit in sorted(set(units or (plan.unit_id,)))
    ]
    work.session.add_all(found)
    if is_whole:
        move(work, plan, "pause", comment=reason)
    else:
        work.audit(
            "plan.pause", "plan", plan.plan_id, reason=reason,
            channels=list(channels or ()), units=list(units or ()),
        )  # fmt: skip
    return found


def resume(
    work: UnitOfWork,
    actor: Actor,
    plan: Plan,
    *,
    stop_ids: Sequence[str] | None = None,
    why: str = "",
) -> list[PlanStop]:
    """Lift stops of a plan.

    Parameters
    ----------
    work
        In the scope of ``plan.stop``.
    actor, plan
        Who, and what.
    stop_ids
        Which; None: all within reach.
    why
        For the record.

    Raises
    ------
    NotFoundError
        If a stop named is not in force within reach.
    RefusedError
        If nothing within reach is stopped.
    """
    statement = sa.select(PlanStop).where(
        PlanStop.plan_id == plan.plan_id, PlanStop.lifted_at.is_(None)
    )
    active = {stop.stop_id: stop for stop in work.session.scalars(statement)}
    for stop_id in stop_ids or ():
        if stop_id not in active:
            raise missing("stop in force", "生效中的暂停", stop_id)
    chosen = [active[stop_id] for stop_id in stop_ids] if stop_ids else list(active.values())
    if not chosen:
        raise RefusedError(
            f"Nothing of plan {plan.plan_id} is stopped within your reach.",
            remedy="Read its stops.",
            zh=f"在您的权限范围内方案 {plan.plan_id} 没有暂停，请查看暂停列表。",
        )
    for stop in chosen:
        stop.lifted_by, stop.lifted_at, stop.lifted_why = actor.account_id, work.now, why
    left = [stop for stop in active.values() if stop.lifted_at is None and stop.is_whole]
    if any(stop.is_whole for stop in chosen) and not left and plan.state == "paused":
        move(work, plan, "resume", comment=why)
    else:
        work.audit(
            "plan.resume", "plan", plan.plan_id, stops=[stop.stop_id for stop in chosen], why=why
        )
    return chosen


def stops_of(work: UnitOfWork, plan: Plan) -> list[PlanStop]:
    """Return every stop of a plan within reach, lifted ones included, newest first."""
    statement = (
        sa.select(PlanStop)
        .where(PlanStop.plan_id == plan.plan_id)
        .order_by(PlanStop.stop_id.desc())
    )
    return list(work.session.scalars(statement))


def _require_parts(
    work: UnitOfWork, plan: Plan, channels: Sequence[str], units: Sequence[str]
) -> None:
    strange = sorted(set(channels) - set(plan.channels.strip(",").split(",")))
    if strange:
        raise RefusedError(
            f"Plan {plan.plan_id} does not use {', '.join(strange)}.",
            remedy=f"Its channels are: {plan.channels.strip(',')}.",
            zh=f"方案 {plan.plan_id} 未使用渠道 {'、'.join(strange)}。",
        )
    with work.beyond("whether a unit lies in the plan's subtree is no secret"):
        outside = [unit for unit in units if not is_above(work, plan.unit_id, unit)]
    if outside:
        raise missing("unit of this plan", "方案覆盖的组织单元", ", ".join(outside))
