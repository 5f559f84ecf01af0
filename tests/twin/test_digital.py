"""Simulated page trajectories keep their contract, repeat, and go forward step by step."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from bihuan.data import Lake, load_contracts
from bihuan.kernel import SilentProgress, SystemClock
from bihuan.twin import TwinSettings, generate_operator, surround_digital

TABLES = ("event",)

AS_OF = date(2026, 10, 31)
MONTHS = 3


def world(folder: Path, seed: int = 5) -> Lake:
    lake, contracts, clock = Lake(folder), load_contracts(), SystemClock()
    settings = TwinSettings(customers=600, months=1, last=AS_OF, seed=3)
    generate_operator(settings, lake, contracts, clock=clock, progress=SilentProgress())
    surround_digital(lake, AS_OF, contracts, months=MONTHS, seed=seed, clock=clock)
    return lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return world(tmp_path_factory.mktemp("twin"))


def rows(lake: Lake, table: str, day: date = AS_OF) -> list[dict[str, Any]]:
    return lake.view().get(table, day).read().to_pylist()


class TestSurroundDigital:
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

    def test_nobody_orders_without_having_submitted_before(self, lake: Lake) -> None:
        events = rows(lake, "event")
        for later, earlier in (
            ("order", "submit"),
            ("submit", "configure"),
            ("configure", "visit"),
        ):
            for event in (e for e in events if e["kind"] == later):
                assert any(
                    e["kind"] == earlier
                    and e["customer_id"] == event["customer_id"]
                    and e["business"] == event["business"]
                    and e["occurred_at"] < event["occurred_at"]
                    for e in events
                ), event

    def test_fewer_go_each_step_further(self, lake: Lake) -> None:
        counts = Counter(event["kind"] for event in rows(lake, "event"))
        steps = ("visit", "configure", "submit", "order")
        assert sorted(steps, key=lambda kind: -counts[kind]) == list(steps)
        assert min(counts[kind] for kind in ("click", "share", "share_visit")) > 0

    def test_a_click_has_a_touchpoint_and_an_arrival_by_sharing_a_sharer(self, lake: Lake) -> None:
        for event in rows(lake, "event"):
            assert (event["touchpoint"] is not None) == (event["kind"] == "click")
            assert (event["shared_by"] is not None) == (event["kind"] == "share_visit")
            if event["shared_by"]:
                assert event["shared_by"] != event["customer_id"]

    def test_who_browsed_orders_more_often_the_month_after(self, lake: Lake) -> None:
        first, second, third = lake.view().dates("event")
        before = [*rows(lake, "event", first), *rows(lake, "event", second)]
        browsed = {e["customer_id"] for e in before if e["kind"] == "visit"} - {None}
        everybody = {row["customer_id"] for row in rows(lake, "customer")}
        ordered = {e["customer_id"] for e in rows(lake, "event", third) if e["kind"] == "order"}
        others = everybody - browsed
        assert len(ordered & browsed) / len(browsed) > 1.2 * len(ordered & others) / len(others)
