"""Teams, their people and mergers; operating processes; training; assessments and appeals."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import Float, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from bihuan.server.control.base import Scoped, Shared, Table, Versioned


class Team(Versioned, Shared, Table):
    """A team of a unit. ``status``: ``active``, ``merged`` (into ``merged_into``) or ``closed``."""

    __tablename__ = "team"

    team_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), index=True)
    name_zh: Mapped[str] = mapped_column(String(100))
    name_en: Mapped[str] = mapped_column(String(200), default="")
    planned: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(16), default="active")
    merged_into: Mapped[str | None] = mapped_column(ForeignKey("team.team_id"))
    made_at: Mapped[datetime]


class TeamMember(Versioned, Scoped, Table):
    """A person's time in a team; the present one has no ``until``, and there is one per person."""

    __tablename__ = "team_member"

    team_member_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("team.team_id"), index=True)
    staff_id: Mapped[str] = mapped_column(String(64), index=True)
    post: Mapped[str] = mapped_column(String(32))
    since: Mapped[date]
    until: Mapped[date | None]
    change_id: Mapped[str | None] = mapped_column(ForeignKey("team_change.team_change_id"))

    __table_args__ = (
        Index(
            "uq_team_member_present", "team_id", "staff_id", unique=True,
            postgresql_where=text("until IS NULL"), sqlite_where=text("until IS NULL"),
        ),
    )  # fmt: skip


class TeamChange(Scoped, Table):
    """A merger of teams: from which, into which, who moved; rows are only ever added."""

    __tablename__ = "team_change"

    team_change_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    into_team_id: Mapped[str] = mapped_column(ForeignKey("team.team_id"), index=True)
    from_team_ids: Mapped[list[str]]
    moved: Mapped[list[Any]]
    reason: Mapped[str] = mapped_column(String(500))
    on_date: Mapped[date]
    made_by: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[datetime]


class Process(Versioned, Shared, Table):
    """An operating process (SOP): steps, each with the post that answers for it."""

    __tablename__ = "process"

    process_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    number: Mapped[int]
    title_zh: Mapped[str] = mapped_column(String(100))
    title_en: Mapped[str] = mapped_column(String(200))
    steps: Mapped[list[Any]]
    status: Mapped[str] = mapped_column(String(16), default="active")
    made_by: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("unit_id", "name", "number"),)


class ProcessRun(Versioned, Scoped, Table):
    """One time that a process is gone through, by the steps as they were at its start."""

    __tablename__ = "process_run"

    process_run_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    process_id: Mapped[str] = mapped_column(ForeignKey("process.process_id"), index=True)
    subject: Mapped[str] = mapped_column(String(200))
    steps: Mapped[list[Any]]
    at_step: Mapped[int]
    status: Mapped[str] = mapped_column(String(16), index=True)
    log: Mapped[list[Any]]
    made_by: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Course(Versioned, Shared, Table):
    """A training course: for which teams, until when, which mark is needed."""

    __tablename__ = "course"

    course_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    title_zh: Mapped[str] = mapped_column(String(100))
    title_en: Mapped[str] = mapped_column(String(200))
    hours: Mapped[float] = mapped_column(Float)
    team_kinds: Mapped[list[str]]
    pass_mark: Mapped[float] = mapped_column(Float)
    due_on: Mapped[date]
    made_by: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[datetime]


class TrainingRecord(Versioned, Scoped, Table):
    """A person's result in a course; ``unit_id`` is the unit of the team then."""

    __tablename__ = "training_record"

    training_record_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    course_id: Mapped[str] = mapped_column(ForeignKey("course.course_id"), index=True)
    staff_id: Mapped[str] = mapped_column(String(64))
    mark: Mapped[float] = mapped_column(Float)
    passed: Mapped[bool]
    completed_on: Mapped[date]
    made_by: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("course_id", "staff_id"),)


class Performance(Versioned, Shared, Table):
    """One run of an assessment rule over one month. ``status``: ``open`` or ``closed``.

    Units below see by which rule they were assessed (``sharing`` is ``down``), not each other's
    scores.
    """

    __tablename__ = "performance"

    performance_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    rule: Mapped[str] = mapped_column(String(64))
    rule_number: Mapped[int]
    rule_document: Mapped[dict[str, Any]]
    indicator_versions: Mapped[dict[str, Any]]
    subject: Mapped[str] = mapped_column(String(16))
    tier: Mapped[str] = mapped_column(String(16))
    month: Mapped[date]
    status: Mapped[str] = mapped_column(String(16))
    made_by: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[datetime]


class PerformanceScore(Versioned, Scoped, Table):
    """Points of one unit or person; ``corrected`` holds the points after a granted appeal."""

    __tablename__ = "performance_score"

    performance_score_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    performance_id: Mapped[str] = mapped_column(
        ForeignKey("performance.performance_id"), index=True
    )
    subject_id: Mapped[str] = mapped_column(String(64))
    total: Mapped[float] = mapped_column(Float)
    rank: Mapped[int]
    items: Mapped[list[Any]]
    corrected: Mapped[float | None] = mapped_column(Float)

    __table_args__ = (UniqueConstraint("performance_id", "subject_id"),)


class PerformanceAppeal(Versioned, Scoped, Table):
    """An objection to a score. ``status``: ``open``, ``granted`` or ``refused``."""

    __tablename__ = "performance_appeal"

    performance_appeal_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    performance_score_id: Mapped[str] = mapped_column(
        ForeignKey("performance_score.performance_score_id"), index=True
    )
    indicator: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(String(2000))
    status: Mapped[str] = mapped_column(String(16), default="open")
    made_by: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[datetime]
    decided_by: Mapped[str | None] = mapped_column(String(64))
    decided_at: Mapped[datetime | None]
    decision: Mapped[str] = mapped_column(String(2000), default="")
    points_before: Mapped[float | None] = mapped_column(Float)
    points_after: Mapped[float | None] = mapped_column(Float)
