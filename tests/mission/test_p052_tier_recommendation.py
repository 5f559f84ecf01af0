"""P052: the system recommends the tier to upgrade to; handling takes two steps, not three."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest

from bihuan.offer import HandlingError, UpgradeRule

from .by_hand import read
from .shop import main_lines, open_shop


@pytest.fixture(scope="module")
def shop(operator, tmp_path_factory) -> SimpleNamespace:
    shop = open_shop(operator, tmp_path_factory.mktemp("p052") / "operator")
    shop.choices = shop.ws.offer_desk.upgrades.recommend(shop.last)
    shop.rows = {row["line_id"]: row for row in shop.choices.table().to_pylist()}
    shop.lines = main_lines(shop.ws, shop.last)
    shop.usage = defaultdict(list)
    for month in operator.months:
        for row in read(shop.ws, "usage", month):
            shop.usage[row["subscription_id"]].append(row["data_mb"])
    return shop


def to_upgrade(shop, count: int = 1) -> list[str]:
    """Return customers whose main line is recommended an upgrade."""
    return [
        customer
        for customer, line in shop.lines.items()
        if shop.rows[line["subscription_id"]]["state"] == "upgrade"
    ][:count]


@pytest.mark.mission("P052")
class TestDefaultTier:
    """C-55: the system itself judges the tier and recommends it as default."""

    def test_every_active_line_is_judged(self, shop) -> None:
        active = [
            row
            for row in read(shop.ws, "subscription", shop.last)
            if row["service"] == "mobile" and row["status"] == "active"
        ]
        assert len(shop.rows) == len(active)
        assert shop.choices.counts()["upgrade"] > 20

    def test_it_is_the_cheapest_tier_that_covers_the_need_by_hand(self, shop) -> None:
        plans = {plan.offer_id: plan for plan in shop.ws.catalogue.family("mobile")}
        lines = {r["subscription_id"]: r for r in read(shop.ws, "subscription", shop.last)}
        terminal = {i: r["terminal_generation"] for i, r in lines.items()}
        checked = 0
        for line_id, row in shop.rows.items():
            months = sorted(shop.usage[line_id])
            if len(months) < 4 or row["current_id"] is None or terminal[line_id] == "5g":
                continue  # plans from 99 on are for 5G terminals, which makes the hand's rule long
            now, need, paid = plans[row["current_id"]], months[2], lines[line_id]["monthly_fee"]
            assert row["need_mb"] == pytest.approx(need)
            open_to = [
                p for p in plans.values()
                if 0 < p.tier - now.tier <= 2 and p.price <= float(paid) * 2.5
                and p.data_mb > now.data_mb and p.price < 99
            ]  # fmt: skip
            covers = [p for p in open_to if p.data_mb >= need]
            if now.data_mb >= need:
                assert row["state"] == "fits"
            elif covers:
                best = min(covers, key=lambda p: p.price)
                assert (row["state"], row["offer_id"]) == ("upgrade", best.offer_id)
                assert row["difference"] == pytest.approx(best.price - float(paid))
                checked += 1
        assert checked > 20

    def test_nobody_is_recommended_what_they_may_not_have(self, shop) -> None:
        lines = {r["subscription_id"]: r for r in read(shop.ws, "subscription", shop.last)}
        phones = defaultdict(set)
        for row in lines.values():
            phones[row["customer_id"]].add(row["terminal_generation"])
        for line_id, row in shop.rows.items():
            if row["offer_id"] in ("plan_99", "plan_129", "plan_199"):
                assert "5g" in phones[lines[line_id]["customer_id"]]

    def test_the_reason_can_be_read_aloud(self, shop) -> None:
        customer = to_upgrade(shop)[0]
        row = shop.rows[shop.lines[customer]["subscription_id"]]
        title = shop.ws.catalogue.get(row["offer_id"]).title
        assert title["zh"] in row["reason_zh"]
        assert f"每月多付 {row['difference']:g} 元" in row["reason_zh"]
        assert title["en"] in row["reason_en"]

    def test_the_operator_says_how_far_an_upgrade_may_go(self, shop) -> None:
        tight = shop.ws.offer_desk.upgrades.recommend(
            shop.last, rule=UpgradeRule(most_increase=0.1)
        )
        assert tight.counts()["upgrade"] == 0

    def test_one_customer_gets_what_the_batch_says(self, shop) -> None:
        for customer in list(shop.lines)[:25]:
            alone = shop.ws.offer_desk.upgrades.recommend(shop.last, customer_id=customer)
            for row in alone.table().to_pylist():
                assert row == shop.rows[row["line_id"]]


@pytest.mark.mission("P052")
class TestTwoSteps:
    """C-56: plan handling shortened from three steps to two."""

    def test_one_click_takes_two_steps_where_the_long_way_takes_three(self, shop) -> None:
        desk, (first, second) = shop.ws.offer_desk.upgrades, to_upgrade(shop, 2)
        short = desk.confirm(desk.one_click(first, shop.last).order_id)
        offer = shop.rows[shop.lines[second]["subscription_id"]]["offer_id"]
        draft = desk.choose_tier(second, offer, shop.last)
        with pytest.raises(HandlingError, match="not been checked"):
            desk.confirm(draft.order_id)
        desk.check(draft.order_id, shop.last)
        long = desk.confirm(draft.order_id)
        assert (len(short.steps), len(long.steps)) == (2, 3)
        assert {order.customer_id for order in desk.orders.orders()} >= {first, second}

    def test_pressing_twice_orders_once(self, shop) -> None:
        desk, customer = shop.ws.offer_desk.upgrades, to_upgrade(shop, 3)[2]
        draft = desk.one_click(customer, shop.last)
        assert desk.confirm(draft.order_id) == desk.confirm(draft.order_id)
        mine = [o for o in desk.orders.orders() if o.customer_id == customer]
        assert len(mine) == 1

    def test_who_needs_no_upgrade_is_told_why(self, shop) -> None:
        content = next(
            c for c, line in shop.lines.items()
            if shop.rows[line["subscription_id"]]["state"] == "fits"
        )  # fmt: skip
        with pytest.raises(HandlingError, match="suffices"):
            shop.ws.offer_desk.upgrades.one_click(content, shop.last)

    def test_a_clerk_does_it_with_two_commands(self, shop, shell) -> None:
        customer, ws = to_upgrade(shop, 4)[3], shop.folder / "ws"
        ask = ("offers", "upgrade", customer, "--as-of", str(shop.last))
        draft = shell(*ask, workspace=ws)
        assert draft.code == 0
        done = shell(*ask, "--confirm", draft.result["order_id"], workspace=ws)
        assert (done.code, done.result["steps"]) == (0, ["recommend", "confirm"])
