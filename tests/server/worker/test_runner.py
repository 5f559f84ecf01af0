"""One worker in this process: jobs run, are followed, cancelled, scheduled, and end with words."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from bihuan.kernel import DefectError, SystemClock, UserError
from bihuan.server.app import job as jobs
from bihuan.server.app.job.submit import end
from bihuan.server.app.service import Service
from bihuan.server.control import Control, Job, Schedule, Scope, Worker
from bihuan.server.settings import Settings
from bihuan.server.worker import run_worker
from bihuan.server.worker.durable import Durable, memory_url
from bihuan.workspace import open_workspace

from .fleet import job_row, read_trace, submit, wait_ended, wait_until


@pytest.fixture
def service(control: Control, database_url: str, tmp_path: Path) -> Service:
    clock = SystemClock()
    root = tmp_path / "workspace"
    settings = Settings(
        workspace=root,
        database=database_url,
        worker_heartbeat_seconds=0.2,
        worker_lease_seconds=2,
    )
    return Service(
        settings, Control(control.engine, clock), open_workspace(root, clock=clock), clock
    )


@contextmanager
def working(service: Service) -> Iterator[threading.Event]:
    stop, errors = threading.Event(), []

    def work() -> None:
        try:
            run_worker(service, stop=stop, grace_seconds=0.3)
        except BaseException as error:
            errors.append(error)
            raise

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
        assert errors == []


def register(name: str, run) -> None:
    title = {"zh": "测试", "en": "test"}
    jobs.register(jobs.Kind(name, title, "job.run", jobs.Arguments, run, steps=2))


class TestJob:
    def test_runs_and_is_followed_to_its_end(self, service, tmp_path):
        with working(service):
            job_id = submit(service.control, "ledger", folder=str(tmp_path), steps=2, seconds=1.2)
            row = wait_until(
                lambda: (r := job_row(service.control, job_id)).progress.get("percent", 0) > 0 and r
            )
            assert row.state == "running"
            assert row.progress["total"] == 5
            [row] = wait_ended(service.control, job_id)
        assert (row.state, row.result) == ("succeeded", {"epoch": 1})
        assert row.progress["percent"] == 100.0
        assert [line["en"] for line in row.log] == ["Done: step", "Done: step"]
        assert row.started_at <= row.finished_at

    def test_several_run_at_once(self, service, tmp_path):
        both = threading.Barrier(2)

        def meet(context: jobs.JobContext, arguments: jobs.Arguments) -> dict[str, bool]:
            both.wait(20)
            return {"met": True}

        register("meet", meet)
        with working(service):
            ids = [submit(service.control, "meet") for _ in range(2)]
            rows = wait_ended(service.control, *ids)
        assert [row.result for row in rows] == [{"met": True}] * 2

    def test_what_a_user_can_mend_is_told(self, service):
        def refuse(context: jobs.JobContext, arguments: jobs.Arguments) -> dict[str, str]:
            raise UserError("No such tag.", remedy="Define it.", zh="没有该标签。")

        register("refuse", refuse)
        with working(service):
            [row] = wait_ended(service.control, submit(service.control, "refuse"))
        assert row.state == "failed"
        assert row.error == {
            "message": "No such tag.",
            "remedy": "Define it.",
            "zh": "没有该标签。",
        }

    def test_a_defect_does_not_end_the_worker(self, service, tmp_path):
        register("break", lambda context, arguments: {"x": 1 // 0})
        with working(service):
            broken, good = (
                submit(service.control, "break"),
                submit(service.control, "ledger", folder=str(tmp_path)),
            )
            rows = wait_ended(service.control, broken, good)
        assert [row.state for row in rows] == ["failed", "succeeded"]
        assert "ZeroDivisionError" in rows[0].error["message"]

    def test_a_closed_account_runs_nothing(self, service):
        ran = []
        register("mine", lambda context, arguments: ran.append(1) or {})
        job_id = submit(service.control, "mine")
        with service.control.work(Scope.everything()) as work:
            work.session.execute(sa.update(Job).values(owner_id="account-gone"))
        with working(service):
            [row] = wait_ended(service.control, job_id)
        assert row.state == "failed"
        assert "is closed" in row.error["message"]
        assert ran == []


class TestCancel:
    def test_from_elsewhere_it_stops_at_its_next_step(self, service, tmp_path):
        with working(service):
            job_id = submit(service.control, "ledger", folder=str(tmp_path), steps=50, seconds=1)
            wait_until(lambda: read_trace(tmp_path))
            with service.control.work(Scope.everything()) as work:
                jobs.get_job(work, job_id).cancel_requested = True
            [row] = wait_ended(service.control, job_id)
        assert row.state == "cancelled"
        assert len(read_trace(tmp_path)) < 50
        assert row.error is None

    def test_cancelled_it_publishes_nothing(self, service, tmp_path):
        at_the_gate, go_on = threading.Event(), threading.Event()

        def publish(context: jobs.JobContext, arguments: jobs.Arguments) -> dict[str, int]:
            with context.workspace.lake.publication(context.service.clock) as publication:
                publication.add("staff", date(2026, 10, 31), pa.table({"a": [1]}))
                at_the_gate.set()
                go_on.wait(20)
            return {}

        register("publish", publish)
        with working(service):
            job_id = submit(service.control, "publish")
            assert at_the_gate.wait(20)
            with service.control.work(Scope.everything()) as work:
                job = jobs.get_job(work, job_id)
                job.cancel_requested = True
                job.epoch += 1  # and it was taken away
                end(job, "cancelled", work)
            go_on.set()
            wait_until(lambda: not list((tmp_path / "workspace/lake/.staging").glob("*")))
        assert service.workspace.view.tables == ()
        assert job_row(service.control, job_id).state == "cancelled"


class TestSchedule:
    def test_is_fired_by_the_worker(self, service, tmp_path):
        with service.control.work(Scope.everything()) as work:
            now = jobs.database_now(work)
            work.session.add(
                Schedule(
                    schedule_id="s", name="s", unit_id="province", kind="ledger",
                    arguments={"folder": str(tmp_path)}, cron="* * * * * *",
                    time_zone="Asia/Shanghai", missed="skip", enabled=True, owner_id="system",
                    next_fire_at=now, created_at=now,
                )
            )  # fmt: skip

        def ended() -> bool:
            with service.control.work(Scope.everything(), read_only=True) as work:
                return bool(work.session.scalars(jobs.find_jobs(state="succeeded")).all())

        with working(service):
            wait_until(ended)


class TestWorker:
    def test_beats_and_says_farewell(self, service):
        def row() -> Worker:
            with service.control.work(Scope.everything(), read_only=True) as work:
                return jobs.list_workers(work)[0]

        with working(service):
            wait_until(lambda: self.rows(service) and row().beat > 1)
            assert row().state == "alive"
        assert row().state == "stopped"

    def rows(self, service: Service) -> list[Worker]:
        with service.control.work(Scope.everything(), read_only=True) as work:
            return jobs.list_workers(work)

    def test_taken_for_dead_it_begins_anew_and_its_job_is_run_again(self, service, tmp_path):
        with working(service):
            job_id = submit(service.control, "ledger", folder=str(tmp_path), steps=3, seconds=0.8)
            wait_until(lambda: len(read_trace(tmp_path)) == 2)
            with service.control.work(Scope.everything()) as work:
                [(worker_id, beat)] = jobs.living(work).items()
                while not jobs.bury(work, worker_id, beat):  # it may have beaten just now
                    beat += 1
            [row] = wait_ended(service.control, job_id)
        assert row.state == "succeeded"
        assert row.attempts == 2
        assert {worker.state for worker in self.rows(service)} == {"dead", "stopped"}

    def test_two_in_one_process_are_refused(self, service):
        with working(service):
            wait_until(lambda: self.rows(service))
            with pytest.raises(DefectError, match="Two workers"):
                run_worker(service, stop=threading.Event())

    def test_steps_of_ended_jobs_are_forgotten(self, service, tmp_path):
        with working(service):
            wait_ended(service.control, submit(service.control, "ledger", folder=str(tmp_path)))
        url = memory_url(service.settings.database_url, service.settings.workspace)
        with Durable.launched(url, "later", threads=1) as durable:
            assert durable.list_jobs() == {}
