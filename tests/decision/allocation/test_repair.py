from __future__ import annotations

import numpy as np
import pytest

from bihuan.decision import Limit
from bihuan.decision.allocation.price import find_prices
from bihuan.decision.allocation.repair import (
    allowance,
    best_choice,
    drop_excess,
    fill,
    make_plan,
    plan_value,
    round_core,
)

from .options_of import build_options


@pytest.fixture
def case(lab):
    value, limits = lab.campaign_problem(1200, 12, 8, units=2)
    options = build_options(value, limits)
    return options, find_prices(options)


class TestRoundCore:
    def test_keeps_every_limit_where_the_core_is_exact(self, case):
        options, pricing = case
        choice = round_core(options, pricing)
        assert (allowance(options, choice) >= 0).all()
        assert plan_value(options, choice) >= 0.95 * pricing.bound

    def test_spreads_a_class_over_its_members(self):
        value = np.ones((100, 2))
        limits = [Limit("a", "capacity", np.array([1.0, 0]), 30)]
        limits.append(Limit("b", "capacity", np.array([0, 1.0]), 20))
        options = build_options(value, limits)
        choice = round_core(options, find_prices(options))
        assert np.bincount(options.kind[choice[choice >= 0]]).tolist() == [30, 20]


class TestDropExcess:
    def test_drops_until_every_limit_holds_and_the_least_first(self, case):
        options, pricing = case
        choice = best_choice(options, np.zeros(options.n_limits))
        assert (allowance(options, choice) < 0).any()
        before = choice.copy()
        drop_excess(options, choice, pricing.prices)
        assert (allowance(options, choice) >= 0).all()
        dropped = before[(before >= 0) & (choice < 0)]
        kept = choice[choice >= 0]
        reduced = options.reduced(pricing.prices, np.arange(len(options.value)))
        assert reduced[dropped].mean() < reduced[kept].mean()


class TestFill:
    def test_fills_until_nothing_fits(self, case):
        options, pricing = case
        choice = np.full(options.n_customers, -1)
        fill(options, choice, pricing.prices)
        room = allowance(options, choice)
        assert (room >= 0).all()
        free = np.repeat(choice < 0, np.diff(options.start))
        use = options.rows(np.flatnonzero(free)).toarray()
        assert not (use <= room).all(axis=1).any()

    def test_counts_weights_that_differ_between_customers(self):
        weight = np.array([[1.0], [2.0], [4.0]])
        options = build_options(np.ones((3, 1)), [Limit("sales", "sales", weight, 3.0)])
        choice = np.full(3, -1)
        fill(options, choice, np.zeros(1))
        assert sorted(options.customer[choice >= 0].tolist()) == [0, 1]


class TestMakePlan:
    def test_closes_the_gap_that_rounding_leaves(self):
        rng = np.random.default_rng(5)
        value = rng.random((300, 8))
        limits = [Limit(f"l{i}", "budget", 1 + rng.random(8), 21.3) for i in range(3)]
        options = build_options(value, limits)
        pricing = find_prices(options)
        rounded = plan_value(options, round_core(options, pricing))
        plan = make_plan(options, pricing, tolerance=1e-3, report=lambda: None)
        assert rounded < 0.95 * pricing.bound
        assert plan.value > 0.997 * pricing.bound
