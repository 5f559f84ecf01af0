import numpy as np
import pytest
from scipy.stats import norm

from bihuan.evaluation import (
    NotEstimable,
    control_share,
    minimum_detectable_effect,
    power,
    power_of_means,
)
from bihuan.evaluation.design import DesignError
from bihuan.kernel import random_stream


class TestPower:
    def test_closed_form(self):
        error = np.sqrt(0.07 * 0.93 / 9000 + 0.05 * 0.95 / 1000)
        z = norm.ppf(0.975)
        wanted = norm.cdf(0.02 / error - z) + norm.cdf(-0.02 / error - z)
        assert power(9000, 1000, 0.05, 0.02) == pytest.approx(wanted, abs=1e-12)
        assert power(9000, 1000, 0.05, 0.02) == pytest.approx(0.77138, abs=1e-5)

    def test_textbook_sample_size(self):
        # (1.95996 + 0.84162)^2 (0.6*0.4 + 0.5*0.5) / 0.1^2 = 384.6 per arm for 80 %
        assert power(384, 384, 0.5, 0.1) < 0.8 < power(385, 385, 0.5, 0.1)

    def test_no_effect_is_seen_at_the_error_level(self):
        assert power(1000, 1000, 0.1, 0.0, alpha=0.05) == pytest.approx(0.05)

    def test_agrees_with_simulation(self):
        rng = random_stream(1, "power")
        a = rng.binomial(4000, 0.07, 20_000) / 4000
        b = rng.binomial(1000, 0.05, 20_000) / 1000
        error = np.sqrt(a * (1 - a) / 4000 + b * (1 - b) / 1000)
        seen = np.mean(np.abs(a - b) > 1.959964 * error)
        assert power(4000, 1000, 0.05, 0.02) == pytest.approx(seen, abs=0.015)

    def test_of_means(self):
        z = norm.ppf(0.975)
        ratio = 5 / (40 * np.sqrt(1 / 900 + 1 / 100))
        assert power_of_means(900, 100, 40, 5) == pytest.approx(
            norm.cdf(ratio - z) + norm.cdf(-ratio - z), abs=1e-12
        )

    @pytest.mark.parametrize("bad", [(0, 10, 0.1, 0.1), (10, 10, 0.9, 0.2), (10, 10, -0.1, 0.2)])
    def test_impossible_numbers_are_refused(self, bad):
        with pytest.raises(DesignError):
            power(*bad)


class TestMinimumDetectableEffect:
    def test_reaches_exactly_the_wanted_power(self):
        smallest = minimum_detectable_effect(9000, 1000, 0.05)
        assert smallest == pytest.approx(0.02074, abs=1e-5)
        assert power(9000, 1000, 0.05, smallest) == pytest.approx(0.8, abs=1e-9)

    def test_two_customers_can_show_nothing(self):
        assert isinstance(minimum_detectable_effect(1, 1, 0.5, wanted_power=0.99), NotEstimable)


class TestControlShare:
    def test_is_the_smallest_that_suffices(self):
        share = control_share(20_000, 0.05, 0.02)
        held = round(share * 20_000)
        assert power(20_000 - held, held, 0.05, 0.02) >= 0.8
        assert power(20_000 - held + 1, held - 1, 0.05, 0.02) < 0.8

    def test_says_what_could_be_seen_when_there_are_too_few(self):
        refused = control_share(500, 0.05, 0.01)
        assert isinstance(refused, NotEstimable)
        assert "smallest effect" in refused.reason["en"]
        assert "最小可检出效果" in refused.reason["zh"]
