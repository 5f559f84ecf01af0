"""Thresholds by hand, found from what is wanted, and stability month by month."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bihuan.model import NotEstimable, find_threshold, stability_by_period, threshold_table
from bihuan.model.screening import ThresholdError

SCORE = np.array([700.0, 600, 600, 500, 400])
LABEL = np.array([True, True, False, False, False])


class TestThresholdTable:
    def test_by_hand(self):
        table = threshold_table(SCORE, label=LABEL).to_pydict()
        assert table["threshold"] == [600, 500, 400, 399]
        assert table["size"] == [1, 3, 4, 5]
        assert table["response"] == pytest.approx([1, 2 / 3, 0.5, 0.4])
        assert table["captured"] == pytest.approx([0.5, 1, 1, 1])
        assert table["lift"] == pytest.approx([2.5, 5 / 3, 1.25, 1])

    def test_expected_response_before_answers_are_known(self):
        table = threshold_table(SCORE, probability=np.array([0.8, 0.5, 0.5, 0.2, 0.0]))
        assert table["response"].to_pylist() == pytest.approx([0.8, 0.6, 0.5, 0.4])
        assert table["response_low"].null_count == 4

    @given(
        st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=80),
    )
    def test_every_line_is_what_counting_gives(self, rows):
        score = np.array([float(row[0]) for row in rows])
        label = np.array([row[1] for row in rows])
        for line in threshold_table(score, label=label).to_pylist():
            above = score > line["threshold"]
            assert line["size"] == above.sum()
            assert line["response"] == pytest.approx(label[above].mean())
            assert line["response_low"] <= line["response"] <= line["response_high"]

    def test_thousands_of_scores_make_a_table_one_can_read(self):
        score = np.random.default_rng(0).random(5000)
        table = threshold_table(score, probability=score)
        assert 150 < table.num_rows <= 201
        assert table["size"].to_pylist()[-1] == 5000
        assert (np.diff(table["threshold"].to_numpy()) < 0).all()

    def test_refuses_both_or_neither_answer(self):
        with pytest.raises(ThresholdError):
            threshold_table(SCORE)
        with pytest.raises(ThresholdError):
            threshold_table(SCORE, label=LABEL, probability=SCORE / 1000)
        with pytest.raises(ThresholdError, match="scores and"):
            threshold_table(SCORE, label=LABEL[:2])


class TestFindThreshold:
    def test_by_size_and_by_response(self):
        table = threshold_table(SCORE, label=LABEL)
        by_size = find_threshold(table, size=3)
        assert (by_size.value, by_size.size) == (500, 3)
        assert by_size.to_text("score") == "score > 500"
        assert find_threshold(table, response=0.5).value == 400

    def test_what_cannot_be_had_is_said(self):
        table = threshold_table(SCORE, label=LABEL)
        assert isinstance(find_threshold(table, size=0), NotEstimable)
        refused = find_threshold(threshold_table(SCORE, label=~LABEL), response=0.9)
        assert isinstance(refused, NotEstimable)
        assert "60.00%" in refused.reason["zh"]

    def test_wants_exactly_one_wish(self):
        table = threshold_table(SCORE, label=LABEL)
        with pytest.raises(ThresholdError):
            find_threshold(table)
        with pytest.raises(ThresholdError):
            find_threshold(table, size=3, response=0.5)


class TestStabilityByPeriod:
    def test_tells_the_month_that_moved(self):
        rng = np.random.default_rng(0)
        period = np.repeat(np.arange(1, 5, dtype=np.int32), 2000)
        score = rng.normal(500, 50, 8000) + 60 * (period == 4)
        found = stability_by_period(score, period).to_pydict()
        assert found["period"] == [1, 2, 3, 4]
        assert found["rows"] == [2000] * 4
        assert found["stability_index"][0] == 0
        assert max(found["stability_index"][1:3]) < 0.05
        assert found["stability_index"][3] > 0.25
        assert found["mean"][3] == pytest.approx(560, abs=5)
