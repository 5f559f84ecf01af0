"""Cells off their expectation are found, and hardly any others."""

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pytest

from bihuan.kernel import random_stream
from bihuan.strategy.cube import CubeError, compare_cubes, propose_changes


def answered(world, seed: int, chance) -> pa.Table:
    """Let every treated contact arrive; ``chance(decision)`` says whether it converts."""
    rng = random_stream(seed, "answers")
    rows = [
        {"campaign_id": d["campaign_id"], "customer_id": d["customer_id"], "step": 1,
         "reached": True, "converted": bool(rng.random() < chance(d))}
        for d in world.decisions
        if d["arm"] == "treatment"
    ]  # fmt: skip
    return pa.Table.from_pylist(rows)


@pytest.fixture(scope="module")
def large(make_world):
    return make_world(4000, 5)


class TestProposeChanges:
    def test_nothing_before_anything_came_back(self, large) -> None:
        assert propose_changes(large.cube, "channel") == ()

    def test_promises_kept_raise_few_alarms(self, large) -> None:
        alarms = [
            propose_changes(
                large.build(responses=answered(large, seed, lambda d: d["propensity"])),
                "stage", "channel", false_alarms=0.1,
            )
            for seed in range(6)
        ]  # fmt: skip
        assert sum(bool(found) for found in alarms) <= 2

    def test_a_channel_that_fails_is_found_and_another_proposed(self, large) -> None:
        """The seeded defect: outbound calls convert at a quarter of what was promised."""

        def chance(d):
            return d["propensity"] * (0.25 if d["channel"] == "outbound" else 1.0)

        cube = large.build(responses=answered(large, 1, chance))
        first = propose_changes(cube, "channel")[0]
        assert first.cell == {"channel": "outbound"}
        assert first.kind == "change_channel"
        assert first.to in ("sms", "app")
        assert first.conversions < first.expected
        assert 0.15 < first.factor < 0.5
        assert "outbound" in first.text["en"]
        assert first.to in first.text["zh"]

    def test_a_cell_that_does_better_is_to_be_extended(self, large) -> None:
        cube = large.build(responses=answered(large, 2, lambda d: min(1, 2.5 * d["propensity"])))
        found = propose_changes(cube, "stage")
        assert {p.kind for p in found} == {"extend"}
        assert all(p.factor > 1.5 for p in found)

    def test_where_all_ways_fail_the_expectation_is_lowered(self, large) -> None:
        cube = large.build(responses=answered(large, 3, lambda d: 0.2 * d["propensity"]))
        assert {p.kind for p in propose_changes(cube, "business", "channel")} <= {
            "lower_expectation", "change_channel", "change_business",
        }  # fmt: skip
        assert propose_changes(cube, "stage")[0].factor < 0.5

    def test_cells_with_few_contacts_are_not_judged(self, large) -> None:
        cube = large.build(responses=answered(large, 3, lambda d: 0.0))
        assert propose_changes(cube, "stage", minimum=10**6) == ()

    def test_judging_every_cell_alone_would_raise_more_alarms(self, large) -> None:
        """The seeded defect: no correction for looking at many cells."""
        from bihuan.strategy.cube import tune

        corrected = naive = 0
        for seed in range(10):
            cube = large.build(responses=answered(large, 50 + seed, lambda d: d["propensity"]))
            cells = [r for r in cube.roll_up("stage", "value", "channel").to_pylist()
                     if r["reached_contacts"] >= 30]  # fmt: skip
            p = np.array([NormalDist().cdf(tune._score(cell)) for cell in cells])
            naive += int((p < 0.1).any())
            corrected += int(tune._significant(p, 0.1).any())
        assert corrected < naive


class TestCompareCubes:
    def test_says_what_moved(self, large) -> None:
        fewer = [d for d in large.decisions if d["campaign_id"] == "spring"]
        from .conftest import DECISION

        before = large.build(decisions=pa.Table.from_pylist(fewer, schema=DECISION))
        rows = compare_cubes(before, large.cube, "stage").to_pylist()
        old, new = (
            {r["stage"]: r for r in c.roll_up("stage").to_pylist()} for c in (before, large.cube)
        )
        for row in rows:
            assert row["size_change"] == 0
            stage = row["stage"]
            assert row["covered_change"] == new[stage]["covered"] - old[stage]["covered"] > 0

    def test_cubes_of_other_axes_are_refused(self, large) -> None:
        other = large.build(replace(large.definition, axes=large.definition.axes[:-1]))
        with pytest.raises(CubeError, match="different axes"):
            compare_cubes(large.cube, other)
