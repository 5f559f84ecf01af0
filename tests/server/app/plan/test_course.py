"""Stops, deployment, regular runs, several levels, frames."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from bihuan.kernel import FixedClock
from bihuan.server.app.errors import ConflictError, NotFoundError, OutOfScopeError, RefusedError
from bihuan.server.app.plan import (
    NotApprovedError,
    StoppedError,
    find_stop,
    mark_deployed,
    require_deployable,
    stops,
)
from bihuan.server.app.plan.approval import void_plan
from bihuan.server.app.plan.draft import edit_plan, get_plan
from bihuan.server.app.plan.frame import FrameError
from bihuan.server.app.plan.library import share_plan
from bihuan.server.app.plan.local import (
    NewFrame,
    children_of,
    counts_of,
    edit_frame,
    get_frame,
    open_children,
    open_frame,
    open_in_frame,
    publish_frame,
    record_counts,
    withdraw_frame,
)
from bihuan.server.app.plan.machine import IllegalMoveError
from bihuan.server.app.plan.regular import next_time, open_due_runs
from bihuan.server.app.plan.stop import pause, resume
from bihuan.server.control import PlanRun, Scope

from .office import Office, actor, content

STAGES = ["select_customers", "product_design", "execution", "evaluation"]


def deploy(office: Office, plan_id: str, deployment: str, account: str = "planner-a1") -> None:
    with office.work(account, "deployment.run") as work:
        mark_deployed(work, plan_id, deployment)


class TestStops:
    def test_the_whole_stops_and_goes_on(self, office: Office) -> None:
        plan_id = office.approved()
        deploy(office, plan_id, "d1")
        with office.on(plan_id, "approver-a", "plan.stop") as (work, who, plan):
            pause(work, who, plan, reason="complaints")
        with office.work("planner-a1") as work:
            (stop,) = stops(work, plan_id)
            assert stop.is_whole
            assert find_stop(work, plan_id, "sms", "grid-a11") == stop
            with pytest.raises(NotApprovedError, match="paused"):
                require_deployable(work, plan_id)
        with office.on(plan_id, "approver-a", "plan.stop") as (work, who, plan):
            resume(work, who, plan)
        with office.work("planner-a1") as work:
            assert stops(work, plan_id) == []
            require_deployable(work, plan_id)

    def test_some_channels_or_units_stop_and_the_rest_goes_on(self, office: Office) -> None:
        plan_id = office.approved("planner-a", "city-a")
        deploy(office, plan_id, "d1", "planner-a")
        with office.on(plan_id, "planner-a", "plan.stop") as (work, who, plan):
            pause(work, who, plan, channels=["sms"], units=["county-a1"], reason="r")
        assert office.state(plan_id) == "executing"
        with office.work("planner-a") as work:
            assert find_stop(work, plan_id, "sms", "grid-a11") is not None
            assert find_stop(work, plan_id, "sms", "county-a2") is None
            assert find_stop(work, plan_id, "outbound", "grid-a11") is None
            require_deployable(work, plan_id)
        with (
            pytest.raises(RefusedError, match="does not use"),
            office.on(plan_id, "planner-a", "plan.stop") as (work, who, plan),
        ):
            pause(work, who, plan, channels=["hall"], reason="r")
        with (
            pytest.raises(NotFoundError),
            office.on(plan_id, "planner-a", "plan.stop") as (work, who, plan),
        ):
            pause(work, who, plan, units=["county-b1"], reason="r")

    def test_a_unit_below_stops_its_own_part_and_no_more(self, office: Office) -> None:
        plan_id = office.approved("planner-a", "city-a")
        with office.on(plan_id, "approver-p", "plan.share") as (work, who, plan):
            share_plan(work, who, plan, "down")
        deploy(office, plan_id, "d1", "planner-a")
        with office.on(plan_id, "grid-a11", "plan.stop") as (work, who, plan):
            pause(work, who, plan, units=["grid-a11"], reason="flood")
        with office.work("planner-b") as work:  # whoever asks is told
            assert [stop.unit_id for stop in stops(work, plan_id)] == ["grid-a11"]
        with (
            pytest.raises(OutOfScopeError),
            office.on(plan_id, "grid-a11", "plan.stop") as (work, who, plan),
        ):
            pause(work, who, plan, units=["county-a2"], reason="r")
        with (
            pytest.raises(OutOfScopeError),
            office.on(plan_id, "grid-a11", "plan.stop") as (work, who, plan),
        ):
            pause(work, who, plan, reason="all of it")

    def test_what_is_voided_or_not_approved_is_stopped_by_its_state(self, office: Office) -> None:
        plan_id = office.approved()
        deploy(office, plan_id, "d1")
        with office.on(plan_id, "approver-a", "plan.approve") as (work, who, plan):
            void_plan(work, who, plan, comment="wrong price")
        with office.work("planner-a1") as work:
            assert [(s.stop_id, s.is_whole) for s in stops(work, plan_id)] == [
                ("state:voided", True)
            ]
            with pytest.raises(NotFoundError):
                stops(work, "plan_none")


class TestDeployment:
    def test_a_deployment_counts_once_and_running_plans_are_not_edited(
        self, office: Office
    ) -> None:
        plan_id = office.approved()
        deploy(office, plan_id, "d1")
        deploy(office, plan_id, "d1")
        deploy(office, plan_id, "d2")
        with office.control.work(Scope.everything(), read_only=True) as work:
            runs = work.session.scalars(sa.select(PlanRun)).all()
        assert sorted(str(run.deployment_id) for run in runs) == ["d1", "d2"]
        with (
            pytest.raises(IllegalMoveError, match="pause"),
            office.on(plan_id, "planner-a1") as (work, who, plan),
        ):
            edit_plan(work, who, plan, content())


def regular(office: Office, cron: str = "0 9 1 * *") -> str:
    plan_id = office.open()
    schedule = {"cron": cron, "valid_until": "2027-02-28"}
    with office.on(plan_id, "planner-a1") as (work, who, plan):
        edit_plan(work, who, plan, {**content(), "schedule": schedule})
    office.cover()
    office.assess(plan_id)
    office.file(plan_id)
    office.approve(plan_id, "approver-a")
    return plan_id


class TestRegular:
    def test_each_time_has_one_run_of_the_same_content(
        self, office: Office, clock: FixedClock
    ) -> None:
        plan_id = regular(office)
        clock.advance(timedelta(days=30))
        for _ in range(2):
            with office.control.work(Scope.everything()) as work:
                found = open_due_runs(work)
                assert [run.state for run in found] in (["open"], [])
        deploy(office, plan_id, "december")
        clock.advance(timedelta(days=31))
        with office.control.work(Scope.everything()) as work:
            (run,) = open_due_runs(work)
            approved = require_deployable(work, plan_id)
        assert run.content_hash == approved.content_hash
        assert run.due_at is not None
        assert run.due_at.isoformat() == "2027-01-01T01:00:00+00:00"  # 9 o'clock there

    def test_times_while_it_was_stopped_are_missed_with_a_reason(
        self, office: Office, clock: FixedClock
    ) -> None:
        plan_id = regular(office)
        deploy(office, plan_id, "d1")
        with office.on(plan_id, "approver-a", "plan.stop") as (work, who, plan):
            pause(work, who, plan, reason="r")
        clock.advance(timedelta(days=62))
        with office.control.work(Scope.everything()) as work:
            found = open_due_runs(work)
        assert [run.state for run in found] == ["missed", "missed"]
        assert "later time" in found[0].reason
        assert "paused" in found[1].reason

    def test_it_ends_with_its_validity(self, office: Office, clock: FixedClock) -> None:
        plan_id = regular(office)
        clock.advance(timedelta(days=200))
        with office.control.work(Scope.everything()) as work:
            assert [run.state for run in open_due_runs(work)][-1] == "missed"
            assert get_plan(work, plan_id).next_run_at is None
            with pytest.raises(NotApprovedError, match="ended on 2027-02-28"):
                require_deployable(work, plan_id)

    @pytest.mark.parametrize(
        "schedule",
        [{}, {"cron": "x"}, {"cron": "0 9 1 * *"}, {"cron": "0 9 1 * *", "valid_until": "soon"},
         {"cron": "0 9 1 * *", "valid_until": "2027-01-01", "time_zone": "Moon/Base"}],
    )  # fmt: skip
    def test_a_wrong_schedule_is_refused(self, schedule, clock: FixedClock) -> None:
        with pytest.raises(RefusedError, match="schedule"):
            next_time(schedule, clock.now())

    def test_a_day_that_never_comes(self, clock: FixedClock) -> None:
        schedule = {"cron": "0 9 30 2 *", "valid_until": "2030-01-01"}
        assert next_time(schedule, clock.now()) is None


class TestTwoLevels:
    def test_cities_carry_out_the_province_plan_under_its_approval(self, office: Office) -> None:
        plan_id = office.approved("planner-p", "province")
        with office.on(plan_id, "planner-p") as (work, who, plan):
            found = open_children(work, who, plan, ["city-a", "city-b"])
            assert open_children(work, who, plan, ["city-a"]) == []
        assert office.state(plan_id) == "executing"
        a, b = (child.plan_id for child in found)
        with office.work("planner-a") as work:
            approved = require_deployable(work, a)
            assert (approved.unit_id, approved.approvals[0].by) == ("city-a", "approver-p")
            with pytest.raises(NotFoundError):
                require_deployable(work, b)
        for child, account, sent in ((a, "planner-a", 30), (b, "planner-b", 12)):
            deploy(office, child, f"d-{child}", account)
            with office.work(account, "deployment.run") as work:
                record_counts(work, child, {"contacted": sent})
        with office.on(plan_id, "planner-p") as (work, who, plan):
            assert counts_of(work, plan) == {
                "city-a": {"contacted": 30},
                "city-b": {"contacted": 12},
                "all": {"contacted": 42},
            }

    def test_a_stop_above_holds_below_and_an_edit_below_needs_its_own_approval(
        self, office: Office
    ) -> None:
        plan_id = office.approved("planner-p", "province")
        with office.on(plan_id, "planner-p") as (work, who, plan):
            a, b = (c.plan_id for c in open_children(work, who, plan, ["city-a", "city-b"]))
        with office.on(plan_id, "planner-p", "plan.stop") as (work, who, plan):
            pause(work, who, plan, reason="whole province")
        with office.work("planner-a") as work, pytest.raises(StoppedError):
            require_deployable(work, a)
        with office.on(plan_id, "planner-p", "plan.stop") as (work, who, plan):
            resume(work, who, plan)
        with office.on(b, "planner-b") as (work, who, plan):
            edit_plan(work, who, plan, content(budget=7))
            plan.state = "approved"  # even then
            work.session.flush()
            with pytest.raises(NotApprovedError, match="nobody"):
                require_deployable(work, b)

    def test_only_units_below_and_only_what_is_approved(self, office: Office) -> None:
        plan_id = office.approved("planner-a", "city-a")
        with office.on(plan_id, "planner-p") as (work, who, plan):
            with pytest.raises(NotFoundError):
                open_children(work, who, plan, ["city-b"])
            assert children_of(work, plan) == []
        draft_id = office.open("planner-p", "province")
        with office.on(draft_id, "planner-p") as (work, who, plan), pytest.raises(NotApprovedError):
            open_children(work, who, plan, ["city-a"])


def framed(office: Office, *limits: dict) -> str:
    frame = NewFrame(
        "province",
        "retention",
        {"zh": "全省维系框架", "en": "frame"},
        limits
        or (
            {"field": "campaign.control_share", "low": 0.1, "high": 0.3},
            {"field": "campaign.channels", "allowed": ["sms", "outbound"]},
            {"field": "campaign.channels.*.capacity", "high": 1000},
            {"field": "campaign.mix[].offer", "allowed": ["fee_basic_12"]},
            {"field": "campaign.goal.metric", "fixed": "retained"},
            {"field": "terms.discount", "high": 0.3},
            {"field": "stages[].stage", "in_order": STAGES},
        ),
        {"stages": [{"stage": stage} for stage in STAGES], "terms": {"discount": 0.2}},
    )
    with office.work("planner-p") as work:
        frame_id = open_frame(work, actor("planner-p"), frame).frame_id
    with office.work("planner-p", "plan.share") as work:
        publish_frame(work, actor("planner-p"), get_frame(work, frame_id))
    return frame_id


def inside(office: Office, frame_id: str, said: dict) -> str:
    with office.work("planner-a") as work:
        frame = get_frame(work, frame_id)
        titles = {"zh": "本地", "en": "local"}
        plan = open_in_frame(
            work, actor("planner-a"), frame, unit_id="city-a", title=titles, content=said
        )
        return plan.plan_id


class TestFrames:
    def test_a_city_opens_its_own_plan_inside_and_files_it(self, office: Office) -> None:
        plan_id = inside(office, framed(office), content())
        office.cover()
        office.assess(plan_id, "planner-a")
        office.file(plan_id, "planner-a")
        assert office.state(plan_id) == "filed"

    @pytest.mark.parametrize(
        ("said", "field", "limit"),
        [
            (content(control_share=0.05), "campaign.control_share = 0.05", "low 0.1"),
            (content(channels={"hall": {"capacity": 1}}), "campaign.channels", "allowed"),
            (content(channels={"sms": {"capacity": 1001}}), "channels.sms.capacity", "high 1000"),
            (content(mix=[{"offer": "other"}]), "campaign.mix[0].offer", "fee_basic_12"),
            ({**content(), "terms": {"discount": 0.5}}, "terms.discount = 0.5", "high 0.3"),
            ({**content(), "stages": [{"stage": "execution"}]}, "stages[].stage", "in_order"),
        ],
    )
    def test_what_leaves_it_is_refused_with_field_and_limit(
        self, office: Office, said: dict, field: str, limit: str
    ) -> None:
        frame_id = framed(office)
        with pytest.raises(FrameError) as refusal:
            inside(office, frame_id, said)
        assert field in str(refusal.value)
        assert limit in str(refusal.value)
        assert frame_id in refusal.value.zh

    def test_an_open_field_may_be_missing_in_a_draft_but_not_when_it_is_filed(
        self, office: Office
    ) -> None:
        frame_id = framed(office)
        plan_id = inside(office, frame_id, content(channels={"sms": {"unit_cost": 1}}))
        office.cover()
        office.assess(plan_id, "planner-a")
        with pytest.raises(FrameError, match=r"channels\.sms\.capacity = missing"):
            office.file(plan_id, "planner-a")

    def test_an_edit_does_not_leave_it_either_and_a_withdrawn_frame_holds_no_plan(
        self, office: Office
    ) -> None:
        frame_id = framed(office)
        plan_id = inside(office, frame_id, content())
        with (
            pytest.raises(FrameError),
            office.on(plan_id, "planner-a") as (work, who, plan),
        ):
            edit_plan(work, who, plan, content(control_share=0.9))
        with office.work("planner-p", "plan.share") as work:
            withdraw_frame(work, actor("planner-p"), get_frame(work, frame_id))
        with pytest.raises(RefusedError, match="not in force"):
            inside(office, frame_id, content())

    def test_a_published_frame_is_fixed_and_a_draft_is_not_seen_below(self, office: Office) -> None:
        frame_id = framed(office)
        new = NewFrame("province", "retention", {"zh": "x", "en": "x"}, (), {})
        with pytest.raises(ConflictError), office.work("planner-p") as work:
            edit_frame(work, actor("planner-p"), get_frame(work, frame_id), new)
        with office.work("planner-p") as work:
            hidden = open_frame(work, actor("planner-p"), new).frame_id
        with pytest.raises(NotFoundError), office.work("planner-a") as work:
            get_frame(work, hidden)
        with (
            pytest.raises(OutOfScopeError),
            office.work("planner-a", "plan.share") as work,
        ):
            withdraw_frame(work, actor("planner-a"), get_frame(work, frame_id))

    @pytest.mark.parametrize(
        "limit",
        [{}, {"field": "x"}, {"low": 1}, {"field": "x", "low": "1"}, {"field": "x", "allowed": []},
         {"field": "x", "hihg": 1}],
    )  # fmt: skip
    def test_a_limit_without_sense_is_refused(self, office: Office, limit: dict) -> None:
        new = NewFrame("province", "retention", {"zh": "x", "en": "x"}, (limit,), {})
        with pytest.raises(RefusedError, match="limits"), office.work("planner-p") as work:
            open_frame(work, actor("planner-p"), new)

    def test_a_template_keeps_its_own_limits_and_a_frame_may_end(
        self, office: Office, clock: FixedClock
    ) -> None:
        limit = {"field": "terms.discount", "high": 0.3}
        bad = NewFrame(
            "province", "retention", {"zh": "x", "en": "x"}, (limit,), {"terms": {"discount": 1}}
        )
        with pytest.raises(RefusedError, match="own frame"), office.work("planner-p") as work:
            open_frame(work, actor("planner-p"), bad)
        good = NewFrame(
            "province", "retention", {"zh": "x", "en": "x"}, (limit,), {}, date(2026, 11, 3)
        )
        with office.work("planner-p") as work:
            frame_id = open_frame(work, actor("planner-p"), good).frame_id
        with office.work("planner-p", "plan.share") as work:
            publish_frame(work, actor("planner-p"), get_frame(work, frame_id))
        inside(office, frame_id, content())
        clock.advance(timedelta(days=2))
        with pytest.raises(RefusedError, match="not in force"):
            inside(office, frame_id, content())
