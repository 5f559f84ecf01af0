"""Fatigue, overlap and fairness, counted by hand on small groups."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from bihuan.decision.rehearsal import measure_fairness, measure_fatigue, measure_overlap
from bihuan.kernel import NotEstimable

START = date(2026, 11, 1)
IDS = pa.array(["a", "b", "c", "d"])
TITLE = {"zh": "性别", "en": "Gender"}


def past(*rows: tuple[str, date]) -> pa.Table:
    ids, days = zip(*rows, strict=True) if rows else ((), ())
    return pa.table({"customer_id": pa.array(ids, pa.string()), "day": pa.array(days, pa.date32())})


class TestFatigue:
    def test_the_plan_counts_and_only_its_own_customers_do(self):
        rows = past(
            ("a", date(2026, 10, 20)), ("a", date(2026, 10, 2)), ("a", date(2026, 9, 1)),
            ("b", date(2026, 8, 10)), ("stranger", date(2026, 10, 30)),
        )  # fmt: skip
        month, quarter = measure_fatigue(IDS, rows, START, {90: 3, 30: 2})
        assert (month.days, month.customers) == (30, (3, 0, 1, 0, 0, 0))
        assert month.share_above == 0.25
        assert (quarter.customers, quarter.share_above) == ((2, 1, 0, 1, 0, 0), 0.25)
        assert quarter.mean == 2.0

    def test_the_window_begins_as_many_days_before_the_start(self):
        rows = past(("a", date(2026, 10, 2)), ("b", date(2026, 10, 1)))
        (month,) = measure_fatigue(IDS, rows, START, {30: 1})
        assert month.share_above == 0.25

    def test_the_last_class_holds_all_beyond(self):
        rows = past(*[("a", START)] * 40)
        (month,) = measure_fatigue(IDS, rows, START, {30: 2})
        assert month.customers == (3, 0, 0, 0, 0, 1)

    def test_nobody_planned_is_nobody_tired(self):
        (month,) = measure_fatigue(pa.array([], pa.string()), past(), START, {30: 2})
        assert (month.mean, month.share_above) == (0.0, 0.0)


class TestOverlap:
    def test_the_three_ways_to_meet(self):
        live = pa.table(
            {
                "campaign_id": ["x", "x", "x", "x", "y", "y"],
                "customer_id": ["a", "a", "c", "b", "a", "z"],
                "arm": ["treatment", "treatment", "treatment", "control", "treatment", "control"],
            }
        )
        found = measure_overlap(pa.array(["a", "b"]), pa.array(["c", "d"]), live)
        x, y = found.campaigns
        assert (x.campaign_id, x.both, x.our_control, x.their_control) == ("x", 1, 1, 1)
        assert (y.campaign_id, y.both) == ("y", 1)
        assert found.share == 0.5  # a is met by two campaigns and is one customer
        assert found.control_share == 0.5

    def test_without_live_campaigns_there_is_none(self):
        none = pa.table({name: pa.array([], pa.string()) for name in
                         ("campaign_id", "customer_id", "arm")})  # fmt: skip
        found = measure_overlap(IDS, pa.array([], pa.string()), none)
        assert (found.campaigns, found.share, found.control_share) == ((), 0.0, 0.0)


class TestFairness:
    def test_rates_and_prices_by_group(self):
        values = ["F"] * 100 + ["M"] * 100 + [None] * 10
        contacted = np.array([True] * 80 + [False] * 20 + [True] * 40 + [False] * 60 + [True] * 10)
        price = np.array([10.0] * 100 + [20.0] * 100 + [0.0] * 10)
        found = measure_fairness("gender", TITLE, values, contacted, price)
        rates = {group.value: (group.rate, group.mean_price) for group in found.groups}
        assert rates == {"F": (0.8, 10.0), "M": (0.4, 20.0), "": (1.0, 0.0)}
        assert found.ratio == pytest.approx(0.5)
        assert found.price_ratio == pytest.approx(0.5)
        assert found.p_value < 1e-7

    def test_a_difference_by_chance_has_no_small_p(self):
        rng = np.random.default_rng(2)
        values = rng.choice(["n", "s", "e", "w"], 2000).tolist()
        below = sum(
            measure_fairness("side", TITLE, values, rng.random(2000) < 0.3, np.ones(2000)).p_value
            < 0.05
            for _ in range(200)
        )
        assert 1 <= below <= 22

    def test_a_few_customers_are_listed_and_not_compared(self):
        values = ["F"] * 100 + ["M"] * 5
        contacted = np.array([True] * 50 + [False] * 55)
        found = measure_fairness("gender", TITLE, values, contacted, np.ones(105))
        assert isinstance(found.ratio, NotEstimable)
        assert (found.p_value, len(found.groups)) == (1.0, 2)
        assert isinstance(found.groups[1].mean_price, NotEstimable)
