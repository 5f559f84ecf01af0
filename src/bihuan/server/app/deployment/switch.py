"""The stop switch of a running deployment, and what it means for the final gate."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bihuan.kernel.crash import crash_point
from bihuan.server.app.actor import Actor
from bihuan.server.app.plan import ActiveStop, stops
from bihuan.server.app.plan.draft import get_plan
from bihuan.server.app.plan.stop import pause, resume
from bihuan.server.app.unit_scope import units_below
from bihuan.server.control import PlanDeployment, PlanStop, UnitOfWork


def pause_deployment(
    work: UnitOfWork,
    actor: Actor,
    row: PlanDeployment,
    *,
    channels: Sequence[str] = (),
    units: Sequence[str] = (),
    reason: str,
) -> list[PlanStop]:
    """Stop a deployment's plan, as a whole or in part; in force with the commit.

    Parameters
    ----------
    work
        In the scope of ``plan.stop``.
    actor, row
        Who, and whose plan.
    channels, units
        What stops; both empty: everything.
    reason
        Why.

    Raises
    ------
    NotFoundError, RefusedError
        As for a stop of the plan.
    """
    crash_point("stop.before_row")
    plan = get_plan(work, row.plan_id)
    found = pause(work, actor, plan, channels=channels or None, units=units or None, reason=reason)
    crash_point("stop.recorded")
    work.after_commit(partial(crash_point, "stop.committed"))
    return found


def resume_deployment(
    work: UnitOfWork,
    actor: Actor,
    row: PlanDeployment,
    *,
    stop_ids: Sequence[str] = (),
    why: str = "",
) -> list[PlanStop]:
    """Lift stops of a deployment's plan; what was sent before is not sent again.

    Parameters
    ----------
    work, actor, row
        As for :func:`pause_deployment`.
    stop_ids
        Which; empty: all within reach.
    why
        For the record.
    """
    crash_point("resume.before_row")
    plan = get_plan(work, row.plan_id)
    found = resume(work, actor, plan, stop_ids=stop_ids or None, why=why)
    crash_point("resume.recorded")
    work.after_commit(partial(crash_point, "resume.committed"))
    return found


def stop_parts(work: UnitOfWork, plan_id: str) -> tuple[bool, frozenset[tuple[str, str]]]:
    """Return what is stopped of a plan now, as the final gate takes it.

    Returns
    -------
    tuple
        Whether everything is; and the pairs of channel and org unit that are, with an empty text
        for "every". Units come with all units below them.
    """
    active = stops(work, plan_id)
    if any(stop.is_whole for stop in active):
        return True, frozenset()
    plan_unit = get_plan(work, plan_id).unit_id
    return False, frozenset(
        (channel, unit)
        for stop in active
        for channel in (stop.channels or ("",))
        for unit in _units(work, stop, plan_unit)
    )


def _units(work: UnitOfWork, stop: ActiveStop, plan_unit: str) -> list[str]:
    if stop.unit_id == plan_unit:
        return [""]
    return units_below(work, stop.unit_id)
