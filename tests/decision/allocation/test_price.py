from __future__ import annotations

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from bihuan.decision import Limit
from bihuan.decision.allocation.price import (
    dual_bound,
    find_prices,
    price_caps,
    solve_core,
    take_core,
)

from .options_of import build_options

price = importlib.import_module("bihuan.decision.allocation.price")


class TestDualBound:
    @settings(max_examples=60, deadline=None)
    @given(seed=st.integers(0, 200), scale=st.floats(0, 30))
    def test_any_prices_give_a_bound_on_the_optimum(self, lab, seed, scale):
        value, limits = lab.campaign_problem(40, 6, seed)
        options = build_options(value, limits)
        prices = np.random.default_rng(seed).random(len(limits)) * scale
        optimum = lab.exact_optimum(value, limits, whole=True)
        assert dual_bound(options, prices) >= optimum - 1e-6

    def test_chunks_do_not_change_it(self, lab, monkeypatch):
        value, limits = lab.campaign_problem(500, 6, 4)
        options = build_options(value, limits)
        prices = np.linspace(0, 5, len(limits))
        whole = dual_bound(options, prices)
        monkeypatch.setattr("bihuan.decision.allocation.options.CHUNK_OPTIONS", 37)
        assert len(list(options.chunks())) > 10
        assert dual_bound(options, prices) == pytest.approx(whole, rel=1e-13)

    def test_it_is_never_below_the_exact_sum(self):
        """Seven tenths cannot be added exactly; the bound has to err upwards."""
        value = np.full((7000, 1), 0.1)
        assert dual_bound(build_options(value, []), np.empty(0)) >= 700.0


class TestTakeCore:
    def test_customers_outside_the_core_keep_their_choice_in_the_whole_box(self, lab):
        value, limits = lab.campaign_problem(800, 12, 6)
        options = build_options(value, limits)
        rng = np.random.default_rng(0)
        middle = find_prices(options).prices
        low, high = middle * 0.9, middle * 1.1 + 0.05
        core = take_core(options, low, high, most=10**9)
        fixed = core.anchor != -2
        assert 0 < fixed.sum() < options.n_customers
        for _ in range(20):
            prices = low + rng.random(len(low)) * (high - low)
            reduced = options.reduced(prices, slice(0, len(options.value)))
            best = np.maximum(np.maximum.reduceat(reduced, options.start[:-1]), 0)
            anchored = np.where(core.anchor >= 0, reduced[core.anchor], 0.0)
            assert anchored[fixed] == pytest.approx(best[fixed])

    def test_equal_customers_become_one_class(self):
        value = np.repeat(np.array([[3.0, 1.0], [2.0, np.nan]]), 50, axis=0)
        options = build_options(value, [Limit("a", "capacity", np.ones(2), 10)])
        core = take_core(options, np.zeros(1), np.array([9.0]), most=10)
        assert sorted(core.mass.tolist()) == [50.0, 50.0]
        assert core.is_exact

    def test_a_sampled_core_stands_for_everybody(self, lab):
        value, limits = lab.campaign_problem(800, 6, 6)
        options = build_options(value, limits)
        core = take_core(options, np.zeros(len(limits)), price_caps(options), most=200)
        assert not core.is_exact
        assert core.mass.sum() == pytest.approx(len(core.customer))


class TestSolveCore:
    def test_its_prices_are_the_least_in_the_box(self, lab):
        value, limits = lab.campaign_problem(300, 6, 2)
        options = build_options(value, limits)
        cap = price_caps(options)
        rng = np.random.default_rng(1)
        low = find_prices(options).prices * 0.5
        box = (low, np.minimum(low + 1.0, cap))
        core = take_core(options, *box, most=10**9)
        found, _ = solve_core(options, core, box, cap)
        least = dual_bound(options, found)
        for _ in range(50):
            other = box[0] + rng.random(len(low)) * (box[1] - box[0])
            assert dual_bound(options, other) >= least - 1e-7 * least

    def test_without_a_core_it_goes_to_the_edge_that_lowers_the_dual(self):
        """Where nobody can change his mind, an overloaded limit must still become dearer."""
        options = build_options(np.full((9, 1), 50.0), [Limit("a", "capacity", np.ones(1), 4)])
        box = (np.zeros(1), np.array([1.0]))
        core = take_core(options, *box, most=100)
        assert len(core.option) == 0
        assert solve_core(options, core, box, price_caps(options))[0].tolist() == [1.0]
        assert find_prices(options).bound == pytest.approx(200.0)


class TestFindPrices:
    def test_limits_that_cannot_bind_cost_nothing(self, lab):
        value, limits = lab.campaign_problem(300, 6, 2)
        wide = [*limits, Limit("wide", "capacity", np.ones(6), 10_000)]
        assert find_prices(build_options(value, wide)).prices[-1] == 0.0

    def test_a_solver_that_fails_still_gives_a_valid_bound(self, lab, monkeypatch):
        value, limits = lab.campaign_problem(200, 6, 2)
        options = build_options(value, limits)
        optimum = lab.exact_optimum(value, limits, whole=True)
        honest = optimize.linprog

        def failing(*args, **kwargs):
            result = honest(*args, **kwargs)
            result.x = None
            return result

        monkeypatch.setattr(optimize, "linprog", failing)
        assert find_prices(options).bound >= optimum
