"""The desk reads the workspace rightly, and its commands answer people and machines."""

from __future__ import annotations

import json
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import bihuan as bh
from bihuan.cli import main
from bihuan.data import DuckDBEngine
from bihuan.kernel import FixedClock, NotEstimable, UserError
from bihuan.pack import PACKS
from bihuan.twin import TwinSettings, generate_operator

DAY = date(2026, 10, 31)
TWIN = TwinSettings(customers=300, months=3, last=DAY, seed=3)


def opened(folder: Path) -> bh.Workspace:
    clock = FixedClock(datetime(2026, 11, 2, 6, tzinfo=UTC))
    return bh.open_workspace(folder, create=True, clock=clock, engine=DuckDBEngine(threads=1))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> bh.Workspace:
    """An operator with the sample offers and known use beyond the plans."""
    ws = opened(tmp_path_factory.mktemp("desk") / "ws")
    generate_operator(TWIN, ws.lake, ws.contracts, clock=ws.clock, progress=ws.progress)
    ids = ws.view.get("customer", DAY).read()["customer_id"].to_pylist()
    for month, factor in zip(TWIN.month_ends(), (1.0, 2.0, 3.0), strict=True):
        rows = pa.table(
            {
                "subscription_id": [f"x{i}" for i in ids] + ["second"],
                "customer_id": [*ids, ids[0]],
                "overage_mb": [100.0 * factor] * len(ids) + [30.0],
            }
        )
        with ws.lake.publication(ws.clock) as publication:
            publication.add("data_usage", month, rows)
    ws.refresh_tags(DAY)
    ws.install(PACKS["sample"])
    return opened(ws.layout.root)


def run(capsys: pytest.CaptureFixture[str], ws: bh.Workspace, *words: str) -> tuple[int, Any]:
    before = sys.argv
    sys.argv = ["bihuan", "offers", *words, "-w", str(ws.layout.root), "--json"]
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = before
    out = capsys.readouterr().out.strip()
    return code, json.loads(out.splitlines()[-1]) if out else None


class TestConsumption:
    def test_is_the_mean_of_the_months_over_all_lines_of_a_customer(self, shop: Any) -> None:
        tiers = shop.offer_desk.addon_tiers(DAY, 2)
        assert tiers.sizes == (200.0, 230.0)  # the first customer has a second line
        assert tiers.customers == (299, 1)
        assert shop.offer_desk.addon_tiers(DAY, 2, months=1).sizes == (300.0, 330.0)

    def test_of_a_group_alone(self, shop: Any) -> None:
        assert isinstance(shop.offer_desk.addon_tiers(DAY, 2, within="arpu < 0"), NotEstimable)

    def test_without_data_says_what_to_take_in(self, shop: Any) -> None:
        with pytest.raises(UserError, match="no data_usage up to that date"):
            shop.offer_desk.addon_tiers("2020-01-31", 2)


class TestMatch:
    def test_offers_of_tags_without_values_are_told(self, shop: Any) -> None:
        found = shop.offer_desk.match(DAY)
        assert found.left_out["power_debit"] == ("power_debit_target",)
        assert len(found.facts) == 300

    def test_within_a_group_as_among_all(self, shop: Any) -> None:
        everybody = shop.offer_desk.match(DAY).table(top=None).to_pylist()
        group = shop.offer_desk.match(DAY, within="arpu >= 60").table(top=None).to_pylist()
        assert group
        assert [row for row in everybody if row in group] == group

    def test_one_profile_as_among_all(self, shop: Any) -> None:
        many = shop.offer_desk.match(DAY).match
        for i in range(0, 300, 7):
            one = shop.offer_desk.match_customer(many.ids[i].as_py(), DAY).match
            assert np.array_equal(one.total[0], many.total[i], equal_nan=True)
            assert np.array_equal(one.is_suited[0], many.is_suited[i])


class TestUpgrades:
    def test_an_unknown_family_or_line_is_said(self, shop: Any) -> None:
        with pytest.raises(UserError, match="no plans of family 'fixed'"):
            shop.offer_desk.upgrades.recommend(DAY, family="fixed")
        with pytest.raises(UserError, match="no active mobile line 'x'"):
            shop.offer_desk.upgrades.one_click("c000000001", DAY, line_id="x")

    def test_a_draft_is_confirmed_for_its_own_customer_only(self, shop: Any) -> None:
        draft = shop.offer_desk.upgrades.choose_tier("c000000001", "plan_59", DAY)
        with pytest.raises(UserError, match="not of customer 'c000000002'"):
            shop.offer_desk.upgrades.confirm(draft.order_id, customer_id="c000000002")


class TestPowerServices:
    def test_without_power_data_the_tags_that_lack_values_are_named(self, shop: Any) -> None:
        for ask in (
            shop.offer_desk.power_classes,
            shop.offer_desk.position_channels,
            lambda day: shop.offer_desk.power_hint("c000000001", day),
        ):
            with pytest.raises(UserError, match=r"without values.*power_bill_mean") as caught:
                ask(DAY)
            assert "没有值" in caught.value.text("zh")


class TestCommands:
    def test_check(self, shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
        code, told = run(capsys, shop, "check")
        assert code == 0
        assert (told["fairness"]["violations"], len(told["coverage"]["offers"])) == ([], 7)

    def test_match_a_customer_and_a_group(
        self, shop: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        _, one = run(capsys, shop, "match", "--customer", "c000000001", "--as-of", str(DAY))
        assert [row["rank"] for row in one["offers"]] == [1, 2, 3]
        _, group = run(capsys, shop, "match", "--within", "dou >= 5000", "--as-of", str(DAY))
        assert len(group["schemes"]) == 4

    def test_tiers(self, shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
        code, told = run(capsys, shop, "tiers", "--tiers", "1", "--as-of", str(DAY))
        assert (code, told["sizes"]) == (0, [200.0])

    def test_tiers_of_given_sizes(self, shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
        _, told = run(capsys, shop, "tiers", "--sizes", "150,300", "--as-of", str(DAY))
        assert set(told["sizes"]) <= {150.0, 300.0}
        code, told = run(capsys, shop, "tiers", "--sizes", "150,much", "--as-of", str(DAY))
        assert (code, told["error"]) == (2, "UserError")

    def test_upgrade_says_why_not(self, shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
        rows = shop.offer_desk.upgrades.recommend(DAY).table().to_pylist()
        lines = shop.view.get("subscription", DAY).read().to_pylist()
        owner = {line["subscription_id"]: line["customer_id"] for line in lines}
        content = next(owner[row["line_id"]] for row in rows if row["state"] == "fits")
        code, told = run(capsys, shop, "upgrade", content, "--as-of", str(DAY))
        assert (code, told["error"]) == (2, "HandlingError")
