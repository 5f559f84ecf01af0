"""The tables of jobs: their keys hold, their rows are seen from their units only."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from bihuan.server.control import Control, Job, JobEffect, Schedule, ScheduleFire, Scope

EVERYTHING = Scope.everything()


def job(work, job_id: str, unit: str, **named) -> Job:
    row = Job(
        job_id=job_id, unit_id=unit, kind="x", arguments={}, state="queued", owner_id="system",
        progress={}, log=[], created_at=work.now, **named,
    )  # fmt: skip
    work.session.add(row)
    work.session.flush()
    return row


def schedule(work, unit: str = "city-a") -> None:
    work.session.add(
        Schedule(
            schedule_id="s", unit_id=unit, name="s", kind="x", arguments={}, cron="0 6 * * *",
            owner_id="system", created_at=work.now,
        )
    )  # fmt: skip
    work.session.flush()


def fire(work) -> None:
    work.session.add(
        ScheduleFire(schedule_id="s", unit_id="city-a", fire_at=work.now, fired_at=work.now)
    )
    work.session.flush()


class TestKeys:
    def test_a_dedupe_key_is_there_once(self, control: Control):
        with control.work(EVERYTHING) as work:
            job(work, "a", "city-a", dedupe="k")
            job(work, "b", "city-a")
            job(work, "c", "city-a")  # none is no key
        with pytest.raises(IntegrityError), control.work(EVERYTHING) as work:
            job(work, "d", "city-b", dedupe="k")

    def test_a_fire_time_is_there_once(self, control: Control, clock):
        with control.work(EVERYTHING) as work:
            schedule(work)
            fire(work)
        with pytest.raises(IntegrityError), control.work(EVERYTHING) as work:
            fire(work)
        clock.advance(timedelta(seconds=1))
        with control.work(EVERYTHING) as work:
            fire(work)

    def test_an_effect_is_there_once(self, control: Control):
        def effect(work):
            work.session.add(JobEffect(job_id="a", name="x", epoch=1, result={}, done_at=work.now))
            work.session.flush()

        with control.work(EVERYTHING) as work:
            job(work, "a", "city-a")
            effect(work)
        with pytest.raises(IntegrityError), control.work(EVERYTHING) as work:
            effect(work)


class TestScope:
    def test_jobs_and_schedules_are_seen_from_their_units(self, control: Control):
        with control.work(EVERYTHING) as work:
            job(work, "a", "city-a")
            job(work, "b", "county-b1")
            schedule(work)
            fire(work)
        for unit, seen, schedules in (
            ("city-a", {"a"}, 1), ("city-b", {"b"}, 0), ("province", {"a", "b"}, 1),
        ):  # fmt: skip
            with control.work(Scope(frozenset((unit,)))) as work:
                assert set(work.session.scalars(sa.select(Job.job_id))) == seen
                assert len(work.session.scalars(sa.select(Schedule)).all()) == schedules
                assert len(work.session.scalars(sa.select(ScheduleFire)).all()) == schedules

    def test_a_change_by_people_raises_a_schedules_version(self, control: Control):
        with control.work(EVERYTHING) as work:
            schedule(work)
        with control.work(EVERYTHING) as work:
            row = work.session.get_one(Schedule, "s")
            before, row.name = row.version, "t"
            work.session.flush()
            assert row.version == before + 1
