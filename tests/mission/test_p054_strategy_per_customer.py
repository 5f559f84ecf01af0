"""P054: a strategy per customer, a plan per enterprise, by hand where people know better, and
set off by events."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta

import pytest

import bihuan as bh
from bihuan.decision import Event

from .by_hand import OCTOBER, define, open_at
from .live_campaigns import build_live, campaign

NOON = datetime(2026, 11, 2, 4, tzinfo=UTC)


@pytest.fixture(scope="module")
def live(operator, tmp_path_factory):
    return build_live(tmp_path_factory.mktemp("p054") / "operator", operator.folder)


@pytest.fixture
def own_live(live, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(live.folder, tmp_path / "operator")
    return open_at(tmp_path / "operator" / "ws")


def rows_of(ws, name):
    return {r["customer_id"]: r for r in ws.decisions(name, OCTOBER).decisions.to_pylist()}


@pytest.mark.mission("P054")
class TestStrategyPerCustomer:
    """A-07: thousands of customers, each with the strategy that fits his own case."""

    def test_each_gets_what_is_best_for_him_among_what_he_may_get(self, live):
        ws = live.ws
        rows = ws.recommender.for_customers(OCTOBER).to_pylist()
        first = {row["customer_id"]: row for row in rows if row["rank"] == 1}
        assert len(first) > 1000
        assert len({(r["campaign_id"], r["offer_id"], r["channel"]) for r in rows}) >= 7
        texts = {row["reason_zh"] for row in first.values()}
        assert len(texts) > 0.9 * len(first)  # the reason is his own, not the group's
        for customer, row in list(first.items())[:100]:
            told = ws.recommender.why(row["campaign_id"], customer, OCTOBER)
            open_ = {(w.candidate.offer_id, w.candidate.channel): w.value
                     for w in told.weighed if not w.fell_at}  # fmt: skip
            assert open_[row["offer_id"], row["channel"]] == row["value"]
            # what the plan gave him has its room; anything else must beat it net of prices
            if told.logged is not None and told.logged["arm"] == "treatment":
                planned = open_[told.logged["offer_id"], told.logged["channel"]]
                assert row["net"] >= planned


OFFERS = """
offers:
  - {offer_id: line_upgrade, title: {zh: 专线提速, en: Faster leased line}, kind: leased_line,
     products: [line_1g], price: 900, months: 12, margin: {fixed: 100, per_unit: 0.2, of: arpu},
     cost: 50, eligibility: "has_leased_line and arpu >= 1000", channels: [account_manager]}
  - {offer_id: cloud_desk, title: {zh: 云桌面, en: Cloud desktop}, kind: service,
     products: [cloud], price: 300, months: 24, margin: 500, cost: 20,
     eligibility: "customer_kind = 'enterprise'", channels: [account_manager, email]}
  - {offer_id: backup_line, title: {zh: 备份专线, en: Backup line}, kind: leased_line,
     products: [line_b], price: 400, months: 24, margin: 2000, cost: 100,
     eligibility: "bill_amount >= 5000", channels: [account_manager]}
"""
MIX = [
    ("line_upgrade", {"account_manager": 0.3}),
    ("cloud_desk", {"account_manager": 0.2, "email": 0.05}),
    ("backup_line", {"account_manager": 0.1}),
]


@pytest.fixture
def firms(own_town):
    """The town's three enterprises, and a campaign for them."""
    ws = own_town.ws
    define(ws, "offers", "firms", OFFERS)
    define(
        ws, "campaigns", "firms",
        campaign(
            "firms", ("政企云网", "Cloud and lines for firms"), MIX, control=0.0,
            audience="customer_kind = 'enterprise'",
            seats={"account_manager": (None, 30.0), "email": (None, 0.1)},
            more="keep_lists: [opted_out, complaint_sensitive, recent_contact]",
        ),
    )  # fmt: skip
    return open_at(own_town.folder / "ws")


@pytest.mark.mission("P054")
class TestPlanPerEnterprise:
    """A-09: one plan per enterprise (一户一案): offers in order, reasons, one document each."""

    def test_offers_in_order_with_reasons_by_hand(self, firms):
        plan = firms.recommender.plan_for("C006", OCTOBER)
        # 甲公司: ARPU 7733.33, bill of October 9600
        expected = {
            "line_upgrade": 0.3 * (100 + 0.2 * 7733.33 - 50) - 30,
            "backup_line": 0.1 * (2000 - 100) - 30,
            "cloud_desk": 0.2 * (500 - 20) - 30,
        }
        assert {i.offer_id: round(i.value, 6) for i in plan.items} == {
            offer: round(value, 6) for offer, value in expected.items()
        }
        assert [i.offer_id for i in plan.items] == ["line_upgrade", "backup_line", "cloud_desk"]
        assert "月均消费7733.33元" in plan.items[0].reason["zh"]
        assert "1. **专线提速**" in plan.text["zh"]
        assert plan.text["zh"].index("专线提速") < plan.text["zh"].index("备份专线")

    def test_each_firm_has_its_own(self, firms):
        few = firms.recommender.plan_for("C007", OCTOBER)  # no bills known
        assert [i.offer_id for i in few.items] == ["cloud_desk"]
        red = firms.recommender.plan_for("C008", OCTOBER)  # on the red list
        assert red.items == ()
        assert [m.fell_at for m in red.left_out] == ["suppressed_red_list"]
        assert "目前没有适合的推荐" in red.text["zh"]
        private = firms.recommender.plan_for("C001", OCTOBER)
        assert [m.fell_at for m in private.left_out] == ["outside_audience"]

    def test_one_document_per_customer(self, firms):
        files = firms.recommender.write_plans(["C006", "C007"], OCTOBER)
        assert sorted(f.name for f in files) == [
            "C006.en.md", "C006.zh.md", "C007.en.md", "C007.zh.md",
        ]  # fmt: skip
        text = next(f for f in files if f.name == "C006.en.md").read_text("utf-8")
        assert text.startswith("# Plan for customer C006")
        assert "expected value" in text


@pytest.mark.mission("P054")
class TestByHand:
    """A-10: people intervene in matching and in deployment; who and why is kept."""

    def test_account_manager_changes_the_order_of_a_plan(self, firms):
        firms.recommender.override(
            "C006", "firms", "force", offer_id="cloud_desk", channel="email",
            by="客户经理 M1", reason="客户正在上云",
        )  # fmt: skip
        plan = firms.recommender.plan_for("C006", OCTOBER)
        assert (plan.items[0].offer_id, plan.items[0].channel) == ("cloud_desk", "email")
        assert plan.items[0].by_hand
        assert "客户经理 M1" in plan.text["zh"]
        assert "客户正在上云" in plan.text["zh"]

    def test_forced_and_forbidden_contacts_reach_the_work_orders(self, own_live):
        ws = own_live
        rows = rows_of(ws, "grow")
        spare = [c for c, r in rows.items() if r["reason"] == "over_limit"][:5]
        planned = [c for c, r in rows.items() if r["arm"] == "treatment"][:5]
        for customer in spare:
            ws.recommender.override(customer, "grow", "force", offer_id="video_pass",
                                    by="经理", reason="客户来电索要")  # fmt: skip
        for customer in planned:
            ws.recommender.override(customer, "grow", "forbid", by="经理", reason="正在处理投诉")
        plan = ws.decide("grow", OCTOBER)
        after = rows_of(ws, "grow")
        for customer in spare:
            row = after[customer]
            assert (row["arm"], row["reason"], row["offer_id"]) == (
                "treatment", "forced_by_hand", "video_pass",
            )  # fmt: skip
            assert row["treatment_probability"] == 1.0
        for customer in planned:
            assert (after[customer]["arm"], after[customer]["reason"]) == ("none", "by_hand")
        usage = plan.real_usage()
        assert usage["sms"] <= 300
        assert usage["app"] <= 400
        orders = ws.deploy("grow", OCTOBER).assignments(ws.view).read()["customer_id"].to_pylist()
        assert set(spare) <= set(orders)
        assert not set(planned) & set(orders)

    def test_opt_out_is_stronger_than_any_manager(self, own_live):
        ws = own_live
        gone = next(
            r["customer_id"] for r in ws.view.get("opt_out", OCTOBER).read().to_pylist()
            if r["channel"] == "all" or r["kind"] == "no_profiling"
        )  # fmt: skip
        ws.recommender.override(
            gone, "keep", "force", offer_id="keep_12", by="经理", reason="关系好"
        )
        assert ws.recommender.for_customer(gone, OCTOBER).items == ()
        ws.decide("keep", OCTOBER)
        assert rows_of(ws, "keep").get(gone, {"arm": "none"})["arm"] == "none"

    def test_what_was_laid_down_can_be_lifted_and_is_kept(self, own_live):
        ws = own_live
        customer = next(iter(rows_of(ws, "keep")))
        before = ws.recommender.for_customer(customer, OCTOBER).items
        for action in ("forbid", "lift"):
            ws.recommender.override(customer, "keep", action, by="经理", reason="测试期")
        assert ws.recommender.for_customer(customer, OCTOBER).items == before
        told = [(o.action, o.by) for o in ws.recommender.overrides.read()]
        assert told == [("forbid", "经理"), ("lift", "经理")]

    def test_nothing_is_laid_down_without_a_name_or_with_what_there_is_not(self, own_live):
        with pytest.raises(bh.UserError, match="does not say who and why"):
            own_live.recommender.override("c1", "keep", "forbid", by="", reason="x")
        with pytest.raises(bh.UserError, match="does not do 'video_pass"):
            own_live.recommender.override(
                "c1", "keep", "force", offer_id="video_pass", by="a", reason="b"
            )
        assert own_live.recommender.overrides.read() == ()


TRIGGERS = """
triggers:
  - trigger: browses_packs
    title: {zh: 浏览流量包, en: Looks at data packs}
    event: visit
    where: {channel: [app]}
    when: "dou >= 4000"
    categories: [data]
    cooldown_days: 14
"""
FIRM_TRIGGER = """
triggers:
  - trigger: asks_for_quote
    title: {zh: 询价, en: Asks for a quote}
    event: quote
    cooldown_days: 30
"""


@pytest.mark.mission("P054")
class TestSetOffByEvents:
    """A-11: strategies set off automatically; for firms a person confirms first."""

    def test_an_event_sets_off_the_strategy_once_in_a_while(self, own_live):
        ws = own_live
        define(ws, "triggers", "own", TRIGGERS)
        tags = ws.tags(OCTOBER)
        outcomes = {}
        for number, customer in enumerate(rows_of(ws, "keep")):
            if number == 200:
                break
            event = Event(f"e{number}", "visit", customer, NOON, channel="app")
            (fired,) = ws.recommender.on_event(event, OCTOBER)
            is_met = (tags.profile(customer)["dou"] or 0) >= 4000
            assert (fired.outcome == "rule_not_met") == (not is_met)
            outcomes.setdefault(fired.outcome, []).append((event, fired))
        assert len(outcomes["fired"]) > 20
        for event, fired in outcomes["fired"]:
            assert [s.offer_id for s in fired.strategies] == ["data_pack"]
            assert not fired.needs_confirmation
            told = ws.recommender.for_customer(event.customer_id, OCTOBER, top=9).items
            assert fired.strategies[0].offer_id in {i.offer_id for i in told}
        event, _ = outcomes["fired"][0]
        again = Event("later", "visit", event.customer_id, NOON + timedelta(hours=1), channel="app")
        assert ws.recommender.on_event(event, OCTOBER)[0].outcome == "repeated"
        assert ws.recommender.on_event(again, OCTOBER)[0].outcome == "cooling"
        other = Event("web", "visit", event.customer_id, NOON, channel="web")
        assert ws.recommender.on_event(other, OCTOBER) == ()
        log = (ws.layout.root / "decisions" / "fired.jsonl").read_text("utf-8").splitlines()
        assert len(log) == len(outcomes["fired"])
        assert json.loads(log[0])["trigger"] == "browses_packs"

    def test_of_a_firm_a_person_confirms(self, firms):
        define(firms, "triggers", "firms", FIRM_TRIGGER)
        event = Event("q1", "quote", "C006", NOON)
        (fired,) = firms.recommender.on_event(event, OCTOBER)
        assert fired.outcome == "fired"
        assert fired.needs_confirmation
        (nothing,) = firms.recommender.on_event(Event("q2", "quote", "C008", NOON), OCTOBER)
        assert nothing.outcome == "nothing_open"  # on the red list
