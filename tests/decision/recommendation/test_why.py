from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bihuan.audience import match, parse
from bihuan.decision import Candidate, Case, Inquiry, PriceBook, Wording, trace, why


def ask(shop, profile, case=None, logged=None, **changes):
    mine = tuple(s for s in shop.strategies() if s.campaign_id == "grow")
    return why(
        shop.board(mine), shop.books["grow"], shop.words,
        Inquiry(profile, case or Case("c1", org_unit_id="G1"), logged, **changes),
        campaign_id="grow",
    )  # fmt: skip


LOGGED = {"arm": "treatment", "reason": None, "treatment_probability": 0.9, "stratum": "app"}


class TestWhy:
    def test_planned_customer_sees_factors_prices_and_lot(self, shop):
        told = ask(shop, shop.good_profile(), logged=LOGGED)
        assert told.fell_at == ""
        assert told.agrees
        best = told.weighed[0]
        assert best.candidate == Candidate("home", "outbound")
        assert best.value == pytest.approx(
            best.propensity * best.margin * best.context * best.lever - best.cost
        )
        assert best.charges == {"seats": 1.7, "budget": pytest.approx(0.26)}
        assert best.net == pytest.approx(best.value - 1.96)
        assert "已列入计划并将接触(抽签概率 0.900" in told.text["zh"]
        assert "Planned, to be contacted (chance 0.900" in told.text["en"]

    def test_phases_stand_in_order_and_counts_fall(self, shop):
        told = ask(shop, shop.good_profile())
        phases = list(dict.fromkeys(p.phase for p in told.path))
        assert phases == ["eligibility", "applicability", "suitability", "contact_policy", "value"]
        left = [p.left for p in told.path]
        assert left == sorted(left, reverse=True)

    def test_names_the_condition_and_the_value_that_failed(self, shop):
        told = ask(shop, shop.good_profile(arpu=5))
        assert told.fell_at == "outside_audience"
        (failed,) = [c for c in told.path[0].conditions if not c.holds]
        assert failed.decisive()[0].text == "arpu >= 10"
        assert "月均消费 5.00元 (要求 arpu >= 10)" in told.text["zh"]
        assert "Monthly revenue 5.00 CNY (asked: arpu >= 10)" in told.text["en"]

    def test_path_is_held_against_the_log(self, shop):
        fallen = dict(LOGGED, arm="none", reason="outside_audience")
        assert ask(shop, shop.good_profile(arpu=5), logged=fallen).agrees
        assert not ask(shop, shop.good_profile(arpu=5), logged=LOGGED).agrees
        assert not ask(shop, shop.good_profile(), logged=fallen).agrees
        assert not ask(shop, shop.good_profile()).agrees  # open to him, and not considered?

    def test_people_and_policy_are_stages(self, shop):
        shut = np.zeros((1, 3), dtype=bool)
        assert ask(shop, shop.good_profile(), policy=shut).fell_at == "policy"
        laid = (shut, shut)
        assert ask(shop, shop.good_profile(), by_hand=laid).fell_at == "by_hand"

    def test_moments_are_factors(self, shop):
        mine = tuple(replace(s, campaign_id="grow") for s in shop.strategies()[:1])
        made = shop.board(mine)
        at = made.moments({"contract_ending"})
        inquiry = Inquiry(shop.good_profile(), Case("c1"), moments=at)
        told = why(made, PriceBook(), shop.words, inquiry, campaign_id="grow")
        assert told.weighed[0].context == 1.6


class TestTrace:
    @pytest.mark.parametrize(
        "text",
        [
            "a >= 1 and (b = 2 or not c)",
            "not (a >= 1 and b = 2)",
            "not (a >= 1 or c)",
            "a is missing or a between 1 and 3",
        ],
    )
    def test_says_what_the_reader_says_node_by_node(self, text):
        node, words = parse(text), Wording({}, {}, {})
        for a in (None, 0, 2):
            for b in (1, 2):
                for c in (True, False):
                    profile = {"a": a, "b": b, "c": c}
                    found = trace(node, profile, words)
                    assert found.holds == match(node, profile)
                    self.check(found, profile)

    def check(self, condition, profile):
        assert condition.holds == match(parse(condition.text), profile)
        for part in condition.parts:
            self.check(part, profile)
        assert condition.decisive()
