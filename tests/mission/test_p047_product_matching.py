"""P047: products matched to groups by configurable principles, a scheme for each need group."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from .shop import open_shop, tag_values


@pytest.fixture(scope="module")
def shop(operator, tmp_path_factory) -> SimpleNamespace:
    shop = open_shop(operator, tmp_path_factory.mktemp("p047") / "operator")
    shop.matched = shop.ws.offer_desk.match(shop.last)
    return shop


@pytest.mark.mission("P047")
class TestDemandedProducts:
    """B-21: the demanded products for the target group."""

    def test_who_uses_much_is_matched_with_a_large_pack_first(self, shop) -> None:
        group = shop.ws.offer_desk.match(shop.last, within="dou >= 12000")
        ranked = [one.offer_id for one in group.for_group()]
        assert ranked.index("data_pack_10g") < ranked.index("data_pack_1g")

    def test_who_uses_little_is_matched_with_a_small_one_first(self, shop) -> None:
        group = shop.ws.offer_desk.match(shop.last, within="dou < 3000 and dou >= 500")
        ranked = [one.offer_id for one in group.for_group()]
        assert ranked.index("data_pack_1g") < ranked.index("data_pack_10g")
        assert "data_pack_30g" not in ranked

    def test_what_suits_is_what_the_principles_say_by_hand(self, shop) -> None:
        tags = tag_values(shop.ws, shop.last, "arpu", "dou", "mobile_fee", "is_disconnected")
        rows = [
            row
            for row in shop.matched.table(top=None, suited_only=False).to_pylist()
            if row["offer_id"] == "data_pack_10g"
        ]
        assert len(rows) == len(tags)
        for row in rows:
            known = tags[row["customer_id"]]
            if not known["dou"] or not known["arpu"]:
                continue
            fit = np.interp(10240 / known["dou"], [0, 0.1, 0.3, 1.5, 4], [0, 0.4, 1, 1, 0.1])
            dear = np.interp(25 / float(known["arpu"]), [0.3, 0.6, 1.2], [1, 0.6, 0])
            total = (0.4 * fit + 0.3 * dear + 0.15 * 1) / 0.85
            assert row["total"] == pytest.approx(total, abs=1e-6)
            open_to = (
                not known["is_disconnected"]
                and (known["mobile_fee"] or 0) > 0
                and known["dou"] >= 1024
            )
            suits = open_to and fit >= 0.3 and dear >= 0.1 and total >= 0.5
            assert row["is_suited"] == suits


@pytest.mark.mission("P047")
class TestFourPrinciples:
    """E-10: schemes of their own for need groups, by four principles of matching."""

    def test_there_are_four_and_each_gives_its_reason(self, shop) -> None:
        matching = shop.ws.offer_desk.matching()
        assert len(matching.principles) == 4
        row = shop.matched.table(top=1).to_pylist()[0]
        said = [p.speaks_for["zh"] for p in matching.principles]
        assert any(words in row["reason_zh"] for words in said)

    def test_each_group_gets_a_scheme_of_its_own(self, shop) -> None:
        tags = tag_values(shop.ws, shop.last, "data_heavy", "dou_trend", "contract_stage")
        schemes = {one.group.group_id: one for one in shop.matched.schemes()}
        heavy = {
            customer
            for customer, known in tags.items()
            if known["data_heavy"] or (known["dou_trend"] or 0) >= 1.3
        }
        ending = {c for c, known in tags.items() if known["contract_stage"] == "ending"} - heavy
        assert schemes["data_hungry"].members == len(heavy)
        assert schemes["contract_ending"].members == len(ending)
        kinds = {
            name: {shop.ws.catalogue.get(o.offer_id).kind for o in scheme.offers}
            for name, scheme in schemes.items()
        }
        assert kinds["contract_ending"] == {"contract"}
        assert kinds["data_hungry"] <= {"addon", "plan"}
        assert sum(scheme.members for scheme in schemes.values()) <= len(tags)

    def test_the_principles_are_the_operator_s_to_change(self, shop, tools, tmp_path) -> None:
        file = shop.ws.layout.root / "matching" / "standard.yaml"
        text = file.read_text(encoding="utf-8")
        cheap = text.replace("weight: 0.4\n", "weight: 0.01\n").replace(
            "weight: 0.3\n", "weight: 3\n"
        )
        tools.define(shop.ws, "matching", "cheap", cheap)
        before = shop.matched.for_group(top=None)
        after = shop.ws.offer_desk.match(shop.last, matching="cheap").for_group(top=None)
        assert [o.offer_id for o in before] != [o.offer_id for o in after]
        assert {o.offer_id: o.total for o in after}["top_up_100"] > 0.9  # costs nothing a month

    def test_one_customer_at_the_counter_gets_the_same(self, shop) -> None:
        rows = shop.matched.table(top=3).to_pylist()
        for customer in ("c000000001", "c000000777", "c000001999"):
            alone = shop.ws.offer_desk.match_customer(customer, shop.last).table(top=3)
            assert alone.to_pylist() == [row for row in rows if row["customer_id"] == customer]
