"""Training: courses for teams, results, and how many of those who should have passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import RefusedError, missing
from bihuan.server.app.team.roster import posts_of
from bihuan.server.app.unit_scope import own_units_below, require_units
from bihuan.server.control import (
    Course,
    OrgClosure,
    Team,
    TeamMember,
    TrainingRecord,
    UnitOfWork,
)


@dataclass(frozen=True, slots=True)
class Completion:
    """How far a course has come at a unit and all below it.

    Parameters
    ----------
    unit_id
        The unit.
    due, passed, failed
        People of the course's teams, and of them those who passed, and who took it and did not.
    rate
        ``passed / due``; None where nobody is due.
    """

    unit_id: str
    due: int
    passed: int
    failed: int
    rate: float | None


def open_course(  # noqa: PLR0913 - a course is all of these
    work: UnitOfWork,
    actor: Actor,
    unit_id: str,
    title: Mapping[str, str],
    *,
    hours: float,
    team_kinds: Sequence[str],
    pass_mark: float,
    due_on: date,
) -> Course:
    """Lay a course on for the teams of some kinds at a unit and below; 100 is the best mark."""
    require_units(work, [unit_id])
    for kind in team_kinds:
        posts_of(kind)
    row = Course(
        course_id=work.new_id("course"), unit_id=unit_id, sharing="down", title_zh=title["zh"],
        title_en=title["en"], hours=hours, team_kinds=list(team_kinds), pass_mark=pass_mark,
        due_on=due_on, made_by=actor.account_id, made_at=work.now,
    )  # fmt: skip
    work.session.add(row)
    work.session.flush()
    work.audit("training.open", "course", row.course_id, unit=unit_id)
    return row


def record_result(
    work: UnitOfWork, actor: Actor, course: Course, staff_id: str, *, mark: float, on: date
) -> TrainingRecord:
    """Put a person's mark down; a later, better one replaces it.

    Raises
    ------
    NotFoundError
        If the person is in none of the course's teams within reach.
    RefusedError
        If the day lies in the future, or nobody may know the mark yet.
    """
    if on > work.now.date():
        raise RefusedError(
            "The day of the result lies in the future.",
            remedy="Choose a day up to today.",
            zh="成绩日期不能晚于今天。",
        )
    member = next((m for m in _people(work, course) if m.staff_id == staff_id), None)
    if member is None:
        raise missing("member of the course's teams", "应训人员", staff_id)
    row = work.session.scalars(
        sa.select(TrainingRecord).where(
            TrainingRecord.course_id == course.course_id, TrainingRecord.staff_id == staff_id
        )
    ).one_or_none()
    if row is None:
        row = TrainingRecord(
            training_record_id=work.new_id("training"), course_id=course.course_id,
            staff_id=staff_id, unit_id=member.unit_id, mark=-1.0, passed=False, completed_on=on,
            made_by=actor.account_id, made_at=work.now,
        )  # fmt: skip
        work.session.add(row)
    if mark > row.mark:
        row.mark, row.completed_on, row.made_by = mark, on, actor.account_id
        row.passed, row.made_at = mark >= course.pass_mark, work.now
    work.session.flush()
    work.audit("training.record", "course", course.course_id, staff=staff_id, mark=mark)
    return row


def completion(work: UnitOfWork, course: Course, unit_id: str) -> list[Completion]:
    """Return how far a course has come, for a unit and each unit right below it.

    A person in several teams of a unit counts once; a parent is counted from people, never from
    the rates of its children.
    """
    people = [(m.unit_id, m.staff_id) for m in _people(work, course)]
    results = {
        row.staff_id: row.passed for row in work.session.scalars(find_records(course.course_id))
    }
    units = own_units_below(work, unit_id)
    children = work.session.scalars(
        sa.select(OrgClosure.descendant_id).where(
            OrgClosure.ancestor_id == unit_id, OrgClosure.depth == 1
        )
    )
    found = [_completion(unit_id, set(units), people, results)]
    for child in sorted(children):
        one = _completion(child, set(own_units_below(work, child)), people, results)
        if one.due:
            found.append(one)
    return found


def get_course(work: UnitOfWork, course_id: str) -> Course:
    """Return a course by id; raise :class:`NotFoundError` if there is none within reach."""
    row = work.session.get(Course, course_id)
    if row is None:
        raise missing("course", "培训课程", course_id)
    return row


def find_courses() -> sa.Select[Course]:
    """Return a select of courses."""
    return sa.select(Course)


def find_records(course_id: str) -> sa.Select[TrainingRecord]:
    """Return a select of the results in a course."""
    return sa.select(TrainingRecord).where(TrainingRecord.course_id == course_id)


def _people(work: UnitOfWork, course: Course) -> list[TeamMember]:
    """Return the present members of the course's teams, at its unit and below, within reach."""
    statement = (
        sa.select(TeamMember)
        .join(Team, Team.team_id == TeamMember.team_id)
        .join(OrgClosure, OrgClosure.descendant_id == TeamMember.unit_id)
        .where(
            OrgClosure.ancestor_id == course.unit_id,
            Team.kind.in_(course.team_kinds),
            Team.status == "active",
            TeamMember.until.is_(None),
        )
    )
    return list(work.session.scalars(statement))


def _completion(
    unit_id: str,
    units: set[str],
    people: Sequence[tuple[str, str]],
    results: Mapping[str, bool],
) -> Completion:
    here = {staff for unit, staff in people if unit in units}
    passed = sum(results.get(staff, False) for staff in here)
    failed = sum(results.get(staff) is False for staff in here)
    return Completion(unit_id, len(here), passed, failed, passed / len(here) if here else None)
