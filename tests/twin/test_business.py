"""Simulated enterprises keep their contracts, repeat, and their figures hang together."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from bihuan.data import Lake, load_contracts
from bihuan.kernel import SilentProgress, SystemClock
from bihuan.twin import TwinSettings, generate_operator, surround_business

TABLES = (
    "enterprise",
    "business_user",
    "leased_line",
    "plan_list",
    "custom_list",
    "enterprise_bill",
    "enterprise_contact",
    "coverage_dwell",
    "line_traffic",
    "line_bill",
    "line_visit",
    "line_attack",
    "line_fault",
)

AS_OF = date(2026, 10, 31)
MONTHS = 3


def world(folder: Path, seed: int = 5) -> Lake:
    lake, contracts, clock = Lake(folder), load_contracts(), SystemClock()
    settings = TwinSettings(customers=600, months=1, last=AS_OF, seed=3)
    generate_operator(settings, lake, contracts, clock=clock, progress=SilentProgress())
    surround_business(lake, AS_OF, contracts, months=MONTHS, seed=seed, clock=clock)
    return lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return world(tmp_path_factory.mktemp("twin"))


def rows(lake: Lake, table: str, day: date = AS_OF) -> list[dict[str, Any]]:
    return lake.view().get(table, day).read().to_pylist()


class TestSurroundBusiness:
    @pytest.mark.parametrize("table", TABLES)
    def test_every_table_keeps_its_contract_in_every_month(
        self, lake: Lake, table: str, keeps_contract: Any
    ) -> None:
        contract, view = load_contracts()[table], lake.view()
        days = view.dates(table)
        assert days == (date(2026, 8, 31), date(2026, 9, 30), AS_OF)
        assert keeps_contract(view, contract) > 0

    def test_the_same_seed_gives_the_same_world_and_another_another(
        self, lake: Lake, tmp_path: Path
    ) -> None:
        same, other = world(tmp_path / "same"), world(tmp_path / "other", seed=6)
        for table in TABLES:
            assert rows(same, table) == rows(lake, table), table
        assert any(rows(other, table) != rows(lake, table) for table in TABLES)

    def test_users_are_customers_and_lines_have_an_enterprise(self, lake: Lake) -> None:
        enterprises = {row["enterprise_id"] for row in rows(lake, "enterprise")}
        customers = {row["customer_id"] for row in rows(lake, "customer")}
        users = rows(lake, "business_user")
        assert {user["customer_id"] for user in users} <= customers
        for table in ("business_user", "leased_line", "enterprise_bill", "enterprise_contact"):
            assert {row["enterprise_id"] for row in rows(lake, table)} <= enterprises, table
        assert 0.25 < len(users) / len(customers) < 0.45

    def test_a_line_never_carries_more_than_its_bandwidth(self, lake: Lake) -> None:
        bandwidth = {r["leased_line_id"]: r["bandwidth_mbps"] for r in rows(lake, "leased_line")}
        for row in rows(lake, "line_traffic"):
            assert 0 < row["peak_mbps"] <= bandwidth[row["leased_line_id"]]

    def test_the_fee_of_the_record_is_the_one_billed(self, lake: Lake) -> None:
        for day in lake.view().dates("line_bill"):
            fee = {r["leased_line_id"]: r["monthly_fee"] for r in rows(lake, "leased_line", day)}
            assert {r["leased_line_id"]: r["amount"] for r in rows(lake, "line_bill", day)} == fee

    def test_listed_plans_are_matched_where_there_are_numbers(self, lake: Lake) -> None:
        plan = {r["subscription_id"]: r["product_id"] for r in rows(lake, "subscription")}
        listed = {(r["list_kind"], r["product_id"]) for r in rows(lake, "plan_list")}
        found = rows(lake, "listed_plan")
        assert found
        for row in found:
            assert (row["list_kind"], row["product_id"]) in listed
            assert plan[row["subscription_id"]] == row["product_id"]
        assert Counter(row["is_main_plan"] for row in found).keys() == {True}
