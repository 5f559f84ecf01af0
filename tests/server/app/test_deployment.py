"""Deployment in one click: what goes live, when it may, and whether it adds up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from bihuan.decision import log_decisions
from bihuan.delivery import list_deployments, receipt_rows
from bihuan.delivery.channel import UnknownChannelError
from bihuan.feedback import OutcomeLedger
from bihuan.kernel import UserError
from bihuan.server.app import personal
from bihuan.server.app.deployment import (
    ContentChangedError,
    ExpiredError,
    TakenOverError,
    counts_of,
    deploy_plan,
    drain_deployment,
    get_deployment,
    pause_deployment,
    reconcile_deployment,
    report_of,
    request_deployment,
    resume_deployment,
    withdraw,
)
from bihuan.server.app.deployment.record import frozen_deployment, go_live, prepare
from bihuan.server.app.errors import ConflictError, NotFoundError, RefusedError
from bihuan.server.app.plan import NotApprovedError, StoppedError, require_deployable
from bihuan.server.app.plan.draft import edit_plan, get_plan
from bihuan.server.app.plan.local import counts_of as carried_out_of
from bihuan.server.app.plan.stop import pause
from bihuan.server.app.service import Service
from bihuan.server.control import AuditEntry, PlanDeployment, PlanRun

from .. import customers
from . import deployment_world as world

AS_OF = world.AS_OF


@pytest.fixture
def plan_id(service: Service, clock) -> str:
    clock.moment = world.NOON
    return world.fill(service)


@pytest.fixture
def live(service: Service, plan_id: str) -> PlanDeployment:
    return deploy_plan(service, world.PLANNER, plan_id, as_of=AS_OF)


def audited(service: Service, action: str) -> int:
    with service.system_work(read_only=True) as work:
        entries = work.session.scalars(sa.select(AuditEntry).where(AuditEntry.action == action))
        return len(entries.all())


def row_of(service: Service) -> PlanDeployment:
    with service.system_work(read_only=True) as work:
        return work.session.scalars(sa.select(PlanDeployment)).one()


class TestOneClick:
    def test_freezes_counts_switches_and_reconciles(self, service, plan_id, live):
        assert (live.state, live.planned, live.generation) == ("live", 216, 0)
        frozen = frozen_deployment(service.workspace.view, live)
        rows = frozen.assignments(service.workspace.view).read()
        wanted = world.decisions(240)
        wanted = wanted.filter(pc.equal(wanted["arm"], "treatment"))
        assert set(rows["customer_id"].to_pylist()) == set(wanted["customer_id"].to_pylist())
        assert pc.count_distinct(rows["assignment_id"]).as_py() == 216
        assert live.reconciliation["reconciles"]
        assert live.reconciliation["pending"] == 216
        assert sum(live.strategies.values()) == 216
        with service.system_work(read_only=True) as work:
            plan = get_plan(work, plan_id)
            assert plan.state == "executing"
            assert (plan.counts["planned"], plan.counts["pending"]) == (216, 216)
            assert carried_out_of(work, plan)["all"]["planned"] == 216
            run = work.session.scalars(sa.select(PlanRun)).one()
            assert (run.state, run.deployment_id) == ("deployed", live.deployment_id)

    def test_six_strategies_from_one_point(self, live):
        assert set(live.strategies) == set(world.OFFERS)

    def test_counts_are_those_of_the_lake_by_channel_and_unit(self, service, live):
        with service.system_work(read_only=True) as work:
            counted = {
                (row.channel, row.org_unit_id): row.planned
                for row in counts_of(work, live.deployment_id)
            }
        found = frozen_deployment(service.workspace.view, live).counts(service.workspace.view)
        by_list: dict[tuple[str, str], int] = {}
        for row in found.to_pylist():
            key = (row["channel"], row["org_unit_id"] or "")
            by_list[key] = by_list.get(key, 0) + row["planned"]
        assert counted == by_list
        assert len(counted) == 9

    def test_again_is_the_same_and_changes_nothing(self, service, plan_id, live):
        again = deploy_plan(service, world.PLANNER, plan_id, as_of=AS_OF)
        assert (again.deployment_id, again.version) == (live.deployment_id, live.version)
        assert len(list_deployments(service.workspace.view)) == 1
        assert audited(service, "deployment.live") == 1

    def test_two_at_once_make_one(self, service, plan_id):
        def work(_: int) -> str:
            try:
                return deploy_plan(service, world.PLANNER, plan_id, as_of=AS_OF).state
            except ConflictError:  # the slower one was taken over, or met the other's row
                return "taken over"

        with ThreadPoolExecutor(2) as pool:
            ended = sorted(pool.map(work, range(2)))
        assert "live" in ended
        assert audited(service, "deployment.live") == 1
        assert len(list_deployments(service.workspace.view)) == 1
        assert deploy_plan(service, world.PLANNER, plan_id, as_of=AS_OF).state == "live"

    def test_a_unit_s_own_counts_only(self, service, live):
        grid = replace(
            world.OPERATOR, posts=(replace(world.OPERATOR.posts[0], unit_id="grid-a11"),)
        )
        with service.work(grid, "deployment.read", read_only=True) as work:
            assert {row.org_unit_id for row in counts_of(work, live.deployment_id)} == {"grid-a11"}
            with pytest.raises(NotFoundError):
                get_deployment(work, live.deployment_id)

    def test_requested_as_a_job(self, service, plan_id):
        with service.work(world.PLANNER, "deployment.run") as work:
            job = request_deployment(work, world.PLANNER, plan_id, AS_OF)
            assert (job.kind, job.unit_id) == ("deployment", "county-a1")


class TestGate:
    def nothing_happened(self, service: Service) -> None:
        assert list_deployments(service.workspace.view) == ()
        assert audited(service, "deployment.live") == 0

    def test_unapproved_content_is_not_frozen(self, service, plan_id):
        with service.work(world.PLANNER, "plan.edit") as work:
            plan = get_plan(work, plan_id)
            said = world.sibling("office", "plan").content(**{**world.said(), "budget": 1})
            edit_plan(work, world.PLANNER, plan, said)
        with pytest.raises(NotApprovedError):
            deploy_plan(service, world.PLANNER, plan_id, as_of=AS_OF)
        self.nothing_happened(service)

    def test_content_that_changed_after_freezing_does_not_go_live(
        self, service, plan_id, monkeypatch
    ):
        """The plan is edited between freezing and the switch."""
        with service.work(world.PLANNER, "deployment.run") as work:
            row = prepare(work, require_deployable(work, plan_id), AS_OF)
        self._freeze_only(service, plan_id, monkeypatch)
        with service.work(world.PLANNER, "plan.edit") as work:
            said = world.sibling("office", "plan").content(**{**world.said(), "budget": 1})
            edit_plan(work, world.PLANNER, get_plan(work, plan_id), said)
        row = row_of(service)
        with (
            pytest.raises(NotApprovedError),
            service.work(world.PLANNER, "deployment.run") as work,
        ):
            go_live(work, row.deployment_id, row.fence, AS_OF)
        assert row_of(service).state == "frozen"
        assert audited(service, "deployment.live") == 0

    def test_other_approved_content_is_not_switched_to(self, service, plan_id, monkeypatch):
        self._freeze_only(service, plan_id, monkeypatch)
        row = row_of(service)
        with service.system_work() as work:
            get_deployment(work, row.deployment_id).content_hash = "0" * 64
        with (
            pytest.raises(ContentChangedError),
            service.work(world.PLANNER, "deployment.run") as work,
        ):
            go_live(work, row.deployment_id, row.fence, AS_OF)

    def test_stopped_between_freezing_and_switching(self, service, plan_id, monkeypatch):
        self._freeze_only(service, plan_id, monkeypatch)
        with service.system_work() as work:  # approved plans are stopped by their state
            plan = get_plan(work, plan_id)
            plan.state = "executing"
            pause(work, world.PLANNER, plan, reason="wait")
        row = row_of(service)
        with (
            pytest.raises((StoppedError, NotApprovedError)),
            service.work(world.PLANNER, "deployment.run") as work,
        ):
            go_live(work, row.deployment_id, row.fence, AS_OF)

    def test_after_the_last_day_it_does_not_go_live(self, service, plan_id, monkeypatch, clock):
        self._freeze_only(service, plan_id, monkeypatch)
        row = row_of(service)
        late = datetime(2026, 12, 1, 4, tzinfo=UTC)
        with (
            pytest.raises(ExpiredError),
            service.work(world.PLANNER, "deployment.run") as work,
        ):
            go_live(work, row.deployment_id, row.fence, late.date())

    def test_a_late_worker_is_fenced_off(self, service, plan_id, monkeypatch):
        self._freeze_only(service, plan_id, monkeypatch)
        stale = row_of(service).fence
        with service.work(world.PLANNER, "deployment.run") as work:
            prepare(work, require_deployable(work, plan_id), AS_OF)
        row = row_of(service)
        assert row.fence == stale + 1
        with (
            pytest.raises(TakenOverError),
            service.work(world.PLANNER, "deployment.run") as work,
        ):
            go_live(work, row.deployment_id, stale, AS_OF)
        assert row_of(service).state == "frozen"

    def test_decisions_of_other_content_are_never_deployed(self, service, plan_id):
        """Somebody decided another version of the campaign in the same log."""
        log_decisions(
            service.workspace.lake,
            world.decisions(240, seed=2),
            AS_OF,
            clock=service.clock,
            lineage={"campaign": "another version"},
            replace=True,
        )
        with pytest.raises(UserError):  # it is decided anew, for which this lake has no customers
            deploy_plan(service, world.PLANNER, plan_id, as_of=AS_OF)
        self.nothing_happened(service)

    def test_out_of_reach(self, service, plan_id):
        other = replace(
            world.PLANNER, posts=(replace(world.PLANNER.posts[0], unit_id="county-a2"),)
        )
        with pytest.raises(NotFoundError):
            deploy_plan(service, other, plan_id, as_of=AS_OF)

    def test_withdrawn_before_it_is_live_only(self, service, plan_id, monkeypatch):
        self._freeze_only(service, plan_id, monkeypatch)
        row = row_of(service)
        with service.work(world.PLANNER, "deployment.run") as work:
            withdraw(work, row.deployment_id, "no longer wanted")
        with (
            pytest.raises(TakenOverError),
            service.work(world.PLANNER, "deployment.run") as work,
        ):
            go_live(work, row.deployment_id, row.fence, AS_OF)

    def _freeze_only(self, service: Service, plan_id: str, monkeypatch) -> None:
        from bihuan.server.app.deployment import run

        with monkeypatch.context() as patch:
            patch.setattr(run, "go_live", lambda work, name, fence, today: row_of(service))
            assert deploy_plan(service, world.PLANNER, plan_id, as_of=AS_OF).state == "frozen"


class Hands:
    """A channel that remembers what it carried; ``meanwhile`` is called before each batch ends."""

    def __init__(self, clock, meanwhile=None) -> None:
        self.carried: list[str] = []
        self.units: list[str | None] = []
        self._clock, self._meanwhile = clock, meanwhile

    def send(self, assignments: pa.Table) -> pa.Table:
        from bihuan.data import DuckDBEngine

        self.carried += assignments["assignment_id"].to_pylist()
        self.units += assignments["org_unit_id"].to_pylist()
        if self._meanwhile is not None:
            self._meanwhile(len(self.carried))
        return receipt_rows(
            assignments,
            stage="delivered",
            reason="arrived",
            occurred_at=self._clock.now(),
            source="hands",
            engine=DuckDBEngine(threads=1),
        )


class TestStop:
    def stop(self, service: Service, row: PlanDeployment, **part: list[str]) -> None:
        with service.work(world.PLANNER, "plan.stop") as work:
            pause_deployment(work, world.PLANNER, row, reason="complaints", **part)

    def go_on(self, service: Service, row: PlanDeployment) -> None:
        with service.work(world.PLANNER, "plan.stop") as work:
            resume_deployment(work, world.PLANNER, row)

    def test_a_stop_holds_from_the_next_batch_and_nothing_is_sent_twice(self, service, live, clock):
        thrown: list[int] = []

        def stop_after_two(sent: int) -> None:
            if sent == 20 and not thrown:
                thrown.append(sent)
                self.stop(service, live)

        hands = Hands(clock, stop_after_two)
        first = drain_deployment(service, live.deployment_id, "app", hands, batch_rows=10)
        assert (first.sent, first.stopped) == (20, True)
        assert first.held == first.planned - 20
        assert drain_deployment(service, live.deployment_id, "app", hands).sent == 0
        self.go_on(service, live)
        second = drain_deployment(service, live.deployment_id, "app", hands, batch_rows=10)
        assert second.sent == second.planned - 20
        assert second.repeated == 20
        assert len(hands.carried) == len(set(hands.carried)) == second.planned

    def test_a_gate_that_looks_once_would_send_on(self, service, live, clock, monkeypatch):
        """The seeded defect: the stops are read before the round, not before each batch."""
        from bihuan.server.app.deployment import drain

        before = drain.stop_parts
        with service.system_work(read_only=True) as work:
            known = before(work, live.plan_id)
        monkeypatch.setattr(drain, "stop_parts", lambda work, plan_id: known)
        hands = Hands(clock, lambda sent: self.stop(service, live) if sent == 20 else None)
        done = drain_deployment(service, live.deployment_id, "app", hands, batch_rows=10)
        assert done.sent > 20

    def test_a_part_stops_and_the_rest_goes_on(self, service, live, clock):
        self.stop(service, live, units=["grid-a11"])
        hands = Hands(clock)
        done = drain_deployment(service, live.deployment_id, "app", hands)
        assert set(hands.units) == {"grid-a12", None}
        assert done.held == done.planned - done.sent > 0
        self.go_on(service, live)
        rest = drain_deployment(service, live.deployment_id, "app", hands)
        assert rest.sent == done.held
        assert len(set(hands.carried)) == done.planned

    def test_one_channel_stops(self, service, live, clock):
        self.stop(service, live, channels=["sms"])
        hands = Hands(clock)
        assert drain_deployment(service, live.deployment_id, "sms", hands).sent == 0
        assert drain_deployment(service, live.deployment_id, "app", hands).sent > 0

    def test_only_live_deployments_are_drained(self, service, plan_id, clock, monkeypatch):
        TestGate()._freeze_only(service, plan_id, monkeypatch)
        with pytest.raises(ConflictError, match="not live"):
            drain_deployment(service, row_of(service).deployment_id, "app", Hands(clock))

    def test_unknown_channel_or_unit(self, service, live):
        for part in ({"channels": ["pigeon"]}, {"units": ["city-b"]}):
            with pytest.raises((RefusedError, NotFoundError, UnknownChannelError)):
                self.stop(service, live, **part)


class TestRefusals:
    """A refusal recorded at the desk holds at the next sending, before the lake knows of it."""

    SEAT = customers.actor("outbound_seat", "county-a1")

    def people(self, service: Service) -> dict[str, list[str]]:
        """Give the lake its customers; return who is to be contacted, by channel."""
        frozen = frozen_deployment(service.workspace.view, row_of(service))
        rows = frozen.assignments(service.workspace.view).read().to_pylist()
        ids = sorted({row["customer_id"] for row in rows})
        table = {"customer_id": ids, "org_unit_id": ["county-a1"] * len(ids)}
        with service.workspace.lake.publication(service.clock) as publication:
            publication.add("customer", AS_OF, customers.in_contract(service, "customer", table))
        return {
            channel: [row["customer_id"] for row in rows if row["channel"] == channel]
            for channel in world.CHANNELS
        }

    def refuse(self, service: Service, customer: str, kind: str, channel: str) -> None:
        with service.work(self.SEAT, "customer.opt_out") as work:
            refusal = personal.Refusal(kind, channel, "来电")
            personal.record_opt_out(service, work, self.SEAT, customer, refusal)

    def test_is_honoured_a_second_later(self, service, live, clock):
        ids = self.people(service)
        self.refuse(service, ids["app"][0], "no_marketing", "app")
        self.refuse(service, ids["app"][1], "no_marketing", "all")
        self.refuse(service, ids["app"][2], "no_marketing", "sms")  # of another channel
        self.refuse(service, ids["app"][3], "no_profiling", "sms")  # a profile has no channel
        clock.advance(timedelta(seconds=1))
        done = drain_deployment(service, live.deployment_id, "app", Hands(clock))
        assert done.reasons == {"opt_out": 2, "no_profiling": 1}
        assert (done.sent, done.suppressed) == (len(ids["app"]) - 3, 3)
        report = report_of(service, live.deployment_id)
        assert sum(item.reasons.get("no_profiling", 0) for item in report.lists) == 1

    def test_between_two_batches(self, service, live, clock):
        ids = self.people(service)
        late = ids["app"][-1]
        hands = Hands(
            clock,
            lambda sent: self.refuse(service, late, "no_marketing", "app") if sent == 20 else None,
        )
        done = drain_deployment(service, live.deployment_id, "app", hands, batch_rows=20)
        assert done.reasons == {"opt_out": 1}

    def test_a_gate_that_knows_the_lake_only_would_send(self, service, live, clock, monkeypatch):
        """The seeded defect: the control database is not asked."""
        from bihuan.server.app.deployment import drain

        ids = self.people(service)
        self.refuse(service, ids["app"][0], "no_marketing", "all")
        monkeypatch.setattr(drain, "is_opted_out", lambda *_, **__: set())
        done = drain_deployment(service, live.deployment_id, "app", Hands(clock))
        assert done.suppressed == 0

    def test_customers_chosen_by_hand_are_not_profiled(self, service, live, clock, monkeypatch):
        from bihuan.server.app.deployment import drain

        ids = self.people(service)
        self.refuse(service, ids["app"][0], "no_profiling", "all")
        monkeypatch.setattr(drain, "decides_on_persons", lambda content: False)
        done = drain_deployment(service, live.deployment_id, "app", Hands(clock))
        assert (done.sent, done.suppressed) == (len(ids["app"]), 0)

    def test_withdrawn_ones_are_sent_again(self, service, live, clock):
        ids = self.people(service)
        self.refuse(service, ids["app"][0], "no_marketing", "app")
        with service.work(self.SEAT, "customer.opt_out") as work:
            query = personal.list_opt_outs(service, work, ids["app"][0])
            row = work.session.scalars(query).one()
            personal.withdraw_opt_out(
                service, work, self.SEAT, row.customer_id, row.opt_out_id, "来电"
            )
        done = drain_deployment(service, live.deployment_id, "app", Hands(clock))
        assert done.sent == len(ids["app"])


class TestReconciliation:
    def test_adds_up_by_list_as_outcomes_come(self, service, live, clock):
        drain_deployment(service, live.deployment_id, "app", Hands(clock))
        report = report_of(service, live.deployment_id)
        assert report.breaks == ()
        assert report.totals["planned"] == 216
        assert report.totals["delivered"] + report.totals["pending"] == 216
        delivered = {item.channel for item in report.lists if item.found.get("delivered")}
        assert delivered == {"app"}

    def test_completes_when_nothing_is_open(self, service, live, clock):
        for channel in world.CHANNELS:
            drain_deployment(service, live.deployment_id, channel, Hands(clock))
        row = reconcile_deployment(service, world.PLANNER, live.deployment_id).row
        assert row.state == "completed"
        assert row.reconciliation["delivered"] == 216

    def test_suppressed_ones_are_counted_with_their_reason(self, service, live, clock):
        clock.advance(timedelta(hours=10))  # 22:00 in Shanghai
        done = drain_deployment(service, live.deployment_id, "sms", Hands(clock))
        report = report_of(service, live.deployment_id)
        reasons = [item.reasons for item in report.lists if item.channel == "sms"]
        assert sum(sum(r.values()) for r in reasons) == done.suppressed > 0
        assert {name for r in reasons for name in r} == {"quiet_hours"}

    def test_expires_without_outcomes(self, service, live, clock):
        clock.moment = datetime(2026, 12, 2, 4, tzinfo=UTC)
        assert report_of(service, live.deployment_id).totals["expired"] == 216

    def test_a_lost_row_is_found_where_it_was(self, service, live):
        """The seeded defect: a part of the lake loses one row."""
        frozen = frozen_deployment(service.workspace.view, live)
        path = frozen.assignments(service.workspace.view).files[-1]
        rows = pq.read_table(path, partitioning=None)
        lost = rows.slice(rows.num_rows - 1).to_pylist()[0]
        path.unlink()
        pq.write_table(rows.slice(0, rows.num_rows - 1), path)
        (found,) = report_of(service, live.deployment_id).breaks
        assert (found.channel, found.org_unit_id) == (lost["channel"], lost["org_unit_id"] or "")
        assert found.difference == 1
        row = reconcile_deployment(service, world.PLANNER, live.deployment_id).row
        assert not row.reconciliation["reconciles"]

    def test_a_row_too_many_is_found(self, service, live):
        frozen = frozen_deployment(service.workspace.view, live)
        path = frozen.assignments(service.workspace.view).files[0]
        rows = pq.read_table(path, partitioning=None)
        path.unlink()
        pq.write_table(pa.concat_tables([rows, rows.slice(0, 1)]), path)
        (found,) = report_of(service, live.deployment_id).breaks
        assert found.difference == -1

    def test_ledger_and_report_agree(self, service, live, clock):
        drain_deployment(service, live.deployment_id, "hall", Hands(clock))
        workspace = service.workspace
        frozen = frozen_deployment(workspace.view, live)
        ledger = OutcomeLedger(
            workspace.lake, frozen, workspace.layout.quarantine, workspace.clock
        ).reconcile()
        totals = report_of(service, live.deployment_id).totals
        assert totals == {side: getattr(ledger, side) for side in totals}
