"""Regular campaigns (常态化): an approved plan that runs again by the clock, its content unchanged.

The times stand in the content itself (``schedule``), so whoever approves the plan approves how
often it runs and until when.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import sqlalchemy as sa
from croniter import CroniterBadDateError, croniter

from bihuan.kernel import UserError
from bihuan.server.app.plan.content import ContentError
from bihuan.server.app.plan.gate import require_deployable
from bihuan.server.app.plan.reach import ZONE
from bihuan.server.control import Plan, PlanRevision, PlanRun, UnitOfWork

MOST_DUE = 100
"""Times of one plan that are caught up at once; older ones are missed."""


def open_due_runs(work: UnitOfWork) -> list[PlanRun]:
    """Open a run for every time at which a regular plan has come due.

    Each time has one run, whoever asks and however often. A run is open while the plan may be
    deployed, and missed, with the reason, where it may not. Of several times that have passed
    only the newest is opened; the others are missed.

    Parameters
    ----------
    work
        A unit of work of the system.

    Returns
    -------
    list of PlanRun
        The new ones.
    """
    statement = (
        sa.select(Plan)
        .where(Plan.next_run_at <= work.now, Plan.state.in_(("approved", "executing", "paused")))
        .order_by(Plan.next_run_at)
        .with_for_update(skip_locked=True)
    )
    found: list[PlanRun] = []
    for plan in work.session.scalars(statement).all():
        revision = work.session.get_one(PlanRevision, plan.revision_id)
        times, following = _due(revision.content, plan.next_run_at, work.now)
        found += [_run(work, plan, moment, is_newest=moment == times[-1]) for moment in times]
        plan.next_run_at = following
        plan.moves += 1
    return found


def _run(work: UnitOfWork, plan: Plan, moment: datetime, *, is_newest: bool) -> PlanRun:
    reason = "" if is_newest else "a later time has come due"
    if is_newest:
        try:
            require_deployable(work, plan.plan_id)
        except UserError as error:
            reason = error.message
    run = PlanRun(
        run_id=work.new_id("run"),
        plan_id=plan.plan_id,
        unit_id=plan.unit_id,
        due_at=moment,
        revision_id=plan.revision_id,
        content_hash=plan.content_hash,
        state="missed" if reason else "open",
        reason=reason[:1000],
        opened_at=work.now,
    )
    work.session.add(run)
    work.audit("plan.run", "plan", plan.plan_id, due_at=moment.isoformat(), state=run.state)
    return run


def first_run(content: Mapping[str, Any], after: datetime) -> datetime | None:
    """Return the first time after a moment at which the content is due; None if it has no times."""
    schedule = content.get("schedule")
    return None if not schedule else next_time(schedule, after)


def validity_of(content: Mapping[str, Any]) -> date | None:
    """Return the last day on which an approval of the content holds; None where it is open.

    The schedule's ``valid_until`` of a regular campaign, else the end of the goal's period.
    """
    schedule = content.get("schedule") or {}
    goal = content.get("campaign", {}).get("goal", {})
    last = schedule.get("valid_until") or goal.get("ends_on")
    try:
        return date.fromisoformat(str(last)) if last else None
    except ValueError as error:
        raise _wrong(f"{last} is no day") from error


def next_time(schedule: Mapping[str, Any], after: datetime) -> datetime | None:
    """Return the next time of a schedule after a moment, in UTC; None if never again.

    Parameters
    ----------
    schedule
        ``cron`` (five fields on the wall clock), ``time_zone`` (Asia/Shanghai unless said),
        ``valid_until`` (the last day).
    after
        A moment.

    Raises
    ------
    ContentError
        If it is no schedule.
    """
    cron = str(schedule.get("cron", ""))
    if len(cron.split()) != 5 or not croniter.is_valid(cron):
        raise _wrong(f"cron '{cron}' is not five fields")
    try:
        zone = ZoneInfo(str(schedule.get("time_zone") or ZONE.key))
        last = date.fromisoformat(str(schedule.get("valid_until", "")))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise _wrong(str(error)) from error
    wall = after.astimezone(zone).replace(tzinfo=None)
    while True:
        try:
            wall = croniter(cron, wall).get_next(datetime)
        except CroniterBadDateError:  # the 30th of February
            return None
        if wall.date() > last:
            return None
        moment: datetime = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
        if moment > after:  # not the second pass of a repeated hour
            return moment


def _due(
    content: Mapping[str, Any], first: datetime | None, now: datetime
) -> tuple[list[datetime], datetime | None]:
    times: list[datetime] = []
    moment = first
    while moment is not None and moment <= now:
        times = [*times[1 - MOST_DUE :], moment]
        moment = next_time(content["schedule"], moment)
    return times, moment


def _wrong(problem: str) -> ContentError:
    return ContentError(
        f"The plan's schedule is wrong: {problem}.",
        remedy="Write for example  cron: 0 9 1 * *,  valid_until: 2027-06-30.",
        zh=f"方案的常态化时间表有误（{problem}），示例：cron 0 9 1 * *，valid_until 2027-06-30。",
    )
