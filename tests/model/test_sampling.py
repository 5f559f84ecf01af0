"""Who is drawn, who judges, and that the past never learns from the future."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.model.steps.sampling import (
    SamplingRules,
    TooFewPositivesError,
    ValidationRules,
    draw_sample,
    hold_out,
    inner_splits,
    require_cases,
    stratified_folds,
)


def rows(n=5000, rate=0.1, months=0, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.random(n) < rate
    period = np.sort(rng.integers(0, months, n)).astype(np.int32) if months else None
    return label, period


class TestDrawSample:
    def test_all_rows_unless_told_otherwise(self):
        label, period = rows(months=3)
        drawn = draw_sample(label, period, SamplingRules(), 0)
        assert drawn.rows.tolist() == list(range(5000))
        assert drawn.weight is None
        assert drawn.log_keep == 0.0

    def test_negatives_are_thinned_alike_in_every_month(self):
        label, period = rows(20_000, 0.05, months=4)
        drawn = draw_sample(label, period, SamplingRules(negatives_per_positive=4), 0)
        kept = np.zeros(20_000, dtype=bool)
        kept[drawn.rows] = True
        assert kept[label].all()
        assert (~label[drawn.rows]).sum() == pytest.approx(4 * label.sum(), rel=0.01)
        share = kept[~label].mean()
        assert drawn.log_keep == pytest.approx(np.log(share))
        for month in range(4):
            assert kept[~label & (period == month)].mean() == pytest.approx(share, abs=0.001)

    def test_a_large_frame_is_thinned_without_moving_the_rate(self):
        label, period = rows(30_000, 0.08, months=3)
        drawn = draw_sample(label, period, SamplingRules(max_rows=6000), 0)
        assert len(drawn.rows) == pytest.approx(6000, abs=5)
        assert drawn.log_keep == 0.0
        assert label[drawn.rows].mean() == pytest.approx(label.mean(), abs=0.001)

    def test_older_rows_weigh_less(self):
        label, period = rows(months=5)
        drawn = draw_sample(label, period, SamplingRules(half_life=2), 0)
        newest, before = drawn.weight[period == 4][0], drawn.weight[period == 2][0]
        assert before == pytest.approx(newest / 2)
        assert drawn.weight.mean() == pytest.approx(1.0)

    def test_same_seed_same_rows(self):
        label, period = rows()
        rules = SamplingRules(negatives_per_positive=2)
        first = draw_sample(label, period, rules, 1).rows
        assert first.tolist() == draw_sample(label, period, rules, 1).rows.tolist()
        assert first.tolist() != draw_sample(label, period, rules, 2).rows.tolist()


class TestHoldOut:
    def test_the_last_months_judge(self):
        label, period = rows(months=6)
        train, test, how = hold_out(label, period, ValidationRules(holdout_periods=2), 0)
        assert set(period[test]) == {4, 5}
        assert period[train].max() < period[test].min()
        assert "after all training months" in how["en"]

    def test_goes_further_back_until_there_is_enough_to_judge_by(self):
        label, period = rows(months=6)
        label[period == 5] = False
        _, test, _ = hold_out(label, period, ValidationRules(), 0)
        assert set(period[test]) == {4, 5}

    def test_without_months_a_stratified_share(self):
        label, _ = rows()
        train, test, _ = hold_out(label, None, ValidationRules(holdout_share=0.3), 0)
        assert sorted([*train, *test]) == list(range(5000))
        assert len(test) == pytest.approx(1500, abs=2)
        assert label[test].mean() == pytest.approx(label.mean(), abs=0.001)

    def test_with_few_cases_inner_folds_judge(self):
        label, _ = rows(400, 0.1)
        _, test, how = hold_out(label, None, ValidationRules(), 0)
        assert test is None
        assert "inner folds" in how["en"]


class TestInnerSplits:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 500), st.integers(2, 15), st.integers(2, 6))
    def test_no_month_is_judged_by_what_came_later(self, seed, months, folds):
        label, period = rows(1500, 0.2, months, seed)
        splits, is_by_time = inner_splits(label, period, folds, seed)
        assert splits
        for train, test in splits:
            assert not set(train) & set(test)
            assert 0 < label[train].sum() < len(train)
            assert 0 < label[test].sum() < len(test)
            if is_by_time:
                assert period[train].max() < period[test].min()

    def test_a_random_split_of_months_would_be_caught(self):
        """Seeded defect: stratified folds on dated rows learn from the future."""
        label, period = rows(months=5)
        splits, is_by_time = inner_splits(label, None, 3, 0)
        assert not is_by_time
        assert any(period[train].max() >= period[test].min() for train, test in splits)

    def test_too_few_cases_in_the_past_fall_back_to_folds(self):
        label, period = rows(200, 0.2, months=3)
        label[period == 0] = False
        label[period == 1] = False
        _, is_by_time = inner_splits(label, period, 3, 0)
        assert not is_by_time


class TestStratifiedFolds:
    def test_every_fold_has_its_share_of_both(self):
        label, _ = rows(1003, 0.13)
        fold = stratified_folds(label, 10, np.random.default_rng(0))
        assert np.ptp(np.bincount(fold)) <= 1
        assert np.ptp(np.bincount(fold[label])) <= 1


class TestRequireCases:
    def test_says_how_many_there_are_and_how_many_are_needed(self):
        label = np.arange(100) < 29
        with pytest.raises(TooFewPositivesError, match="only 29 positive rows; at least 30") as got:
            require_cases(label)
        assert (got.value.cases, got.value.needed) == (29, 30)
        assert "30" in got.value.zh
        require_cases(np.arange(100) < 30)

    def test_too_few_negatives_are_no_better(self):
        with pytest.raises(TooFewPositivesError, match="only 5 negative"):
            require_cases(np.arange(100) >= 5)
