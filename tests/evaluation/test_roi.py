import math

import pyarrow as pa
import pytest

from bihuan.evaluation import (
    Cell,
    EvaluationInputError,
    Moments,
    NotEstimable,
    Prices,
    Tally,
    effect_of,
    roi,
)
from bihuan.evaluation.roi import UnknownAmountError


@pytest.fixture
def campaign():
    """100 calls and 100 texts; 20 and 5 orders of two offers; calls cost 3, texts 0.05."""
    ids = [f"c{i}" for i in range(100)] + [f"s{i}" for i in range(100)]
    assignments = pa.table(
        {
            "assignment_id": ids,
            "channel": ["outbound"] * 100 + ["sms"] * 100,
            "offer_id": (["o1"] * 50 + ["o2"] * 50) * 2,
        }
    )
    ordered = [f"c{i}" for i in range(20)] + [f"s{i}" for i in range(5)]
    suppressed = [f"c{i}" for i in range(90, 100)]
    delivered = [i for i in ids if i not in ordered and i not in suppressed]
    outcomes = pa.table(
        {
            "assignment_id": ordered + suppressed + delivered,
            "stage": ["ordered"] * 25 + ["suppressed"] * 10 + ["delivered"] * len(delivered),
        }
    )
    return assignments, outcomes


@pytest.fixture
def effect():
    # 25 of 200 in treatment against 2 of 50 in control: +8.5 points
    return effect_of(
        Tally((Cell("s", 0.8, Moments.from_sums(200, 25, 25), Moments.from_sums(50, 2, 2)),))
    )


PRICES = Prices({"outbound": 3.0, "sms": 0.05}, {"o1": 120.0, "o2": 80.0}, {"o1": 10.0})


class TestRoi:
    def test_costs_and_gross_figures_are_counted(self, campaign, effect):
        account = roi(*campaign, effect, PRICES)
        assert account.total.planned == 200
        assert account.total.contacts == 190
        assert account.total.orders == 25
        assert account.total.contact_cost == pytest.approx(90 * 3 + 100 * 0.05)
        assert account.total.offer_cost == pytest.approx(25 * 10)
        assert account.total.gross_revenue == pytest.approx(25 * 120)
        assert account.gross_roi == pytest.approx((3000 - 525) / 525)
        assert [line.key for line in account.by_channel] == ["outbound", "sms"]
        assert account.by_channel[0].gross_rate == pytest.approx(0.2)
        assert account.by_channel[0].cost_per_contact == pytest.approx(3.0)

    def test_incremental_is_effect_times_planned(self, campaign, effect):
        account = roi(*campaign, effect, PRICES)
        sales = account.incremental_sales
        assert sales.value == pytest.approx(17.0)
        assert (sales.low, sales.high) == pytest.approx((effect.low * 200, effect.high * 200))
        assert account.incremental_revenue.value == pytest.approx(17 * 120)
        assert account.incremental_profit.value == pytest.approx(17 * 120 - 525)
        assert account.roi.value == pytest.approx((17 * 120 - 525) / 525)
        assert account.roi.low < account.roi.value < account.roi.high
        assert account.roi.value < account.gross_roi

    def test_cost_per_incremental_sale_turns_the_interval_round(self, campaign, effect):
        each = roi(*campaign, effect, PRICES).cost_per_sale
        assert each.value == pytest.approx(525 / 17)
        assert each.low == pytest.approx(525 / (effect.high * 200))
        assert each.high == pytest.approx(525 / (effect.low * 200))

    def test_cost_per_sale_has_no_bound_if_the_effect_may_be_nought(self, campaign):
        weak = effect_of(
            Tally((Cell("s", 0.8, Moments.from_sums(200, 25, 25), Moments.from_sums(50, 5, 5)),))
        )
        assert weak.low < 0 < weak.estimate
        assert roi(*campaign, weak, PRICES).cost_per_sale.high == math.inf

    def test_no_sale_gained_is_not_a_cost_of_nought(self, campaign):
        negative = effect_of(
            Tally((Cell("s", 0.8, Moments.from_sums(200, 20, 20), Moments.from_sums(50, 9, 9)),))
        )
        account = roi(*campaign, negative, PRICES)
        assert isinstance(account.cost_per_sale, NotEstimable)
        assert account.roi.value < -1

    def test_without_effect_gross_is_given_and_the_rest_refused(self, campaign):
        refused = NotEstimable({"zh": "没有对照组。", "en": "There is no control group."})
        account = roi(*campaign, refused, PRICES)
        assert account.total.orders == 25
        for part in ("incremental_sales", "incremental_revenue", "incremental_profit", "roi"):
            assert getattr(account, part) == refused

    def test_an_own_revenue_effect_takes_the_place_of_sales_times_value(self, campaign, effect):
        spent = Tally(
            (Cell("s", 0.8, Moments.from_sums(200, 4000, 3e5), Moments.from_sums(50, 500, 4e4)),)
        )
        own = effect_of(spent)
        account = roi(*campaign, effect, PRICES, revenue_effect=own)
        assert account.incremental_revenue.value == pytest.approx((20 - 10) * 200)
        assert account.incremental_sales.value == pytest.approx(17.0)

    def test_logged_costs_and_amounts_come_first(self, campaign, effect):
        assignments, outcomes = campaign
        n = outcomes.num_rows
        logged = outcomes.append_column("cost", pa.array([2.0] + [None] * (n - 1))).append_column(
            "amount", pa.array([99.0] * 25 + [None] * (n - 25))
        )
        account = roi(assignments, logged, effect, Prices({"outbound": 3.0, "sms": 0.05}))
        assert account.total.contact_cost == pytest.approx(2 + 89 * 3 + 100 * 0.05)
        assert account.total.gross_revenue == pytest.approx(25 * 99)

    @pytest.mark.parametrize(
        ("prices", "word"),
        [
            (Prices({"outbound": 3.0}, {"o1": 1.0, "o2": 1.0}), "sms"),
            (Prices({"outbound": 3.0, "sms": 0.05}, {"o2": 1.0}), "o1"),
            (Prices({"outbound": 3.0, "sms": 0.05}), "o1"),
        ],
    )
    def test_an_unknown_amount_is_refused_not_counted_as_nought(
        self, campaign, effect, prices, word
    ):
        with pytest.raises(UnknownAmountError, match=word) as caught:
            roi(*campaign, effect, prices)
        assert caught.value.zh

    def test_nothing_spent_has_no_return(self, campaign, effect):
        free = Prices({"outbound": 0.0, "sms": 0.0}, {"o1": 1.0, "o2": 1.0})
        account = roi(*campaign, effect, free)
        assert isinstance(account.roi, NotEstimable)
        assert isinstance(account.gross_roi, NotEstimable)

    def test_a_missing_column_is_named(self, campaign, effect):
        with pytest.raises(EvaluationInputError, match="offer_id"):
            roi(campaign[0].drop_columns(["offer_id"]), campaign[1], effect, PRICES)
