"""Evidence by hand, optimal bins against brute force, merging that does not repeat labels."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.model.steps.binning import (
    BinRule,
    MergeRule,
    assign_bins,
    binned_auc,
    chance_information,
    count_by_bin,
    information_value,
    merge_levels,
    optimal_edges,
    quantile_edges,
    stability_index,
    weight_of_evidence,
)


class TestEvidence:
    def test_woe_and_iv_by_hand(self):
        p, q = np.array([30.0, 10.0]), np.array([30.0, 90.0])
        # shares .75/.25 of positives, .25/.75 of negatives: ln 3 and -ln 3; IV = 2 * .5 * ln 3
        assert weight_of_evidence(p, q, smooth=0) == pytest.approx([np.log(3), -np.log(3)])
        assert information_value(p, q, smooth=0) == pytest.approx(np.log(3), abs=1e-12)

    def test_an_empty_cell_stays_finite(self):
        assert np.isfinite(weight_of_evidence(np.array([5.0, 0.0]), np.array([5.0, 9.0]))).all()

    def test_chance_information_is_what_noise_shows(self):
        rng = np.random.default_rng(0)
        seen = []
        for _ in range(300):
            label = rng.random(2000) < 0.1
            counts = count_by_bin(rng.integers(0, 10, 2000), label, 10)
            seen.append(information_value(*counts, smooth=0))
        mean, reach = chance_information(10, 200, 1800)
        assert np.mean(seen) == pytest.approx(mean, rel=0.12)
        assert 0.02 < np.mean(np.array(seen) > mean + reach) < 0.10

    def test_binned_auc_by_hand(self):
        assert binned_auc(np.array([1.0, 3.0]), np.array([3.0, 1.0])) == pytest.approx(0.75)
        assert binned_auc(np.array([0.0, 0.0]), np.array([3.0, 1.0])) == 0.5


class TestQuantileEdges:
    def test_bins_are_about_equal(self):
        values = np.arange(1000.0)
        bins = assign_bins(values, quantile_edges(values, 10))
        assert np.bincount(bins, minlength=11)[:10].tolist() == [100] * 10

    def test_a_flood_of_zeros_does_not_swallow_the_rest(self):
        values = np.concatenate([np.zeros(970), np.arange(1.0, 31.0)])
        bins = assign_bins(values, quantile_edges(values, 10))
        assert (bins[:970] == 0).all()
        assert len(np.unique(bins[970:])) >= 8

    def test_missing_has_its_own_bin_and_constants_have_none(self):
        edges = quantile_edges(np.array([1.0, 2.0, np.nan]), 5)
        assert assign_bins(np.array([np.nan, 1.0, 2.0]), edges).tolist() == [2, 0, 1]
        assert len(quantile_edges(np.full(9, 3.0), 5)) == 0
        assert len(quantile_edges(np.full(9, np.nan), 5)) == 0

    @given(
        st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=60),
        st.integers(2, 12),
    )
    def test_edges_rise_and_every_bin_is_hit(self, values, n_bins):
        x = np.array(values)
        edges = quantile_edges(x, n_bins)
        assert (np.diff(edges) > 0).all()
        bins = assign_bins(x, edges)
        assert set(bins) == set(range(len(edges) + 1))


class TestOptimalEdges:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10_000))
    def test_no_other_join_of_neighbours_has_more_information(self, seed):
        rng = np.random.default_rng(seed)
        values = rng.integers(0, 8, 400).astype(float)
        label = rng.random(400) < 0.1 + 0.1 * rng.random(8)[values.astype(int)]
        if label.sum() < 5:
            return
        rule = BinRule(max_bins=4, min_share=0.1, min_rows=10, trend="free")
        found = optimal_edges(values, label, rule)

        def value(cuts):
            bins = np.searchsorted(cuts, values, side="right")
            if (np.bincount(bins, minlength=len(cuts) + 1) < 40).any():
                return -1.0
            p, q = count_by_bin(bins, label, len(cuts) + 1)
            a, b = (p + 0.5) / p.sum(), (q + 0.5) / q.sum()
            return float(((a - b) * np.log(a / b)).sum())

        best = max(value(cuts) for k in range(4) for cuts in combinations(np.arange(1.0, 8.0), k))
        assert value(found) == pytest.approx(best, abs=1e-9)

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10_000))
    def test_response_moves_one_way(self, seed):
        rng = np.random.default_rng(seed)
        values = rng.gamma(2, 30, 1500)
        label = rng.random(1500) < 0.3 / (1 + np.exp((values - 60) / rng.normal(0, 30)))
        if label.sum() < 20:
            return
        edges = optimal_edges(values, label, BinRule())
        p, q = count_by_bin(np.searchsorted(edges, values, side="right"), label, len(edges) + 1)
        steps = np.diff(p / (p + q))
        assert (steps > 0).all() or (steps < 0).all()
        assert (p + q).min() >= 0.05 * 1500

    def test_cuts_where_the_truth_jumps(self):
        rng = np.random.default_rng(0)
        values = rng.uniform(0, 100, 20_000)
        label = rng.random(20_000) < np.where(values < 30, 0.05, np.where(values < 70, 0.2, 0.4))
        edges = optimal_edges(values, label, BinRule(max_bins=3))
        assert edges == pytest.approx([30, 70], abs=2.5)

    def test_nothing_to_cut(self):
        values = np.arange(100.0)
        assert len(optimal_edges(values, np.zeros(100, bool), BinRule())) == 0
        assert len(optimal_edges(np.full(100, 1.0), values > 50, BinRule())) == 0
        assert len(optimal_edges(np.full(100, np.nan), values > 50, BinRule())) == 0


class TestMergeLevels:
    def test_rare_levels_are_pooled_without_a_look_at_their_response(self):
        # two big levels, and 40 levels of one customer each, half of whom responded
        positives = np.array([100.0, 300.0] + [1.0, 0.0] * 20)
        negatives = np.array([900.0, 700.0] + [0.0, 1.0] * 20)
        groups = merge_levels(positives, negatives, MergeRule())
        assert tuple(range(2, 42)) in groups

    def test_pooling_by_response_would_repeat_the_training_labels(self):
        """Seeded defect: merging rare levels by their own response makes noise look certain."""
        rng = np.random.default_rng(0)
        level = rng.integers(0, 2000, 4000)  # two customers per level
        label = rng.random(4000) < 0.3
        p, q = count_by_bin(level, label, 2000)
        honest = merge_levels(p, q, MergeRule())
        seduced = merge_levels(p, q, MergeRule(min_rows=1))

        def information(groups):
            a = np.array([[p[list(g)].sum(), q[list(g)].sum()] for g in groups])
            return information_value(a[:, 0], a[:, 1])

        assert len(honest) == 1
        assert information(seduced) > 0.5

    def test_alike_neighbours_are_merged_first(self):
        positives = np.array([100.0, 102.0, 300.0, 500.0])
        groups = merge_levels(positives, 1000 - positives, MergeRule(max_groups=3))
        assert groups == ((0, 1), (2,), (3,))

    def test_groups_rise_in_response_and_hold_every_level_once(self):
        rng = np.random.default_rng(1)
        p, q = rng.integers(0, 50, 60).astype(float), rng.integers(0, 400, 60).astype(float)
        groups = merge_levels(p, q, MergeRule(min_share=0.02, max_groups=8))
        seen = sorted(level for group in groups for level in group)
        assert seen == np.flatnonzero(p + q).tolist()
        assert len(groups) <= 8
        least = max(0.02 * (p + q).sum(), 30)
        assert all((p + q)[list(group)].sum() >= least for group in groups)

    def test_one_level_is_one_group(self):
        assert merge_levels(np.array([3.0]), np.array([2.0]), MergeRule()) == ((0,),)
        assert merge_levels(np.array([]), np.array([]), MergeRule()) == ()


class TestStabilityIndex:
    def test_by_hand(self):
        # (.8-.5) ln(.8/.5) + (.2-.5) ln(.2/.5), large counts make the half row vanish
        expected = 0.3 * np.log(1.6) - 0.3 * np.log(0.4)
        assert stability_index([5e6, 5e6], [8e6, 2e6]) == pytest.approx(expected, abs=1e-5)

    def test_same_shape_at_another_size_is_stable(self):
        assert stability_index([1e6, 3e6], [1e3, 3e3]) < 1e-6
