"""From the audience to the contacts: the steps add up, and a sample speaks for the whole."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from bihuan.audience import SuppressionReport
from bihuan.audience.suppression import ExclusionCount
from bihuan.decision import Limit, Stage
from bihuan.decision.rehearsal import (
    Sample,
    SampleError,
    draw_sample,
    reach_steps,
    scale_limits,
)
from bihuan.kernel import DefectError

IDS = pa.array([f"c{i:04d}" for i in range(1000)])


def suppressed(left: int) -> SuppressionReport:
    """Take 40 of an audience out, 30 as opted out and 10 as suspended."""
    title = {"zh": "剔除", "en": "out"}
    counts = (
        ExclusionCount("opted_out", title, 30, 30, 30, left + 10),
        ExclusionCount("suspended", title, 10, 10, 10, left),
    )
    none = pa.table({"customer_id": pa.array([], pa.string())})
    return SuppressionReport(left + 40, left, counts, none, none)


class TestSample:
    def test_the_same_seed_chooses_the_same_customers_whoever_else_is_there(self):
        at, sample = draw_sample(IDS, 0.2, seed=3)
        assert (len(at), sample) == (200, Sample(200, 1000))
        again, _ = draw_sample(IDS.take(pa.array(np.arange(999, -1, -1))), 0.2, seed=3)
        assert set(IDS.take(pa.array(at)).to_pylist()) == set(
            IDS.take(pa.array(999 - again)).to_pylist()
        )
        other, _ = draw_sample(IDS, 0.2, seed=4)
        assert set(at.tolist()) != set(other.tolist())

    def test_nothing_means_everybody_and_more_than_there_are_too(self):
        for wanted in (None, 5000, 1.0):
            at, sample = draw_sample(IDS, wanted, seed=1)
            assert sample.is_whole
            assert at.tolist() == list(range(1000))
            assert sample.error(300) == 0.0

    @pytest.mark.parametrize("wanted", [0, -1, 0.0, 1.5, float("nan"), True])
    def test_what_is_no_size_is_refused(self, wanted):
        with pytest.raises(SampleError, match="not possible"):
            draw_sample(IDS, wanted, seed=1)

    def test_its_error_is_the_one_seen_over_many_samples(self):
        has = np.arange(1000) < 300
        counts = [has[draw_sample(IDS, 200, seed=s)[0]].sum() * 5.0 for s in range(300)]
        assert np.mean(counts) == pytest.approx(300, abs=6)
        assert np.std(counts) == pytest.approx(Sample(200, 1000).error(60), rel=0.15)


class TestLimits:
    def test_seats_of_many_units_keep_their_sum(self):
        weight, member = np.array([1.0, 0.0]), np.eye(50, dtype=np.bool_)
        seats = [Limit(f"u{i}", "capacity", weight, 7, member[i]) for i in range(50)]
        budget = Limit("budget", "budget", np.array([2.0, 0.1]), 500.0)
        small = scale_limits((*seats, budget), Sample(100, 1500))
        bounds = [limit.bound for limit in small]
        assert sum(bounds[:50]) == pytest.approx(350 / 15, abs=0.51)
        assert all(bound == int(bound) for bound in bounds[:50])
        assert bounds[50] == pytest.approx(500 / 15)
        # rounding each by itself would leave no seat at all
        assert sum(round(7 / 15) for _ in seats) == 0

    def test_expected_sales_of_a_unit_can_be_divided(self):
        here = np.zeros(100, dtype=np.bool_)
        floor = Limit("sales", "minimum", np.array([0.2, 0.1]), 7, here)
        seats = Limit("seats", "capacity", np.ones(2), 7, here)
        sales, whole = scale_limits((floor, seats), Sample(100, 1500))
        assert sales.bound == pytest.approx(7 / 15)
        assert whole.bound == 0  # seeded defect: rounded, the minimum would vanish

    def test_the_whole_keeps_its_limits(self):
        limits = (Limit("a", "capacity", np.ones(2), 7),)
        assert scale_limits(limits, Sample(10, 10)) == limits


class TestSteps:
    def test_they_add_up_from_the_audience_to_the_contacts(self, make_town):
        town = make_town(3)
        half = Stage("not_eligible", {"zh": "无资格", "en": "No"}, np.arange(1200) < 700)
        plan = town.plan(town.claims(), stages=(half,))
        steps = reach_steps(plan, suppressed(1200), Sample(1200, 1200))
        assert steps[0].left == 1240
        for before, after in itertools.pairwise(steps):
            assert before.left - after.dropped == after.left
        by_name = {step.name: step for step in steps}
        assert by_name["opted_out"].dropped == 30
        assert by_name["not_eligible"].dropped == 500
        assert by_name["not_eligible"].phase == "applicability"
        arms = plan.decisions["arm"].to_pylist()
        assert steps[-1].left == arms.count("treatment")
        assert steps[-1].dropped == arms.count("control")
        assert [step.phase for step in steps[-2:]] == ["allocation", "hold_out"]
        assert all(step.error == 0 for step in steps)

    def test_a_sample_is_raised_to_the_audience_with_its_error(self, make_town):
        town = make_town(3)
        plan = town.plan(town.claims())
        steps = reach_steps(plan, suppressed(12_000), Sample(1200, 12_000))
        assert steps[2].left == 12_000
        assert steps[-1].left == 10 * plan.decisions["arm"].to_pylist().count("treatment")
        assert steps[-1].error > 50
        assert steps[0].error == 0

    def test_a_log_that_says_something_else_is_seen(self, make_town):
        town = make_town(3)
        plan = town.plan(town.claims())
        arm = pa.array(["treatment"] * 1200)
        at = plan.decisions.column_names.index("arm")
        broken = replace(plan, decisions=plan.decisions.set_column(at, "arm", arm))
        with pytest.raises(DefectError, match="contacts planned"):
            reach_steps(broken, suppressed(1200), Sample(1200, 1200))

    def test_more_going_out_than_came_in_is_seen(self, make_town):
        town = make_town(3)
        plan = town.plan(town.claims())
        with pytest.raises(DefectError, match="more customers left"):
            reach_steps(plan, suppressed(600), Sample(1200, 1200))
