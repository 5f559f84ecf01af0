"""P046: add-on packs and plan changes: who decides, which sizes, and prices that are fair."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from bihuan.offer import AddonTiers, UnfairPriceError
from bihuan.strategy import PolicyConflictError

from .by_hand import read
from .shop import open_shop

RIGHTS = """
decides:
  addon: [province, city]
  plan: [city]
policies:
  - policy_id: packs
    unit: city-1301
    kind: addon
    status: approved
    channels: [sms, app]
    price: {low: 4, high: 30}
  - policy_id: plans
    unit: city-1301
    kind: plan
    status: approved
    channels: [hall, outbound]
"""
COUNTY = """
policy_id: county_own
unit: county-130101
kind: {kind}
status: approved
price: {{low: {low}, high: {high}}}
"""
UNFAIR = """
offers:
  - offer_id: unfair_pack
    title: {zh: 流量包 3 GB, en: "Data pack, 3 GB"}
    kind: addon
    category: data
    products: [unfair_pack]
    price: 10
    prices_by_plan: {plan_19: 10, plan_99: 16}
    data_mb: 3072
    margin: 8
    channels: [app]
"""


@pytest.fixture(scope="module")
def shop(operator, tools, tmp_path_factory) -> SimpleNamespace:
    shop = open_shop(operator, tmp_path_factory.mktemp("p046") / "operator")
    for file in (shop.ws.layout.root / "policies").glob("*.yaml"):
        file.unlink()  # this operator has its own
    tools.define(shop.ws, "policies", "rights", RIGHTS)
    shop.grids = [
        row["org_unit_id"]
        for row in read(shop.ws, "org_unit")
        if row["tier"] == "grid" and row["city_code"] == "1301"
    ]
    return shop


@pytest.mark.mission("P046")
class TestAddonPacks:
    """A-48: pack strategy at province or city level, the campaign run uniformly."""

    def test_province_and_city_decide(self, shop) -> None:
        found = shop.ws.policies.resolve(shop.grids[0], "data_pack_5g")
        assert found.decided_by == ("province", "city-1301")

    def test_the_city_s_strategy_holds_alike_in_every_grid(self, shop) -> None:
        candidates = [("data_pack_5g", c) for c in ("sms", "app", "outbound", "hall")]
        allowed = shop.ws.policies.allowed(pa.array(shop.grids), candidates)
        assert len(shop.grids) == 24
        assert np.array_equal(allowed, np.tile([True, True, False, False], (24, 1)))

    def test_a_county_cannot_set_its_own(self, shop) -> None:
        with pytest.raises(PolicyConflictError, match="county-130101"):
            shop.ws.policies.put(COUNTY.format(kind="addon", low=5, high=20))


@pytest.mark.mission("P046")
class TestPlanChanges:
    """A-49: strategy for plan changes is matched at city level and not passed down."""

    def test_only_the_city_decides(self, shop) -> None:
        assert shop.ws.policies.resolve(shop.grids[0], "plan_59").decided_by == ("city-1301",)

    def test_it_is_not_passed_down_to_a_county(self, shop) -> None:
        with pytest.raises(PolicyConflictError, match="county-130101"):
            shop.ws.policies.put(COUNTY.format(kind="plan", low=39, high=99))


@pytest.mark.mission("P046")
class TestPackTiers:
    """A-50: tiers of add-on packs from what users consume."""

    def test_sizes_follow_the_consumption(self, shop, operator, tools, tmp_path) -> None:
        own = open_shop(operator, tmp_path / "own")
        ids = [row["customer_id"] for row in read(own.ws, "customer", own.last)]
        # a third needs about 1 GB beyond the plan, a tenth about 8 GB, the others nothing
        need = [1000.0 if i % 3 == 0 else 8000.0 if i % 10 == 1 else 0.0 for i in range(len(ids))]
        usage = pa.table(
            {"subscription_id": [f"s{i}" for i in ids], "customer_id": ids, "overage_mb": need}
        )
        tools.extract(own.ws, usage, "data_usage", own.last)
        tiers = own.ws.offer_desk.addon_tiers(own.last, 2, sizes=[500, 1000, 2000, 4000, 8000])
        assert isinstance(tiers, AddonTiers)
        assert tiers.sizes == (1000.0, 8000.0)
        assert tiers.customers == (need.count(1000.0), need.count(8000.0))
        assert tiers.loss == 0

    def test_every_tier_more_serves_better_until_it_no_longer_pays(self, operator, tools,
                                                                   tmp_path) -> None:  # fmt: skip
        own = open_shop(operator, tmp_path / "own")
        ids = [row["customer_id"] for row in read(own.ws, "customer", own.last)]
        need = np.random.default_rng(2).gamma(1.0, 2500.0, len(ids))
        usage = pa.table(
            {"subscription_id": [f"s{i}" for i in ids], "customer_id": ids, "overage_mb": need}
        )
        tools.extract(own.ws, usage, "data_usage", own.last)
        tiers = own.ws.offer_desk.addon_tiers(own.last, 4)
        assert isinstance(tiers, AddonTiers)
        losses = tiers.loss_by_tiers
        assert all(a > b for a, b in pairwise(losses))
        by_share = np.quantile(need, [0.2, 0.4, 0.6, 0.8])  # how sizes are often set by hand
        gap = need[:, None] - np.array([0.0, *by_share])
        assert tiers.loss < 0.95 * np.abs(gap).min(axis=1).sum()


@pytest.mark.mission("P046")
class TestFairPrices:
    """A-51: for the same pack no higher tier pays more than a lower one."""

    def test_the_offers_on_sale_are_fair(self, shop, shell) -> None:
        assert shop.ws.offer_desk.check_prices().is_fair
        assert shell("offers", "check", workspace=shop.folder / "ws").code == 0

    def test_an_unfair_pack_stops_with_what_to_change(
        self, operator, tools, shell, tmp_path
    ) -> None:
        own = open_shop(operator, tmp_path / "own")
        tools.define(own.ws, "offers", "unfair", UNFAIR)
        ws = tools.open_at(own.folder / "ws")
        with pytest.raises(UnfairPriceError) as caught:
            ws.offer_desk.require_fair_prices()
        told = caught.value.text("zh")
        for word in ("unfair_pack", "第 4 档", "第 1 档", "16", "10"):
            assert word in told, word
        done = shell("offers", "check", workspace=own.folder / "ws")
        assert done.code == 2
        assert "unfair_pack" in done.err
