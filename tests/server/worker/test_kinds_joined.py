"""Kinds of jobs that join the rooms: scenes, erasures, regular plans; really run by a worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bihuan.kernel import FixedClock
from bihuan.server.app import job as jobs
from bihuan.server.app import personal, scene
from bihuan.server.app.actor import Actor
from bihuan.server.app.plan.draft import edit_plan
from bihuan.server.app.service import Service
from bihuan.server.app.work_kinds.plan import NOTHING_NEW
from bihuan.server.control import Control, Job, PlanDeployment, PlanRun
from bihuan.server.settings import Settings
from bihuan.server.worker import run_worker
from bihuan.workspace import open_workspace

from .. import customers
from ..app import deployment_world as world
from ..app import small_lake
from .fleet import submit, wait_ended

BY_CLOCK = {
    "title": {"zh": "每日新入网", "en": "New"}, "goal": {"zh": "欢迎", "en": "Welcome"},
    "audience": "tenure_months < 25",
    "clock": {"cron": "0 6 * * *", "starts_on": "2026-11-01", "time_zone": "Asia/Shanghai"},
}  # fmt: skip


@contextmanager
def working(service: Service) -> Iterator[None]:
    """A worker that lives as long as the block."""
    stop = threading.Event()
    thread = threading.Thread(target=run_worker, args=(service,), kwargs={"stop": stop})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def by(service: Service, actor: Actor, kind: str, **arguments: Any) -> str:
    with service.work(actor, jobs.get_kind(kind).permission) as work:
        return jobs.submit(work, actor, kind, arguments).job_id


def done(service: Service, job_id: str) -> dict[str, Any]:
    [job] = wait_ended(service.control, job_id)
    assert job.state == "succeeded", job.error
    return dict(job.result or {})


class TestScenes:
    @pytest.fixture
    def service(
        self, control: Control, database_url: str, clock: FixedClock, tmp_path: Path
    ) -> Service:
        service = small_lake.serve(control, database_url, clock, tmp_path)
        service.workspace.refresh_tags(small_lake.OCTOBER)
        return service

    def test_scenes_added_in_the_service_run_too_each_time_once(self, service, clock):
        planner = small_lake.person(service.control, "planner", ("planner", "province"))
        city = small_lake.person(service.control, "city", ("planner", "city-a"))
        for name, unit, who in (("everywhere", "province", planner), ("in_a", "city-a", city)):
            with service.work(who, "scene.manage") as work:
                scene.add_scene(work, service, who, unit, name, BY_CLOCK, note="新增")
        clock.advance(timedelta(days=1))
        with working(service):
            first = done(service, by(service, planner, "scene_run"))
            assert {run["scene"] for run in first["runs"]} == {"everywhere", "in_a"}
            assert {run["members"] for run in first["runs"] if run["state"] == "done"} == {25}
            again = done(service, by(service, planner, "scene_run"))
        assert again == {"runs": [], "elsewhere": 0}

    def test_others_scenes_run_and_are_not_told(self, service, clock):
        city = small_lake.person(service.control, "city", ("planner", "city-a"))
        other = small_lake.person(service.control, "other", ("planner", "city-b"))
        with service.work(city, "scene.manage") as work:
            row = scene.add_scene(work, service, city, "city-a", "in_a", BY_CLOCK, note="新增")
        clock.advance(timedelta(days=1))
        with working(service):
            found = done(service, by(service, other, "scene_run"))
        assert found["runs"] == []
        assert found["elsewhere"] > 0
        assert scene.scene_runs(service, row)


class TestErasure:
    def test_a_wish_is_carried_out_by_the_job_that_comes_with_it(
        self, control, database_url, clock, tmp_path
    ):
        service = customers.open_house(control, database_url, clock, tmp_path / "workspace")
        admin = customers.actor("administrator", "province")
        with service.work(admin, "customer.erase") as work:
            row = personal.request_erasure(service, work, admin, "c0", "来函 2026-11")
        with service.system_work(read_only=True) as work:
            [job] = work.session.scalars(jobs.find_jobs(kind="erasure")).all()
            assert job.arguments == {"erasure_id": row.erasure_id}
            assert job.unit_id == "grid-a11"
        small_lake.person(control, admin.account_id, ("administrator", "province"))
        with working(service):
            found = done(service, job.job_id)
        assert found == {"erasure_id": row.erasure_id, "state": "done", "left": 0}
        ids = service.workspace.view.get("customer", customers.OCTOBER).read(["customer_id"])
        assert "c0" not in ids["customer_id"].to_pylist()
        assert ids.num_rows == customers.CUSTOMERS - 1

    def test_an_erasure_out_of_reach_is_not_there(self, control, database_url, clock, tmp_path):
        service = customers.open_house(control, database_url, clock, tmp_path / "workspace")
        admin = customers.actor("administrator", "province")
        with service.work(admin, "customer.erase") as work:
            row = personal.request_erasure(service, work, admin, "c0", "来函 2026-11")
        other = small_lake.person(control, "admin-b", ("administrator", "city-b"))
        with working(service):
            job_id = by(service, other, "erasure", erasure_id=row.erasure_id)
            [job] = wait_ended(control, job_id)
        assert job.state == "failed"
        assert "no erasure" in job.error["message"]


class TestRegularPlans:
    @pytest.fixture
    def service(
        self, control: Control, database_url: str, clock: FixedClock, tmp_path: Path
    ) -> Service:
        clock.moment = world.NOON
        folder = tmp_path / "workspace"
        settings = Settings(workspace=folder, database=database_url)
        return Service(settings, control, open_workspace(folder, clock=clock), clock)

    @pytest.fixture
    def plan_id(self, service: Service) -> str:
        """An approved plan that is due every day at nine."""
        plan_id = world.fill(service)
        office = world.sibling("office", "plan")
        desk = office.Office(service.control)
        schedule = {"cron": "0 9 * * *", "valid_until": "2026-11-30"}
        said = {**office.content(**world.said()), "schedule": schedule}
        with desk.on(plan_id, "planner-a1") as (work, who, plan):
            edit_plan(work, who, plan, said)
        desk.assess(plan_id)
        desk.file(plan_id)
        desk.approve(plan_id, "approver-a")
        table = {"customer_id": ["c-0000000"], "org_unit_id": ["county-a1"]}
        with service.workspace.lake.publication(service.clock) as publication:
            rows = customers.in_contract(service, "customer", table)
            publication.add("customer", world.AS_OF, rows)
        return str(plan_id)

    def runs(self, service: Service) -> list[PlanRun]:
        with service.system_work(read_only=True) as work:
            return list(work.session.scalars(sa.select(PlanRun).order_by(PlanRun.due_at)))

    def test_a_schedule_begins_and_deploys_what_is_due(self, service, plan_id, clock):
        with service.work(world.PLANNER, "deployment.run") as work:
            wish = jobs.Wish("每日方案", "regular_plans", {}, "5 9 * * *")
            schedule = jobs.set_up(work, world.PLANNER, wish)
        clock.advance(timedelta(days=1))
        with service.system_work() as work:  # by hand: a server's own clock is not the test's
            [job_id] = jobs.fire(work, schedule.schedule_id, clock.now())
        with service.work(world.PLANNER, "deployment.run") as work:
            row = jobs.get_schedule(work, schedule.schedule_id)
            jobs.pause(work, world.PLANNER, row)
        with working(service):
            found = done(service, job_id)
            [run] = found["runs"]
            assert (run["plan_id"], run["state"]) == (plan_id, "open")
            deployed = done(service, run["job_id"])
        assert deployed["state"] == "live"
        [row] = self.runs(service)
        assert (row.state, row.deployment_id) == ("deployed", deployed["deployment_id"])

    def test_each_time_once_and_never_twice_on_the_same_data(self, service, plan_id, clock):
        clock.advance(timedelta(days=1))
        with working(service):
            first = done(service, submit(service.control, "regular_plans"))
            done(service, first["runs"][0]["job_id"])
            assert done(service, submit(service.control, "regular_plans"))["runs"] == []
            clock.advance(timedelta(days=1))
            later = done(service, submit(service.control, "regular_plans"))
        [run] = later["runs"]
        assert (run["state"], run["reason"], run["job_id"]) == ("missed", NOTHING_NEW, None)
        with service.system_work(read_only=True) as work:
            assert len(work.session.scalars(sa.select(PlanDeployment)).all()) == 1
            assert len(work.session.scalars(jobs.find_jobs(kind="deployment")).all()) == 1

    def test_others_plans_begin_and_are_not_told(self, service, plan_id, clock):
        planner_b = small_lake.person(service.control, "planner-bb", ("planner", "city-b"))
        clock.advance(timedelta(days=1))
        with working(service):
            found = done(service, by(service, planner_b, "regular_plans"))
            with service.system_work(read_only=True) as work:
                [job] = work.session.scalars(jobs.find_jobs(kind="deployment")).all()
            ended: list[Job] = wait_ended(service.control, job.job_id)
        assert (found["runs"], found["elsewhere"]) == ([], 1)
        assert ended[0].state == "succeeded", ended[0].error
