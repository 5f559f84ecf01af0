"""Scorecards from data: the truth is found, points mean odds, and how firm they are is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from bihuan.model import (
    LabelledFrame,
    Scorecard,
    ScorecardRules,
    TooFewPositivesError,
    evaluate_scores,
    fit_scorecard,
    points_interval,
)
from bihuan.model.metrics import auc
from bihuan.model.steps.tuning import NoFeatureError

RULES = ScorecardRules(name="leave", title={"zh": "离网评分", "en": "Leaving"})


@pytest.fixture(scope="module")
def card(telco):
    return fit_scorecard(telco, RULES, seed=0)


class TestFitScorecard:
    def test_ranks_real_customers_nearly_as_well_as_a_model(self, card, telco):
        assert len(card.items) <= 10
        assert card.metrics.auc.value > 0.82
        assert auc(telco.label, card.score(telco.features)) > 0.83

    def test_points_are_whole_and_the_least_answer_has_none(self, card):
        for item in card.items:
            assert all(points == round(points) for points in item.points)
            assert min(item.points) == 0

    def test_points_double_the_odds_as_promised(self, card):
        p = card.probability(np.array([400.0, 450.0, 500.0]))
        odds = p / (1 - p)
        assert odds == pytest.approx([0.25, 0.5, 1.0])

    def test_points_mean_probabilities(self, make_truth):
        train, fresh = make_truth(20_000, 1), make_truth(20_000, 2)
        card = fit_scorecard(train.frame, RULES, seed=0)
        found = card.probability(card.score(fresh.features))
        assert evaluate_scores(fresh.label, found).calibration_error < 0.02
        assert found.mean() == pytest.approx(fresh.probability.mean(), abs=0.01)

    def test_asks_what_matters_and_nothing_else(self, truth):
        card = fit_scorecard(truth.frame, RULES, seed=0)
        assert {item.tag for item in card.items} == {"arpu", "tenure", "contract", "complained"}

    def test_numbers_get_points_that_move_one_way(self, truth):
        card = fit_scorecard(truth.frame, RULES, seed=0)
        items = {item.tag: item for item in card.items}
        arpu, tenure = items["arpu"].points[:-1], items["tenure"].points[:-1]
        assert list(arpu) == sorted(arpu)
        assert list(tenure) == sorted(tenure, reverse=True)
        contract = dict(zip(items["contract"].values, items["contract"].points, strict=False))
        assert contract["none"] > contract["one_year"] > contract["two_year"]

    def test_a_question_against_its_own_evidence_is_dropped(self):
        """Two echoes of one truth: the noisier would get negative points and must go."""
        rng = np.random.default_rng(0)
        truth = rng.normal(size=6000)
        label = rng.random(6000) < 1 / (1 + np.exp(1 - truth))
        echo = truth + rng.normal(size=6000) * 0.35
        frame = LabelledFrame(
            pa.array([f"c{i}" for i in range(6000)]), pa.table({"a": truth, "b": echo}), label
        )
        loose = replace(RULES, features=replace(RULES.features, max_correlation=1.0))
        for item in fit_scorecard(frame, loose, seed=0).items:
            bins = item.points[:-1]
            assert list(bins) == sorted(bins)

    def test_is_the_same_again_and_survives_its_file(self, card, telco, tmp_path):
        assert fit_scorecard(telco, RULES, seed=0) == card
        card.save(tmp_path / "leave.yaml")
        again = Scorecard.load(tmp_path / "leave.yaml")
        assert np.array_equal(again.score(telco.features), card.score(telco.features))
        assert again == card

    def test_refusals(self, truth):
        few = LabelledFrame(truth.frame.ids, truth.features, np.arange(len(truth.label)) < 10)
        with pytest.raises(TooFewPositivesError):
            fit_scorecard(few, RULES, seed=0)
        noise = LabelledFrame(truth.frame.ids, truth.features.select(["noise"]), truth.label)
        with pytest.raises(NoFeatureError, match=r"0\.02 above chance"):
            fit_scorecard(noise, RULES, seed=0)

    def test_missing_answers_have_points_of_their_own_evidence(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=5000)
        gone = rng.random(5000) < 0.3
        label = rng.random(5000) < np.where(gone, 0.6, 0.1)
        frame = LabelledFrame(
            pa.array([f"c{i}" for i in range(5000)]),
            pa.table({"x": np.where(gone, np.nan, x + label)}),
            label,
        )
        item = fit_scorecard(frame, RULES, seed=0).items[0]
        assert item.points[-1] > np.mean(item.points[:-1])


class TestPointsInterval:
    def test_holds_the_points_of_a_new_sample(self, make_truth):
        """Coverage: the interval of one sample against the points that a huge sample gives."""
        small, huge = make_truth(3000, 1), make_truth(60_000, 2)
        card = fit_scorecard(small.frame, RULES, seed=0)
        told = points_interval(card, small.frame, RULES, seed=0, replicates=120)
        settled = points_interval(card, huge.frame, RULES, seed=0, replicates=20)
        middle = (settled["low"].to_numpy() + settled["high"].to_numpy()) / 2
        low, high = told["low"].to_numpy(), told["high"].to_numpy()
        free = high > low  # the least answer is fixed at its own points
        inside = (low <= middle) & (middle <= high)
        assert inside[free].mean() >= 0.75
        assert (high - low)[free].mean() > 3

    def test_more_customers_make_points_firmer(self, make_truth):
        width = []
        for n in (1500, 12_000):
            data = make_truth(n, 4)
            card = fit_scorecard(data.frame, RULES, seed=0)
            told = points_interval(card, data.frame, RULES, seed=0, replicates=60)
            width.append(np.mean(told["high"].to_numpy() - told["low"].to_numpy()))
        assert width[1] < 0.6 * width[0]

    def test_has_a_line_per_answer_that_occurs(self, card, telco):
        told = points_interval(card, telco, RULES, seed=0, replicates=20)
        assert set(told["tag"].to_pylist()) == {item.tag for item in card.items}
        assert min(told["rows"].to_pylist()) > 0
        assert all(row["low"] <= row["points"] + 15 for row in told.to_pylist())
