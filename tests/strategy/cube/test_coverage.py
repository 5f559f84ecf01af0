"""The coverage report names every part that is not covered, and why."""

import pytest

from bihuan.kernel import NotEstimable
from bihuan.strategy.cube import measure_coverage


@pytest.fixture(scope="module")
def report(world):
    return measure_coverage(world.cube, touchpoints=["sms", "hall"])


class TestMeasureCoverage:
    def test_the_five_kinds_of_all(self, report) -> None:
        assert [reach.name for reach in report.reaches] == [
            "customers", "businesses", "life_cycle", "scenes", "touchpoints",
        ]  # fmt: skip

    def test_all_customers(self, world, report) -> None:
        (everyone,) = report.reach("customers").parts
        planned = [r for r in world.rows if world.planned(r["customer_id"])]
        assert (everyone.size, everyone.covered) == (600, len(planned))
        assert report.reach("customers").share == len(planned) / 600
        assert sum(everyone.why.values()) == 600 - len(planned)

    def test_all_businesses_also_those_with_nothing_on_sale(self, report) -> None:
        reach = report.reach("businesses")
        assert set(reach.covered_parts) == {"data", "broadband"}
        assert set(reach.missing) == {"plan", "top_up", "number_card", "terminal"}
        assert reach.share == pytest.approx(2 / 6)
        assert not reach.is_whole
        assert isinstance(reach.parts[1].share, NotEstimable)

    def test_life_cycle_and_scenes_add_up(self, world, report) -> None:
        stages = report.reach("life_cycle").parts
        assert sum(part.size for part in stages) == 600
        for part in (*stages, *report.reach("scenes").parts):
            assert part.covered + sum(part.why.values()) == part.size
        assert report.reach("life_cycle").is_whole

    def test_touchpoints_that_no_offer_uses_are_named(self, report) -> None:
        reach = report.reach("touchpoints")
        assert [part.code for part in reach.parts] == ["app", "outbound", "sms", "hall"]
        assert reach.missing == ("hall",)

    def test_a_campaign_taken_away_shows_as_a_gap(self, world) -> None:
        """The seeded defect: a business that nobody is offered any more."""
        rows = [d for d in world.decisions if d.get("offer_id") != "line"]
        import pyarrow as pa

        from .conftest import DECISION

        less = measure_coverage(world.build(decisions=pa.Table.from_pylist(rows, schema=DECISION)))
        assert "broadband" in less.reach("businesses").missing
        assert "outbound" in less.reach("touchpoints").missing

    def test_as_a_table(self, report) -> None:
        rows = report.table().to_pylist()
        assert {row["all"] for row in rows} == {r.name for r in report.reaches}
        assert all(0 <= row["share"] <= 1 for row in rows if row["share"] is not None)
