"""Two people at the same moment: one wins, the other is told, nothing happens twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from bihuan.kernel import FixedClock
from bihuan.server.app.errors import ConflictError
from bihuan.server.app.plan.approval import approve_plan
from bihuan.server.app.plan.draft import edit_plan, get_plan
from bihuan.server.app.service import Service
from bihuan.server.control import ApprovalStep, PlanMove, Scope
from bihuan.server.settings import Settings
from bihuan.workspace import open_workspace

from .office import Office, actor, content


@pytest.fixture
def service(office: Office, database_url: str, clock: FixedClock, tmp_path: Path) -> Service:
    workspace = open_workspace(tmp_path / "workspace", clock=clock)
    settings = Settings(workspace=tmp_path / "workspace", database=database_url)
    return Service(settings, office.control, workspace, clock)


def at_once(*calls: Callable[[], None]) -> list[BaseException]:
    """Run calls in threads that start together; return what they raised."""
    start, raised = threading.Barrier(len(calls)), []

    def run(call: Callable[[], None]) -> None:
        start.wait()
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            raised.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


class TestAtOnce:
    def test_two_approvers_of_a_level(self, office: Office, service: Service) -> None:
        office.cover()
        plan_id = office.open()
        office.assess(plan_id)
        office.file(plan_id, tiers=(("province",),))

        def approve(account: str) -> None:
            with service.work(actor(account), "plan.approve") as work:
                plan = get_plan(work, plan_id)
                approve_plan(work, actor(account), plan, content_hash=plan.content_hash)

        raised = at_once(lambda: approve("approver-a"), lambda: approve("approver-a2"))
        assert len(raised) == 1, raised
        assert isinstance(raised[0], ConflictError), raised
        with office.control.work(Scope.everything(), read_only=True) as work:
            steps = work.session.scalars(
                sa.select(ApprovalStep).where(ApprovalStep.state == "approved")
            ).all()
            passes = work.session.scalars(sa.select(PlanMove).where(PlanMove.event == "pass")).all()
        assert len(steps) == len(passes) == 1

    def test_an_edit_and_the_last_approval(self, office: Office, service: Service) -> None:
        office.cover()
        plan_id = office.open()
        office.assess(plan_id)
        office.file(plan_id)
        with office.on(plan_id, "approver-a", "plan.approve") as (_, _, plan):
            seen = plan.content_hash

        def approve() -> None:
            with service.work(actor("approver-a"), "plan.approve") as work:
                plan = get_plan(work, plan_id)
                approve_plan(work, actor("approver-a"), plan, content_hash=seen)

        def edit() -> None:
            with service.work(actor("planner-a1"), "plan.edit") as work:
                plan = get_plan(work, plan_id)
                edit_plan(work, actor("planner-a1"), plan, content(budget=1))

        at_once(approve, edit)
        with office.control.work(Scope.everything(), read_only=True) as work:
            plan = get_plan(work, plan_id)
            assert (plan.state, plan.content_hash == seen) in (
                ("approved", True), ("drafting", False),
            )  # fmt: skip
