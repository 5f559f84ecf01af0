"""The clock's part: schedules that are due submit their jobs, each fire time once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from bihuan.kernel import UserError
from bihuan.server.app.job.context import owner_of
from bihuan.server.app.job.cron import Cron
from bihuan.server.app.job.kind import get_kind
from bihuan.server.app.job.outcome import told
from bihuan.server.app.job.schedule import next_fire
from bihuan.server.app.job.submit import SYSTEM, put
from bihuan.server.control import Schedule, ScheduleFire, UnitOfWork

PUNCTUAL = timedelta(seconds=60)
"""A time that is later than this when a worker looks was missed."""
TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Due:
    """Which of a schedule's times are to be run now.

    Parameters
    ----------
    times
        Oldest first.
    has_more
        Whether more are due than one transaction takes.
    """

    times: tuple[datetime, ...]
    has_more: bool = False


def due_schedules(work: UnitOfWork, now: datetime) -> list[str]:
    """Return the ids of the schedules that are due, or ahead of a clock set back; reads only."""
    statement = (
        sa.select(Schedule.schedule_id)
        .where(Schedule.enabled, sa.or_(Schedule.next_fire_at <= now, Schedule.last_fire_at > now))
        .order_by(Schedule.next_fire_at)
    )
    return list(work.session.scalars(statement))


def fire(work: UnitOfWork, schedule_id: str, now: datetime) -> list[str]:
    """Submit the jobs of a schedule's due times, in one transaction of the system.

    Parameters
    ----------
    work
        The transaction; its commit makes fires and jobs real together.
    schedule_id
        From :func:`due_schedules`.
    now
        The moment that counts (:func:`database_now`).

    Returns
    -------
    list of str
        Ids of the submitted jobs. Empty where another worker was faster: the row of the fire
        time decides, not who looked first or whose clock is right.
    """
    statement = (
        sa.select(Schedule)
        .where(Schedule.schedule_id == schedule_id)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    schedule = work.session.scalars(statement).one_or_none()
    if schedule is None or not schedule.enabled:
        return []
    if schedule.next_fire_at is None or schedule.next_fire_at > now:
        _fall_back(work, schedule, now)
        return []
    due = due_times(schedule, now)
    jobs, problem = [], None
    for moment in due.times:
        if not _mark(work, schedule, moment):
            continue
        try:
            jobs.append(_submit(work, schedule, moment))
        except UserError as error:  # the owner left, the arguments no longer fit: say so, go on
            problem = told(error)
    _move_on(work, schedule, due, now, problem)
    return jobs


def due_times(schedule: Schedule, now: datetime) -> Due:
    """Return which times from ``next_fire_at`` up to ``now`` are to be run.

    Those within the last minute are. Of earlier ones, missed while no worker lived, the newest is
    under ``run_once`` unless a punctual one stands for it, and none is under ``skip``.
    """
    if schedule.next_fire_at is None:
        return Due(())
    cron = Cron(schedule.cron, schedule.time_zone)
    end = now if schedule.valid_until is None else min(now, schedule.valid_until)
    first = schedule.next_fire_at - TICK
    punctual = max(first, now - PUNCTUAL - TICK)
    times = cron.times(punctual, end, most=61)
    if times:
        return Due(tuple(times[:60]), has_more=len(times) > 60)
    if schedule.missed == "skip":
        return Due(())
    newest = cron.newest(first, end)
    return Due(() if newest is None else (newest,))


def _mark(work: UnitOfWork, schedule: Schedule, moment: datetime) -> bool:
    """Take a fire time; False if it was taken before, whenever and by whomever."""
    row = ScheduleFire(
        schedule_id=schedule.schedule_id,
        unit_id=schedule.unit_id,
        fire_at=moment,
        fired_at=work.now,
    )
    known = sa.select(ScheduleFire.fire_at).where(
        ScheduleFire.schedule_id == schedule.schedule_id, ScheduleFire.fire_at == moment
    )
    if work.session.scalars(known).one_or_none() is not None:
        return False
    try:
        with work.session.begin_nested():
            work.session.add(row)
    except IntegrityError:
        return False
    return True


def _submit(work: UnitOfWork, schedule: Schedule, moment: datetime) -> str:
    kind = get_kind(schedule.kind)
    if schedule.owner_id != SYSTEM:
        owner_of(work, schedule.owner_id, kind, schedule.unit_id)
    job = put(
        work,
        kind,
        schedule.arguments,
        owner_id=schedule.owner_id,
        unit_id=schedule.unit_id,
        schedule_id=schedule.schedule_id,
    )
    work.session.execute(
        sa.update(ScheduleFire)
        .where(ScheduleFire.schedule_id == schedule.schedule_id, ScheduleFire.fire_at == moment)
        .values(job_id=job.job_id)
    )
    return job.job_id


def _fall_back(work: UnitOfWork, schedule: Schedule, now: datetime) -> None:
    """Follow a clock that was set back; what was fired while it was ahead stays fired."""
    if schedule.last_fire_at is None or schedule.last_fire_at <= now:
        return
    moment = next_fire(schedule, now)
    if moment is not None and (schedule.next_fire_at is None or moment < schedule.next_fire_at):
        work.session.execute(
            sa.update(Schedule)
            .where(Schedule.schedule_id == schedule.schedule_id)
            .values(next_fire_at=moment)
            .execution_options(synchronize_session=False)
        )


def _move_on(
    work: UnitOfWork,
    schedule: Schedule,
    due: Due,
    now: datetime,
    problem: dict[str, str] | None,
) -> None:
    """Set when the schedule is due next; past the version, which is for changes by people."""
    after = due.times[-1] if due.has_more else now
    last = due.times[-1] if due.times else schedule.last_fire_at
    work.session.flush()
    work.session.execute(
        sa.update(Schedule)
        .where(Schedule.schedule_id == schedule.schedule_id)
        .values(
            next_fire_at=next_fire(schedule, after),
            last_fire_at=last,
            problem=problem,
        )
        .execution_options(synchronize_session=False)
    )
    work.session.expire(schedule)


__all__ = ["Due", "due_schedules", "due_times", "fire"]
