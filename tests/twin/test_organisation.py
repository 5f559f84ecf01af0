"""The simulated province's organisation."""

from __future__ import annotations

from collections import Counter

import pytest

from bihuan.data import load_contracts
from bihuan.strategy.policy import OrgTree
from bihuan.twin import PROVINCE_PERSONS, province_organisation
from bihuan.twin.organisation import TooFewPersonsError, build_territory, organisation_tables


@pytest.fixture(scope="module")
def tables():
    return province_organisation(load_contracts())


class TestProvince:
    def test_has_everybody_once(self, tables) -> None:
        staff = tables["staff"]["staff_id"].to_pylist()
        assert len(staff) == len(set(staff)) == PROVINCE_PERSONS == 14_700

    def test_is_one_tree_of_seven_tiers(self, tables) -> None:
        tree = OrgTree.from_table(tables["org_unit"])  # refuses rings, orphans, wrong order
        assert tree.roots == ("province",)
        path = tree.path("seller-130101-1")
        assert [tree.get(unit).tier for unit in path] == [
            "province",
            "city",
            "county",
            "line",
            "grid",
            "ceo",
            "seller",
        ]

    def test_everybody_belongs_to_a_unit_and_every_seller_unit_has_one(self, tables) -> None:
        units = set(tables["org_unit"]["org_unit_id"].to_pylist())
        at = Counter(tables["staff"]["org_unit_id"].to_pylist())
        assert set(at) <= units
        assert {at[unit] for unit in units if unit.startswith("seller-")} == {1}

    def test_customers_live_in_its_grids(self, tables) -> None:
        units = set(tables["org_unit"]["org_unit_id"].to_pylist())
        assert set(build_territory().grids) <= units

    def test_keeps_the_ids_of_the_small_organisation(self, tables) -> None:
        small = organisation_tables(load_contracts())
        for table, key in (("org_unit", "org_unit_id"), ("staff", "staff_id")):
            assert set(small[table][key].to_pylist()) <= set(tables[table][key].to_pylist())

    def test_says_that_it_is_simulated(self, tables) -> None:
        for unit in tables["org_unit"].to_pylist():
            assert "模拟" in unit["name_zh"]

    def test_is_the_same_every_time(self, tables) -> None:
        again = province_organisation(load_contracts())
        assert all(again[name].equals(tables[name]) for name in tables)

    def test_of_another_size(self) -> None:
        assert province_organisation(load_contracts(), persons=5_000)["staff"].num_rows == 5_000
        with pytest.raises(TooFewPersonsError):
            province_organisation(load_contracts(), persons=3_000)
