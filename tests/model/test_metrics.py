"""Closed forms to many decimals, agreement with scikit-learn, honest intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from bihuan.model import NotEstimable, evaluate_scores
from bihuan.model.metrics import (
    Metrics,
    ScoreShapeError,
    auc,
    calibration_table,
    delong_interval,
    expected_calibration_error,
    gains_at,
    gains_curve,
    mean_log_loss,
    midranks,
    wilson,
)


def pairs_auc(label, score):
    """Mann-Whitney by its definition, over all pairs."""
    above = score[label][:, None] - score[~label][None, :]
    return ((above > 0) + 0.5 * (above == 0)).mean()


labelled_scores = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 1.0])),
    min_size=2,
    max_size=40,
).filter(lambda rows: len({label for label, _ in rows}) == 2)


class TestAuc:
    def test_three_of_four_pairs(self):
        label = np.array([True, True, False, False])
        assert auc(label, np.array([0.8, 0.4, 0.5, 0.1])) == 0.75

    def test_a_tie_counts_half(self):
        label = np.array([True, True, False, False])
        assert auc(label, np.array([0.8, 0.4, 0.4, 0.1])) == 0.875

    def test_a_constant_score_is_chance(self):
        assert auc(np.array([True, False, False]), np.full(3, 0.3)) == 0.5

    @given(labelled_scores)
    def test_equals_the_count_over_all_pairs(self, rows):
        label = np.array([row[0] for row in rows])
        score = np.array([row[1] for row in rows])
        assert auc(label, score) == pytest.approx(pairs_auc(label, score), abs=1e-12)

    def test_agrees_with_sklearn(self):
        rng = np.random.default_rng(0)
        label = rng.random(5000) < 0.2
        score = np.round(rng.random(5000) + 0.3 * label, 2)
        assert auc(label, score) == pytest.approx(roc_auc_score(label, score), abs=1e-12)

    def test_one_class_is_not_estimable(self):
        found = auc(np.ones(3, dtype=bool), np.arange(3.0))
        assert isinstance(found, NotEstimable)
        assert "positive" in found.reason["en"]
        assert "正例" in found.reason["zh"]

    def test_an_ordinal_rank_instead_of_midranks_would_be_caught(self, monkeypatch):
        """Seeded defect: ties broken by position make a constant score look clever."""
        label = np.array([False] * 5 + [True] * 5)
        monkeypatch.setattr(
            "bihuan.model.metrics.midranks",
            lambda values: np.argsort(np.argsort(values, kind="stable")) + 1.0,
        )
        assert auc(label, np.zeros(10)) == 1.0  # the defect, seen
        monkeypatch.undo()
        assert auc(label, np.zeros(10)) == 0.5


class TestDelongInterval:
    def test_variance_by_its_definition(self):
        rng = np.random.default_rng(3)
        label = rng.random(60) < 0.4
        score = np.round(rng.normal(size=60) + label, 1)
        psi = score[label][:, None] - score[~label][None, :]
        psi = (psi > 0) + 0.5 * (psi == 0)
        area = psi.mean()
        variance = psi.mean(axis=1).var(ddof=1) / label.sum()
        variance += psi.mean(axis=0).var(ddof=1) / (~label).sum()
        centre, reach = np.log(area / (1 - area)), 1.959964 * variance**0.5 / (area * (1 - area))
        found = delong_interval(label, score)
        assert found.value == pytest.approx(area, abs=1e-12)
        assert found.low == pytest.approx(1 / (1 + np.exp(-(centre - reach))), abs=1e-6)
        assert found.high == pytest.approx(1 / (1 + np.exp(-(centre + reach))), abs=1e-6)

    def test_covers_the_true_auc_in_about_95_of_100_draws(self):
        rng = np.random.default_rng(5)
        true = 0.7602499  # Phi(1 / sqrt 2): normals one standard deviation apart
        covered = 0
        for _ in range(400):
            label = np.arange(120) < 40
            found = delong_interval(label, rng.normal(size=120) + label)
            covered += found.low <= true <= found.high
        # 400 draws: Monte-Carlo standard error 1.1 percent points
        assert 0.915 <= covered / 400 <= 0.985

    def test_perfect_separation_is_not_certainty(self):
        found = delong_interval(np.array([True] * 5 + [False] * 5), np.arange(10.0)[::-1])
        assert found.value == found.high == 1.0
        assert found.low < 0.6


class TestGains:
    def test_lift_and_gains_of_a_perfect_order(self):
        label = np.arange(100) < 20
        found = evaluate_scores(label, np.linspace(1, 0, 100))
        assert found.lift == pytest.approx((5, 5, 0, 0, 0, 0, 0, 0, 0, 0), abs=1e-12)
        assert found.gains[:3] == pytest.approx((0.5, 1.0, 1.0), abs=1e-12)
        assert found.alift.value == pytest.approx(0.9, abs=1e-12)  # 1 - rate / 2

    def test_constant_score_lifts_nothing(self):
        label = np.arange(100) < 20
        found = evaluate_scores(label, np.full(100, 0.2))
        assert found.lift == pytest.approx((1.0,) * 10, abs=1e-12)
        assert found.alift.value == pytest.approx(0.5, abs=1e-12)
        top = found.top_decile_lift
        assert (top.low, top.value, top.high) == pytest.approx((1.0, 1.0, 1.0))

    @given(labelled_scores)
    def test_alift_is_the_area_under_the_gains_curve(self, rows):
        label = np.array([row[0] for row in rows])
        score = np.array([row[1] for row in rows])
        contacted, found = gains_curve(label, score)
        area = float(np.trapezoid(found, contacted))
        assert evaluate_scores(label, score).alift.value == pytest.approx(area, abs=1e-9)

    def test_half_a_block_of_ties_finds_half_of_its_positives(self):
        label = np.array([True, False, True, False])
        share = gains_at(label, np.array([0.9, 0.5, 0.5, 0.1]), np.array([0.5]))
        assert share[0] == pytest.approx(0.75)

    def test_bootstrap_interval_of_the_lift_has_the_width_of_theory(self):
        rng = np.random.default_rng(9)
        n = 4000
        score = rng.random(n)
        label = rng.random(n) < np.where(score > 0.9, 0.5, 0.1)
        found = evaluate_scores(label, score).top_decile_lift
        # hits in the top tenth ~ binomial(400, .5): +-1.96 * sqrt(100) of 200, over the rest
        expected = 2 * 1.96 * np.sqrt(0.25 / 400) / 0.14
        assert found.high - found.low == pytest.approx(expected, rel=0.35)


class TestProbabilityMetrics:
    def test_agree_with_sklearn(self):
        rng = np.random.default_rng(1)
        p = rng.random(3000)
        label = rng.random(3000) < p
        found = evaluate_scores(label, p)
        assert found.brier.value == pytest.approx(brier_score_loss(label, p), abs=1e-12)
        assert found.log_loss.value == pytest.approx(log_loss(label, p), abs=1e-10)

    def test_log_loss_by_hand(self):
        label = np.array([True, False])
        assert mean_log_loss(label, np.array([0.8, 0.4])) == pytest.approx(
            (-np.log(0.8) - np.log(0.6)) / 2, abs=1e-12
        )
        assert np.isfinite(mean_log_loss(label, np.array([0.0, 1.0])))

    def test_calibration_table_by_hand(self):
        score = np.repeat([0.2, 0.6], 10)
        label = np.array(([True] * 3 + [False] * 7) + ([True] * 6 + [False] * 4))
        table = calibration_table(label, score)
        assert [(x.n, round(x.predicted, 6), x.observed) for x in table] == [
            (10, 0.2, 0.3),
            (10, 0.6, 0.6),
        ]
        assert expected_calibration_error(table) == pytest.approx(0.05, abs=1e-12)

    def test_wilson_by_hand(self):
        share, low, high = wilson(8, 10)
        assert (share, low, high) == pytest.approx((0.8, 0.490162, 0.943318), abs=1e-6)
        assert wilson(0, 10)[1] == 0.0

    def test_doubling_the_probabilities_is_seen(self):
        """Seeded defect: scores that promise twice the response still rank alike."""
        rng = np.random.default_rng(2)
        p = rng.random(20_000) * 0.4
        label = rng.random(20_000) < p
        good, bad = evaluate_scores(label, p), evaluate_scores(label, 2 * p)
        assert good.auc == bad.auc
        assert good.calibration_error < 0.02
        assert bad.calibration_error > 0.15


class TestEvaluateScores:
    def test_one_class_is_not_estimable(self):
        assert isinstance(evaluate_scores(np.zeros(4, bool), np.zeros(4)), NotEstimable)
        assert isinstance(evaluate_scores(np.zeros(0, bool), np.zeros(0)), NotEstimable)

    @pytest.mark.parametrize(
        ("label", "score"),
        [
            (np.array([True, False]), np.array([0.5])),
            (np.array([1, 0]), np.array([0.5, 0.4])),
            (np.array([True, False]), np.array([0.5, np.nan])),
            (np.array([True, False]), np.array([0.5, 1.5])),
        ],
    )
    def test_refuses_what_does_not_fit(self, label, score):
        with pytest.raises(ScoreShapeError) as caught:
            evaluate_scores(label, score)
        assert caught.value.remedy
        assert caught.value.zh

    def test_json_and_back(self):
        rng = np.random.default_rng(0)
        score = rng.random(200)
        found = evaluate_scores(rng.random(200) < score, score)
        assert Metrics.from_dict(found.to_dict()) == found

    def test_same_seed_same_interval(self):
        rng = np.random.default_rng(0)
        score = rng.random(500)
        label = rng.random(500) < score
        first, second = evaluate_scores(label, score, seed=4), evaluate_scores(label, score, seed=4)
        other = evaluate_scores(label, score, seed=5)
        assert first == second
        assert other.top_decile_lift != first.top_decile_lift


class TestMidranks:
    @settings(max_examples=50)
    @given(st.lists(st.integers(-5, 5), min_size=1, max_size=30))
    def test_mean_of_equal_ranks(self, values):
        x = np.array(values, dtype=float)
        expected = [(x < v).sum() + ((x == v).sum() + 1) / 2 for v in x]
        assert midranks(x) == pytest.approx(expected)
