"""What a cube is counted from, and what it says about data that are not whole."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from bihuan.audience import parse
from bihuan.data import DuckDBEngine
from bihuan.strategy.cube import CubeSources, build_cube

from .conftest import AXES, KINDS, STAGES


class TestReadings:
    def test_a_rule_on_a_tag_without_values_takes_nobody_and_is_named(
        self, world, make_tags, tools
    ) -> None:
        risk = tools.bands(("risky", "churn_score >= 0.5 or dou >= 99.9"))
        axes = (replace(AXES[0], bands=risk), *AXES[1:])
        tags = make_tags(KINDS, world.rows, pending=["churn_score"])
        cube = world.build(replace(world.definition, axes=axes), tags=tags)
        assert cube.left_out == {"use.risky": ("churn_score",)}
        assert cube.slice(use="risky").size == sum((r["dou"] or 0) >= 99.9 for r in world.rows)

    def test_a_misspelt_tag_is_refused(self, world, tools) -> None:
        from bihuan.tag import UnknownTagError

        axes = (replace(AXES[0], bands=tools.bands(("x", "duo >= 1"))), *AXES[1:])
        with pytest.raises(UnknownTagError, match="duo"):
            world.build(replace(world.definition, axes=axes))

    def test_retired_offers_make_no_business_and_no_channel(self, world) -> None:
        assert "mail" not in world.cube.channels
        assert world.cube.channels == ("app", "outbound", "sms")

    def test_a_decision_on_an_offer_that_is_gone_is_counted_under_other(self, world, tools) -> None:
        rows = [{"decision_id": "x", "campaign_id": "old", "customer_id": "c00001", "step": 1,
                 "arm": "treatment", "offer_id": "vanished", "channel": "fax",
                 "propensity": 0.1, "expected_value": 4.0}]  # fmt: skip
        cube = world.build(decisions=pa.Table.from_pylist(rows, schema=tools.decision))
        rows = cube.roll_up("business", "channel").to_pylist()
        found = {(r["business"], r["channel"]): r["covered"] for r in rows if r["covered"]}
        assert found == {("other", "fax"): 1}

    def test_a_reason_that_no_funnel_names_is_kept_under_its_code(self, world, tools) -> None:
        rows = [{"decision_id": "x", "campaign_id": "old", "customer_id": "c00001",
                 "arm": "none", "reason": "moon_phase"}]  # fmt: skip
        cube = world.build(decisions=pa.Table.from_pylist(rows, schema=tools.decision))
        assert cube.funnel["moon_phase"] == 1


class TestResponses:
    def test_conversions_are_held_against_the_propensities_of_the_reached(self, world) -> None:
        treated = [d for d in world.decisions if d["arm"] == "treatment"]
        reached = treated[::2]
        rows = [
            {"campaign_id": d["campaign_id"], "customer_id": d["customer_id"], "step": 1,
             "reached": True, "converted": i % 3 == 0}
            for i, d in enumerate(reached)
        ]  # fmt: skip
        rows += [{**rows[0], "customer_id": treated[1]["customer_id"], "reached": False,
                  "campaign_id": treated[1]["campaign_id"], "converted": True}]  # fmt: skip
        cube = world.build(responses=pa.Table.from_pylist(rows))
        (row,) = cube.roll_up().to_pylist()
        assert row["reached_contacts"] == len(reached)
        assert row["conversions"] == len(range(0, len(reached), 3))
        p = np.array([d["propensity"] for d in reached])
        assert row["expected_conversions"] == pytest.approx(p.sum())
        assert row["variance"] == pytest.approx((p * (1 - p)).sum())

    def test_a_response_of_another_step_is_not_taken_for_this_one(self, world) -> None:
        d = next(d for d in world.decisions if d["arm"] == "treatment")
        row = {"campaign_id": d["campaign_id"], "customer_id": d["customer_id"], "step": 2,
               "reached": True, "converted": True}  # fmt: skip
        cube = world.build(responses=pa.Table.from_pylist([row]))
        assert cube.roll_up()["reached_contacts"].to_pylist() == [0]


@pytest.mark.slow
class TestScale:
    def test_half_a_million_customers_are_counted_by_the_engine(self, world, make_tags) -> None:
        """Nothing loops over customers: what is left after the engine is a few groups."""
        for n in (50_000, 500_000):
            rng = np.random.default_rng([n])
            columns = {
                "customer_id": pa.array(np.char.add("c", np.arange(n).astype(str)).tolist()),
                "dou": rng.uniform(0, 100, n),
                "value_band": pa.array(["low", "high"]).take(pa.array(rng.integers(0, 2, n))),
                "preferred": pa.array(["a", "b"]).take(pa.array(rng.integers(0, 2, n))),
                "stage": pa.array(["new", "old"]).take(pa.array(rng.integers(0, 2, n))),
                "needs_data": rng.random(n) < 0.3,
                "visits": rng.integers(0, 4, n),
                "calls": rng.integers(0, 3, n),
                "on_red_list": rng.random(n) < 0.1,
            }
            empty = make_tags(KINDS, [])
            tags = _with_rows(empty, pa.table(columns), n)
            cube = build_cube(
                world.definition,
                CubeSources(
                    tags, world.catalogue, stages=STAGES, gates={"r": parse("on_red_list")}
                ),
                engine=DuckDBEngine(threads=1),
            )
            cube.roll_up("stage", "value", "business", "channel")
            assert cube.size == n
            assert len(cube.groups.size) < 2_000


def _with_rows(tags, rows: pa.Table, n: int):
    """Write rows in the place of a tag table's own."""
    import pyarrow.parquet as pq

    (snapshot,) = tags.snapshots.values()
    pq.write_table(rows.cast(snapshot.read().schema), snapshot.files[0])
    return replace(tags, rows=n)
