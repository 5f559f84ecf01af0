"""Work that outlives a request: jobs, their effects, schedules and their fires, workers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from bihuan.server.control.base import Scoped, Table, Versioned

JOB_STATES = ("queued", "running", "succeeded", "failed", "cancelled")
"""A job waits, runs (again after a take-over), and ends in one of the last three for good."""

MISSED = ("run_once", "skip")
"""What becomes of fire times that passed while no worker lived."""


class Job(Scoped, Table):
    """One piece of work, on behalf of an account, for a unit.

    ``epoch`` rises with every claim and every take-over; whoever writes for the job must still
    hold its present epoch. ``progress`` holds ``done, total, unit, percent, stage``, ``log`` the
    newest lines, ``error`` holds ``message, remedy, zh``.
    """

    __tablename__ = "job"

    job_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), index=True)
    arguments: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    owner_id: Mapped[str] = mapped_column(String(64), index=True)
    schedule_id: Mapped[str | None] = mapped_column(String(64), index=True)
    dedupe: Mapped[str | None] = mapped_column(String(160), unique=True)
    progress: Mapped[dict[str, Any]]
    log: Mapped[list[Any]]
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    attempts: Mapped[int] = mapped_column(default=0)
    epoch: Mapped[int] = mapped_column(default=0)
    worker_id: Mapped[str | None] = mapped_column(String(64), index=True)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_job_waiting", "state", "job_id"),)


class JobEffect(Table):
    """What a job has done to the control database, by name; the row comes with the effect.

    A second attempt finds it and does not do it again.
    """

    __tablename__ = "job_effect"

    job_id: Mapped[str] = mapped_column(
        ForeignKey("job.job_id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    epoch: Mapped[int]
    result: Mapped[dict[str, Any]]
    done_at: Mapped[datetime]


class Schedule(Versioned, Scoped, Table):
    """Which kind of job is submitted when, by a cron expression read in a time zone.

    ``next_fire_at`` moves on with every fire and does not raise the version: that is for changes
    by people.
    """

    __tablename__ = "schedule"

    schedule_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    kind: Mapped[str] = mapped_column(String(32), index=True)
    arguments: Mapped[dict[str, Any]]
    cron: Mapped[str] = mapped_column(String(100))
    time_zone: Mapped[str] = mapped_column(String(64), default="Asia/Shanghai")
    missed: Mapped[str] = mapped_column(String(16), default="run_once")
    enabled: Mapped[bool] = mapped_column(default=True)
    owner_id: Mapped[str] = mapped_column(String(64), index=True)
    valid_until: Mapped[datetime | None]
    next_fire_at: Mapped[datetime | None] = mapped_column(index=True)
    last_fire_at: Mapped[datetime | None]
    problem: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]


class ScheduleFire(Scoped, Table):
    """A fire time that was dealt with; its key is what makes it once, whoever tries."""

    __tablename__ = "schedule_fire"

    schedule_id: Mapped[str] = mapped_column(
        ForeignKey("schedule.schedule_id", ondelete="CASCADE"), primary_key=True
    )
    fire_at: Mapped[datetime] = mapped_column(primary_key=True)
    fired_at: Mapped[datetime]
    job_id: Mapped[str | None] = mapped_column(String(64))


class Worker(Table):
    """A process that runs jobs; ``beat`` counts up as long as it lives.

    Whether it lives is judged by the beat alone: whoever sees the same beat for longer than the
    lease, by its own steady clock, buries it. ``heartbeat_at`` is for people.
    """

    __tablename__ = "worker"

    worker_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    beat: Mapped[int]
    host: Mapped[str] = mapped_column(String(100))
    pid: Mapped[int]
    threads: Mapped[int]
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
