"""P045: six business categories, the first scope, and businesses that are newly launched."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace

import pytest

from bihuan.offer import NotOnSaleError, RetiredOfferError

from .shop import open_shop, planned, sale

SIX = {
    "broadband_300": "outbound",
    "plan_39": "sms",
    "data_pack_5g": "app",
    "top_up_100": "web",
    "family_card": "app",
    "handset_5g": "outbound",
}
NEW = """
offers:
  - offer_id: cloud_game
    title: {zh: 云游戏新品, en: Cloud gaming}
    kind: addon
    category: data
    products: [cloud_game]
    price: 15
    data_mb: 10240
    margin: 10
    eligibility: "not is_disconnected and dou >= 1000"
    channels: [app]
    valid_from: 2026-11-02
"""


@pytest.fixture(scope="module")
def shop(operator, tmp_path_factory) -> SimpleNamespace:
    return open_shop(operator, tmp_path_factory.mktemp("p045") / "operator")


@pytest.mark.mission("P045")
class TestSixCategories:
    """C-28: broadband, plan, data, top-up, number card, terminal."""

    def test_each_has_offers_on_sale_and_channels_to_sell_them(self, shop) -> None:
        coverage = shop.ws.offer_desk.coverage()
        assert coverage.is_complete
        for category in ("broadband", "plan", "data", "top_up", "number_card", "terminal"):
            assert coverage.offers[category], category
            assert coverage.channels[category], category

    def test_what_is_missing_is_named(self, shop, operator, tools, tmp_path) -> None:
        few = open_shop(operator, tmp_path / "few", only=("mobile_plans", "data_packs"))
        missing = few.ws.offer_desk.coverage().empty
        assert missing == ("broadband", "top_up", "number_card", "terminal")

    def test_one_campaign_sells_all_six(self, shop, tools) -> None:
        tools.define(shop.ws, "campaigns", "six", sale("six", SIX))
        plan = shop.ws.decide("six", shop.last)
        counts = planned(shop.ws, "six", shop.last)
        assert set(counts) == set(SIX)
        catalogue = shop.ws.catalogue
        assert len({catalogue.get(offer).category for offer in counts}) == 6
        assert plan.allocation.gap <= 0.01


@pytest.mark.mission("P045")
class TestFirstScope:
    """B-26: start from 4G and Internet data traffic."""

    def test_the_first_scope_holds_traffic_business_alone(self, shop) -> None:
        first = shop.ws.catalogue.scopes[0]
        assert (first.scope_id, first.phase) == ("traffic", 1)
        inside = shop.ws.catalogue.of_scope("traffic")
        assert {offer.category for offer in inside} == {"plan", "data"}
        assert all("internet_traffic" in offer.traits for offer in inside)
        coverage = shop.ws.offer_desk.coverage(scope="traffic")
        assert not coverage.offers["broadband"]
        assert coverage.offers["data"]

    def test_an_operator_can_start_with_it_and_nothing_else(
        self, operator, tools, tmp_path
    ) -> None:
        ws = open_shop(operator, tmp_path / "first", only=("mobile_plans", "data_packs")).ws
        offers = {"plan_59": "sms", "data_pack_10g": "app", "data_pack_1g": "sms"}
        tools.define(ws, "campaigns", "traffic", sale("traffic", offers))
        ws.decide("traffic", operator.last)
        assert set(planned(ws, "traffic", operator.last)) == set(offers)


@pytest.mark.mission("P045")
class TestApplications:
    """C-62: broadband sales, plan handling, card sales, data ordering, newly launched business."""

    def test_newly_launched_businesses_are_seen(self, shop) -> None:
        launched = shop.ws.offer_desk.launched("2026-10-01")
        titles = {offer.title["zh"] for offer in launched}
        assert any("任我看" in title for title in titles)
        assert any("超狂欢" in title for title in titles)

    def test_a_new_business_is_sold_from_its_first_day(self, operator, tools, tmp_path) -> None:
        shop = open_shop(operator, tmp_path / "new")
        tools.define(shop.ws, "offers", "new", NEW)
        ws = tools.open_at(shop.folder / "ws")
        with pytest.raises(NotOnSaleError, match="only from 2026-11-02"):
            ws.catalogue.require_on_sale(["cloud_game"], date(2026, 11, 1))
        assert "cloud_game" in ws.offer_desk.on_sale("2026-11-02")
        matched = ws.offer_desk.match(shop.last, offers=["cloud_game"])
        assert matched.for_group()[0].suited > 0
        tools.define(ws, "campaigns", "new", sale("new", {"cloud_game": "app"}))
        ws.decide("new", shop.last)
        assert planned(ws, "new", shop.last)["cloud_game"] > 0

    def test_a_campaign_with_a_retired_business_says_so(self, operator, tools, tmp_path) -> None:
        shop = open_shop(operator, tmp_path / "old")
        gone = NEW.replace("cloud_game", "old_game") + "    status: retired\n"
        tools.define(shop.ws, "offers", "old", gone)
        ws = tools.open_at(shop.folder / "ws")
        tools.define(ws, "campaigns", "old", sale("old", {"old_game": "app"}))
        with pytest.raises(RetiredOfferError, match="'old_game' is retired"):
            ws.offer_desk.check_campaign("old")
