"""Thresholds that fit the resources: exact, ties told, expected responses as history says."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from bihuan.audience import NotEstimable, bind, count_members, parse
from bihuan.audience.segment.leak import Goal
from bihuan.audience.segment.quantify import fit_threshold, response_curve
from bihuan.audience.segment.reader import SqlReader
from bihuan.audience.segment.resources import ResourceError, Resources
from bihuan.audience.segment.response import RateByBin, ScoreSum, learn_rates
from bihuan.data import Lake
from bihuan.kernel import DefectError

from .crowd import crowd

ROWS = crowd(3000)


@pytest.fixture(scope="module")
def tags(harness, tmp_path_factory):
    lake = Lake(tmp_path_factory.mktemp("crowd"))
    return harness.store_tags(lake, harness.FIELDS, ROWS)


@pytest.fixture(scope="module")
def reader(tags, engine):
    return SqlReader(tags, engine)


def open_to(customers: int) -> Resources:
    return Resources(messages=customers)


class TestResources:
    def test_the_scarcest_binds(self):
        plan = Resources(
            seats=10, days=20, contacts_per_seat_day=100, contacts_per_customer=2.5,
            budget=9000, cost_per_contact=0.5, coupons=300, coupons_per_customer=0.05,
        )  # fmt: skip
        found = plan.capacity()
        assert found.limits == {"seats": 8000, "budget": 7200, "coupons": 6000}
        assert (found.customers, found.binding) == (6000, ("coupons",))
        assert plan.use(7200) == pytest.approx({"seats": 0.9, "budget": 1.0, "coupons": 1.2})
        assert plan.cost(100) == 125.0

    @pytest.mark.parametrize("budget", [0.3, 0.7, 1.1, 2.9, 1234.5])
    def test_money_is_divided_exactly(self, budget):
        """0.3 / 0.1 is 2.9999999999999996 in floating point and three calls at the bank."""
        whole = round(budget * 10)
        assert Resources(budget=budget, cost_per_contact=0.1).capacity().customers == whole

    def test_the_division_in_floating_point_loses_a_call(self):
        assert int(0.3 / 0.1) == 2

    @pytest.mark.parametrize(
        ("wrong", "word"),
        [
            ({}, "no resource"),
            ({"seats": 3}, "belong together"),
            ({"budget": 3.0}, "belong together"),
            ({"messages": -1}, "negative"),
            ({"budget": float("nan"), "cost_per_contact": 1.0}, "not a number"),
            ({"budget": 1.0, "cost_per_contact": 0.0}, "costs nothing"),
            ({"coupons": 1, "coupons_per_customer": 0.0}, "not within"),
        ],
    )
    def test_refuses_what_gives_no_number(self, wrong, word):
        with pytest.raises(ResourceError, match=word):
            Resources(**wrong)


class TestFitThreshold:
    @pytest.mark.parametrize("side", ["top", "bottom"])
    @pytest.mark.parametrize("seats", [1, 17, 333, 1200])
    def test_largest_that_fits_and_nearest_above(self, reader, tags, engine, seats, side):
        found = fit_threshold("arpu", open_to(seats), reader, side=side)
        arpu = sorted({r["arpu"] for r in ROWS if "arpu" in r}, reverse=side == "top")
        sizes = [
            sum((r["arpu"] >= v) if side == "top" else (r["arpu"] <= v)
                for r in ROWS if "arpu" in r)
            for v in arpu
        ]  # fmt: skip
        fitting = [n for n in sizes if n <= seats]
        assert (found.inside.size if found.inside else 0) == (fitting[-1] if fitting else 0)
        assert found.above.size == next(n for n in sizes if n > seats)
        for cut in (found.inside, found.above):
            if cut is not None:
                again = count_members(parse(cut.text), tags, engine=engine)
                assert again.members == cut.size

    def test_a_tie_too_large_for_the_seats(self, reader):
        found = fit_threshold("mms_count", open_to(10), reader)
        most = max(r["mms_count"] for r in ROWS)
        assert found.inside is None
        assert found.ties == found.above.size == sum(r["mms_count"] == most for r in ROWS)

    def test_all_fit(self, reader):
        found = fit_threshold("arpu", open_to(10_000), reader)
        known = sum("arpu" in r for r in ROWS)
        assert (found.inside.size, found.above) == (known, None)
        assert (found.within, found.missing) == (len(ROWS), len(ROWS) - known)

    def test_within_an_audience(self, reader, harness):
        within = bind(parse("has_contract"), harness.FIELDS)
        found = fit_threshold("arpu", open_to(100), reader, within=within)
        assert found.inside.text.startswith("has_contract and arpu >")
        assert found.inside.size <= 100 < found.above.size

    def test_nothing_to_work_with(self, reader, harness):
        assert isinstance(fit_threshold("arpu", open_to(0), reader), NotEstimable)
        nobody = bind(parse("arpu is missing"), harness.FIELDS)
        assert isinstance(fit_threshold("arpu", open_to(5), reader, within=nobody), NotEstimable)

    def test_a_threshold_that_forgets_ties_is_caught(self, reader):
        """The defect: a reader that says each value belongs to one customer."""

        class Careless(SqlReader):
            def threshold(self, tag, size, within=None, *, side="top"):
                right = super().threshold(tag, size, side=side)
                return dataclasses.replace(right, ties=1)

        with pytest.raises(DefectError, match="counted"):
            fit_threshold("arpu", open_to(300), Careless(reader.tags, reader.engine))


class TestResponseCurve:
    def test_sizes_costs_and_what_binds(self, reader):
        plan = Resources(messages=900, budget=400.0, cost_per_contact=0.5)
        curve = response_curve("arpu", plan, reader)
        assert 40 <= len(curve.points) <= 51
        assert [p.size for p in curve.points] == sorted(p.size for p in curve.points)
        assert curve.points[-1].size == sum("arpu" in r for r in ROWS)
        for point in curve.points:
            assert point.size == sum(r.get("arpu", -1) >= point.value for r in ROWS)
            assert point.cost == pytest.approx(point.size / 2)
            assert point.binding == "budget"
            assert point.fits == (point.size <= 800)
            assert point.responses is None

    def test_expected_responses_from_a_score(self, reader):
        curve = response_curve("arpu", open_to(900), reader, expected=ScoreSum("churn_score"))
        for point in curve.points[::7]:
            by_hand = sum(
                r.get("churn_score", 0.0) for r in ROWS if r.get("arpu", -1) >= point.value
            )
            assert point.responses == pytest.approx(by_hand)
            assert point.rate == pytest.approx(by_hand / point.size)
        table = curve.to_table()
        assert table.num_rows == len(curve.points)
        assert table["fits"].to_pylist() == [p.fits for p in curve.points]

    def test_expected_responses_from_history_foretell_new_customers(
        self, harness, reader, tags, tmp_path, engine
    ):
        """Rates learnt from one crowd foretell the responses of another of the same kind."""
        past = harness.store_tags(Lake(tmp_path / "lake"), harness.FIELDS, crowd(8000, seed=8))
        rates = learn_rates("arpu", Goal(parse("on_red_list")), past, engine=engine, monotone="top")
        assert isinstance(rates, RateByBin)
        assert list(rates.rates) == sorted(rates.rates)
        curve = response_curve("arpu", open_to(900), reader, expected=rates)
        for point in curve.points[10::10]:
            real = sum(r["on_red_list"] for r in ROWS if r.get("arpu", -1) >= point.value)
            spread = 3 * np.sqrt(point.responses)
            assert abs(real - point.responses) < spread + 0.1 * real
        # the defect: one rate for all is far off at the top
        flat = sum(rates.hits) / sum(rates.known)
        top = curve.points[5]
        real = sum(r["on_red_list"] for r in ROWS if r.get("arpu", -1) >= top.value)
        assert abs(real - top.size * flat) > 3 * np.sqrt(real)

    def test_history_is_counted_bin_by_bin(self, tags, engine):
        rates = learn_rates("arpu", Goal(parse("on_red_list")), tags, engine=engine, bins=5)
        edges = [-np.inf, *(float(e) for e in rates.edges), np.inf]
        for i, (low, high) in enumerate(itertools.pairwise(edges)):
            inside = [r for r in ROWS if "arpu" in r and low < r["arpu"] <= high]
            assert rates.known[i] == len(inside)
            assert rates.hits[i] == sum(r["on_red_list"] for r in inside)
            assert rates.low[i] < rates.rates[i] < rates.high[i]

    def test_too_little_history(self, tags, engine):
        found = learn_rates(
            "arpu", Goal(parse("on_red_list")), tags, engine=engine, within=parse("arpu > 300")
        )
        assert isinstance(found, NotEstimable)
