"""P048: the exclusive contract family of 18 sub-categories, and the feeling of being a VIP."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from bihuan.offer import ContractFamilyError

from .shop import open_shop, planned, sale, tag_values

CAMPAIGN = {"vip_fee_mid_12": "sms", "vip_fee_high_12": "sms", "data_pack_5g": "app"}


@pytest.fixture(scope="module")
def shop(operator, tmp_path_factory) -> SimpleNamespace:
    return open_shop(operator, tmp_path_factory.mktemp("p048") / "operator")


@pytest.mark.mission("P048")
class TestEighteenSubCategories:
    """E-25: 18 sub-categories of exclusive call-fee contracts for mid- and high-end customers."""

    def test_all_18_are_filled_and_none_overlaps(self, shop) -> None:
        report = shop.ws.offer_desk.check_family("vip_contract")
        assert (report.size, len(report.filled), report.is_sound) == (18, 18, True)

    def test_each_customer_finds_one_contract_of_each_kind_and_term(self, shop) -> None:
        tags = tag_values(shop.ws, shop.last, "mid_high_end_group", "arpu")
        vip = {c: float(v["arpu"]) for c, v in tags.items() if v["mid_high_end_group"]}
        fit = shop.ws.offer_desk.family_fit("vip_contract", shop.last)
        assert fit.customers == sum(arpu >= 80 for arpu in vip.values()) > 100
        assert fit.eligible[1] == sum(80 <= arpu < 120 for arpu in vip.values())
        assert fit.eligible[5] == sum(arpu >= 180 for arpu in vip.values())
        assert set(fit.doubled.values()) == {0}
        assert set(fit.unserved.values()) == {0}

    def test_snapshot_customers_are_counted_as_frozen(self, operator, tmp_path) -> None:
        """拍照中高端客户: a cohort frozen a month ago, met with today's contracts."""
        ws = open_shop(operator, tmp_path / "own").ws
        before = operator.months[-2]
        cohort = ws.cohorts.take("vip_2026_09", "mid_high_end_group", before, values=("arpu",))
        frozen = {c for c, v in tag_values(ws, before, "mid_high_end_group").items()
                  if v["mid_high_end_group"]}  # fmt: skip
        now = tag_values(ws, operator.last, "mid_high_end_group", "arpu")
        expected = {c for c in frozen if now[c]["mid_high_end_group"] and now[c]["arpu"] >= 80}
        fit = ws.offer_desk.family_fit("vip_contract", operator.last, cohort="vip_2026_09")
        assert (cohort.members, fit.customers) == (len(frozen), len(expected))
        assert fit.eligible[1] == sum(80 <= now[c]["arpu"] < 120 for c in expected)

    def test_a_gap_and_an_overlap_are_found(self, operator, tools, tmp_path) -> None:
        own = open_shop(operator, tmp_path / "own")
        file = own.ws.layout.root / "contract_family" / "vip_contract.yaml"
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace("from: 120", "from: 110", 1), encoding="utf-8")
        family = own.ws.offer_desk.contract_family("vip_contract")
        with pytest.raises(ContractFamilyError, match="slots 1 and 3 overlap"):
            family.require_sound(own.ws.catalogue)
        first, second = text.index("  - slot: 7"), text.index("  - slot: 8")
        file.write_text(text[:first] + text[second:], encoding="utf-8")
        problems = own.ws.offer_desk.check_family("vip_contract").problems
        assert [problem["en"] for problem in problems] == ["slot 7 is missing"]

    def test_an_open_slot_is_marked_not_hidden(self, operator, tmp_path) -> None:
        own = open_shop(operator, tmp_path / "own")
        file = own.ws.layout.root / "contract_family" / "vip_contract.yaml"
        text = file.read_text(encoding="utf-8")
        empty = text.replace("offer: vip_gift_top_24", "empty: {zh: 洽谈中, en: in talks}")
        file.write_text(empty, encoding="utf-8")
        report = own.ws.offer_desk.check_family("vip_contract")
        assert (report.is_sound, report.empty) == (True, (18,))
        fit = own.ws.offer_desk.family_fit("vip_contract", own.last)
        assert fit.unserved["gift", 24] > 0 == fit.unserved["gift", 12]


@pytest.mark.mission("P048")
class TestVipAndExclusive:
    """E-26: customers shall feel VIP status and exclusive service."""

    def test_the_words_reach_the_list_that_the_channel_works_with(self, shop, tools) -> None:
        plain = {"zh": "您好，每月返还话费。", "en": "Hello, credit on every bill."}
        vip = shop.ws.offer_desk.exclusive_script("vip_contract", "vip_fee_mid_12", plain)
        assert "贵宾" in vip["zh"]
        assert "专属" in vip["zh"]
        tools.define(
            shop.ws, "campaigns", "vip", sale("vip", CAMPAIGN, words=json.dumps(vip)),
        )  # fmt: skip
        shop.ws.decide("vip", shop.last)
        assert planned(shop.ws, "vip", shop.last)["vip_fee_mid_12"] > 0
        shop.ws.deploy("vip", shop.last)
        shop.ws.write_lists("vip")
        lists = [
            file.read_text(encoding="utf-8-sig")
            for file in (shop.ws.layout.root / "lists").rglob("*sms*.csv")
        ]
        assert lists
        assert all("贵宾" in text and "专属" in text for text in lists)

    def test_an_offer_for_everybody_makes_no_such_claim(self, shop) -> None:
        plain = {"zh": "您好。", "en": "Hello."}
        told = shop.ws.offer_desk.exclusive_script("vip_contract", "data_pack_5g", plain)
        assert told == plain

    def test_only_those_customers_may_be_offered_them(self, shop) -> None:
        tags = tag_values(shop.ws, shop.last, "mid_high_end_group")
        matched = shop.ws.offer_desk.match(shop.last, offers=["vip_fee_mid_12", "vip_gift_top_24"])
        rows = matched.table(top=None).to_pylist()
        assert rows
        assert all(tags[row["customer_id"]]["mid_high_end_group"] for row in rows)
