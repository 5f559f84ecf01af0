import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from bihuan.evaluation import Cell, Effect, Moments, NotEstimable, Tally, effect_of, estimate_effect
from bihuan.evaluation.check import SUSPECT_P, check_ratio
from bihuan.evaluation.statistic import Rows
from bihuan.kernel import random_stream


def one_cell(treatment, control, probability=None, stratum="s"):
    share = len(treatment) / (len(treatment) + len(control))
    return Cell(
        stratum,
        share if probability is None else probability,
        Moments.of(np.array(treatment, float)[:, None]),
        Moments.of(np.array(control, float)[:, None]),
    )


def estimated(result) -> Effect:
    assert isinstance(result, Effect), result
    return result


class TestClosedForm:
    def test_one_stratum_is_welchs_t_interval(self):
        a, b = [3.1, 4.5, 2.2, 5.0, 3.3], [1.0, 2.5, 1.7]
        effect = estimated(effect_of(Tally((one_cell(a, b),))))
        welch = stats.ttest_ind(a, b, equal_var=False)
        interval = welch.confidence_interval(0.95)
        assert effect.estimate == pytest.approx(1.8866667, abs=1e-7)
        assert effect.degrees_of_freedom == pytest.approx(welch.df, rel=1e-9)
        assert (effect.low, effect.high) == pytest.approx((interval.low, interval.high), rel=1e-9)

    def test_two_strata_by_hand(self):
        # means 2-1=1 and 6-3=3, weights 6/10 and 4/10; variances (1/3 + 1/3) and (2/2 + 2/2)
        cells = (
            one_cell([1, 2, 3], [0, 1, 2], stratum="a"),
            one_cell([5, 7], [2, 4], stratum="b"),
        )
        effect = estimated(effect_of(Tally(cells)))
        assert effect.estimate == pytest.approx(1.8)
        assert effect.standard_error == pytest.approx(np.sqrt(0.36 * 2 / 3 + 0.16 * 2))
        parts = np.array([0.36 / 3, 0.36 / 3, 0.16, 0.16])
        freedom = parts.sum() ** 2 / np.sum(parts**2 / np.array([2, 2, 1, 1]))
        assert effect.degrees_of_freedom == pytest.approx(freedom)
        assert effect.treatment_mean - effect.control_mean == pytest.approx(effect.estimate)
        assert [s.estimate for s in effect.strata] == pytest.approx([1.0, 3.0])

    def test_proportions_in_known_numbers(self):
        cell = Cell("s", 0.9, Moments.from_sums(9000, 630, 630), Moments.from_sums(1000, 50, 50))
        effect = estimated(effect_of(Tally((cell,))))
        error = np.sqrt(0.07 * 0.93 / 8999 + 0.05 * 0.95 / 999)
        assert effect.estimate == pytest.approx(0.02)
        assert effect.standard_error == pytest.approx(error, rel=1e-12)
        assert effect.is_positive
        assert effect.n_planned == 10_000

    def test_alpha_widens_the_interval(self):
        counts = Tally((one_cell(range(40), range(30)),))
        wide, narrow = (estimated(effect_of(counts, alpha=a)) for a in (0.01, 0.2))
        assert wide.low < narrow.low < narrow.high < wide.high
        assert "99%" in wide.method.en

    def test_fieller_bounds_lie_on_the_interval(self):
        effect = estimated(effect_of(Tally((one_cell([5, 6, 7, 8] * 5, [3, 4, 5, 6] * 5),))))
        treatment = one_cell([5, 6, 7, 8] * 5, [0]).treatment  # the control varies as much
        variance = treatment.variance() / treatment.n
        quantile = stats.t.ppf(0.975, effect.degrees_of_freedom)
        for bound in (effect.lift.low, effect.lift.high):
            ratio = 1 + bound
            distance = abs(effect.treatment_mean - ratio * effect.control_mean)
            assert distance == pytest.approx(quantile * np.sqrt(variance * (1 + ratio**2)))

    def test_a_lift_over_a_control_mean_near_nought_is_refused(self):
        effect = estimated(effect_of(Tally((one_cell([1, 0, 1, 1], [0, 0, 0, 1]),))))
        assert isinstance(effect.lift, NotEstimable)


class TestAdjustment:
    def made(self, trial):
        made = trial(sizes=(1500,), base=0.3, effect=0.1)
        x = np.column_stack([made.covariates[n].to_numpy() for n in ("fee", "tenure")])
        t = np.array(made.decisions["arm"].to_pylist()) == "treatment"
        return made, x, t, made.response["response"].to_numpy().astype(float)

    def test_equals_the_interacted_regression_with_hc2(self, trial):
        made, x, t, y = self.made(trial)
        effect = estimated(
            estimate_effect(made.decisions, made.response, covariates=made.covariates)
        )
        centred = x - x.mean(axis=0)
        design = np.column_stack([np.ones(len(y)), t, centred, centred * t[:, None]])
        bread = np.linalg.inv(design.T @ design)
        residual = y - design @ (bread @ design.T @ y)
        leverage = np.einsum("ij,jk,ik->i", design, bread, design)
        meat = design.T @ (design * (residual**2 / (1 - leverage))[:, None])
        assert effect.estimate == pytest.approx((bread @ design.T @ y)[1], rel=1e-9)
        assert effect.standard_error**2 == pytest.approx((bread @ meat @ bread)[1, 1], rel=1e-9)
        assert "HC2" in effect.method.en

    def test_equals_the_regression_with_strata_too(self, trial):
        made = trial(sizes=(900, 600), base=0.3, effect=0.1)
        x = made.covariates["fee"].to_numpy()
        t = np.array(made.decisions["arm"].to_pylist()) == "treatment"
        s = np.array(made.decisions["stratum"].to_pylist()) == "s1"
        y = made.response["response"].to_numpy().astype(float)
        effect = estimated(
            estimate_effect(
                made.decisions, made.response, covariates=made.covariates.select([0, 1])
            )
        )
        groups = [t & ~s, t & s, ~t & ~s, ~t & s]
        design = np.column_stack([*groups, x * t, x * ~t]).astype(float)
        bread = np.linalg.inv(design.T @ design)
        slope = bread @ design.T @ y
        means = [x[~s].mean(), x[s].mean()]
        contrast = np.array([0.6, 0.4, -0.6, -0.4, 0, 0])
        contrast[4:] = [0.6 * means[0] + 0.4 * means[1]] * 2 * np.array([1, -1])
        residual = y - design @ slope
        leverage = np.einsum("ij,jk,ik->i", design, bread, design)
        meat = design.T @ (design * (residual**2 / (1 - leverage))[:, None])
        assert effect.estimate == pytest.approx(contrast @ slope, rel=1e-9)
        assert effect.standard_error**2 == pytest.approx(
            contrast @ bread @ meat @ bread @ contrast, rel=1e-9
        )

    def test_moments_alone_give_the_same_estimate_and_nearly_the_same_error(self, trial):
        _, x, t, y = self.made(trial)
        cell = Cell(
            "s0",
            0.8,
            Moments.of(np.column_stack([y, x])[t]),
            Moments.of(np.column_stack([y, x])[~t]),
        )
        counts = Tally((cell,), ("fee", "tenure"))
        rows = Rows(np.zeros(len(y), dtype=np.int64), t, y, x)
        lean, robust = estimated(effect_of(counts)), estimated(effect_of(counts, rows=rows))
        assert lean.estimate == robust.estimate
        assert lean.standard_error == pytest.approx(robust.standard_error, rel=0.03)

    def test_a_useful_covariate_narrows_the_interval(self, log):
        rng = random_stream(3, "useful")
        n = 4000
        x = rng.normal(size=n)
        treated = np.zeros(n, dtype=bool)
        treated[rng.permutation(n)[: n // 2]] = True
        customer = [f"{i}" for i in range(n)]
        y = 3 * x + rng.normal(size=n) + 0.2 * treated
        decisions = log(customer, ["s"] * n, treated, [0.5] * n)
        response = pa.table({"customer_id": customer, "response": y})
        covariates = pa.table({"customer_id": customer, "x": x})
        plain = estimated(estimate_effect(decisions, response))
        adjusted = estimated(estimate_effect(decisions, response, covariates=covariates))
        assert adjusted.standard_error < plain.standard_error / 2.5

    def test_a_constant_covariate_changes_nothing(self, trial):
        made = trial()
        n = made.response.num_rows
        constant = pa.table({"customer_id": made.response["customer_id"], "one": [1.0] * n})
        plain = estimated(estimate_effect(made.decisions, made.response))
        same = estimated(estimate_effect(made.decisions, made.response, covariates=constant))
        assert same.estimate == pytest.approx(plain.estimate, rel=1e-12)
        # HC2 of a mean is the sample variance, so even the error is the same
        assert same.standard_error == pytest.approx(plain.standard_error, rel=1e-9)

    def test_too_few_customers_for_slopes_fall_back_to_the_plain_difference(self):
        rows = np.array([[1.0, 2, 3], [0, 1, 1], [2, 2, 1]])
        cell = Cell("s", 0.5, Moments.of(rows), Moments.of(rows + 1))
        effect = estimated(effect_of(Tally((cell,), ("a", "b"))))
        assert effect.estimate == pytest.approx(-1.0)
        assert "regression" not in effect.method.en


class TestThinStrata:
    def test_thin_strata_of_equal_probability_are_pooled_and_said_so(self):
        cells = [one_cell([1.0, 0], [i % 2], 0.75, f"t{i}") for i in range(4)]
        cells.append(one_cell([1, 0, 2], [0, 1, 1], 0.5, "full"))
        effect = estimated(effect_of(Tally(tuple(cells))))
        assert effect.n_planned == 4 * 3 + 6
        assert [s.stratum for s in effect.strata] == ["full", "t0 + t1 + t2 + …"]
        assert any("4 strata" in w.en and "pooled" in w.en for w in effect.warnings)

    def test_a_thin_stratum_that_cannot_be_pooled_is_left_out_and_said_so(self):
        cells = (one_cell([1, 0, 2], [0, 1, 1], stratum="full"), one_cell([9] * 9, [0], 0.9, "x"))
        effect = estimated(effect_of(Tally(cells)))
        assert effect.n_planned == 6
        assert any("10 customers" in w.en for w in effect.warnings)

    def test_pooling_strata_of_unequal_probability_would_be_biased(self):
        # the defect that the rule avoids: responders sit where treatment is likelier
        high = [one_cell([1.0] * 9, [1.0], 0.9, f"h{i}") for i in range(50)]
        low = [one_cell([0.0], [0.0] * 9, 0.1, f"l{i}") for i in range(50)]
        noisy = one_cell([0, 1, 0, 1], [0, 1, 1, 0], 0.5, "noise")
        effect = estimated(effect_of(Tally((*high, *low, noisy))))
        assert abs(effect.estimate) < 1e-9
        pooled = one_cell([1.0] * 450 + [0.0] * 50, [1.0] * 50 + [0.0] * 450)
        assert estimated(effect_of(Tally((pooled,)))).estimate == pytest.approx(0.8)


class TestRefusals:
    @pytest.mark.parametrize(
        ("cells", "words"),
        [
            ((), "No customer was planned"),
            ((one_cell([1, 0], [], 1.0),), "no control group"),
            ((one_cell([], [1, 0], 0.0),), "Nobody is in treatment"),
            ((one_cell([1, 0, 1], [1], 0.75),), "two customers in each arm"),
            ((one_cell([1, 1, 1], [0, 0, 0]),), "does not vary"),
        ],
    )
    def test_what_cannot_be_estimated_says_why(self, cells, words):
        def fill(cell):
            return Cell(
                cell.stratum,
                cell.probability,
                cell.treatment if cell.treatment.n else Moments.empty(1),
                cell.control if cell.control.n else Moments.empty(1),
            )

        result = effect_of(Tally(tuple(fill(cell) for cell in cells)))
        assert isinstance(result, NotEstimable)
        assert words in result.reason["en"]
        assert result.reason["zh"]

    def test_a_list_of_buyers_only_is_recognised(self, log):
        n = 200
        customer = [f"{i}" for i in range(n)]
        decisions = log(customer, ["s"] * n, [i % 2 == 0 for i in range(n)], [0.5] * n)
        buyers = pa.table({"customer_id": customer[:20], "response": [1] * 20})
        refused = estimate_effect(decisions, buyers)
        assert isinstance(refused, NotEstimable)
        assert "when_absent=0" in refused.reason["en"]
        assert isinstance(estimate_effect(decisions, buyers, when_absent=0), Effect)


class TestSampleRatio:
    def test_an_intact_log_raises_nothing(self, trial):
        made = trial()
        effect = estimated(estimate_effect(made.decisions, made.response))
        assert effect.sample_ratio.p_value == 1.0
        assert effect.sample_ratio.is_exact
        assert effect.warnings == ()

    def thinned(self, made, share, seed=5):
        treated = np.array(made.decisions["arm"].to_pylist()) == "treatment"
        lost = treated & (random_stream(seed, "thin").random(len(treated)) < share)
        return made.decisions.filter(pa.array(~lost))

    def test_three_per_cent_lost_from_treatment_is_caught_at_any_size(self, trial):
        small = trial(sizes=(600, 400))
        effect = estimated(estimate_effect(self.thinned(small, 0.03), small.response))
        assert not effect.sample_ratio.is_exact
        assert any("rows may be missing" in w.en for w in effect.warnings)

    def test_three_per_cent_lost_from_treatment_is_a_mismatch_in_a_large_log(self, trial):
        large = trial(sizes=(60_000, 40_000), control=0.5)
        effect = estimated(estimate_effect(self.thinned(large, 0.03), large.response))
        assert 1e-6 < effect.sample_ratio.p_value < 1e-3
        assert effect.sample_ratio.is_suspect
        assert any("Sample ratio mismatch" in w.en for w in effect.warnings)

    def test_ten_per_cent_lost_is_a_refusal(self, trial):
        large = trial(sizes=(60_000, 40_000), control=0.5)
        refused = estimate_effect(self.thinned(large, 0.10), large.response)
        assert isinstance(refused, NotEstimable)
        assert "disagree" in refused.reason["en"]

    def test_losing_the_responses_of_one_arm_is_caught(self, trial):
        made = trial(sizes=(40_000,), control=0.5)
        treated = np.array(made.decisions["arm"].to_pylist()) == "treatment"
        lost = treated & (random_stream(2, "lost").random(40_000) < 0.03)
        effect = estimate_effect(made.decisions, made.response.filter(pa.array(~lost)))
        assert isinstance(effect, NotEstimable)
        assert "disagree" in effect.reason["en"]

    def test_losses_that_cancel_between_strata_are_caught(self, trial):
        made = trial(sizes=(20_000, 20_000), control=0.5)
        treated = np.array(made.decisions["arm"].to_pylist()) == "treatment"
        first = np.array(made.decisions["stratum"].to_pylist()) == "s0"
        drop = random_stream(3, "cancel").random(40_000) < 0.06
        effect = estimate_effect(
            made.decisions.filter(pa.array(~(drop & (treated == first)))), made.response
        )
        assert isinstance(effect, NotEstimable) or effect.sample_ratio.is_suspect

    def test_the_false_alarm_rate_is_the_stated_one(self):
        rng = random_stream(11, "false alarms")
        sizes, p = np.array([3000, 500, 40]), np.array([0.9, 0.8, 0.5])
        treated = rng.binomial(sizes, p, size=(4000, 3))
        lost = rng.binomial(np.stack([treated, sizes - treated]), 0.02)
        values = []
        for r in range(4000):
            cells = []
            for i in range(3):
                a, b = treated[r, i] - lost[0, r, i], sizes[i] - treated[r, i] - lost[1, r, i]
                arms = (Moments.from_sums(int(k), 0.0, 0.0) for k in (a, b))
                cells.append(Cell(f"s{i}", p[i], *arms, *(int(k) for k in lost[:, r, i])))
            values.append(check_ratio(Tally(tuple(cells))).p_value)
        for level in (0.05, SUSPECT_P):
            error = np.sqrt(level * (1 - level) / len(values))
            assert np.mean(np.array(values) < level) <= level + 3 * error

    def test_treatment_where_the_log_allows_none_is_a_contradiction(self):
        refused = effect_of(Tally((one_cell([1, 0], [1, 0], 0.0),)))
        assert isinstance(refused, NotEstimable)
        assert "disagree" in refused.reason["en"]


class TestBiasedAssignment:
    def test_balance_of_covariates_gives_it_away(self, trial):
        honest, biased = trial(), trial(biased=True)
        fair = estimated(
            estimate_effect(honest.decisions, honest.response, covariates=honest.covariates)
        )
        foul = estimated(
            estimate_effect(biased.decisions, biased.response, covariates=biased.covariates)
        )
        assert not fair.balance.is_suspect
        assert foul.balance.is_suspect
        assert foul.sample_ratio.p_value == 1.0  # the counts alone would not tell
        assert any("fee" in w.en and "random" in w.en for w in foul.warnings)
        assert not estimated(estimate_effect(biased.decisions, biased.response)).covers(
            biased.true_effect
        )


class TestWarnings:
    def test_few_responses_are_said_to_make_the_interval_rough(self):
        cell = Cell("s", 0.5, Moments.from_sums(500, 12, 12), Moments.from_sums(500, 3, 3))
        effect = estimated(effect_of(Tally((cell,))))
        assert any("few (only 3" in w.en for w in effect.warnings)

    def test_unknown_responses_are_counted_per_arm(self, trial):
        made = trial()
        effect = estimated(estimate_effect(made.decisions, made.response.slice(10)))
        assert any("10 planned customers is not known" in w.en for w in effect.warnings)


# --- coverage -------------------------------------------------------------------------------

REPETITIONS = 3000
MONTE_CARLO = 2 * np.sqrt(0.95 * 0.05 / REPETITIONS)  # two standard errors of a share of 95 %


def coverage(potential, probability, purpose, *, assign=None) -> float:
    """Share of complete randomisations whose interval covers the mean effect.

    ``potential`` lists, per stratum, the responses without and with contact; they stay fixed, as
    in Neyman's setting, and only the assignment is drawn anew.
    """
    rng = random_stream(2026, "coverage", purpose)
    truth = np.concatenate([y1 - y0 for y0, y1 in potential]).mean()
    sums = []
    for y0, y1 in potential:
        n, treated = len(y0), round(probability * len(y0))
        pattern = np.zeros((REPETITIONS, n), dtype=bool)
        pattern[:, :treated] = True
        drawn = rng.permuted(pattern, axis=1) if assign is None else assign(rng, y0, treated)
        sums.append((n, treated, drawn @ y1, drawn @ y1**2, ~drawn @ y0, ~drawn @ y0**2))
    hits = 0
    for r in range(REPETITIONS):
        cells = tuple(
            Cell(
                f"s{i}",
                m / n,
                Moments.from_sums(m, a[r], aa[r]),
                Moments.from_sums(n - m, b[r], bb[r]),
            )
            for i, (n, m, a, aa, b, bb) in enumerate(sums)
        )
        hits += estimated(effect_of(Tally(cells))).covers(truth)
    return hits / REPETITIONS


class TestCoverage:
    def test_no_effect(self):
        rng = random_stream(1, "null")
        responses = [(rng.random(n) < p).astype(float) for n, p in ((900, 0.1), (600, 0.2))]
        covered = coverage([(y, y) for y in responses], 0.8, "null")
        assert 0.94 - MONTE_CARLO <= covered <= 0.97 + MONTE_CARLO

    def test_effect_that_differs_between_customers(self):
        rng = random_stream(2, "heterogeneous")
        potential = []
        for n, p in ((900, 0.1), (600, 0.2)):
            u = rng.random(n)  # the same draw for both responses: contact only adds
            lift = rng.choice([0.0, 0.03, 0.08], size=n)
            potential.append(((u < p).astype(float), (u < p + lift).astype(float)))
        covered = coverage(potential, 0.8, "heterogeneous")
        assert 0.94 - MONTE_CARLO <= covered <= 0.97 + MONTE_CARLO

    def test_small_strata_of_amounts(self):
        rng = random_stream(3, "amounts")
        potential = []
        for n in (16, 20, 24):
            y0 = rng.normal(50, 10, size=n)
            potential.append((y0, y0 + rng.normal(5, 2, size=n)))
        covered = coverage(potential, 0.5, "amounts")
        assert 0.94 - MONTE_CARLO <= covered <= 0.97 + MONTE_CARLO

    def test_regression_adjustment(self):
        rng = random_stream(5, "adjusted")
        n, treated, hits, repetitions = 240, 160, 0, 1500
        tolerance = 2 * np.sqrt(0.95 * 0.05 / repetitions)
        x = rng.exponential(size=n)
        y0 = x + 0.2 * x**2 + rng.normal(size=n)  # the true relation is not the fitted line
        y1 = y0 + 0.5 + 0.3 * x
        for _ in range(repetitions):
            chosen = np.zeros(n, dtype=bool)
            chosen[rng.permutation(n)[:treated]] = True
            rows = np.column_stack([np.where(chosen, y1, y0), x])
            cell = Cell("s", treated / n, Moments.of(rows[chosen]), Moments.of(rows[~chosen]))
            everybody = Rows(np.zeros(n, dtype=np.int64), chosen, rows[:, 0], rows[:, 1:])
            effect = effect_of(Tally((cell,), ("x",)), rows=everybody)
            hits += estimated(effect).covers(np.mean(y1 - y0))
        assert 0.94 - tolerance <= hits / repetitions <= 0.97 + tolerance

    def test_the_check_fails_for_an_assignment_that_prefers_responders(self):
        rng = random_stream(4, "biased")
        y = (rng.random(900) < 0.2).astype(float)

        def biased(generator, y0, treated):
            order = np.argsort(generator.random((REPETITIONS, len(y0))) - 0.15 * y0, axis=1)
            drawn = np.zeros((REPETITIONS, len(y0)), dtype=bool)
            np.put_along_axis(drawn, order[:, :treated], True, axis=1)
            return drawn

        assert coverage([(y, y)], 0.8, "biased", assign=biased) < 0.90
