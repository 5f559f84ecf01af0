"""Schedules: each fire time once, missed ones by policy, clocks that jump, owners that leave."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bihuan.server.app import job as jobs
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import NotFoundError, OutOfScopeError
from bihuan.server.app.job import due
from bihuan.server.app.job import kind as kinds
from bihuan.server.app.permission import PermissionDeniedError
from bihuan.server.control import Account, Control, Job, Schedule, ScheduleFire, Scope, StaffPost

from .job_people import person

NOW = datetime(2026, 11, 2, 1, tzinfo=UTC)  # the fixture's clock; 09:00 in Shanghai
MINUTE = timedelta(minutes=1)


class Nothing(jobs.Arguments):
    pass


@pytest.fixture(autouse=True)
def count_kind():
    jobs.list_kinds()
    before = dict(kinds._KINDS)
    title = {"zh": "数数", "en": "count"}
    jobs.register(jobs.Kind("count", title, "job.run", Nothing, lambda c, a: {}))
    yield
    kinds._KINDS.clear()
    kinds._KINDS.update(before)


@pytest.fixture
def planner(control: Control) -> Actor:
    return person(control, "planner", "city-a")


@contextmanager
def by(control: Control, actor: Actor):
    with control.work(actor.scope("job.run"), account_id=actor.account_id) as work:
        yield work


@contextmanager
def system(control: Control):
    with control.work(Scope.everything()) as work:
        yield work


def set_up(control: Control, actor: Actor, cron: str = "*/5 * * * *", **named) -> str:
    wish = jobs.Wish("名", "count", {}, cron, **named)
    with by(control, actor) as work:
        return jobs.set_up(work, actor, wish).schedule_id


def look(control: Control, now: datetime) -> list[str]:
    """Do what a worker does at each look; return the jobs that were submitted."""
    with system(control) as work:
        due = jobs.due_schedules(work, now)
    found = []
    for schedule_id in due:
        with system(control) as work:
            found += jobs.fire(work, schedule_id, now)
    return found


def get(control: Control, schedule_id: str) -> Schedule:
    with system(control) as work:
        return work.session.get_one(Schedule, schedule_id)


def fired(control: Control) -> list[datetime]:
    """Return the fire times for which there are jobs, with repetitions."""
    with system(control) as work:
        rows = work.session.execute(
            sa.select(ScheduleFire.fire_at).join(Job, Job.job_id == ScheduleFire.job_id)
        )
        return sorted(row.fire_at for row in rows)


def check_once(control: Control) -> None:
    """As many jobs as fire times, and no fire time with two."""
    with system(control) as work:
        count = work.session.scalar(sa.select(sa.func.count()).select_from(Job))
    times = fired(control)
    assert count == len(times)
    assert max(Counter(times).values(), default=1) == 1


class TestSetUp:
    def test_shows_when_it_is_due_next(self, control, planner):
        row = get(control, set_up(control, planner, "30 9 * * *"))
        assert row.next_fire_at == NOW + timedelta(minutes=30)
        assert (row.time_zone, row.missed, row.unit_id) == ("Asia/Shanghai", "run_once", "city-a")

    @pytest.mark.parametrize(
        ("named", "error"),
        [
            ({"cron": "61 * * * *"}, jobs.CronError),
            ({"time_zone": "Mars/Base"}, jobs.CronError),
            ({"missed": "twice"}, jobs.ScheduleError),
            ({"valid_until": NOW - MINUTE}, jobs.ScheduleError),
            ({"cron": "0 0 30 2 *"}, jobs.ScheduleError),
        ],
    )
    def test_what_is_wrong_is_refused(self, control, planner, named, error):
        with pytest.raises(error) as told:
            set_up(control, planner, **named)
        assert told.value.zh

    def test_who_may_not_run_it_may_not_schedule_it(self, control, planner):
        wish = jobs.Wish("x", "count", {}, "0 6 * * *")
        auditor = person(control, "auditor", "city-a")
        with pytest.raises(PermissionDeniedError), system(control) as work:
            jobs.set_up(work, auditor, wish)
        with pytest.raises(OutOfScopeError), by(control, planner) as work:
            jobs.set_up(work, planner, wish, unit_id="city-b")

    def test_another_city_does_not_see_it(self, control, planner):
        schedule_id = set_up(control, planner)
        other = person(control, "planner", "city-b")
        with by(control, other) as work:
            with pytest.raises(NotFoundError):
                jobs.get_schedule(work, schedule_id)
            assert work.session.scalars(jobs.find_schedules()).all() == []


class TestFire:
    def test_each_time_once_whoever_looks(self, control, planner):
        schedule_id = set_up(control, planner)
        assert look(control, NOW) == []
        first = look(control, NOW + 5 * MINUTE)
        assert len(first) == 1
        assert look(control, NOW + 5 * MINUTE) == []
        row = get(control, schedule_id)
        assert row.last_fire_at == NOW + 5 * MINUTE
        assert row.next_fire_at == NOW + 10 * MINUTE
        with system(control) as work:
            job = jobs.get_job(work, first[0])
            assert (job.schedule_id, job.owner_id) == (schedule_id, planner.account_id)
        check_once(control)

    def test_a_fire_does_not_raise_the_version(self, control, planner):
        schedule_id = set_up(control, planner)
        version = get(control, schedule_id).version
        look(control, NOW + 5 * MINUTE)
        assert get(control, schedule_id).version == version

    def test_many_looking_at_once_fire_once(self, control, planner):
        for _ in range(3):
            set_up(control, planner)
        barrier, found = threading.Barrier(4), []

        def try_it():
            for minute in (5, 10, 15):
                barrier.wait(20)  # a look ahead of the others would take missed times together
                found.extend(look(control, NOW + minute * MINUTE))

        threads = [threading.Thread(target=try_it) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 9
        with system(control) as work:
            keys = work.session.execute(
                sa.select(ScheduleFire.schedule_id, ScheduleFire.fire_at)
            ).all()
        assert len(keys) == len(set(keys)) == 9

    def test_late_by_seconds_is_not_missed(self, control, planner):
        set_up(control, planner, "*/10 * * * * *", missed="skip")
        look(control, NOW + timedelta(seconds=35))
        assert fired(control) == [NOW + timedelta(seconds=s) for s in (10, 20, 30)]

    def test_nothing_is_due_after_its_end(self, control, planner):
        schedule_id = set_up(control, planner, valid_until=NOW + 7 * MINUTE)
        look(control, NOW + 5 * MINUTE)
        assert get(control, schedule_id).next_fire_at is None
        assert look(control, NOW + 30 * MINUTE) == []
        assert len(fired(control)) == 1

    def test_an_owner_that_left_is_named_and_the_schedule_goes_on(self, control, planner):
        schedule_id = set_up(control, planner)
        with system(control) as work:
            work.session.get_one(Account, planner.account_id).status = "closed"
        assert look(control, NOW + 5 * MINUTE) == []
        row = get(control, schedule_id)
        assert "is closed" in row.problem["message"]
        assert row.problem["zh"]
        assert row.next_fire_at == NOW + 10 * MINUTE
        with system(control) as work:
            work.session.get_one(Account, planner.account_id).status = "active"
        assert len(look(control, NOW + 10 * MINUTE)) == 1
        assert get(control, schedule_id).problem is None

    def test_an_owner_that_lost_the_post_starts_nothing(self, control, planner):
        schedule_id = set_up(control, planner)
        with system(control) as work:
            work.session.scalars(sa.select(StaffPost)).one().status = "ended"
        assert look(control, NOW + 5 * MINUTE) == []
        assert "job.run" in get(control, schedule_id).problem["message"]


class TestMissed:
    """No worker lived for a day."""

    def test_run_once_runs_the_newest(self, control, planner):
        schedule_id = set_up(control, planner, "0 * * * *")
        assert len(look(control, NOW + timedelta(hours=23, minutes=30))) == 1
        assert fired(control) == [NOW + timedelta(hours=23)]
        assert get(control, schedule_id).next_fire_at == NOW + timedelta(hours=24)

    def test_run_once_is_content_with_a_punctual_one(self, control, planner):
        set_up(control, planner, "0 * * * *")
        look(control, NOW + timedelta(hours=23, seconds=20))
        assert fired(control) == [NOW + timedelta(hours=23)]

    def test_skip_runs_none(self, control, planner):
        schedule_id = set_up(control, planner, "0 * * * *", missed="skip")
        assert look(control, NOW + timedelta(hours=23, minutes=30)) == []
        assert get(control, schedule_id).next_fire_at == NOW + timedelta(hours=24)


class TestClock:
    def step_back(self, control, planner):
        """Fire, set the clock back, pause and resume: the same time is due a second time."""
        schedule_id = set_up(control, planner)
        look(control, NOW + 5 * MINUTE)
        with by(control, planner) as work:
            row = jobs.get_schedule(work, schedule_id)
            jobs.pause(work, planner, row)
            jobs.resume(work, planner, row)  # the fixture's clock still says 09:00
            assert row.next_fire_at == NOW + 5 * MINUTE
        look(control, NOW + 5 * MINUTE)

    def test_set_back_it_fires_nothing_twice(self, control, planner):
        self.step_back(control, planner)
        check_once(control)
        assert len(fired(control)) == 1

    def test_the_check_finds_a_schedule_without_fire_rows(self, control, planner, monkeypatch):
        monkeypatch.setattr(due, "_mark", lambda work, schedule, moment: True)
        self.step_back(control, planner)
        with pytest.raises(AssertionError):
            check_once(control)

    def test_set_forward_and_back_it_loses_nothing(self, control, planner):
        schedule_id = set_up(control, planner)
        look(control, NOW + timedelta(days=1))  # a jump
        for minute in range(1, 31):
            look(control, NOW + minute * MINUTE)
        assert get(control, schedule_id).next_fire_at == NOW + 35 * MINUTE
        ahead = [t for t in fired(control) if t > NOW + timedelta(hours=1)]
        assert fired(control) == [NOW + m * MINUTE for m in (5, 10, 15, 20, 25, 30)] + ahead
        assert len(ahead) == 1
        check_once(control)

    @settings(
        max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(steps=st.lists(st.integers(-90, 240), min_size=1, max_size=12))
    def test_whatever_the_clock_does_no_time_is_run_twice(self, control, planner, steps):
        with system(control) as work:
            for table in (ScheduleFire, Schedule, Job):
                work.session.execute(sa.delete(table))
        set_up(control, planner, "* * * * *")
        now = NOW
        for step in steps:
            now += timedelta(seconds=step)
            look(control, now)
        check_once(control)


class TestHand:
    def test_a_paused_one_is_not_due_and_resumed_only_from_then_on(self, control, planner, clock):
        schedule_id = set_up(control, planner)
        with by(control, planner) as work:
            jobs.pause(work, planner, jobs.get_schedule(work, schedule_id))
        assert look(control, NOW + 60 * MINUTE) == []
        assert get(control, schedule_id).next_fire_at is None
        clock.advance(timedelta(hours=2))
        with by(control, planner) as work:
            jobs.resume(work, planner, jobs.get_schedule(work, schedule_id))
        assert look(control, NOW + timedelta(hours=2)) == []
        assert len(look(control, NOW + timedelta(hours=2, minutes=5))) == 1

    def test_triggered_by_hand_it_runs_besides_its_times(self, control, planner):
        schedule_id = set_up(control, planner)
        with by(control, planner) as work:
            job = jobs.trigger(work, planner, jobs.get_schedule(work, schedule_id))
            assert job.schedule_id == schedule_id
        assert len(look(control, NOW + 5 * MINUTE)) == 1

    def test_changed_it_is_the_changers(self, control, planner):
        schedule_id = set_up(control, planner)
        analyst = person(control, "analyst", "province")
        wish = jobs.Wish("新名", "count", {}, "0 12 * * *")
        with by(control, analyst) as work:
            jobs.change(work, analyst, jobs.get_schedule(work, schedule_id), wish)
        row = get(control, schedule_id)
        assert (row.owner_id, row.name) == (analyst.account_id, "新名")
        assert row.next_fire_at == NOW + timedelta(hours=3)

    def test_removed_it_leaves_its_jobs(self, control, planner):
        schedule_id = set_up(control, planner)
        look(control, NOW + 5 * MINUTE)
        with by(control, planner) as work:
            jobs.remove(work, planner, jobs.get_schedule(work, schedule_id))
        with system(control) as work:
            assert work.session.get(Schedule, schedule_id) is None
            assert len(work.session.scalars(jobs.find_jobs(schedule_id=schedule_id)).all()) == 1
