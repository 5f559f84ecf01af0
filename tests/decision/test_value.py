from __future__ import annotations

import numpy as np
import pytest

from bihuan.decision import Candidate, expected_value
from bihuan.decision.value import FACTORS, FactorError, require_candidates

CHANCE = np.array([[0.1, 0.5], [np.nan, 0.2]])


class TestExpectedValue:
    def test_multiplies_all_factors_and_subtracts_the_cost(self):
        value = expected_value(
            CHANCE, [100.0, 10.0], [2.0, 1.0], context=np.array([[2.0], [3.0]]), lever=[1.0, 0.5]
        )
        assert value[0].tolist() == pytest.approx([0.1 * 100 * 2 - 2, 0.5 * 10 * 2 * 0.5 - 1])
        assert value[1, 1] == pytest.approx(0.2 * 10 * 3 * 0.5 - 1)

    def test_missing_factors_make_a_pair_not_eligible(self):
        assert np.isnan(expected_value(CHANCE, 10.0, 0.0)[1, 0])
        assert np.isnan(expected_value([[0.1, 0.2]], [np.nan, 5.0], 0.0)).tolist() == [
            [True, False]
        ]

    @pytest.mark.parametrize("name", FACTORS)
    def test_every_factor_can_be_switched_off(self, name):
        factors = {
            "margin": np.array([100.0, 10.0]),
            "cost": np.array([2.0, 1.0]),
            "context": np.array([[2.0], [3.0]]),
            "lever": np.array([1.5, 0.5]),
        }
        off = expected_value(CHANCE, **factors, off=[name])
        neutral = {**factors, name: 0.0 if name == "cost" else 1.0}
        chance = np.where(np.isnan(CHANCE), np.nan, 1.0) if name == "propensity" else CHANCE
        neutral.pop("propensity", None)
        assert off == pytest.approx(expected_value(chance, **neutral), nan_ok=True)
        on = expected_value(CHANCE, **factors)
        assert not np.allclose(off, on, equal_nan=True)

    def test_does_not_change_its_inputs(self):
        chance = CHANCE.copy()
        expected_value(chance, 10.0, 1.0)
        assert np.array_equal(chance, CHANCE, equal_nan=True)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (([0.1], 1.0, 0.0), "propensity has shape (1,)"),
            (([[1.2, 0.0]], 1.0, 0.0), "propensity is 1.2 at position (0, 0)"),
            (([[0.1, 0.2]], [1.0, 2.0, 3.0], 0.0), "margin has shape (3,)"),
            (([[0.1, 0.2]], 1.0, [0.0, -1.0]), "cost is -1.0 at position (1,)"),
            (([[0.1, 0.2]], [1.0, np.inf], 0.0), "margin is inf"),
        ],
    )
    def test_refuses_wrong_shapes_and_ranges_with_the_place(self, arguments, words):
        with pytest.raises(FactorError) as caught:
            expected_value(*arguments)
        assert words in str(caught.value)
        assert caught.value.remedy
        assert caught.value.zh

    def test_refuses_a_vector_of_customers_that_could_be_taken_for_candidates(self):
        with pytest.raises(FactorError, match="context has shape"):
            expected_value(np.full((3, 2), 0.1), 1.0, 0.0, context=np.ones(3))

    def test_refuses_an_unknown_factor(self):
        with pytest.raises(FactorError, match="'price'"):
            expected_value(CHANCE, 1.0, 0.0, off=["price"])


class TestRequireCandidates:
    def test_refuses_a_candidate_listed_twice(self):
        pair = Candidate("a", "sms")
        require_candidates([pair, Candidate("a", "sms", step=2)])
        with pytest.raises(FactorError, match="a · sms · 1"):
            require_candidates([pair, Candidate("a", "sms")])
