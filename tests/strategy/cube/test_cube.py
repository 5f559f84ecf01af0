"""A cube's counts are those that one gets by looking at every customer."""

from itertools import combinations

import pyarrow as pa
import pytest

from bihuan.audience import to_text
from bihuan.kernel import DefectError
from bihuan.strategy.cube import CubeError
from bihuan.strategy.cube import cube as cube_module

ALL = ("use", "need", "liking", "value", "stage", "scene", "business", "channel")


def counted(cube, axes) -> dict:
    """Return the cells of a cube in the form of the counts by hand."""
    cells = {}
    for row in cube.roll_up(*axes).to_pylist():
        cell = {"size": row["size"], "covered": row["covered"]}
        cell |= {k.removeprefix("fell_"): v for k, v in row.items() if k.startswith("fell_")}
        cells[tuple(row[a] for a in axes)] = {k: v for k, v in cell.items() if v}
    return cells


def by_hand(world, axes, within=lambda *_: True) -> dict:
    found = world.count(axes, within)
    return {key: {k: v for k, v in cell.items() if v} for key, cell in found.items()}


class TestRollUp:
    @pytest.mark.parametrize("axes", [(), *((a,) for a in ALL), *combinations(ALL, 2)])
    def test_every_cell_is_counted_as_by_hand(self, world, axes) -> None:
        assert counted(world.cube, axes) == by_hand(world, axes)

    @pytest.mark.parametrize("seed", [1, 2])
    def test_all_eight_axes_at_once(self, make_world, seed) -> None:
        made = make_world(150, seed)
        assert counted(made.cube, ALL) == by_hand(made, ALL)

    def test_every_customer_is_in_the_total_once(self, world) -> None:
        (row,) = world.cube.roll_up().to_pylist()
        assert row["size"] == len(world.rows) == world.cube.size
        assert row["covered"] + row["uncovered"] == row["size"]
        assert row["covered"] == sum(bool(world.planned(r["customer_id"])) for r in world.rows)

    def test_counting_decisions_instead_of_customers_would_be_caught(self, world) -> None:
        """The seeded defect: a customer in two campaigns counted twice."""
        naive = sum(d["arm"] != "none" for d in world.decisions)
        (row,) = world.cube.roll_up().to_pylist()
        assert row["planned_contacts"] == naive > row["covered"]

    def test_a_customer_lost_between_covered_and_reasons_is_a_defect(
        self, world, monkeypatch
    ) -> None:
        """The seeded defect: the size of cells counts one customer more than their parts."""
        real, calls = cube_module._sums, []

        def generous(keys, values, n):
            calls.append(1)
            return real(keys, values, n) + (len(calls) == 1)

        monkeypatch.setattr(cube_module, "_sums", generous)
        with pytest.raises(DefectError, match="do not add up"):
            world.cube.roll_up("stage")

    def test_expected_value_is_the_sum_over_planned_contacts(self, world) -> None:
        total = sum(d.get("expected_value") or 0 for d in world.decisions)
        rows = world.cube.roll_up("business", "channel", "stage")
        assert sum(rows["expected_value"].to_pylist()) == pytest.approx(total)

    def test_an_unknown_axis_is_named_with_those_that_there_are(self, world) -> None:
        with pytest.raises(CubeError, match=r"has no axis 'colour'.*use, need"):
            world.cube.roll_up("colour")


class TestSlice:
    def test_slices_and_dices_count_the_customers_inside(self, world) -> None:
        cube = world.cube.slice(value="high", stage=["new", "old"])
        inside = lambda places: (  # noqa: E731
            places["value"] == ["high"] and places["stage"][0] in ("new", "old")
        )
        assert counted(cube, ("use", "business")) == by_hand(world, ("use", "business"), inside)

    def test_a_scene_holds_everybody_who_is_in_it(self, world) -> None:
        cube = world.cube.slice(scene="phone")
        assert cube.size == sum(row["calls"] >= 1 for row in world.rows)

    def test_a_business_holds_those_to_whom_it_may_be_offered(self, world) -> None:
        cube = world.cube.slice(business="data", channel="app")
        expected = by_hand(world, ("business", "channel"))["data", "app"]
        assert counted(cube, ())[()] == expected

    def test_slicing_in_two_steps_is_slicing_in_one(self, world) -> None:
        two = world.cube.slice(value="low").slice(business="data")
        one = world.cube.slice(value="low", business="data")
        assert counted(two, ("stage", "channel")) == counted(one, ("stage", "channel"))

    def test_a_part_that_there_is_not_is_refused(self, world) -> None:
        with pytest.raises(CubeError, match=r"'value' has no part 'golden'.*low, high, none"):
            world.cube.slice(value="golden")


class TestTop:
    def test_orders_cells_by_a_measure(self, world) -> None:
        top = world.cube.top(3, "stage", "value", by="uncovered")["uncovered"].to_pylist()
        every = sorted(world.cube.roll_up("stage", "value")["uncovered"].to_pylist())
        assert top == every[::-1][:3]

    def test_an_unknown_measure_is_refused(self, world) -> None:
        with pytest.raises(CubeError, match="no measure 'fame'"):
            world.cube.top(3, "stage", by="fame")


class TestUncovered:
    def test_names_everybody_who_gets_nothing_by_the_stage_where_they_fell(self, world) -> None:
        rows = world.cube.uncovered("stage").to_pylist()
        by_reason: dict[str, int] = {}
        for row in rows:
            by_reason[row["reason"]] = by_reason.get(row["reason"], 0) + row["customers"]
        expected: dict[str, int] = {}
        for row in world.rows:
            if not world.planned(row["customer_id"]):
                reason = world.fell(row)
                expected[reason] = expected.get(reason, 0) + 1
        assert by_reason == expected == dict(world.cube.funnel)
        assert {"outside_audience", "red_list", "not_eligible"} <= set(by_reason)

    def test_who_fell_in_two_campaigns_counts_where_he_came_furthest(self, world) -> None:
        both = [
            row["customer_id"] for row in world.rows
            if len([d for d in world.decisions if d["customer_id"] == row["customer_id"]
                    and d["arm"] == "none"]) == 2
        ]  # fmt: skip
        reasons = {c: {d["reason"] for d in world.decisions if d["customer_id"] == c} for c in both}
        assert any(len(found) == 2 for found in reasons.values())

    def test_business_and_channel_are_refused(self, world) -> None:
        with pytest.raises(CubeError, match="not in a business or channel"):
            world.cube.uncovered("business")


class TestAudience:
    def test_the_rule_of_a_cell_selects_exactly_its_customers(self, world) -> None:
        from bihuan.audience import count_members

        for where in ({"use": "light"}, {"use": ["light", "none"], "value": "high"},
                      {"scene": "phone", "stage": "old"}, {"need": "none", "liking": "b"},
                      {"scene": "none"}):  # fmt: skip
            rule = world.cube.audience(**where)
            size = world.cube.slice(**where).size
            assert count_members(rule, world.tags, engine=world.engine).members == size > 0

    def test_it_reads_back_as_text(self, world) -> None:
        text = to_text(world.cube.slice(value="high").audience(use="heavy"))
        assert "value_band = 'high'" in text
        assert "dou >= 60" in text


class TestEmptyHanded:
    def test_without_decisions_nobody_is_covered_and_all_are_counted(self, world) -> None:
        cube = world.build(decisions=None, audiences=None)
        (row,) = cube.roll_up().to_pylist()
        assert (row["size"], row["covered"]) == (600, 0)
        assert row["fell_outside_audience"] == 600
        assert cube.roll_up("business")["size"].to_pylist() == (
            world.cube.roll_up("business")["size"].to_pylist()
        )

    def test_no_customer_at_all(self, world, make_tags) -> None:
        from .conftest import KINDS

        cube = world.build(tags=make_tags(KINDS, []), audiences=None)
        assert cube.size == 0
        assert cube.roll_up("stage").num_rows == 0
        assert isinstance(cube.roll_up("stage", "business"), pa.Table)
