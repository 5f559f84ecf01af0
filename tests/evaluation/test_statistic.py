import numpy as np
import pyarrow as pa
import pytest

from bihuan.evaluation import EvaluationInputError, Moments, Tally, tally
from bihuan.kernel import random_stream


def close(a: Moments, b: Moments) -> bool:
    return (
        a.n == b.n
        and np.allclose(a.mean, b.mean, rtol=1e-12)
        and np.allclose(a.scatter, b.scatter, rtol=1e-9, atol=1e-9)
    )


class TestMoments:
    def test_gives_the_sample_variance_and_the_raw_sums(self):
        moments = Moments.of([[2.0], [4.0], [9.0]])
        assert moments.variance() == pytest.approx(13.0)
        assert (moments.total, moments.squares) == pytest.approx((15.0, 101.0))

    def test_from_sums_equals_rows(self):
        assert close(Moments.from_sums(3, 15.0, 101.0), Moments.of([[2.0], [4.0], [9.0]]))

    def test_parts_add_to_the_whole(self):
        rows = random_stream(1, "rows").normal(size=(500, 3))
        parts = Moments.of(rows[:7]) + Moments.of(rows[7:8]) + Moments.of(rows[8:])
        assert close(parts, Moments.of(rows))

    def test_nothing_is_neutral(self):
        some = Moments.of([[1.0, 2.0], [3.0, 1.0]])
        assert some + Moments.empty(2) == some == Moments.empty(2) + some

    def test_keeps_its_digits_where_raw_sums_lose_them(self):
        values = np.array([1e9, 1e9 + 1, 1e9 + 2])
        assert Moments.of(values[:, None]).variance() == pytest.approx(1.0)
        naive = (np.sum(values**2) - 3 * values.mean() ** 2) / 2
        assert naive != pytest.approx(1.0)  # the defect that the centred form avoids


class TestTally:
    def test_the_engine_counts_as_numpy_does(self, trial):
        made = trial()
        counted = tally(made.decisions, made.response, covariates=made.covariates)
        y = made.response["response"].to_numpy().astype(float)
        x = np.column_stack([made.covariates[name].to_numpy() for name in ("fee", "tenure")])
        stratum = np.array(made.decisions["stratum"].to_pylist())
        treated = np.array(made.decisions["arm"].to_pylist()) == "treatment"
        assert [cell.stratum for cell in counted.cells] == ["s0", "s1", "s2"]
        for cell in counted.cells:
            for arm, moments in ((True, cell.treatment), (False, cell.control)):
                chosen = (stratum == cell.stratum) & (treated == arm)
                assert close(moments, Moments.of(np.column_stack([y, x])[chosen]))

    def test_tallies_of_two_halves_add_to_the_whole(self, trial):
        made = trial()
        half = made.decisions.num_rows // 2
        parts = [
            tally(made.decisions.slice(*cut), made.response) for cut in ((0, half), (half, None))
        ]
        whole = tally(made.decisions, made.response)
        for one, other in zip((parts[0] + parts[1]).cells, whole.cells, strict=True):
            assert close(one.treatment, other.treatment)
            assert close(one.control, other.control)

    def test_customers_not_planned_are_left_out(self, log):
        decisions = log(["a", "b"], ["s", "s"], [True, False], [0.5, 0.5])
        none = decisions.set_column(3, "arm", pa.array(["none", "control"]))
        counted = tally(none, pa.table({"customer_id": ["a", "b"], "response": [1, 0]}))
        assert (counted.cells[0].treatment.n, counted.cells[0].control.n) == (0, 1)

    def test_absent_responses_are_unknown_unless_said_to_be_a_value(self, log):
        decisions = log(["a", "b", "c"], ["s"] * 3, [True, True, False], [2 / 3] * 3)
        buyers = pa.table({"customer_id": ["a"], "response": [1.0]})
        unknown = tally(decisions, buyers).cells[0]
        assert (unknown.treatment.n, unknown.unobserved_treatment) == (1, 1)
        assert (unknown.control.n, unknown.unobserved_control) == (0, 1)
        zero = tally(decisions, buyers, when_absent=0).cells[0]
        assert (zero.treatment.n, zero.treatment.mean, zero.control.n) == (2, (0.5,), 1)

    def test_nan_is_missing_and_a_missing_covariate_becomes_the_planned_mean(self, log):
        decisions = log(["a", "b", "c", "d"], ["s"] * 4, [True, True, False, False], [0.5] * 4)
        response = pa.table({"customer_id": list("abcd"), "response": [1.0, float("nan"), 0.0, 1]})
        fee = pa.table({"customer_id": list("abc"), "fee": [1.0, 2.0, 6.0]})
        cell = tally(decisions, response, covariates=fee).cells[0]
        assert (cell.treatment.n, cell.unobserved_treatment) == (1, 1)
        assert cell.control.mean == pytest.approx((0.5, (6 + 3) / 2))  # d gets the mean, 3

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda d: d.drop_columns(["stratum"]), "no column stratum"),
            (lambda d: pa.concat_tables([d, d.slice(0, 1)]), "more than once"),
            (lambda d: _replace(d, "treatment_probability", [0.5, 1.5]), "outside 0..1"),
            (lambda d: _replace(d, "treatment_probability", [0.5, None]), "outside 0..1"),
            (lambda d: _replace(d, "campaign_id", ["c1", "c2"]), "2 campaigns"),
        ],
    )
    def test_a_bad_log_is_refused_with_its_fault(self, log, change, words):
        decisions = change(log(["a", "b"], ["s", "s"], [True, False], [0.5, 0.5]))
        with pytest.raises(EvaluationInputError, match=words) as caught:
            tally(decisions, pa.table({"customer_id": ["a"], "response": [1]}))
        assert caught.value.zh

    @pytest.mark.parametrize(
        ("column", "words"), [(["x"], "not a number"), ([float("inf")], "infinite")]
    )
    def test_a_bad_response_is_refused(self, log, column, words):
        decisions = log(["a", "b"], ["s", "s"], [True, False], [0.5, 0.5])
        with pytest.raises(EvaluationInputError, match=words):
            tally(decisions, pa.table({"customer_id": ["a"], "response": column}))

    def test_tallies_with_other_covariates_do_not_add(self):
        with pytest.raises(EvaluationInputError, match="covariates"):
            Tally((), ("a",)) + Tally((), ("b",))


def _replace(table: pa.Table, column: str, values: list) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, pa.array(values))
