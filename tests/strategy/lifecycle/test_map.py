"""The marketing map: every customer of a unit in one row, targets within people's time."""

from xml.etree import ElementTree as ET

import pyarrow as pa
import pytest

from bihuan.kernel.document import DocumentError
from bihuan.offer import Catalogue
from bihuan.strategy.lifecycle import (
    Ground,
    LifeCycleError,
    draw_map,
    draw_map_picture,
    load_map,
    write_map_page,
)
from bihuan.strategy.policy import OrgTree, OrgUnit
from bihuan.tag import LIBRARY_FOLDER, TagDictionary

from .conftest import KINDS, customer

MAP = """
map: own
title: {zh: 营销地图, en: Marketing map}
tier: county
segments: {name: value, group: value, title: {zh: 价值, en: Value}, tag: value_band}
targets:
  save: {share: 1.0, acceptance: 0.2}
  tend: {share: 0.35, acceptance: 0.1}
staff: {channels: [account_manager, outbound], contacts_per_day: 1, days: 4}
"""


def unit(unit_id: str, tier: str, parent: str | None) -> OrgUnit:
    return OrgUnit(unit_id, tier, parent, {"zh": unit_id, "en": unit_id.upper()})


TREE = OrgTree(
    [unit("p", "province", None), unit("x", "city", "p"), unit("k1", "county", "x"),
     unit("k2", "county", "x"), unit("g1", "grid", "k1"), unit("g2", "grid", "k1"),
     unit("g3", "grid", "k2")]
)  # fmt: skip


@pytest.fixture(scope="module")
def plan(tmp_path_factory, own):
    path = tmp_path_factory.mktemp("map") / "map.yaml"
    path.write_text(MAP, encoding="utf-8")
    return load_map(path, TagDictionary.load(LIBRARY_FOLDER), own.life_cycle)


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    path = tmp_path_factory.mktemp("map") / "o.yaml"
    path.write_text(
        "offers:\n"
        "  - {offer_id: keep, title: {zh: 合约, en: Keep}, kind: contract, price: 1, margin: 1,\n"
        "     channels: [account_manager]}\n",
        encoding="utf-8",
    )
    staff = pa.table(
        {"org_unit_id": ["g1", "g1", "g2", "x"], "channel_id": ["am", "am", "am", "am"],
         "status": ["active", "left", "active", "active"]}
    )  # fmt: skip
    return Ground(TREE, staff, {"am": "account_manager"}, Catalogue.load(path))


@pytest.fixture(scope="module")
def rows():
    found = [
        customer(i, org_unit="g1", falling=True, arpu=150, value_band="high") for i in range(9)
    ]
    found += [customer(20 + i, org_unit="g2", falling=True, arpu=150, value_band="top")
              for i in range(3)]  # fmt: skip
    found += [
        customer(40 + i, org_unit="g3", value_band=["low", "middle"][i % 2]) for i in range(9)
    ]
    found += [customer(60, org_unit=None), customer(61, org_unit="p"), customer(62, org_unit="old")]
    return found


@pytest.fixture(scope="module")
def made(plan, ground, make_tags, engine, rows):
    tags = make_tags(KINDS, rows, pending=["churn_score"])
    return draw_map(plan, tags, ground, engine=engine)


class TestLoadMap:
    def test_an_unknown_strategy_is_named(self, tmp_path, own) -> None:
        path = tmp_path / "map.yaml"
        path.write_text(MAP.replace("  save:", "  sav:"), encoding="utf-8")
        with pytest.raises(DocumentError, match=r"targets.sav is not a strategy"):
            load_map(path, TagDictionary.load(LIBRARY_FOLDER), own.life_cycle)


class TestDrawMap:
    def test_every_customer_of_a_known_unit_stands_in_one_row(self, made, rows) -> None:
        assert sum(row.size for row in made.rows) + made.homeless == len(rows)
        assert made.homeless == 3
        assert list(made.units) == ["k1", "k2"]

    def test_targets_stay_within_the_time_of_the_units_people(self, made) -> None:
        """Two managers below k1 make eight contacts; twelve are wanted."""
        saved = [row for row in made.of_unit("k1") if row.strategy_id == "save"]
        assert sum(row.wanted for row in saved) == 12
        assert sum(row.target for row in saved) == 2 * 4
        assert {row.staff for row in saved} == {2}
        assert sum(row.expected for row in saved) == pytest.approx(8 * 0.2)
        assert saved[0].offers == ("keep",)

    def test_a_target_is_shared_out_without_loss(self, made) -> None:
        tended = [row for row in made.of_unit("k2") if row.strategy_id == "tend"]
        assert sorted((row.size, row.wanted) for row in tended) == [(4, 1), (5, 2)]
        assert sum(row.wanted for row in tended) == round(0.35 * 9)
        assert {row.staff for row in tended} == {None}  # text messages take nobody's time

    def test_rounding_each_row_alone_would_lose_targets(self) -> None:
        """The seeded defect: many small rows whose targets all round to nothing."""
        assert sum(round(0.35 * size) for size in (1, 1, 1, 1)) == 0 != round(0.35 * 4)

    def test_another_tier(self, plan, ground, make_tags, engine, rows) -> None:
        tags = make_tags(KINDS, rows, pending=["churn_score"])
        city = draw_map(plan, tags, ground, engine=engine, tier="city")
        assert list(city.units) == ["x"]
        assert sum(r.target for r in city.rows if r.strategy_id == "save") == 12  # three managers
        with pytest.raises(LifeCycleError, match="no org unit of tier 'seller'"):
            draw_map(plan, tags, ground, engine=engine, tier="seller")

    def test_a_unit_that_is_not_on_the_map_is_refused(self, made) -> None:
        with pytest.raises(LifeCycleError, match=r"no unit 'k9'.*k1, k2"):
            made.of_unit("k9")


class TestPages:
    def test_the_picture_holds_every_unit_and_stage(self, made) -> None:
        picture = ET.fromstring(draw_map_picture(made, "en"))
        texts = {node.text for node in picture.iter("{http://www.w3.org/2000/svg}text")}
        assert {"K1", "K2", "Acquisition", "Growth", "Maturity", "Decline", "Leaving"} <= texts

    def test_the_page_guides_by_stage_and_unit(self, made) -> None:
        for language, words in (("zh", ("各阶段指引", "挽留", "好")), ("en", ("Save", "Hello"))):
            page = write_map_page(made, language)
            assert all(word in page for word in words)
            assert page.count("<h3>") == 5 + 2
            assert "<script" not in page
            title = made.plan.title[language]
            assert page.count(f">{title}<") == 2  # in the head and as heading, not in the picture

    def test_targets_stand_among_all_customers_of_the_cell(self, made) -> None:
        for language, among in (("zh", "共 {} 户"), ("en", "of {}")):
            picture = draw_map_picture(made, language)
            size = sum(r.size for r in made.rows if (r.unit_id, r.stage) == (
                made.rows[0].unit_id, made.rows[0].stage))  # fmt: skip
            assert among.format(size) in picture

    def test_the_table_has_wording_and_targets(self, made) -> None:
        rows = made.table("en").to_pylist()
        assert {row["strategy"] for row in rows} == {"Save", "Tend"}
        assert all(row["script"] == "Hello" for row in rows)
