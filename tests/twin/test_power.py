"""The simulated power utility keeps its contracts, repeats, and its figures hang together."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from bihuan.data import Lake, load_contracts
from bihuan.kernel import SilentProgress, SystemClock
from bihuan.twin import TwinSettings, generate_operator, surround_power

TABLES = (
    "power_customer",
    "power_line",
    "electricity_usage",
    "electricity_bill",
    "electricity_payment",
    "power_outage",
    "power_interruption",
    "power_service",
    "power_load",
    "power_reading",
)

AS_OF = date(2026, 10, 31)
MONTHS = 3


def world(folder: Path, seed: int = 5) -> Lake:
    lake, contracts, clock = Lake(folder), load_contracts(), SystemClock()
    settings = TwinSettings(customers=600, months=1, last=AS_OF, seed=3)
    generate_operator(settings, lake, contracts, clock=clock, progress=SilentProgress())
    surround_power(lake, AS_OF, contracts, months=MONTHS, seed=seed, clock=clock)
    return lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return world(tmp_path_factory.mktemp("twin"))


def rows(lake: Lake, table: str, day: date = AS_OF) -> list[dict[str, Any]]:
    return lake.view().get(table, day).read().to_pylist()


class TestSurroundPower:
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

    def test_peak_and_valley_are_parts_of_the_energy(self, lake: Lake) -> None:
        for row in rows(lake, "electricity_usage"):
            assert row["peak_kwh"] + row["valley_kwh"] <= row["energy_kwh"] + 0.2

    def test_what_is_not_overdue_is_paid_to_the_cent(self, lake: Lake) -> None:
        paid = {row["customer_id"]: row["amount"] for row in rows(lake, "electricity_payment")}
        due = {
            row["customer_id"]: row["amount"]
            for row in rows(lake, "electricity_bill")
            if row["amount"] > 0 and row["overdue_amount"] == 0
        }
        assert paid == due

    def test_an_outage_reaches_all_customers_of_its_line_and_nobody_else(self, lake: Lake) -> None:
        line = {r["customer_id"]: r["power_line_id"] for r in rows(lake, "power_customer")}
        failed = {r["outage_id"]: r for r in rows(lake, "power_outage")}
        suffered = rows(lake, "power_interruption")
        for row in suffered:
            assert line[row["customer_id"]] == failed[row["outage_id"]]["power_line_id"]
        counts = Counter(row["outage_id"] for row in suffered)
        assert {o: r["customer_count"] for o, r in failed.items() if r["customer_count"]} == counts

    def test_industry_uses_more_than_a_household(self, lake: Lake) -> None:
        use = {row["customer_id"]: row["use_kind"] for row in rows(lake, "power_customer")}
        energy: dict[str, list[float]] = {}
        for row in rows(lake, "electricity_usage"):
            energy.setdefault(use[row["customer_id"]], []).append(row["energy_kwh"])
        mean = {kind: sum(values) / len(values) for kind, values in energy.items()}
        assert mean["industrial"] > 3 * mean["commercial"] > 3 * mean["residential"]
