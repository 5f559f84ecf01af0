"""The doctor finds every defect that is seeded, says what to do, and is content with health."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from bihuan.kernel import FixedClock
from bihuan.server.app import job as jobs
from bihuan.server.app.account import Seat, seat
from bihuan.server.app.actor import Actor, Post
from bihuan.server.app.demo_account import DEMO_PASSWORD
from bihuan.server.app.doctor import CHECKS, Bounds, Finding, examine, is_ready
from bihuan.server.app.job.submit import put
from bihuan.server.app.password import PASSWORDS
from bihuan.server.app.service import Service
from bihuan.server.control import (
    Account,
    Job,
    OrgClosure,
    OrgUnit,
    Schedule,
    Worker,
    audit_guards,
    audit_guards_off,
    engine,
)
from bihuan.server.node import open_service
from bihuan.server.settings import Settings

from ..customers import OCTOBER, in_contract
from .small_lake import person

NOW = datetime(2026, 11, 2, 1, tzinfo=UTC)
OPEN_HOST = ".".join(["0"] * 4)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
def service(database_url: str, clock: FixedClock, tmp_path: Path) -> Iterator[Service]:
    """A whole service: migrated, with keys, sealed customers, audit entries, one org unit."""
    settings = Settings(workspace=tmp_path / "workspace", database=database_url)
    (tmp_path / "workspace").mkdir()
    open_workspace_anew(settings, clock)
    service = open_service(settings, clock=clock)
    with service.system_work() as work:
        work.session.add(OrgUnit(unit_id="province", tier="province", name_zh="省"))
        work.session.flush()
        work.session.add(OrgClosure(ancestor_id="province", descendant_id="province", depth=0))
    for number in range(5):
        with service.system_work() as work:
            work.audit("test.entry", "thing", f"t{number}")
    add_customers(service)
    service.workspace.protect()
    yield service
    service.control.engine.dispose()


def open_workspace_anew(settings: Settings, clock: FixedClock) -> None:
    from bihuan.workspace import open_workspace

    settings.workspace.rmdir()
    open_workspace(settings.workspace, clock=clock)


def add_customers(service: Service) -> None:
    rows = {"customer_id": ["c0", "c1"], "name": ["甲某", "乙某"]}
    with service.workspace.lake.publication(service.clock) as publication:
        publication.add("customer", OCTOBER, in_contract(service, "customer", rows))


def wrong(service: Service, bounds: Bounds | None = None) -> dict[str, Finding]:
    """Return what is wrong; every such finding says in both languages what to do."""
    found = [f for f in examine(service, bounds or Bounds()) if not f.ok]
    for finding in found:
        assert finding.zh
        assert finding.en
        assert finding.remedy_zh
        assert finding.remedy_en
        assert not finding.remedy_zh.isascii()
    return {finding.name: finding for finding in found}


def run_sql(service: Service, *statements: str) -> None:
    with service.control.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def told(service: Service, **settings: Any) -> Service:
    """Return the service with other settings."""
    return replace(service, settings=service.settings.model_copy(update=settings))


class TestHealth:
    def test_a_healthy_service_gives_only_ok(self, service):
        findings = examine(service)
        assert [f for f in findings if not f.ok] == []
        assert {f.name for f in findings} >= set(CHECKS) - {"sqlite", "row_security"}
        assert all(f.remedy_zh == f.remedy_en == "" for f in findings)
        assert is_ready(service)

    def test_looking_changes_nothing(self, service):
        with service.system_work(read_only=True) as work:
            from bihuan.server.control import current_head

            before = current_head(work)
        examine(service)
        with service.system_work(read_only=True) as work:
            assert current_head(work) == before


class TestControlDatabase:
    def test_an_old_form(self, service):
        run_sql(service, "UPDATE alembic_version SET version_num = '0000'")
        found = wrong(service)
        assert "migrate" in found["control_database"].remedy_en
        assert not is_ready(service)

    def test_a_table_that_is_not_the_program_s(self, service):
        run_sql(service, "ALTER TABLE worker ADD COLUMN extra INTEGER")
        assert "extra" in wrong(service)["control_form"].en

    def test_a_driver_that_may_lose_commits(self, service, monkeypatch):
        if service.control.engine.dialect.name != "sqlite":
            pytest.skip("a defect of SQLite's")
        assert "sqlite" not in wrong(service)
        old = SimpleNamespace(sqlite_version="3.45.1", sqlite_version_info=(3, 45, 1))
        monkeypatch.setattr(engine, "sqlite", old)
        assert "pysqlite3" in wrong(service)["sqlite"].remedy_en

    def test_a_superuser_is_bound_by_no_row_security(self, service, postgres_or_skip):
        settings = service.settings.model_copy(update={"database": postgres_or_skip})
        strong = open_service(settings, clock=service.clock)
        found = wrong(strong)
        strong.control.engine.dispose()
        assert "superuser" in found["row_security"].en

    @pytest.fixture
    def postgres_or_skip(self, request, database_url) -> str:
        """The URL of the same database for the server's superuser."""
        if not database_url.startswith("postgresql"):
            pytest.skip("a matter of PostgreSQL's")
        server: sa.URL = request.getfixturevalue("postgres_server")
        name = sa.make_url(database_url).database
        return server.set(database=name).render_as_string(hide_password=False)


class TestTrail:
    def test_guards_that_were_taken_off(self, service):
        run_sql(service, *audit_guards_off(service.control.engine.dialect.name))
        found = wrong(service)
        assert set(found) == {"audit_guards"}
        assert "audit_" in found["audit_guards"].en

    def tamper(self, service: Service, statement: str) -> None:
        dialect = service.control.engine.dialect.name
        run_sql(service, *audit_guards_off(dialect), statement, *audit_guards(dialect))

    def test_an_entry_that_was_changed(self, service):
        self.tamper(service, "UPDATE audit_entry SET subject_id = 'other' WHERE sequence = 3")
        found = wrong(service)
        assert set(found) == {"audit"}
        assert "entry 3 (changed)" in found["audit"].en

    def test_entries_that_are_gone(self, service):
        self.tamper(service, "DELETE FROM audit_entry WHERE sequence = 5")
        assert "entry 5 (truncated)" in wrong(service)["audit"].en

    def test_only_the_newest_are_verified(self, service):
        self.tamper(service, "UPDATE audit_entry SET subject_id = 'other' WHERE sequence = 1")
        assert "audit" in wrong(service, Bounds(audit_entries=5))
        assert wrong(service, Bounds(audit_entries=3)) == {}

    def test_the_entry_before_them_is_gone(self, service):
        self.tamper(service, "DELETE FROM audit_entry WHERE sequence = 2")
        assert "entry 2 (missing)" in wrong(service, Bounds(audit_entries=3))["audit"].en

    def test_entries_sealed_with_another_key(self, service, tmp_path):
        service.control.engine.dispose()
        other = service.settings.model_copy(update={"keys": tmp_path / "other" / "data.json"})
        writer = open_service_with_new_keys(other, service.clock)
        with writer.system_work() as work:
            work.audit("test.entry", "thing", "forged")
        writer.control.engine.dispose()
        assert "(forged)" in wrong(service)["audit"].en


def open_service_with_new_keys(settings: Settings, clock: FixedClock) -> Service:
    """Return a service of an intruder who has the database, but not the keys of the workspace."""
    from bihuan.data.personal import DataKeys
    from bihuan.server.control import Control, Sealer, open_engine, with_sealer
    from bihuan.workspace import open_workspace

    keys = DataKeys.open(settings.keys_file, cipher="aes-siv", create=True)
    made = with_sealer(open_engine(settings.database_url), Sealer(keys.audit))
    workspace = open_workspace(settings.workspace, clock=clock)
    return Service(settings, Control(made, clock), workspace, clock)


class TestWorkspace:
    def test_keys_that_others_can_read(self, service):
        service.settings.keys_file.chmod(0o644)
        found = wrong(service)
        assert set(found) == {"keys"}
        assert "chmod 600" in found["keys"].remedy_en

    def test_keys_that_are_gone(self, service):
        service.settings.keys_file.unlink()
        assert "backup" in wrong(service)["keys"].remedy_en
        assert not service.settings.keys_file.exists()  # the doctor makes none

    def test_personal_data_in_clear(self, service, monkeypatch):
        monkeypatch.setattr(service.workspace, "_protector", None, raising=False)
        rows = in_contract(service, "account", {"account_id": ["a"], "customer_id": ["c0"]})
        clear = in_contract(service, "staff", {"staff_id": ["s"], "org_unit_id": ["province"]})
        from bihuan.data import Lake

        with Lake(service.workspace.layout.lake).publication(service.clock) as publication:
            publication.add("account", OCTOBER, rows)
            publication.add("staff", OCTOBER, clear)
            publication.add(
                "customer", OCTOBER - timedelta(days=30),
                in_contract(service, "customer", {"customer_id": ["c0"], "name": ["甲某"]}),
            )  # fmt: skip
        found = wrong(service)
        assert set(found) == {"personal_data"}
        assert "customer@2026-10-01" in found["personal_data"].en

    def test_a_full_disk(self, service):
        found = wrong(service, Bounds(enough_disk=1.1))
        assert set(found) == {"disk"}


class TestRunning:
    def worker(self, service: Service, pid: int) -> str:
        with service.system_work() as work:
            return jobs.register_worker(work, host="here", pid=pid, threads=1)

    def queue(self, service: Service) -> str:
        with service.system_work() as work:
            kind = jobs.get_kind("audit_verify")
            return put(work, kind, {}, owner_id="system", unit_id="province").job_id

    def test_a_worker_that_died_and_nobody_buried(self, service, clock):
        self.worker(service, 4711)
        assert wrong(service) == {}
        clock.advance(timedelta(minutes=2))
        found = wrong(service)
        assert set(found) == {"workers"}
        assert "here:4711" in found["workers"].en

    def test_workers_that_beat_or_ended_are_well(self, service, clock):
        ended, alive = self.worker(service, 1), self.worker(service, 2)
        with service.system_work() as work:
            jobs.end_worker(work, ended)
        clock.advance(timedelta(hours=1))
        with service.system_work() as work:
            assert jobs.beat(work, alive)
        assert wrong(service) == {}

    def test_jobs_that_wait_and_nobody_comes(self, service, clock):
        job_id = self.queue(service)
        clock.advance(timedelta(minutes=9))
        assert wrong(service) == {}
        clock.advance(timedelta(minutes=2))
        found = wrong(service)
        assert set(found) == {"jobs"}
        assert job_id in found["jobs"].en

    def test_jobs_that_wait_for_a_busy_worker_are_no_defect(self, service, clock):
        self.queue(service)
        clock.advance(timedelta(hours=1))
        self.worker(service, 1)
        assert wrong(service) == {}

    def test_a_schedule_with_a_problem(self, service, clock):
        admin = person(service.control, "adm", ("administrator", "province"))
        with service.work(admin, "job.run") as work:
            wish = jobs.Wish("每日发布", "opt_out_publish", {}, "0 9 * * *")
            schedule_id = jobs.set_up(work, admin, wish).schedule_id
        clock.advance(timedelta(days=1))
        with service.system_work() as work:
            row = work.session.get_one(Account, "adm")
            row.status = "closed"
        with service.system_work() as work:
            assert jobs.fire(work, schedule_id, clock.now()) == []  # its owner left
        found = wrong(service)
        assert set(found) == {"schedules"}
        assert "每日发布" in found["schedules"].zh

    def test_a_schedule_that_nobody_looks_at(self, service, clock):
        admin = Actor("adm", "province", (Post("administrator", "province"),))
        with service.work(admin, "job.run") as work:
            wish = jobs.Wish("每日发布", "opt_out_publish", {}, "0 9 * * *")
            jobs.set_up(work, admin, wish)
        clock.advance(timedelta(days=1, minutes=11))
        assert "overdue" in wrong(service)["schedules"].en


class TestNetwork:
    def test_sessions_in_clear_on_an_open_address(self, service):
        assert set(wrong(told(service, host=OPEN_HOST))) == {"web"}
        assert wrong(told(service, host=OPEN_HOST, cookie_secure=True)) == {}

    def test_demo_accounts_on_an_open_address(self, service):
        kept = PASSWORDS.hash(DEMO_PASSWORD)
        with service.system_work() as work:
            seat(work, Seat("demo-planner", "planner", "province", "演示", "Demo"), kept)
        assert wrong(service) == {}
        exposed = told(service, host=OPEN_HOST, cookie_secure=True)
        found = wrong(exposed)  # also where the setting was switched off
        assert set(found) == {"demo_accounts"}
        assert "1 demo accounts" in found["demo_accounts"].en
        with service.system_work() as work:
            row = work.session.scalars(sa.select(Account)).one()
            row.password_hash = PASSWORDS.hash("another, long and unknown 2026")
        assert wrong(exposed) == {}
        assert set(wrong(told(exposed, demo=True))) == {"demo_accounts"}


def test_a_check_that_fails_is_a_finding(service, monkeypatch):
    run_sql(service, "DROP TABLE schedule_fire", "DROP TABLE schedule")
    found = wrong(service)
    assert {"control_form", "schedules"} <= set(found)
    assert Schedule.__tablename__ in found["schedules"].en
    assert {Job.__tablename__, Worker.__tablename__}.isdisjoint(found)
