"""For the same data no holder of a higher plan tier pays more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bihuan.audience import parse
from bihuan.offer import (
    Catalogue,
    Offer,
    UnfairPriceError,
    check_price_fairness,
    fairness,
    require_fair_prices,
)

from .make import family, offer, pack, plan

FAIR = {"plan_19": 20.0, "plan_39": 20.0, "plan_59": 18.0, "plan_99": 15.0}
UNFAIR = FAIR | {"plan_99": 25.0}


def catalogue(*packs: Offer) -> Catalogue:
    return Catalogue([*family(), *packs])


class TestCheckPriceFairness:
    def test_prices_that_fall_with_the_tier_are_fair(self) -> None:
        report = check_price_fairness(catalogue(pack("p", 20, FAIR)))
        assert report.is_fair
        assert report.compared == 6  # every two of four plans

    def test_a_price_that_rises_is_found_against_every_cheaper_tier(self) -> None:
        report = check_price_fairness(catalogue(pack("p", 20, UNFAIR)))
        found = [(v.low_plan, v.high_plan, v.low_price, v.high_price) for v in report.violations]
        assert found == [
            ("plan_19", "plan_99", 20, 25),
            ("plan_39", "plan_99", 20, 25),
            ("plan_59", "plan_99", 18, 25),
        ]

    def test_a_plan_that_is_not_named_pays_the_common_price(self) -> None:
        report = check_price_fairness(catalogue(pack("p", 20, {"plan_19": 10.0})))
        assert {v.high_plan for v in report.violations} == {"plan_39", "plan_59", "plan_99"}

    def test_two_packs_of_one_size_cannot_hide_it(self) -> None:
        low = pack("p_low", 10, {}, plans=frozenset({"plan_19", "plan_39"}))
        high = pack("p_high", 15, {}, plans=frozenset({"plan_59", "plan_99"}))
        report = check_price_fairness(catalogue(low, high))
        assert {(v.low_pack, v.high_pack) for v in report.violations} == {("p_low", "p_high")}
        assert len(report.violations) == 4

    def test_packs_of_other_sizes_or_terms_are_not_compared(self) -> None:
        low = pack("p_low", 10, {}, plans=frozenset({"plan_19"}))
        size = pack("p_size", 15, {}, plans=frozenset({"plan_99"}), data_mb=20_480.0)
        term = pack("p_term", 15, {}, plans=frozenset({"plan_99"}), months=12)
        assert check_price_fairness(catalogue(low, size, term)).is_fair

    def test_plans_of_two_families_are_not_compared(self) -> None:
        other = plan(9, 299, 90_000, family="fixed")
        by_plan = {"plan_19": 10.0, "plan_299": 30.0}
        cheap = pack("p", 10, by_plan)
        assert check_price_fairness(Catalogue([*family(), other, cheap])).is_fair

    def test_a_plan_is_named_by_its_product_too(self) -> None:
        report = check_price_fairness(catalogue(pack("p", 20, {"product_99": 25.0})))
        assert {v.high_plan for v in report.violations} == {"plan_99"}

    def test_drafts_are_looked_at_and_retired_packs_are_not(self) -> None:
        draft = catalogue(pack("p", 20, UNFAIR, status="draft"))
        assert not check_price_fairness(draft).is_fair
        gone = catalogue(pack("p", 20, UNFAIR, status="retired"))
        assert check_price_fairness(gone).packs == ()

    def test_holders_of_a_retired_plan_count(self) -> None:
        old = plan(9, 199, 60_000, status="retired")
        expensive = pack("p", 20, {"plan_199": 30.0})
        assert not check_price_fairness(Catalogue([*family(), old, expensive])).is_fair

    def test_a_plan_without_a_tier_is_told_not_passed_over(self) -> None:
        loose = offer("plan_old", "plan")
        packed = pack("p", 20, {"plan_old": 99.0})
        report = check_price_fairness(Catalogue([*family(), loose, packed]))
        assert report.unplaced == (("p", "plan_old"),)
        assert not report.is_fair

    @given(st.lists(st.integers(1, 40), min_size=4, max_size=4))
    def test_agrees_with_the_rule_said_plainly(self, prices: list[int]) -> None:
        names = [one.offer_id for one in family()]
        by_plan = dict(zip(names, map(float, prices), strict=True))
        rises = any(prices[i] < prices[j] for i in range(4) for j in range(i + 1, 4))
        assert check_price_fairness(catalogue(pack("p", 20, by_plan))).is_fair is not rises

    def test_an_eligibility_cannot_hide_it_either(self) -> None:
        low = pack("p_low", 10, {}, eligibility=parse("main_product = 'product_19'"))
        rule = parse("arpu >= 50 and (main_product = 'product_99' or is_heavy and arpu < 0)")
        high = pack("p_high", 15, {}, eligibility=rule)
        report = check_price_fairness(catalogue(low, high))
        assert ("p_low", "p_high") in {(v.low_pack, v.high_pack) for v in report.violations}
        apart = pack("p_high", 15, {}, eligibility=parse("main_product = 'product_19'"))
        assert check_price_fairness(catalogue(low, apart)).is_fair

    def test_the_plan_s_tag_may_be_named_by_its_title(self) -> None:
        low = pack("p_low", 10, {}, eligibility=parse("主套餐 = 'product_19'"))
        high = pack("p_high", 15, {}, eligibility=parse("主套餐 = 'product_99'"))
        tags = ("main_product", "主套餐")
        report = check_price_fairness(catalogue(low, high), plan_tags=tags)
        assert [(v.low_plan, v.high_plan) for v in report.violations] == [("plan_19", "plan_99")]


class TestRequireFairPrices:
    def test_names_pack_tiers_prices_and_the_change(self) -> None:
        with pytest.raises(UnfairPriceError) as caught:
            require_fair_prices(catalogue(pack("p_10g", 20, UNFAIR)))
        told = caught.value.text("en")
        for word in ("p_10g", "tier 4", "tier 1", "25", "20", "at most 20"):
            assert word in told, word
        assert "请将 plan_99 的价格降至不高于 18" in caught.value.text("zh")

    def test_stops_where_a_price_cannot_be_compared(self) -> None:
        with pytest.raises(UnfairPriceError, match="p names plan_x"):
            require_fair_prices(catalogue(pack("p", 20, {"plan_x": 99.0})))

    def test_a_check_that_looks_only_at_neighbouring_prices_by_name_is_caught(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seeded defect: without the comparison of cheapest packs two names hide the rise."""
        low = pack("p_low", 10, {}, plans=frozenset({"plan_19"}))
        high = pack("p_high", 15, {}, plans=frozenset({"plan_99"}))
        whole = fairness._compare

        def same_pack_only(*these: Any) -> Any:
            found = whole(*these)
            return (v for v in found if v.low_pack == v.high_pack)

        assert not check_price_fairness(catalogue(low, high)).is_fair
        monkeypatch.setattr(fairness, "_compare", same_pack_only)
        assert check_price_fairness(catalogue(low, high)).is_fair
