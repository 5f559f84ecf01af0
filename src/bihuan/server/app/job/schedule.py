"""Schedules as people see them: set up, changed, paused, triggered by hand, removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import RefusedError, missing
from bihuan.server.app.job.cron import Cron
from bihuan.server.app.job.kind import get_kind
from bihuan.server.app.job.submit import put, require_reach
from bihuan.server.control import MISSED, Job, Schedule, ScheduleFire, UnitOfWork


class ScheduleError(RefusedError):
    """A schedule is not what a schedule can be."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a schedule is to be.

    Parameters
    ----------
    name
        For people.
    kind, arguments
        Of the jobs.
    cron, time_zone
        When; see :class:`Cron`.
    missed
        ``run_once``: of the times missed while no worker lived the newest is run late;
        ``skip``: none is.
    valid_until
        Nothing is due after it; None: for ever.
    """

    name: str
    kind: str
    arguments: Mapping[str, Any]
    cron: str
    time_zone: str = "Asia/Shanghai"
    missed: str = "run_once"
    valid_until: datetime | None = None


def set_up(work: UnitOfWork, actor: Actor, wish: Wish, *, unit_id: str | None = None) -> Schedule:
    """Set up a schedule; its jobs run on behalf of the actor, for a unit.

    Raises
    ------
    CronError, ScheduleError, UnknownKindError, ArgumentsError
        If the wish cannot be met; says why.
    PermissionDeniedError, OutOfScopeError
        If the actor may not run such jobs, or not for this unit.
    """
    unit = unit_id or actor.home_unit_id
    schedule = Schedule(
        schedule_id=work.new_id("schedule"),
        unit_id=unit,
        owner_id=actor.account_id,
        enabled=True,
        created_at=work.now,
    )
    _take_over(work, actor, schedule, wish)
    work.session.add(schedule)
    work.audit("schedule.set_up", "schedule", schedule.schedule_id, runs=wish.kind, cron=wish.cron)
    return schedule


def change(work: UnitOfWork, actor: Actor, schedule: Schedule, wish: Wish) -> None:
    """Change a schedule; it is the actor's from now on.

    Raises
    ------
    As :func:`set_up`.
    """
    schedule.owner_id = actor.account_id
    _take_over(work, actor, schedule, wish)
    work.audit("schedule.change", "schedule", schedule.schedule_id, cron=wish.cron)
    work.session.flush()


def pause(work: UnitOfWork, actor: Actor, schedule: Schedule) -> None:
    """Let nothing be due until the schedule is resumed; jobs that run go on."""
    require_reach(work, actor, get_kind(schedule.kind), schedule.unit_id)
    schedule.enabled, schedule.next_fire_at = False, None
    work.audit("schedule.pause", "schedule", schedule.schedule_id)
    work.session.flush()


def resume(work: UnitOfWork, actor: Actor, schedule: Schedule) -> None:
    """Let a paused schedule be due again, from now on; what passed meanwhile was not missed."""
    require_reach(work, actor, get_kind(schedule.kind), schedule.unit_id)
    schedule.enabled, schedule.problem = True, None
    schedule.next_fire_at = next_fire(schedule, work.now)
    work.audit("schedule.resume", "schedule", schedule.schedule_id)
    work.session.flush()


def trigger(work: UnitOfWork, actor: Actor, schedule: Schedule) -> Job:
    """Submit the schedule's job now, besides its times."""
    kind = get_kind(schedule.kind)
    require_reach(work, actor, kind, schedule.unit_id)
    work.audit("schedule.trigger", "schedule", schedule.schedule_id)
    return put(
        work,
        kind,
        schedule.arguments,
        owner_id=actor.account_id,
        unit_id=schedule.unit_id,
        schedule_id=schedule.schedule_id,
    )


def remove(work: UnitOfWork, actor: Actor, schedule: Schedule) -> None:
    """Remove a schedule and the record of its fires; its jobs stay."""
    require_reach(work, actor, get_kind(schedule.kind), schedule.unit_id)
    work.session.execute(
        sa.delete(ScheduleFire).where(ScheduleFire.schedule_id == schedule.schedule_id)
    )
    work.session.delete(schedule)
    work.audit("schedule.remove", "schedule", schedule.schedule_id, name=schedule.name)


def get_schedule(work: UnitOfWork, schedule_id: str) -> Schedule:
    """Return a schedule.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    schedule = work.session.get(Schedule, schedule_id)
    if schedule is None:
        raise missing("schedule", "调度计划", schedule_id)
    return schedule


def find_schedules(*, kind: str | None = None, enabled: bool | None = None) -> sa.Select[Schedule]:
    """Return the select of schedules of a kind, paused or not; None: any."""
    statement = sa.select(Schedule)
    if kind is not None:
        statement = statement.where(Schedule.kind == kind)
    if enabled is not None:
        statement = statement.where(Schedule.enabled == enabled)
    return statement


def list_fires(work: UnitOfWork, schedule_id: str, *, most: int = 50) -> list[ScheduleFire]:
    """Return the newest fires of a schedule within reach, newest first."""
    statement = (
        sa.select(ScheduleFire)
        .where(ScheduleFire.schedule_id == schedule_id)
        .order_by(ScheduleFire.fire_at.desc())
        .limit(most)
    )
    return list(work.session.scalars(statement))


def next_fire(schedule: Schedule, after: datetime) -> datetime | None:
    """Return when a schedule is due next after a moment; None if paused or never again."""
    if not schedule.enabled:
        return None
    moment = Cron(schedule.cron, schedule.time_zone).next(after)
    if moment is None or (schedule.valid_until is not None and moment > schedule.valid_until):
        return None
    return moment


def _take_over(work: UnitOfWork, actor: Actor, schedule: Schedule, wish: Wish) -> None:
    kind = get_kind(wish.kind)
    require_reach(work, actor, kind, schedule.unit_id)
    if wish.missed not in MISSED:
        raise ScheduleError(
            f"'{wish.missed}' is no way to deal with missed times.",
            remedy=f"Choose from: {', '.join(MISSED)}.",
            zh=f"错过处理方式 {wish.missed} 无效，可选：{'、'.join(MISSED)}。",
        )
    cron = Cron(wish.cron, wish.time_zone)
    schedule.name, schedule.kind = wish.name, kind.name
    schedule.arguments = kind.read(wish.arguments).model_dump(mode="json")
    schedule.cron, schedule.time_zone = cron.expression, wish.time_zone
    schedule.missed, schedule.valid_until, schedule.problem = wish.missed, wish.valid_until, None
    schedule.next_fire_at = next_fire(schedule, work.now)
    if schedule.enabled and schedule.next_fire_at is None:
        raise ScheduleError(
            f"Schedule '{wish.name}' would never be due.",
            remedy="Mend the cron expression, or set a later end.",
            zh=f"调度计划“{wish.name}”永远不会触发，请修改 cron 表达式或延后截止时间。",
        )
