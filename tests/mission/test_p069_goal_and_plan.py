"""P069: campaign goal, target analysis, action plan, preconditions."""

from __future__ import annotations

import math
import statistics
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

import bihuan as bh
from bihuan.audience import describe, movement
from bihuan.evaluation import minimum_detectable_effect
from bihuan.strategy import plan_text

GOAL_FIELDS = {
    "G-19": "  metric: ordered\n",
    "G-19 target": "  target: 0.01\n",
    "G-20": "  starts_on: 2026-11-01\n",
    "G-20 end": "  ends_on: 2026-11-30\n",
    "G-21": "  reason: {zh: 上季度离网率上升, en: More customers left last quarter}\n",
    "G-23": "  needs: {zh: 实惠与流量, en: Savings and data}\n",
}


def load(tmp_path: Path, tools, text: str):
    """Load a campaign of a fresh workspace."""
    ws = tools.open_at(tmp_path / "ws")
    tools.define(ws, "offers", "offers", tools.offers)
    tools.define(ws, "campaigns", "c", text)
    return ws.campaign("c")


@pytest.mark.mission("P069")
class TestGoal:
    """G-19 the goal, G-20 the period in which it holds, G-21 the reason."""

    def test_g19_g20_g21_stand_in_the_plan(self, carried) -> None:
        goal = carried.ws.campaign(carried.campaign_id).goal
        assert (goal.metric, goal.target) == ("ordered", 0.01)
        assert (goal.starts_on, goal.ends_on) == (date(2026, 11, 1), date(2026, 11, 30))
        assert goal.reason["zh"] == "上季度离网率上升"

    @pytest.mark.parametrize("field", GOAL_FIELDS.values(), ids=GOAL_FIELDS)
    def test_no_campaign_without_it(self, tmp_path, tools, campaign_file, field: str) -> None:
        text = campaign_file()
        assert field in text
        name = field.split(":")[0].strip()
        with pytest.raises(bh.UserError, match=rf"c\.yaml\.goal\.{name} is missing"):
            load(tmp_path, tools, text.replace(field, "", 1))

    def test_g20_a_period_that_ends_before_it_begins_is_refused(
        self, tmp_path, tools, campaign_file
    ) -> None:
        with pytest.raises(bh.UserError, match="ends_on is before starts_on"):
            load(tmp_path, tools, campaign_file(ends_on="2026-10-01"))

    def test_g20_what_is_sent_is_valid_within_the_period_only(self, carried) -> None:
        goal = carried.ws.campaign(carried.campaign_id).goal
        deployment = carried.deployment
        assert deployment.valid_from >= goal.starts_on
        assert deployment.valid_until <= goal.ends_on

    def test_g20_deployed_early_nobody_is_contacted_before_the_period_begins(
        self, own_operator, tools, campaign_file
    ) -> None:
        ws = own_operator.ws  # its clock stands at 2 November
        tools.define(ws, "offers", "offers", tools.offers)
        few = campaign_file(
            audience="arpu >= 150 and not is_disconnected", starts_on="2026-11-10"
        ).replace("value: 300", "value: 30")
        tools.define(ws, "campaigns", "orders-2026-11", few)
        ws.decide("orders-2026-11", own_operator.last)
        deployment = ws.deploy("orders-2026-11", own_operator.last)
        sent = ws.write_lists("orders-2026-11").dispatch
        assert (sent.sent, sent.reasons) == (0, {"not_yet_valid": deployment.planned})
        assert deployment.valid_from == date(2026, 11, 10)
        assert deployment.valid_until == date(2026, 11, 30)

    def test_g19_whether_the_goal_can_be_seen_at_all_is_told_beforehand(self) -> None:
        """A goal below what the groups can show is no goal that anybody can reach."""
        rate = 0.05
        for treated, control in ((700, 300), (70_000, 30_000)):
            found = minimum_detectable_effect(treated, control, rate)
            spread = rate * (1 - rate) / control + (rate + found) * (1 - rate - found) / treated
            # 5 % error, 80 % power: 1.96 + 0.84 standard errors
            assert found == pytest.approx((1.95996 + 0.84162) * math.sqrt(spread), rel=1e-3)
        assert found < 0.01 < minimum_detectable_effect(700, 300, rate)  # the goal of this campaign

    def test_g19_the_goal_is_held_against_what_was_reached(self, turned) -> None:
        text = turned.report[0].read_text(encoding="utf-8")
        goal = turned.ws.campaign(turned.campaign_id).goal
        assert goal.reason["zh"] in text
        assert str(goal.starts_on) in text
        assert str(goal.ends_on) in text


@pytest.mark.mission("P069")
class TestTargetAnalysis:
    """G-23 needs and drivers, G-24 size and growth potential."""

    RULE = "dou >= 4000 and not is_disconnected"

    def test_g24_size_and_growth_from_month_to_month(self, operator, tools) -> None:
        ws = operator.ws
        members = {}
        for month in operator.months[-2:]:
            rows = ws.tags(month).read(ws.engine, ["dou", "is_disconnected"]).to_pylist()
            members[month] = {
                r["customer_id"]
                for r in rows
                if r["dou"] is not None and r["dou"] >= 4000 and not r["is_disconnected"]
            }
        before, now = members.values()
        snapshots = [ws.take_snapshot(self.RULE, month) for month in operator.months[-2:]]
        assert [snapshot.size for snapshot in snapshots] == [len(before), len(now)]
        found = movement(*snapshots, engine=ws.engine)
        assert (found.stayed, found.joined, found.left) == (
            len(before & now), len(now - before), len(before - now),
        )  # fmt: skip
        assert found.growth == pytest.approx(len(now) / len(before) - 1)

    def test_g24_how_large_a_group_is_whatever_its_rule(self, operator) -> None:
        count = operator.ws.count(self.RULE, operator.last)
        assert count.share == count.members / count.base
        assert count.base == 2500

    def test_g23_what_drives_the_group_is_measured_against_everybody(self, operator) -> None:
        ws, last = operator.ws, operator.last
        names = ["arpu", "dou_trend", "tenure_months", "price_sensitive"]
        told = describe(ws.take_snapshot(self.RULE, last), ws.tags(last), names, engine=ws.engine)
        rows = ws.tags(last).read(ws.engine, [*names, "dou", "is_disconnected"]).to_pylist()
        group = [
            r
            for r in rows
            if r["dou"] is not None and r["dou"] >= 4000 and not r["is_disconnected"]
        ]
        for contrast in told.tags:
            known = [float(r[contrast.tag]) for r in group if r[contrast.tag] is not None]
            base = [float(r[contrast.tag]) for r in rows if r[contrast.tag] is not None]
            assert contrast.mean == pytest.approx(statistics.mean(known), rel=1e-6)
            distance = (statistics.mean(known) - statistics.mean(base)) / statistics.pstdev(base)
            assert contrast.distance == pytest.approx(distance, rel=1e-6)
        assert told.most_distinct(1)[0].tag == "arpu"  # who uses much data pays more

    def test_g23_needs_and_drivers_stand_in_the_plan_in_both_languages(self, carried) -> None:
        campaign = carried.ws.campaign(carried.campaign_id)
        zh, en = (plan_text(campaign, carried.ws.catalogue, language) for language in ("zh", "en"))
        assert "需求与驱动因素: 实惠与流量" in zh
        assert "Needs and drivers: Savings and data" in en


@pytest.mark.mission("P069")
class TestActionPlan:
    """G-26: an executable action plan: who does what, when."""

    def test_g26_every_step_has_its_post_and_its_days(self, carried) -> None:
        steps = carried.ws.campaign(carried.campaign_id).action_plan
        assert [(s.post, s.starts_on, s.ends_on) for s in steps] == [
            ("planner", date(2026, 11, 1), date(2026, 11, 1)),
            ("channel_operator", date(2026, 11, 1), date(2026, 11, 30)),
        ]

    def test_g26_a_step_outside_the_period_cannot_be_carried_out(
        self, tmp_path, tools, campaign_file
    ) -> None:
        text = campaign_file().replace(
            "starts_on: 2026-11-01\n    ends_on: 2026-11-01",
            "starts_on: 2026-11-01\n    ends_on: 2026-12-05",
        )
        with pytest.raises(bh.UserError, match=r"action_plan\[0\].*outside the campaign's period"):
            load(tmp_path, tools, text)

    def test_g26_the_plan_can_be_carried_out_lists_are_there_per_unit(self, carried) -> None:
        """What the second step hands out: one list per channel and unit, in order of priority."""
        files = sorted(carried.ws.layout.lists.rglob("*.csv"))
        units = {(row["channel"], row["org_unit_id"]) for row in carried.assignments}
        assert len(files) == len(units)
        rows = sum(len(f.read_text(encoding="utf-8-sig").splitlines()) - 1 for f in files)
        assert rows == len(carried.assignments)


@pytest.mark.mission("P069")
class TestPreconditions:
    """G-27: 营销方案行动计划有效实施的前提条件: stated, and enforced before anything happens."""

    @pytest.fixture
    def world(self, own_operator, tools):
        tools.define(own_operator.ws, "offers", "offers", tools.offers)
        own_operator.change = lambda text: tools.define(
            own_operator.ws, "campaigns", "orders-2026-11", text
        )
        return own_operator

    def test_g27_too_few_customers_and_nothing_is_decided(
        self, world, campaign_file, shell
    ) -> None:
        world.change(campaign_file().replace("value: 300", "value: 2400"))
        told = shell(
            "campaign", "decide", "orders-2026-11", "--as-of", str(world.last),
            workspace=world.folder / "ws", language="zh",
        )  # fmt: skip
        assert told.code == 2  # the user can mend it
        assert told.result["error"] == "DecisionRefusedError"
        assert "剔除后不少于 300 户" in told.result["message"]
        assert "decision" not in world.ws.view.tables

    def test_g27_data_too_old(self, world, campaign_file, tools) -> None:
        world.change(campaign_file())
        late = tools.open_at(world.folder / "ws", datetime(2026, 12, 20, 6, tzinfo=UTC))
        with pytest.raises(bh.UserError, match=r"not older than 45 days.*50 days old"):
            late.decide("orders-2026-11", world.last)

    def test_g27_too_few_left_for_comparison(self, world, campaign_file) -> None:
        more = "  - text: {zh: 对照组不少于 900 户, en: 900 in control}\n"
        more += "    check: control_at_least\n    value: 900\n"
        world.change(campaign_file() + more)
        with pytest.raises(bh.UserError, match="900 in control"):
            world.ws.decide("orders-2026-11", world.last)

    def test_g27_what_only_a_person_can_tell_must_be_confirmed(self, world, campaign_file) -> None:
        world.change(campaign_file() + "  - {text: {zh: 坐席已培训, en: Seats are trained}}\n")
        with pytest.raises(bh.UserError, match="Seats are trained"):
            world.ws.decide("orders-2026-11", world.last)
        plan = world.ws.decide(
            "orders-2026-11", world.last, confirmed=frozenset({"Seats are trained"})
        )
        assert plan.decisions.num_rows > 300
        assert "decision" in world.ws.view.tables

    def test_g27_nobody_left_is_not_a_campaign(self, world, campaign_file) -> None:
        world.change(campaign_file(audience="arpu >= 100000"))
        with pytest.raises(bh.UserError, match="Nobody is left"):
            world.ws.decide("orders-2026-11", world.last)
