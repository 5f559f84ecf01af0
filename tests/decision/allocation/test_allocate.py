"""Allocation: never infeasible, bound >= optimum >= plan, and near to each other."""

from __future__ import annotations

import importlib
import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bihuan.decision import Limit, allocate
from bihuan.decision.allocation.allocate import check_allocation, limit_usage
from bihuan.kernel import Cancelled, CancelToken, DefectError, SilentProgress, UserError

face = importlib.import_module("bihuan.decision.allocation.allocate")
price = importlib.import_module("bihuan.decision.allocation.price")
repair = importlib.import_module("bihuan.decision.allocation.repair")

Problem = tuple[NDArray[np.float64], list[Limit]]


@st.composite
def problems(draw: st.DrawFn, customers: int = 9, candidates: int = 4) -> Problem:
    """Draw a small problem: ties, negative values, closed cells, fractions, zero bounds."""
    n, m = draw(st.integers(0, customers)), draw(st.integers(1, candidates))
    levels = draw(
        st.sampled_from(
            [
                st.just(1.0),
                st.integers(-1, 4).map(float),
                st.floats(0.01, 50).map(lambda x: round(x, 3)),
            ]
        )
    )
    cell = st.one_of(levels, levels, st.just(np.nan))
    cells = draw(st.lists(cell, min_size=n * m, max_size=n * m))
    value = np.array(cells, dtype=np.float64).reshape(n, m)
    limits = [draw(_limit(n, m, i)) for i in range(draw(st.integers(0, 4)))]
    return value, limits


@st.composite
def _limit(draw: st.DrawFn, n: int, m: int, i: int) -> Limit:
    amount = st.sampled_from([0.0, 0.1, 0.3, 1.0, 1.0, 2.0, 2.5])
    is_wide = draw(st.integers(0, 4)) == 0
    size = n * m if is_wide else m
    weight = np.array(draw(st.lists(amount, min_size=size, max_size=size)), dtype=np.float64)
    members = None
    if draw(st.booleans()):
        members = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=np.bool_)
    bound = draw(st.sampled_from([0.0, 0.3, 0.5, 1.0, 2.0, 3.0, 5.7, 100.0]))
    shaped = weight.reshape(n, m) if is_wide else weight
    return Limit(f"limit_{i}", "capacity", shaped, bound, members)


def require_sound(value: NDArray[np.float64], limits: list[Limit], plan, slack: float = 1e-9):
    """Hold a plan against the problem itself, without any of the room's own sums."""
    n = len(value)
    assert plan.choice.shape == (n,)
    assert plan.choice.dtype == np.int16
    taken = [(i, j) for i, j in enumerate(plan.choice.tolist()) if j >= 0]
    assert all(value[i, j] > 0 for i, j in taken)
    assert plan.value == pytest.approx(sum(value[i, j] for i, j in taken), rel=1e-12)
    for limit in limits:
        used = sum(
            limit.weight[j] if limit.weight.ndim == 1 else limit.weight[i, j]
            for i, j in taken
            if limit.members is None or limit.members[i]
        )
        assert used <= limit.bound * (1 + slack)
    assert plan.value <= plan.bound


class TestAllocateAgainstTheTruth:
    @settings(max_examples=150, deadline=None)
    @given(problem=problems())
    def test_bound_is_above_optimum_is_above_plan_and_no_limit_breaks(self, lab, problem):
        value, limits = problem
        plan = allocate(value, limits)
        require_sound(value, limits, plan)
        optimum = lab.exact_optimum(value, limits, whole=True)
        relaxed = lab.exact_optimum(value, limits, whole=False)
        assert plan.bound >= relaxed - 1e-7 * max(relaxed, 1)
        assert plan.bound <= relaxed + 1e-6 * max(relaxed, 1)
        assert plan.value >= optimum * (1 - 1e-3) - 1e-9
        assert plan.value <= optimum + 1e-6 * max(optimum, 1)

    @settings(max_examples=80, deadline=None)
    @given(problem=problems(customers=5, candidates=3))
    def test_tiny_plans_are_as_good_as_trying_everything(self, problem):
        value, limits = problem
        n, m = value.shape
        best = 0.0
        for choice in itertools.product(range(-1, m), repeat=n):
            picks = np.array(choice, dtype=np.int64)
            taken = np.flatnonzero(picks >= 0)
            worth = value[taken, picks[taken]]
            if np.isnan(worth).any():
                continue
            if all(limit_usage(x, picks) <= x.bound * (1 + 1e-9) for x in limits):
                best = max(best, float(worth.sum()))
        assert allocate(value, limits).value >= best * (1 - 1e-3) - 1e-9

    @settings(max_examples=60, deadline=None)
    @given(problem=problems(), factor=st.sampled_from([1.0, 1.5, 4.0]))
    def test_more_capacity_never_lowers_the_bound(self, problem, factor):
        value, limits = problem
        wider = [replace(x, bound=x.bound * factor + (factor - 1)) for x in limits]
        less, more = allocate(value, limits), allocate(value, wider)
        assert more.bound >= less.bound - 1e-7 * max(less.bound, 1)

    @settings(max_examples=60, deadline=None)
    @given(problem=problems(), data=st.data())
    def test_permuting_customers_changes_nothing_in_value(self, lab, problem, data):
        value, limits = problem
        order = np.array(data.draw(st.permutations(range(len(value)))), dtype=np.int64)
        plan, other = allocate(value, limits), allocate(*lab.permuted(value, limits, order))
        assert other.value == plan.value
        assert other.bound == plan.bound

    @settings(max_examples=25, deadline=None)
    @given(problem=problems(customers=60, candidates=4))
    def test_sampled_cores_and_small_steps_reach_the_same_bound(self, lab, problem):
        value, limits = problem
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(price, "CORE_OPTIONS", 8)
            patch.setattr(price, "FEWEST_SAMPLED", 4)
            plan = allocate(value, limits)
        require_sound(value, limits, plan)
        relaxed = lab.exact_optimum(value, limits, whole=False)
        assert plan.bound == pytest.approx(relaxed, rel=1e-3, abs=1e-6)
        assert plan.bound >= relaxed - 1e-7 * max(relaxed, 1)

    @pytest.mark.parametrize("seed", range(6))
    def test_small_cores_find_rare_customers_of_great_value(self, lab, monkeypatch, seed):
        rng = np.random.default_rng(seed)
        value = np.where(rng.random((60, 3)) < 0.4, np.nan, 1.0)
        value = np.where(rng.random((60, 3)) < 0.1, 40.0 * value * rng.random((60, 3)), value)
        limits = [
            Limit("few", "capacity", np.array([1.0, 0.0, 1.0]), 2.0, rng.random(60) < 0.5),
            Limit("budget", "budget", np.array([0.5, 1.0, 2.0]), 5.7),
        ]
        monkeypatch.setattr(price, "CORE_OPTIONS", 8)
        monkeypatch.setattr(price, "FEWEST_SAMPLED", 4)
        relaxed = lab.exact_optimum(value, limits, whole=False)
        assert allocate(value, limits).bound == pytest.approx(relaxed, rel=1e-7)

    @pytest.mark.parametrize("seed", [1, 2])
    def test_middle_sizes_agree_with_the_solver_on_all_pairs(self, lab, seed):
        value, limits = lab.campaign_problem(600, 12, seed, units=2)
        plan = allocate(value, limits)
        require_sound(value, limits, plan)
        relaxed = lab.exact_optimum(value, limits, whole=False)
        assert plan.bound == pytest.approx(relaxed, rel=1e-7)
        optimum = lab.exact_optimum(value, limits, whole=True)
        assert optimum * (1 - 1e-3) <= plan.value <= optimum * (1 + 1e-9)

    def test_ten_thousand_customers_by_hundred_candidates_are_certified(self, lab):
        value, limits = lab.campaign_problem(10_000, 102, 5, units=3)
        plan = allocate(value, limits)
        require_sound(value, limits, plan)
        assert plan.gap <= 1e-3
        assert plan.proof == "duality"
        assert sum(use.is_binding for use in plan.limits) >= 10


class TestAllocateAtTheEdges:
    def test_no_customers(self):
        plan = allocate(np.empty((0, 3)), [Limit("a", "capacity", np.ones(3), 2)])
        assert (plan.value, plan.bound, plan.gap, plan.choice.tolist()) == (0.0, 0.0, 0.0, [])

    def test_no_candidates(self):
        assert allocate(np.empty((4, 0)), []).choice.tolist() == [-1] * 4

    def test_nobody_eligible(self):
        plan = allocate(np.full((5, 2), np.nan), [Limit("a", "capacity", np.ones(2), 2)])
        assert plan.choice.tolist() == [-1] * 5
        assert (plan.value, plan.bound, plan.gap) == (0.0, 0.0, 0.0)

    def test_no_limits_gives_everyone_the_best(self):
        value = np.array([[1.0, 2.0], [np.nan, 1.0], [-1.0, -2.0], [3.0, 0.0]])
        plan = allocate(value, [])
        assert plan.choice.tolist() == [1, 1, -1, 0]
        assert plan.gap <= 1e-12

    def test_an_infinite_bound_is_no_limit(self):
        plan = allocate(np.ones((4, 1)), [Limit("a", "capacity", np.ones(1), np.inf)])
        assert plan.value == 4.0
        assert plan.prices == {"a": 0.0}

    def test_a_closed_limit_is_priced_by_what_its_first_unit_would_bring(self):
        value = np.array([[9.0, 2.0], [7.0, 6.0], [np.nan, 1.0]])
        plan = allocate(value, [Limit("closed", "capacity", np.array([1.0, 0.0]), 0)])
        assert plan.choice.tolist() == [1, 1, 1]
        assert plan.prices["closed"] == pytest.approx(7.0)  # 9 instead of 2

    @pytest.mark.parametrize("bound", [0, 1, 7, 500])
    def test_a_thousand_equal_customers(self, bound):
        plan = allocate(np.ones((1000, 3)), [Limit("seats", "capacity", np.ones(3), bound)])
        assert plan.value == bound
        assert plan.gap <= (1e-9 if bound else 1e-4)  # of a plan worth nothing, only rounding

    def test_few_levels_of_value_and_random_eligibility(self, lab):
        value, limits = lab.campaign_problem(4000, 12, 9)
        value = np.ceil(value / 10) * 10.0  # a handful of levels: nearly everyone is tied
        plan = allocate(value, limits)
        require_sound(value, limits, plan)
        assert plan.gap <= 1e-3

    def test_capacities_of_one(self):
        value = np.random.default_rng(4).random((500, 6))
        limits = [Limit(f"c{j}", "capacity", np.eye(6)[j], 1) for j in range(6)]
        plan = allocate(value, limits)
        assert (plan.choice >= 0).sum() == 6
        assert plan.gap <= 1e-3

    def test_three_tenths_fit_into_three_times_a_tenth(self):
        plan = allocate(np.ones((5, 1)), [Limit("b", "budget", np.array([0.1]), 0.3)])
        assert plan.value == 3.0

    def test_single_precision_is_read_as_it_is(self):
        value = np.random.default_rng(8).random((300, 4)).astype(np.float32)
        limits = [Limit("seats", "capacity", np.ones(4), 40)]
        assert allocate(value, limits).value == allocate(value.astype(np.float64), limits).value

    def test_values_of_very_different_scale(self, lab):
        value, limits = lab.campaign_problem(800, 6, 11)
        small, large = allocate(value * 1e-6, limits), allocate(value * 1e7, limits)
        assert small.gap <= 2e-3
        assert small.value * 1e13 == pytest.approx(large.value, rel=2e-3)


class TestAllocateAnswers:
    def test_the_same_seed_gives_the_same_plan(self, lab):
        value, limits = lab.campaign_problem(1500, 12, 2)
        plan, again = allocate(value, limits, seed=4), allocate(value, limits, seed=4)
        assert np.array_equal(plan.choice, again.choice)
        assert (plan.value, plan.bound, plan.prices) == (again.value, again.bound, again.prices)

    def test_prices_bound_what_one_more_unit_brings(self, lab):
        value, limits = lab.campaign_problem(800, 6, 7)
        plan = allocate(value, limits)
        for i, use in enumerate(plan.limits):
            wider = [replace(x, bound=x.bound + 1) if i == j else x for j, x in enumerate(limits)]
            gained = allocate(value, wider).bound - plan.bound
            assert -1e-6 <= gained <= use.price + 1e-6
            if not use.is_binding:
                assert gained == pytest.approx(0, abs=1e-6)

    def test_limits_tell_usage_slack_and_the_unit_of_their_price(self):
        limit = Limit("calls", "capacity", np.array([1.0]), 2, unit="call")
        use = allocate(np.array([[5.0], [4.0], [3.0]]), [limit], unit="CNY").limits[0]
        assert (use.usage, use.slack, use.price_unit) == (2.0, 0.0, "CNY per call")
        assert use.is_binding
        assert 3.0 <= use.price <= 4.0

    def test_indivisible_customers_are_told_from_a_poor_plan(self):
        value = np.array([[10.0], [9.0]])
        plan = allocate(value, [Limit("budget", "budget", np.array([2.0]), 3.0)])
        assert plan.value == 10.0
        assert plan.bound == pytest.approx(14.5)
        assert plan.proof == "search"

    def test_it_can_be_stopped(self, lab):
        token = CancelToken()
        token.cancel()
        value, limits = lab.campaign_problem(300, 6, 1)
        with pytest.raises(Cancelled):
            allocate(value, limits, progress=SilentProgress(token))


class TestAllocateRefuses:
    @pytest.mark.parametrize(
        ("build", "words"),
        [
            (lambda: allocate(np.ones(3), []), "shape"),
            (lambda: allocate(np.ones((3, 2), dtype=int), []), "int"),
            (lambda: allocate(np.array([[1.0, np.inf]]), []), "customer row 0, candidate 1"),
            (lambda: Limit("a", "capacity", np.array([1.0, -2.0]), 1), "-2.0 at position (1,)"),
            (lambda: Limit("a", "capacity", np.array([np.nan]), 1), "nan"),
            (lambda: Limit("a", "capacity", np.ones(2), -1), "bound -1.0"),
            (lambda: Limit("a", "capacity", np.ones(2), float("nan")), "bound nan"),
            (lambda: Limit("a", "capacity", np.ones(2), 1, np.array([0, 1])), "members is int"),
            (lambda: allocate(np.ones((3, 2)), [Limit("a", "x", np.ones(3), 1)]), "(3,)"),
            (
                lambda: allocate(
                    np.ones((3, 2)), [Limit("a", "x", np.ones(2), 1, np.ones(4, bool))]
                ),
                "4 members for 3 customers",
            ),
            (
                lambda: allocate(np.ones((3, 2)), [Limit("a", "x", np.ones(2), 1)] * 2),
                "Two limits are named 'a'",
            ),
        ],
    )
    def test_unreadable_problems_with_the_place_and_a_remedy(self, build, words):
        with pytest.raises(UserError) as caught:
            build()
        assert words in str(caught.value)
        assert caught.value.remedy
        assert caught.value.zh


class TestManyCandidates:
    def test_more_than_choices_can_name_are_refused(self):
        with pytest.raises(UserError, match="32768 candidates are more than 32767"):
            allocate(np.full((1, 32_768), np.nan), [])


class TestSeededDefects:
    """Each promise is broken on purpose, and the check has to notice."""

    def test_a_repair_that_drops_nothing_is_noticed(self, lab, monkeypatch):
        monkeypatch.setattr(repair, "round_core", lambda o, p: repair.best_choice(o, 0 * p.prices))
        value, limits = lab.campaign_problem(300, 6, 1)
        allocate(value, limits)  # the repair alone mends the greedy start
        monkeypatch.setattr(repair, "drop_excess", lambda *_: None)
        with pytest.raises(DefectError, match="breaks the limits"):
            allocate(value, limits)

    def test_a_bound_below_the_plan_is_noticed(self, lab, monkeypatch):
        honest = price.dual_bound
        monkeypatch.setattr(price, "dual_bound", lambda o, p: 0.9 * honest(o, p))
        value, limits = lab.campaign_problem(300, 6, 1)
        with pytest.raises(DefectError, match="above"):
            allocate(value, limits)

    def test_a_contact_that_is_not_eligible_is_noticed(self):
        value = np.array([[1.0, np.nan]])
        plan = allocate(value, [])
        with pytest.raises(DefectError, match="not eligible"):
            check_allocation(replace(plan, contacts=np.array([[1]], dtype=np.int16)), value)

    def test_prices_that_stop_early_fail_the_certificate(self, lab, monkeypatch):
        """A solver that stops after its first sample must not look certified."""
        value, limits = lab.campaign_problem(3000, 12, 3, units=3)
        assert allocate(value, limits).gap <= 1e-3
        monkeypatch.setattr(price, "MAX_STEPS", 1)
        monkeypatch.setattr(price, "CORE_OPTIONS", 300)
        plan = allocate(value, limits)
        require_sound(value, limits, plan)
        assert plan.gap > 1e-3
        assert plan.proof != "duality"
