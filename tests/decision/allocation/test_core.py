"""Who is fixed stays fixed while prices move within the box; who is not is in the core."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.decision import ContactRules, Lag, Limit, Pairs, open_pairs
from bihuan.decision.allocation.core import core_options, gather_core
from bihuan.decision.allocation.descent import Crowd, ask
from bihuan.decision.allocation.rules import list_bundles
from bihuan.decision.allocation.terms import Terms, build_terms
from bihuan.kernel import random_stream


def case(seed: int, *, most: int, n: int = 60) -> tuple[Pairs, Terms, np.random.Generator]:
    rng = random_stream(seed, "test", "core")
    m = 5
    value = rng.integers(1, 9, (n, m)).astype(float)  # few levels: ties are frequent
    value[rng.random((n, m)) < 0.4] = np.nan
    pairs = open_pairs(value, rng.integers(0, 2, n).astype(np.uint8), 2)
    limits = [
        Limit("a", "capacity", np.array([1.0, 1, 0, 0, 0]), 9),
        Limit("b", "budget", np.array([1.0, 0, 2, 0, 0]), 12, np.array([True, False])),
        Limit("c", "minimum", np.array([0.0, 0, 0, 1, 0]), 5, penalty=20.0),
    ]  # the last candidate uses nothing: its charge never moves
    one = np.eye(m, dtype=bool)
    lags = [Lag(one[0], one[1], 9), Lag(one[2], one[3], 9)]
    rules = ContactRules.spaced(np.arange(m), lags, most=most)
    return pairs, build_terms(limits, 2, rules), rng


def best_value(pairs: Pairs, terms: Terms, prices: np.ndarray) -> np.ndarray:
    """Return what each customer gets at prices, by trying every set that is allowed."""
    customer = np.repeat(np.arange(pairs.n_customers), np.diff(pairs.start))
    net = pairs.value - terms.tariff(prices)[pairs.group[customer], pairs.candidate]
    bundles = list_bundles(customer, pairs.candidate.astype(np.int64), terms.rules)
    worth = np.where(bundles >= 0, net[bundles], 0.0).sum(axis=1)
    best = np.zeros(pairs.n_customers)
    np.maximum.at(best, customer[bundles[:, 0]], worth)
    return best


@pytest.mark.parametrize("most", [1, 2, 3])
class TestGatherCore:
    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10_000), width=st.sampled_from([0.0, 0.3, 1.0, 3.0]))
    def test_the_core_and_the_fixed_sum_are_the_whole_dual_within_the_box(self, most, seed, width):
        pairs, terms, rng = case(seed, most=most)
        prices, radius = rng.uniform(0, 4, 3), rng.uniform(0, 1, 3) * width
        slack = terms.reach(radius, np.zeros(0))
        found = gather_core([pairs], terms, prices, slack)
        for _ in range(3):
            near = np.clip(prices + rng.uniform(-1, 1, 3) * radius, 0, terms.ceiling)
            answer = ask(found.crowd, terms, near, np.ones(6))
            whole = best_value(pairs, terms, near).sum() + near @ terms.bound
            assert answer.dual == pytest.approx(whole)

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 10_000))
    def test_blocks_do_not_matter(self, most, seed):
        pairs, terms, rng = case(seed, most=most)
        prices = rng.uniform(0, 4, 3)
        slack = terms.reach(np.full(3, 0.5), np.zeros(0))
        whole = gather_core([pairs], terms, prices, slack)
        cut = gather_core(
            [pairs.take(np.arange(at, at + 20)) for at in (0, 20, 40)], terms, prices, slack
        )
        assert np.array_equal(whole.customer, cut.customer)
        assert np.array_equal(whole.crowd.pairs.value, cut.crowd.pairs.value)
        assert np.allclose(whole.crowd.fixed_use, cut.crowd.fixed_use)

    def test_a_narrow_core_is_small(self, most):
        pairs, terms, _ = case(3, most=most)
        prices = np.array([2.5, 0.7, 0.1])
        slack = terms.reach(np.full(3, 1e-9), np.zeros(0))
        found = gather_core([pairs], terms, prices, slack)
        assert len(found.customer) < pairs.n_customers / 2


@pytest.mark.parametrize("most", [1, 2])
class TestAsk:
    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10_000))
    def test_everybody_gets_the_best_that_rules_allow(self, most, seed):
        pairs, terms, rng = case(seed, most=most)
        prices = rng.uniform(0, 4, 3)
        crowd = Crowd(pairs, np.ones(2), 0.0, np.zeros(3))
        answer = ask(crowd, terms, prices, np.ones(6))
        wanted = best_value(pairs, terms, prices).sum() + prices @ terms.bound
        assert answer.dual == pytest.approx(wanted)

    def test_its_slope_is_the_change_of_the_dual(self, most):
        pairs, terms, _ = case(11, most=most)
        crowd = Crowd(pairs, np.ones(2), 0.0, np.zeros(3))
        here = np.array([1.234, 0.567, 0.891])  # no tie at these prices
        for i in range(3):
            step = 1e-6 * np.eye(3)[i]
            change = ask(crowd, terms, here + step, np.ones(6)).dual
            change -= ask(crowd, terms, here - step, np.ones(6)).dual
            slope = terms.bound - ask(crowd, terms, here, np.ones(6)).use
            assert change / 2e-6 == pytest.approx(slope[i], abs=1e-3)


class TestCoreOptions:
    def test_sets_use_what_their_members_use(self):
        pairs, terms, _ = case(5, most=2)
        crowd = Crowd(pairs, np.ones(2), 0.0, np.zeros(3))
        from bihuan.decision.allocation.core import Core

        options, members = core_options(Core(crowd, np.arange(pairs.n_customers)), terms)
        plain = terms.plain.toarray().reshape(2, 5, 3)
        for at in range(0, len(options.value), 7):
            group = pairs.group[options.customer[options.owner(np.array([at]))[0]]]
            own = [j for j in members[at] if j >= 0]
            assert options.rows(np.array([at])).toarray()[0] == pytest.approx(
                plain[group][own].sum(axis=0)
            )

    def test_what_only_rounding_takes_from_a_bound_is_not_missed(self):
        pairs, terms, _ = case(5, most=1)
        from bihuan.decision.allocation.core import Core

        used = np.array([9.0 * (1 + 1e-12), 12.0 * 1.001, 0.0])
        crowd = Crowd(pairs, np.ones(2), 0.0, used)
        options, _ = core_options(Core(crowd, np.arange(pairs.n_customers)), terms)
        assert options.bound[0] == 0.0, "three times a tenth fit into three tenths"
        assert options.bound[1] < 0, "what is really used up stays seen"

    def test_what_others_use_is_taken_from_the_bounds(self):
        pairs, terms, _ = case(5, most=1)
        crowd = Crowd(pairs, np.ones(2), 7.0, np.array([2.0, 3.0, -1.0]))
        from bihuan.decision.allocation.core import Core

        core = Core(crowd, np.arange(pairs.n_customers))
        options, _ = core_options(core, replace(terms))
        assert options.bound.tolist() == [7.0, 9.0, -4.0]
