"""Learners against a known truth, against scikit-learn, and against themselves."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from bihuan.model.frame import decode
from bihuan.model.metrics import auc
from bihuan.model.steps.features import FeatureRules, prepare
from bihuan.model.steps.learner import (
    BlendLearner,
    BoostedSettings,
    LogisticSettings,
    Sample,
    batches,
    design_matrix,
    design_widths,
    fit_boosted,
    fit_logistic,
    newton_logistic,
    read_learner,
    trees_of,
)


@pytest.fixture(scope="module")
def fitted(telco):
    columns = telco.decode()
    plan = prepare(columns, telco.label, FeatureRules(), seed=0).plan
    sample = Sample(columns, telco.label)
    logistic = fit_logistic(sample, plan, LogisticSettings())
    boosted = fit_boosted(sample, plan, BoostedSettings(trees=60), seed=0, threads=1)
    return columns, plan, sample, logistic, boosted


class TestNewtonLogistic:
    @pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
    def test_agrees_with_sklearn_to_seven_decimals(self, fitted, strength):
        columns, plan, sample, logistic, _ = fitted
        matrix = design_matrix(plan, logistic.knots, columns)
        matrix = (matrix - logistic.mean) / logistic.scale
        rng = np.random.default_rng(0)
        weight = rng.uniform(0.2, 2.0, columns.n)
        found, intercept = newton_logistic(matrix, sample.label, weight, strength)
        judge = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-12, max_iter=500)
        judge.fit(matrix, sample.label, sample_weight=weight)
        assert found == pytest.approx(judge.coef_[0], abs=1e-6)
        assert intercept == pytest.approx(judge.intercept_[0], abs=1e-6)

    def test_recovers_known_coefficients(self):
        rng = np.random.default_rng(1)
        true = np.array([0.8, -0.5, 0.0, 0.3])
        matrix = rng.normal(size=(60_000, 4))
        label = rng.random(60_000) < 1 / (1 + np.exp(1.2 - matrix @ true))
        found, intercept = newton_logistic(matrix, label, None, 1e6)
        assert found == pytest.approx(true, abs=0.04)  # about 3.5 standard errors
        assert intercept == pytest.approx(-1.2, abs=0.04)

    def test_separable_classes_stay_finite(self):
        matrix = np.linspace(-1, 1, 40)[:, None]
        found, intercept = newton_logistic(matrix, matrix[:, 0] > 0, None, 1.0)
        assert np.isfinite([found[0], intercept]).all()


class TestLogisticLearner:
    def test_contributions_add_up_to_the_logit(self, fitted):
        columns, plan, _, logistic, _ = fitted
        parts = logistic.contributions(columns)
        assert parts.shape == (columns.n, len(plan.names))
        assert parts.sum(axis=1) + logistic.intercept == pytest.approx(
            logistic.logits(columns), abs=1e-9
        )
        assert parts.mean(axis=0) == pytest.approx(np.zeros(len(plan.names)), abs=1e-9)

    def test_bends_follow_a_bent_truth(self):
        rng = np.random.default_rng(2)
        x = rng.uniform(-2, 2, 8000)
        label = rng.random(8000) < 1 / (1 + np.exp(1 - 1.5 * np.abs(x)))
        columns = decode(pa.table({"x": x}))
        plan = prepare(columns, label, FeatureRules(), seed=0).plan
        sample = Sample(columns, label)
        bent = fit_logistic(sample, plan, LogisticSettings()).logits(columns)
        straight = fit_logistic(sample, plan, LogisticSettings(knots=0)).logits(columns)
        assert auc(label, bent) == pytest.approx(auc(label, np.abs(x)), abs=0.005)
        assert auc(label, straight) < 0.55

    def test_few_cases_buy_few_bends(self, truth):
        rows = np.concatenate([np.flatnonzero(truth.label)[:35], np.flatnonzero(~truth.label)])
        columns = truth.frame.decode().take(rows)
        plan = prepare(columns, truth.label[rows], FeatureRules(), seed=0).plan
        learner = fit_logistic(Sample(columns, truth.label[rows]), plan, LogisticSettings())
        assert not any(learner.knots.values())

    def test_widths_are_those_of_the_matrix(self, fitted):
        columns, plan, _, logistic, _ = fitted
        matrix = design_matrix(plan, logistic.knots, columns)
        assert matrix.shape[1] == sum(design_widths(plan, logistic.knots))
        assert np.isfinite(matrix).all()


class TestBoostedLearner:
    def test_contributions_add_up_to_the_logit_but_for_a_constant(self, fitted):
        columns, _, _, _, boosted = fitted
        rest = boosted.logits(columns) - boosted.contributions(columns).sum(axis=1)
        assert rest == pytest.approx(np.full(columns.n, rest[0]), abs=1e-6)

    def test_same_seed_same_trees_whatever_the_threads(self, fitted):
        columns, plan, sample, _, boosted = fitted
        again = fit_boosted(sample, plan, BoostedSettings(trees=60), seed=0, threads=1)
        wide = fit_boosted(sample, plan, BoostedSettings(trees=60), seed=0, threads=2)
        other = fit_boosted(sample, plan, BoostedSettings(trees=60), seed=1, threads=1)
        assert again.text == boosted.text
        assert np.array_equal(wide.logits(columns), boosted.logits(columns))
        assert not np.array_equal(other.logits(columns), boosted.logits(columns))


class TestBlendLearner:
    def test_is_the_mean_in_log_odds(self, fitted):
        columns, _, _, logistic, boosted = fitted
        blend = BlendLearner((logistic, boosted))
        mean = (logistic.logits(columns) + boosted.logits(columns)) / 2
        assert blend.logits(columns) == pytest.approx(mean, abs=1e-12)
        parts = (logistic.contributions(columns) + boosted.contributions(columns)) / 2
        assert blend.contributions(columns) == pytest.approx(parts, abs=1e-12)


class TestReadLearner:
    def test_what_was_written_scores_alike_to_the_last_bit(self, fitted):
        columns, plan, _, logistic, boosted = fitted
        blend = BlendLearner((logistic, boosted))
        for learner in (logistic, boosted, blend):
            again = read_learner(learner.to_dict(), plan, trees_of(learner))
            assert np.array_equal(again.logits(columns), learner.logits(columns))


class TestBatches:
    def test_batches_change_nothing(self, fitted, monkeypatch):
        columns, _, _, logistic, boosted = fitted
        whole = logistic.logits(columns), boosted.logits(columns)
        monkeypatch.setattr("bihuan.model.steps.learner.BATCH_ROWS", 1000)
        assert len(list(batches(columns))) == 8
        assert logistic.logits(columns) == pytest.approx(whole[0], abs=1e-12)
        assert np.array_equal(boosted.logits(columns), whole[1])

    def test_no_rows_no_scores(self, fitted):
        columns, _, _, logistic, _ = fitted
        nobody = columns.take(np.array([], dtype=np.intp))
        assert logistic.logits(nobody).shape == (0,)
        assert logistic.contributions(nobody).shape[0] == 0


class TestThinnedNegatives:
    def test_logits_are_put_right(self):
        rng = np.random.default_rng(4)
        x = rng.normal(size=40_000)
        label = rng.random(40_000) < 1 / (1 + np.exp(3 - x))
        keep = label | (rng.random(40_000) < 0.2)
        columns = decode(pa.table({"x": x}))
        plan = prepare(columns, label, FeatureRules(), seed=0).plan
        thinned = Sample(columns.take(np.flatnonzero(keep)), label[keep], None, float(np.log(0.2)))
        found = fit_logistic(thinned, plan, LogisticSettings(knots=0)).logits(columns)
        inside = np.abs(x) < 2  # beyond, values are pulled to the limits
        assert found[inside] == pytest.approx(x[inside] - 3, abs=0.25)
        forgotten = Sample(thinned.columns, thinned.label)  # seeded defect: no correction
        wrong = fit_logistic(forgotten, plan, LogisticSettings(knots=0)).logits(columns)
        assert (wrong - (x - 3))[inside].mean() == pytest.approx(np.log(5), abs=0.15)
