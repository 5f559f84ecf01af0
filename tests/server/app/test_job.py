"""Jobs: there when the transaction is, one claim at a time, nothing written past the fence."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import Field

from bihuan.kernel import Cancelled, UserError
from bihuan.server.app import job as jobs
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, NotFoundError, OutOfScopeError
from bihuan.server.app.job import kind as kinds
from bihuan.server.app.permission import PermissionDeniedError
from bihuan.server.control import AuditEntry, Control, Job, JobEffect, Scope, Worker

from .job_people import person


class Number(jobs.Arguments):
    n: int = Field(1, ge=0)


@pytest.fixture(autouse=True)
def count_kind():
    jobs.list_kinds()
    before = dict(kinds._KINDS)
    title = {"zh": "数数", "en": "count"}
    jobs.register(jobs.Kind("count", title, "job.run", Number, lambda c, a: {}, attempts=2))
    yield
    kinds._KINDS.clear()
    kinds._KINDS.update(before)


@contextmanager
def system(control: Control):
    with control.work(Scope.everything()) as work:
        yield work


def submitted(control: Control, actor: Actor, **named: Any) -> str:
    with control.work(actor.scope("job.run"), account_id=actor.account_id) as work:
        return jobs.submit(work, actor, "count", {"n": 3}, **named).job_id


def row(control: Control, job_id: str) -> Job:
    with system(control) as work:
        return jobs.get_job(work, job_id)


def worker(control: Control) -> str:
    with system(control) as work:
        return jobs.register_worker(work, host="here", pid=1, threads=1)


def claimed(control: Control, worker_id: str) -> jobs.Claimed | None:
    with system(control) as work:
        return jobs.claim(work, worker_id, ["count"])


def fence(claim: jobs.Claimed, worker_id: str) -> jobs.Fence:
    return jobs.Fence(claim.job_id, worker_id, claim.epoch, 10)


@pytest.fixture
def planner(control: Control) -> Actor:
    return person(control, "planner", "city-a")


class TestSubmit:
    def test_is_queued_for_the_home_unit_with_checked_arguments(self, control, planner):
        job = row(control, submitted(control, planner))
        assert (job.state, job.unit_id, job.arguments) == ("queued", "city-a", {"n": 3})
        assert (job.owner_id, job.epoch, job.attempts) == (planner.account_id, 0, 0)

    def test_is_not_there_if_the_transaction_fails(self, control, planner):
        def submit_and_fail():
            with control.work(planner.scope("job.run")) as work:
                jobs.submit(work, planner, "count", {})
                work.session.flush()
                raise RuntimeError

        with pytest.raises(RuntimeError):
            submit_and_fail()
        with system(control) as work:
            assert work.session.scalars(sa.select(Job)).all() == []

    def test_a_dedupe_key_stands_for_one_job(self, control, planner):
        first = submitted(control, planner, dedupe="k")
        assert submitted(control, planner, dedupe="k") == first
        with (
            pytest.raises(jobs.DedupeError),
            control.work(planner.scope("job.run")) as work,
        ):
            jobs.submit(work, planner, "count", {"n": 4}, dedupe="k")

    def test_a_dedupe_key_stands_for_one_job_at_once(self, control, planner):
        found, barrier = [], threading.Barrier(4)

        def try_it():
            barrier.wait(20)
            found.append(submitted(control, planner, dedupe="k"))

        threads = [threading.Thread(target=try_it) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert len(set(found)) == 1

    @pytest.mark.parametrize(
        ("kind", "arguments", "error"),
        [
            ("none", {}, jobs.UnknownKindError),
            ("count", {"n": -1}, jobs.ArgumentsError),
            ("count", {"m": 1}, jobs.ArgumentsError),
            ("count", {"n": "many"}, jobs.ArgumentsError),
        ],
    )
    def test_what_is_wrong_is_named(self, control, planner, kind, arguments, error):
        with (
            pytest.raises(error) as told,
            control.work(planner.scope("job.run")) as work,
        ):
            jobs.submit(work, planner, kind, arguments)
        assert told.value.remedy
        assert told.value.zh

    def test_who_may_not_do_it_may_not_submit_it(self, control):
        seat = person(control, "outbound_seat", "city-a")
        with (
            pytest.raises(PermissionDeniedError),
            control.work(Scope(frozenset(("city-a",)))) as work,
        ):
            jobs.submit(work, seat, "count", {})

    def test_another_city_is_out_of_scope(self, control, planner):
        with (
            pytest.raises(OutOfScopeError),
            control.work(planner.scope("job.run")) as work,
        ):
            jobs.submit(work, planner, "count", {}, unit_id="city-b")

    def test_another_city_does_not_see_it(self, control, planner):
        job_id = submitted(control, planner)
        other = person(control, "planner", "city-b")
        with control.work(other.scope("job.read")) as work:
            assert work.session.scalars(jobs.find_jobs()).all() == []
            with pytest.raises(NotFoundError):
                jobs.get_job(work, job_id)
            assert jobs.state_counts(work)["queued"] == 0


class TestCancel:
    def cancel(self, control, actor, job_id):
        with control.work(actor.scope("job.run"), account_id=actor.account_id) as work:
            return jobs.cancel(work, actor, job_id).state

    def test_a_waiting_job_ends_at_once(self, control, planner):
        job_id = submitted(control, planner)
        assert self.cancel(control, planner, job_id) == "cancelled"
        assert claimed(control, worker(control)) is None
        assert self.cancel(control, planner, job_id) == "cancelled"

    def test_a_running_job_is_asked(self, control, planner):
        job_id, me = submitted(control, planner), worker(control)
        claim = claimed(control, me)
        assert self.cancel(control, planner, job_id) == "running"
        with system(control) as work:
            assert jobs.held_by(work, me) == {job_id: (1, True)}
            jobs.stop_cancelled(work, fence(claim, me))
        assert row(control, job_id).state == "cancelled"

    def test_an_ended_job_cannot_be(self, control, planner):
        job_id, me = submitted(control, planner), worker(control)
        with system(control) as work:
            jobs.succeed(work, fence(jobs.claim(work, me, ["count"]), me), {})
        with pytest.raises(ConflictError, match="has ended"):
            self.cancel(control, planner, job_id)

    def test_a_dead_workers_job_that_was_to_be_cancelled_is(self, control, planner):
        job_id, me = submitted(control, planner), worker(control)
        claimed(control, me)
        self.cancel(control, planner, job_id)
        with system(control) as work:
            jobs.bury(work, me, 0)
        assert row(control, job_id).state == "cancelled"


class TestClaim:
    def test_of_many_workers_one_gets_each_job(self, control, planner):
        ids = {submitted(control, planner) for _ in range(12)}
        workers = [worker(control) for _ in range(4)]
        got: list[str] = []

        def take(worker_id):
            while (claim := claimed(control, worker_id)) is not None:
                got.append(claim.job_id)

        threads = [threading.Thread(target=take, args=(one,)) for one in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(got) == Counter(ids)
        with system(control) as work:
            assert set(work.session.scalars(sa.select(Job.epoch))) == {1}

    def test_oldest_first_and_only_known_kinds(self, control, planner, clock):
        first = submitted(control, planner)
        clock.advance(timedelta(seconds=1))
        submitted(control, planner)
        me = worker(control)
        with system(control) as work:
            assert jobs.claim(work, me, ["other"]) is None
            assert not jobs.has_waiting(work, ["other"])
            assert jobs.has_waiting(work, ["count"])
        assert claimed(control, me).job_id == first

    def test_a_buried_worker_gets_nothing(self, control, planner):
        submitted(control, planner)
        me = worker(control)
        with system(control) as work:
            assert jobs.bury(work, me, 0) == []
            assert not jobs.beat(work, me)
        assert claimed(control, me) is None

    def test_a_worker_that_has_beaten_since_is_not_buried(self, control, planner):
        job_id, me = submitted(control, planner), worker(control)
        claimed(control, me)
        with system(control) as work:
            assert jobs.beat(work, me)
            assert jobs.bury(work, me, 0) == []
            assert jobs.living(work) == {me: 1}
        assert row(control, job_id).worker_id == me

    def test_a_job_that_kills_its_workers_ends_as_failed(self, control, planner):
        job_id = submitted(control, planner)
        for _ in range(2):
            me = worker(control)
            assert claimed(control, me).job_id == job_id
            with system(control) as work:
                assert jobs.bury(work, me, 0) == [job_id]
        job = row(control, job_id)
        assert (job.state, job.attempts) == ("failed", 2)
        assert "died 2 times" in job.error["message"]
        assert job.error["remedy"]
        assert job.error["zh"]

    def test_a_worker_that_stops_gives_its_jobs_back(self, control, planner):
        job_id, me = submitted(control, planner), worker(control)
        claimed(control, me)
        with system(control) as work:
            jobs.end_worker(work, me)
            assert work.session.get(Worker, me, populate_existing=True).state == "stopped"
        job = row(control, job_id)
        assert (job.state, job.attempts, job.epoch) == ("queued", 0, 2)


class TestFence:
    @pytest.fixture
    def taken(self, control, planner):
        """A job that was taken from one worker and claimed by another."""
        submitted(control, planner)
        old, new = worker(control), worker(control)
        before = fence(claimed(control, old), old)
        with system(control) as work:
            jobs.bury(work, old, 0)
        return before, fence(claimed(control, new), new)

    def late_writes(self, control, before):
        """Try every way to write for a job under a claim; return which were let through."""
        done = []
        for name, write in {
            "progress": lambda work: jobs.write_progress(work, before, {"percent": 1}, []),
            "effect": lambda work: before.once(work, "x", lambda w: {}),
            "success": lambda work: jobs.succeed(work, before, {}),
            "failure": lambda work: jobs.fail(work, before, ValueError()),
            "cancel": lambda work: jobs.stop_cancelled(work, before),
            "release": lambda work: jobs.release(work, before),
        }.items():
            try:
                with system(control) as work:
                    write(work)
                    done.append(name)
            except jobs.StaleWorkerError:
                pass
        return done

    def test_nothing_is_written_under_a_lost_claim(self, control, taken):
        before, now = taken
        assert self.late_writes(control, before) == []
        with system(control) as work:
            jobs.succeed(work, now, {"n": 1})
        assert self.late_writes(control, now) == []  # nor after the end
        assert row(control, now.job_id).result == {"n": 1}

    def test_the_check_above_finds_a_missing_fence(self, control, taken, monkeypatch):
        monkeypatch.setattr(jobs.Fence, "check", lambda self, work: jobs.get_job(work, self.job_id))
        assert self.late_writes(control, taken[0])

    def test_a_worker_with_the_epoch_of_another_is_refused(self, control, taken):
        _, now = taken
        forged = jobs.Fence(now.job_id, "worker_x", now.epoch, 10)
        assert self.late_writes(control, forged) == []

    def test_an_effect_is_done_once_over_all_claims(self, control, planner):
        job_id, done = submitted(control, planner), []

        def effect(work):
            done.append(1)
            work.audit("test.effect", "job", job_id)
            return {"n": len(done)}

        for _ in range(2):
            me = worker(control)
            claim = fence(claimed(control, me), me)
            with system(control) as work:
                assert claim.once(work, "send", effect) == {"n": 1}
            with system(control) as work:
                jobs.release(work, claim)
        with system(control) as work:
            entries = sa.select(AuditEntry).where(AuditEntry.action == "test.effect")
            assert len(work.unscoped(entries, "a test").all()) == 1

    def test_an_effect_that_fails_is_not_remembered(self, control, planner):
        submitted(control, planner)
        me = worker(control)
        claim = fence(claimed(control, me), me)
        with pytest.raises(ZeroDivisionError), system(control) as work:
            claim.once(work, "send", lambda work: {"n": 1 // 0})
        with system(control) as work:
            assert work.unscoped(sa.select(JobEffect), "a test").all() == []


class TestOutcome:
    @pytest.fixture
    def claim(self, control, planner):
        submitted(control, planner)
        me = worker(control)
        return fence(claimed(control, me), me)

    def test_progress_and_the_newest_lines_are_kept(self, control, claim):
        lines = [{"at": "t", "zh": f"第{i}", "en": f"{i}"} for i in range(260)]
        with system(control) as work:
            assert (
                jobs.write_progress(work, claim, {"percent": 5.0, "eta": float("inf")}, lines)
                is False
            )
        job = row(control, claim.job_id)
        assert job.progress == {"percent": 5.0, "eta": None}
        assert [line["en"] for line in job.log] == [str(i) for i in range(60, 260)]

    def test_a_users_error_says_what_to_do(self, control, claim):
        with system(control) as work:
            jobs.fail(work, claim, UserError("No mapping.", remedy="Write one.", zh="没有映射。"))
        job = row(control, claim.job_id)
        assert job.state == "failed"
        assert job.error == {"message": "No mapping.", "remedy": "Write one.", "zh": "没有映射。"}

    def test_a_defect_tells_no_content(self, control, claim):
        with system(control) as work:
            jobs.fail(work, claim, ValueError("13800138000"))
        assert "13800138000" not in str(row(control, claim.job_id).error)
        assert "ValueError" in row(control, claim.job_id).error["message"]

    def test_what_is_no_number_is_null(self, control, claim):
        with system(control) as work:
            jobs.succeed(work, claim, {"a": [float("nan"), 1.5], "b": "x\0"})
        assert row(control, claim.job_id).result == {"a": [None, 1.5], "b": "x\ufffd"}


class TestTrack:
    def test_the_whole_is_in_percent_over_its_steps(self):
        progress = jobs.JobProgress(jobs.Reins("j"), steps=4)
        progress.begin_step({"zh": "一", "en": "one"})
        assert progress.take()[0]["stage"] == {"zh": "一", "en": "one"}
        progress.begin_step({"zh": "二", "en": "two"})
        with progress.task("derive tags", total=10, unit="parts") as task:
            task.advance(5)
            shown, lines = progress.take()
            assert (shown["percent"], shown["done"], shown["total"]) == (37.5, 5, 10)
            assert shown["stage"] == {"zh": "生成标签 tags", "en": "derive tags"}
            assert progress.take() is None  # nothing new
        assert lines == []

    def test_lines_that_could_not_be_written_come_again(self):
        progress = jobs.JobProgress(jobs.Reins("j"))
        progress.say("一", "one", "t")
        _, lines = progress.take()
        progress.say("二", "two", "t")
        progress.put_back(lines)
        assert [line["en"] for line in progress.take()[1]] == ["one", "two"]

    @pytest.mark.parametrize(
        ("reason", "error"),
        [
            ("cancel", Cancelled),
            ("release", jobs.ReleasedError),
            ("stale", jobs.StaleWorkerError),
        ],
    )
    def test_the_reins_stop_work_at_its_next_step(self, reason, error):
        reins = jobs.Reins("j")
        progress = jobs.JobProgress(reins)
        with progress.task("x") as task:
            task.advance()
            reins.pull(reason)
            with pytest.raises(error) as told:
                task.advance()
        assert told.value.zh

    def test_a_worker_that_was_silent_for_its_lease_stops_by_itself(self):
        alive = [True]
        reins = jobs.Reins("j", lambda: alive[0])
        reins.check()
        reins.pull("cancel")
        alive[0] = False
        with pytest.raises(jobs.StaleWorkerError):
            reins.check()
