"""P061: life-cycle strategies and the marketing map (客户生命周期, 营销地图)."""

from __future__ import annotations

from collections import Counter
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest

import bihuan as bh

from .strategies import OCTOBER, SEPTEMBER, at_work


@pytest.fixture(scope="module")
def centre(tmp_path_factory):
    return at_work(tmp_path_factory)


@pytest.fixture(scope="module")
def rows(centre):
    tags = ["network", "is_disconnected", "value_band", "usage_falling", "org_unit", "holds_video"]
    table = centre.ws.strategy.strategies(OCTOBER, columns=tags)
    return table.to_pylist()


@pytest.mark.mission("P061")
class TestLifeCycle:
    """B-58 以客户生命周期为主线."""

    def test_b58_every_customer_stands_in_one_stage_with_its_strategy(self, centre, rows) -> None:
        life_cycle = centre.ws.strategy.life_cycle()
        assert len({row["customer_id"] for row in rows}) == len(rows) == 2010
        for row in rows:
            assert row["stage"] is not None
            assert row["stage"] in life_cycle.strategy(row["strategy"]).stages
        assert set(Counter(row["stage"] for row in rows)) == {
            "acquisition", "growth", "maturity", "decline", "leave",
        }  # fmt: skip

    def test_b58_customers_are_followed_from_stage_to_stage(self, centre) -> None:
        report = centre.ws.strategy.follow(OCTOBER, earlier=SEPTEMBER)
        assert sum(report.moves.values()) == 2010
        left = centre.ws.count("left_in_month", OCTOBER).members
        gone = sum(n for (a, b), n in report.moves.items() if b == "leave" and a != "leave")
        assert gone == left > 0

    def test_every_strategy_has_offers_channels_and_words(self, centre) -> None:
        life_cycle = centre.ws.strategy.life_cycle()
        assert life_cycle.gaps(centre.ws.catalogue, OCTOBER) == ()
        for strategy in life_cycle.strategies:
            assert strategy.channels
            assert all(strategy.script[language] for language in ("zh", "en"))

    def test_a_stage_left_out_is_refused(self, centre) -> None:
        path = centre.ws.layout.definitions("lifecycle") / "standard.yaml"
        text = path.read_text(encoding="utf-8")
        other = path.with_name("broken.yaml")
        other.write_text(text.replace("code: growth", "code: maturity"), encoding="utf-8")
        with pytest.raises(bh.UserError, match="must hold 'growth' once"):
            centre.ws.strategy.life_cycle("broken")
        other.unlink()


@pytest.mark.mission("P061")
class TestStages:
    """G-01 to G-04: what is done in acquisition, growth and decline."""

    def test_g01_acquisition_wins_vas_customers_by_several_means_of_cross_marketing(
        self, centre, rows
    ) -> None:
        life_cycle = centre.ws.strategy.life_cycle()
        cross = [s for s in life_cycle.of_stage("acquisition") if s.means == "cross_marketing"]
        assert len({s.choice for s in cross}) >= 3  # 多种手段
        used = Counter(r["strategy"] for r in rows if r["stage"] == "acquisition")
        assert sum(used[s.strategy_id] > 0 for s in cross) >= 3
        video = [row for row in rows if row["strategy"] == "cross_video"]
        assert video
        assert not any(row["holds_video"] for row in video)

    def test_g02_growth_leads_to_deeper_use(self, centre, rows) -> None:
        life_cycle = centre.ws.strategy.life_cycle()
        means = {s.strategy_id: s.means for s in life_cycle.of_stage("growth")}
        assert "deepen" in means.values()
        growing = [row for row in rows if row["stage"] == "growth"]
        assert {means[row["strategy"]] for row in growing} <= {
            "deepen", "cross_marketing", "serve",
        }  # fmt: skip
        for strategy in life_cycle.of_stage("growth"):
            if strategy.means == "deepen":
                offers = strategy.offers(centre.ws.catalogue, OCTOBER)
                assert {offer.category for offer in offers} & {"plan", "data", "other"}

    def test_g03_decline_is_warned_of_in_time(self, centre) -> None:
        """及时预警: of those warned about more leave in the month after than of the others."""
        with pytest.raises(bh.UserError, match="Log them first") as caught:
            centre.ws.strategy.check_warnings("2026-05-31", "2026-06-30")
        assert "衰退预警记录" in caught.value.text("zh")
        records = {"warning": [], "urgent": []}
        months = (date(2026, 7, 31), date(2026, 8, 31), SEPTEMBER, OCTOBER)
        for day in months[:2]:
            centre.ws.refresh_tags(day)
        for day, later in pairwise(months):
            centre.ws.strategy.warnings(day)
            for level, found in records.items():
                found.append(centre.ws.strategy.check_warnings(day, later, level=level))
        left = sum(
            centre.ws.count("left_in_month and network = 'on_net'", day).members
            for day in months[1:]
        )
        base = sum(
            centre.ws.count("not is_disconnected and network = 'on_net'", day).members
            for day in months[:-1]
        )
        for level, lift in (("warning", 1.2), ("urgent", 1.5)):
            found = records[level]
            assert sum(record.left for record in found) == left > 50
            hits, warned = (sum(getattr(r, name) for r in found) for name in ("hits", "warned"))
            assert hits / warned > lift * left / base, level

    def test_g03_a_warning_says_why_and_since_when(self, centre) -> None:
        before = centre.ws.strategy.warnings(SEPTEMBER)
        rows = centre.ws.strategy.warnings(OCTOBER).to_pylist()
        known = set(before["customer_id"].to_pylist())
        assert {row["customer_id"] for row in rows if not row["is_new"]} == known & {
            row["customer_id"] for row in rows
        }
        assert all(row["since"] <= SEPTEMBER for row in rows if not row["is_new"])
        assert all(row["since"] == OCTOBER for row in rows if row["is_new"])
        assert {row["level"] for row in rows} == {"notice", "warning", "urgent"}
        living = centre.ws.members("not is_disconnected and network = 'on_net'", OCTOBER)
        assert {row["customer_id"] for row in rows} <= set(living["customer_id"].to_pylist())
        grave = set(
            centre.ws.members("complaint_count_3m >= 2", OCTOBER)["customer_id"].to_pylist()
        )
        assert {"complaint", "complaints"} <= set(
            next(row["signs"] for row in rows if row["customer_id"] in grave)
        )

    def test_g03_the_models_score_warns_as_soon_as_there_is_one(self, centre) -> None:
        report = centre.ws.strategy.follow(OCTOBER)
        assert report.pending["sign churn_score"] == ("churn_score",)

    def test_g04_time_on_the_network_and_lifetime_value_are_measured(self, centre) -> None:
        report = centre.ws.strategy.follow(OCTOBER, earlier=SEPTEMBER)
        decline = report.stage("decline")
        assert 0 < decline.leaving_rate < 1
        assert decline.months_to_stay == pytest.approx(min(120, 1 / decline.leaving_rate))
        assert decline.lifetime_value == pytest.approx(decline.mean_value * decline.months_to_stay)
        served = {"keep_steady", "save_high_value", "wake_use", "make_good"}
        assert set(decline.strategies) == served


@pytest.mark.mission("P061")
class TestMarketingMap:
    """B-59 以营销地图的形式落地指引."""

    @pytest.fixture(scope="class")
    @classmethod
    def map_(cls, centre):
        return centre.ws.strategy.map(OCTOBER)

    def test_b59_every_customer_is_on_the_ground_with_a_strategy(self, centre, map_, rows) -> None:
        counties = {unit["org_unit_id"]: unit for unit in
                    centre.ws.view.get("org_unit", OCTOBER).read().to_pylist()}  # fmt: skip

        def county(unit_id: str) -> str:
            while counties[unit_id]["tier"] != "county":
                unit_id = counties[unit_id]["parent_id"]
            return unit_id

        expected = Counter(
            (county(r["org_unit"]), r["stage"], r["value_band"] or "none", r["strategy"])
            for r in rows
        )
        found = {(r.unit_id, r.stage, r.segment, r.strategy_id): r.size for r in map_.rows}
        assert found == dict(expected)
        assert map_.homeless == 0

    def test_b59_the_guide_names_offers_words_targets_and_people(self, map_) -> None:
        table = map_.table("zh").to_pylist()
        acted = [row for row in table if row["target"]]
        assert acted
        assert all(row["script"] and row["channel"] and row["offers"] for row in acted)
        assert all(row["target"] <= row["wanted"] <= row["size"] for row in table)
        per_head = map_.plan.contacts_per_head
        for unit_id in map_.units:
            rows = [r for r in map_.of_unit(unit_id) if r.staff is not None]
            for channel in {r.channel for r in rows}:
                mine = [r for r in rows if r.channel == channel]
                assert sum(r.target for r in mine) <= mine[0].staff * per_head

    def test_b59_as_a_picture_and_a_page_for_each_tier(self, centre, shell) -> None:
        ask = ("strategy", "map", "--as-of", "2026-10-31")
        told = shell(*ask, workspace=centre.folder)
        page = Path(told.result["files"][1]).read_text(encoding="utf-8")
        assert "Guide by stage" in page
        assert "各阶段指引" not in page
        told = shell(*ask, workspace=centre.folder, language="zh")
        assert told.code == 0
        assert told.result["units"] > 20
        assert sum(row["size"] for row in told.result["rows"]) == 2010
        by_grid = centre.ws.strategy.write_map(OCTOBER, tier="grid")
        for picture, page in (map(Path, told.result["files"]), by_grid):
            assert picture.read_text(encoding="utf-8").startswith("<svg")
            assert "获取期" in picture.read_text(encoding="utf-8")
            assert "各阶段指引" in page.read_text(encoding="utf-8")

    def test_a_tier_that_there_is_not_is_refused(self, centre) -> None:
        with pytest.raises(bh.UserError, match="no org unit of tier 'village'"):
            centre.ws.strategy.map(OCTOBER, tier="village")
