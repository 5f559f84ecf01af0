"""P064 (E-12): match the marketing case (营销案) to the customer, and say why not the others."""

from __future__ import annotations

import shutil

import pytest

from bihuan.decision import Wish

from .by_hand import OCTOBER, open_at
from .live_campaigns import build_live


@pytest.fixture(scope="module")
def live(operator, tmp_path_factory):
    return build_live(tmp_path_factory.mktemp("match") / "operator", operator.folder)


@pytest.fixture(scope="module")
def customers(live):
    return live.ws.view.get("customer", OCTOBER).read()["customer_id"].to_pylist()


@pytest.mark.mission("P064")
class TestCampaignMatch:
    """E-12: the campaign that fits the customer comes first."""

    def test_every_live_campaign_is_judged_and_none_that_is_over(self, live, customers):
        for customer in customers[:100]:
            found = live.ws.recommender.match(customer, OCTOBER)
            assert {m.campaign_id for m in found} == {"keep", "grow"}
            open_ = [m.net for m in found if not m.fell_at]
            assert open_ == sorted(open_, reverse=True)

    def test_best_campaign_is_that_of_the_best_single_strategy(self, live, customers):
        """Held against the list of all strategies, which knows nothing of campaigns."""
        everything = live.ws.recommender.for_customers(
            OCTOBER, customers, wish=Wish(per="strategy", top=50)
        ).to_pylist()
        best: dict[str, dict[str, float]] = {}
        for row in everything:
            mine = best.setdefault(row["customer_id"], {})
            mine[row["campaign_id"]] = max(mine.get(row["campaign_id"], 0.0), row["net"])
        for customer in customers[:400]:
            found = {
                m.campaign_id: m.net
                for m in live.ws.recommender.match(customer, OCTOBER)
                if not m.fell_at
            }
            assert found == best.get(customer, {})
        assert {max(nets, key=nets.get) for nets in best.values()} == {"keep", "grow"}

    def test_says_why_not_and_the_lake_agrees(self, live, customers):
        ws, reasons = live.ws, set()
        outside = {name: set(customers) - set(_members(ws, name)) for name in ("keep", "grow")}
        held = {
            name: {r["customer_id"] for r in plan.decisions.to_pylist() if r["arm"] == "control"}
            for name, plan in live.plans.items()
        }
        for customer in customers[:500]:
            for match in ws.recommender.match(customer, OCTOBER):
                assert (match.fell_at == "outside_audience") == (
                    customer in outside[match.campaign_id]
                )
                if match.fell_at == "held_out":
                    assert customer in held[match.campaign_id]
                if match.fell_at:
                    assert match.fell_title["zh"]
                    assert match.fell_title["en"]
                reasons.add(match.fell_at)
        assert {"outside_audience", "held_out", "not_eligible"} <= reasons

    def test_why_not_goes_down_to_the_condition(self, live, customers):
        ws = live.ws
        tags = ws.tags(OCTOBER)
        little = next(
            c for c in customers if (tags.profile(c)["dou"] or 0) < 2500
            and ws.recommender.why("grow", c, OCTOBER).fell_at == "outside_audience"
        )  # fmt: skip
        told = ws.recommender.why("grow", little, OCTOBER)
        failed = [
            condition.text
            for passage in told.path[:1]
            for rule in passage.conditions
            for condition in rule.decisive()
        ]
        assert failed == ["dou >= 2500"] or "dou >= 2500.0" in failed
        assert "月均流量" in told.text["zh"]
        assert told.logged is None
        assert told.agrees


def _members(ws, name):
    text = {"keep": "arpu >= 20 and not is_disconnected",
            "grow": "dou >= 2500 and not is_disconnected"}[name]  # fmt: skip
    return ws.members(text, OCTOBER)["customer_id"].to_pylist()


@pytest.mark.mission("P064")
class TestWhyForEverybody:
    """Item 9: the path told is the path logged, for every customer and every stage."""

    @pytest.mark.parametrize("name", ["keep", "grow"])
    def test_every_customer_of_the_operator(self, live, customers, name):
        arms = {row["customer_id"]: row for row in live.plans[name].decisions.to_pylist()}
        stages = set()
        for customer in customers[::2]:
            told = live.ws.recommender.why(name, customer, OCTOBER)
            assert told.agrees, (customer, told.fell_at, told.logged)
            assert (told.logged is None) == (customer not in arms)
            stages.add(told.fell_at)
        assert {"", "outside_audience", "suppressed_recent_contact"} <= stages

    def test_a_rule_changed_after_the_decision_is_noticed(self, live, customers, tmp_path):
        """Seeded defect: the log was made under another rule than the one shown."""
        shutil.copytree(live.folder, tmp_path / "operator")
        ws = open_at(tmp_path / "operator" / "ws")
        file = tmp_path / "operator" / "ws" / "campaigns" / "grow.yaml"
        file.write_text(file.read_text("utf-8").replace("dou >= 2500", "dou >= 6000"), "utf-8")
        agree = [ws.recommender.why("grow", c, OCTOBER).agrees for c in customers[:200]]
        assert not all(agree)
