"""P059: the strategy cube (策略魔方): all customers sliced, strategies on the slices, tuned."""

from __future__ import annotations

import pytest

import bihuan as bh

from .strategies import OCTOBER, accepts, at_work


@pytest.fixture(scope="module")
def centre(tmp_path_factory):
    return at_work(tmp_path_factory)


@pytest.fixture(scope="module")
def cube(centre):
    return centre.ws.strategy.cube(OCTOBER)


def tag_rows(centre, *names: str) -> list[dict]:
    return centre.ws.tags(OCTOBER).read(centre.ws.engine, names).to_pylist()


@pytest.mark.mission("P059")
class TestSlices:
    """D-34 按照客戶行為、需求、偏好、價值 and D-35 從業務、場景、周期等多維度切片."""

    def test_d34_by_behaviour_need_preference_and_value(self, centre, cube) -> None:
        rows = tag_rows(centre, "active_days", "dou", "mou", "preferred_product_1", "value_band")
        # the first that holds, counted from the tag values themselves
        expected: dict[tuple[str, str, str], int] = {}
        for row in rows:
            dou, mou = row["dou"], row["mou"]
            use = (
                "silent" if row["active_days"] == 0
                else "heavy_data" if dou is not None and dou >= 6000
                else "heavy_voice" if mou is not None and mou >= 200
                else "ordinary" if dou is not None else "none"
            )  # fmt: skip
            key = (use, row["preferred_product_1"] or "none", row["value_band"] or "none")
            expected[key] = expected.get(key, 0) + 1
        cells = cube.roll_up("use", "preference", "value").to_pylist()
        assert {(c["use"], c["preference"], c["value"]): c["size"] for c in cells} == expected
        groups = {axis.group for axis in cube.definition.axes}
        assert {"behaviour", "need", "preference", "value"} <= groups

    def test_d35_by_business_scene_cycle_and_channel(self, centre, cube) -> None:
        assert {"business", "channel", "scene", "stage"} <= set(cube.axes)
        can_have = centre.ws.count("not has_broadband and mobile_count > 0 and not is_disconnected",
                                   OCTOBER).members  # fmt: skip
        assert cube.slice(business="broadband").size == can_have
        inbound = centre.ws.count("own_service_call_3m >= 1", OCTOBER).members
        assert cube.slice(scene="inbound").size == inbound
        both = cube.slice(scene="inbound", business="broadband", channel="outbound").size
        assert 0 < both < min(can_have, inbound)

    def test_d35_a_strategy_is_designed_on_a_slice_and_its_customers_are_listed(
        self, centre, cube
    ) -> None:
        cell = {"stage": "decline", "value": "high"}
        (row,) = [r for r in cube.roll_up("stage", "value").to_pylist()
                  if {k: r[k] for k in cell} == cell]  # fmt: skip
        assert row["strategy"] == "save_high_value"
        strategy = centre.ws.strategy.life_cycle().strategy(row["strategy"])
        assert strategy.offers(centre.ws.catalogue, OCTOBER)
        listed = centre.ws.strategy.customers(cube, **cell)
        assert listed.num_rows == row["size"] > 0
        assert set(listed["value_band"].to_pylist()) == {"high"}

    def test_drilling_down_never_loses_a_customer(self, centre, cube) -> None:
        base = len(tag_rows(centre, "tenure_months"))
        for axes in ((), ("stage",), ("stage", "value"), ("stage", "value", "use", "need")):
            assert sum(cube.roll_up(*axes)["size"].to_pylist()) == base

    def test_two_strategies_for_one_cell_are_refused(self, centre, tmp_path) -> None:
        path = centre.ws.layout.definitions("cubes") / "clash.yaml"
        text = path.with_name("standard.yaml").read_text(encoding="utf-8")
        path.write_text(text + "  - {cell: {value: top}, strategy: renew}\n", encoding="utf-8")
        with pytest.raises(bh.UserError, match="claim the same cells"):
            centre.ws.strategy.cube(OCTOBER, "clash")
        path.unlink()


@pytest.mark.mission("P059")
class TestCoverage:
    """D-37 涵蓋全客戶、全業務、全生命周期、全場景、全觸點: what is covered, who is not, why."""

    def test_d37_all_customers_and_why_the_others_get_nothing(self, centre, cube) -> None:
        (part,) = centre.ws.strategy.coverage(OCTOBER).reach("customers").parts
        planned, considered = set(), set()
        for plan in centre.plans.values():
            for row in plan.decisions.to_pylist():
                considered.add(row["customer_id"])
                if row["arm"] != "none":
                    planned.add(row["customer_id"])
        assert (part.size, part.covered) == (2010, len(planned))
        assert sum(part.why.values()) == part.size - part.covered
        audience = set()
        for name in centre.plans:
            rows = centre.ws.target(name, OCTOBER).snapshot.members()
            audience |= set(rows["customer_id"].to_pylist())
        assert part.why["outside_audience"] == part.size - len(audience | considered)
        ids = set(centre.ws.members("has_opted_out", OCTOBER)["customer_id"].to_pylist())
        assert part.why["opted_out"] >= len(ids & (audience - considered))

    def test_d37_businesses_stages_scenes_touchpoints(self, centre) -> None:
        report = centre.ws.strategy.coverage(OCTOBER)
        assert set(report.reach("businesses").covered_parts) == {"data", "plan", "broadband"}
        assert {"top_up", "terminal", "number_card"} <= set(report.reach("businesses").missing)
        assert report.reach("life_cycle").missing == ("leave",)
        assert set(report.reach("touchpoints").covered_parts) == {"sms", "app", "outbound"}
        assert "hall" in report.reach("touchpoints").missing
        for name in ("life_cycle", "scenes", "touchpoints", "businesses"):
            for part in report.reach(name).parts:
                assert part.covered + sum(part.why.values()) == part.size
                assert set(part.title) == {"zh", "en"}

    def test_who_gets_nothing_at_which_stage_of_the_funnel(self, cube) -> None:
        rows = cube.uncovered("stage").to_pylist()
        assert sum(row["customers"] for row in rows) == cube.size - sum(
            cube.roll_up("stage")["covered"].to_pylist()
        )
        assert {"recent_contact", "outside_audience", "complaint_sensitive"} <= {
            row["reason"] for row in rows
        }
        assert all(row["reason_zh"] and row["reason_en"] for row in rows)

    def test_the_heat_map_and_the_commands(self, centre, cube, shell) -> None:
        picture = centre.ws.strategy.draw(cube, "stage", "value").read_text(encoding="utf-8")
        assert picture.startswith("<svg")
        assert "衰退期" in picture
        drawn = centre.ws.strategy.draw(cube, "stage", "value", language="en")
        picture = drawn.read_text(encoding="utf-8")
        assert "Decline" in picture
        assert "衰退期" not in picture
        told = shell("strategy", "cube", "stage", "--as-of", "2026-10-31", workspace=centre.folder)
        assert told.code == 0
        assert sum(row["size"] for row in told.result) == 2010
        told = shell("strategy", "coverage", "--as-of", "2026-10-31", workspace=centre.folder)
        assert {row["all"] for row in told.result} == {
            "customers", "businesses", "life_cycle", "scenes", "touchpoints",
        }  # fmt: skip


@pytest.mark.mission("P059")
class TestTuning:
    """D-36 根據變化實時調優: every publication changes the cube, and outcomes propose changes."""

    def test_d36_the_cube_follows_what_happens(self, centre, cube) -> None:
        nothing, decided = centre.before.roll_up(), centre.decided.roll_up()
        assert nothing["covered"].to_pylist() == [0]
        assert decided["covered"].to_pylist() == cube.roll_up()["covered"].to_pylist() > [0]
        assert decided["reached_contacts"].to_pylist() == [0]
        assert cube.roll_up()["reached_contacts"].to_pylist() == [len(centre.assignments)]
        assert cube.roll_up()["conversions"].to_pylist() == [
            sum(accepts(row) for row in centre.assignments)
        ]

    def test_d36_what_changed_is_shown_cell_by_cell(self, centre) -> None:
        rows = centre.ws.strategy.compare(centre.before, centre.decided, "stage").to_pylist()
        assert sum(row["covered_change"] for row in rows) == sum(
            centre.decided.roll_up("stage")["covered"].to_pylist()
        )
        assert all(row["size_change"] == 0 for row in rows)

    def test_d36_a_cell_under_its_expectation_gets_a_proposal(self, centre) -> None:
        """Nobody accepts on the telephone; elsewhere every fifth does, as was promised."""
        found = centre.ws.strategy.tune(OCTOBER, "channel")
        assert [p.cell for p in found] == [{"channel": "outbound"}]
        assert found[0].kind == "change_channel"
        assert found[0].to in ("sms", "app")
        assert found[0].factor < 0.5
        assert found[0].conversions == 0 < found[0].expected
        assert "outbound" in found[0].text["zh"]

    def test_before_anything_came_back_nothing_is_proposed(self, centre) -> None:
        from bihuan.strategy import propose_changes

        assert propose_changes(centre.decided, "channel") == ()
