from __future__ import annotations

import json
from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from bihuan.decision import (
    Candidate,
    Limit,
    PriceBook,
    PriceBookError,
    allocate,
    price_book,
    recommend,
)
from bihuan.kernel import random_stream

CANDIDATES = (Candidate("a", "outbound"), Candidate("a", "sms"), Candidate("b", "outbound"))
AS_OF = date(2026, 10, 31)


@pytest.fixture(scope="module")
def batch():
    rng = random_stream(1, "prices")
    n = 600
    value = rng.gamma(2.0, 5.0, size=(n, 3)) * [1.5, 0.5, 1.2]
    units = np.array(["G1", "G2", None], dtype=object)[rng.integers(3, size=n)]
    calls = np.array([1.0, 0.0, 1.0])
    limits = [
        Limit("calls G1", "capacity", calls, 40, units == "G1", unit="call"),
        Limit("calls G2", "capacity", calls, 15, units == "G2", unit="call"),
        Limit("budget", "budget", np.array([2.0, 0.1, 2.0]), 300.0),
        Limit("never full", "maximum", np.array([0.0, 1.0, 0.0]), 10_000),
    ]
    allocation = allocate(value, limits)
    ids = pa.array(units, pa.string())
    book = price_book(allocation, limits, CANDIDATES, campaign_id="c", as_of=AS_OF, org_unit_id=ids)
    return value, limits, allocation, ids, book


class TestPriceBook:
    def test_charges_are_prices_times_weights_where_the_limit_applies(self, batch):
        _, limits, allocation, ids, book = batch
        by_hand = np.zeros((len(ids), 3))
        for limit in limits:
            inside = np.ones(len(ids)) if limit.members is None else limit.members
            by_hand += allocation.prices[limit.name] * np.outer(inside, limit.weight)
        assert np.allclose(book.charges(CANDIDATES, ids), by_hand, rtol=1e-12)
        assert by_hand.any()

    def test_one_row_is_bit_for_bit_the_row_of_the_batch(self, batch):
        *_, ids, book = batch
        whole = book.charges(CANDIDATES, ids)
        for i in range(0, 600, 37):
            assert (book.charges(CANDIDATES, [ids[i].as_py()]) == whole[i]).all()

    def test_with_the_prices_single_choices_are_those_of_the_batch(self, batch):
        value, _, allocation, ids, book = batch
        single = recommend(value, book.charges(CANDIDATES, ids), top=1).candidate[:, 0]
        assert (single == allocation.choice).mean() >= 0.97  # the rest are ties at the margin
        unpriced = recommend(value, 0.0, top=1).candidate[:, 0]
        assert (unpriced == allocation.choice).mean() < 0.9  # seeded defect: prices forgotten

    def test_a_city_is_its_units(self):
        units = pa.array(["G1", "G2", "G3", None] * 50)
        city = np.array([unit in ("G1", "G2") for unit in units.to_pylist()])
        value = random_stream(2, "city").gamma(2.0, 5.0, size=(200, 3))
        limits = [Limit("calls of a city", "capacity", np.array([1.0, 1.0, 1.0]), 10, city)]
        plan = allocate(value, limits)
        book = price_book(plan, limits, CANDIDATES, campaign_id="c", as_of=AS_OF, org_unit_id=units)
        assert book.limits[0].units == {"G1", "G2"}
        charged = book.charges(CANDIDATES, ["G1", "G2", "G3", None]) > 0
        assert charged.all(axis=1).tolist() == [True, True, False, False]

    def test_survives_json(self, batch):
        book = batch[-1]
        assert PriceBook.from_json(json.loads(book.text())) == book
        with pytest.raises(PriceBookError, match="not whole"):
            PriceBook.from_json({"limits": []})

    def test_of_names_the_limits_of_one_contact(self, batch):
        *_, book = batch
        there, elsewhere = book.of(CANDIDATES[0], "G1"), book.of(CANDIDATES[0], "G9")
        assert "calls G1" in there
        assert "calls G2" not in there
        assert "calls G1" not in elsewhere

    def test_limits_that_nobody_could_charge_later_are_left_out_with_a_reason(self, batch):
        value, _, _, ids, _ = batch
        some = np.arange(600) % 2 == 0
        limits = [Limit("odd", "capacity", np.array([1.0, 0, 1]), 5, some)]
        plan = allocate(value, limits)
        book = price_book(plan, limits, CANDIDATES, campaign_id="c", as_of=AS_OF, org_unit_id=ids)
        assert book.limits == ()
        assert book.left_out["odd"]["en"] == (
            "it binds customers who are not those of certain org units"
        )
        weights = np.tile([1.0, 0, 1], (600, 1)) * (1 + np.arange(600) % 3)[:, None]
        limits = [Limit("uneven", "capacity", weights, 5)]
        plan = allocate(value, limits)
        book = price_book(plan, limits, CANDIDATES, campaign_id="c", as_of=AS_OF, org_unit_id=ids)
        assert book.limits == ()
        assert "客户而异" in book.left_out["uneven"]["zh"]
        assert PriceBook.from_json(json.loads(book.text())) == book

    def test_a_unit_with_all_under_it_is_charged_though_the_batch_did_not_hold_it_whole(self):
        units = pa.array(["G1", "G2"] * 100)
        value = random_stream(2, "city").gamma(2.0, 5.0, size=(200, 3))
        everybody = np.ones(200, np.bool_)
        limits = [Limit("calls of a city", "capacity", np.ones(3), 10, everybody)]
        plan = allocate(value, limits)
        named = {"calls of a city": frozenset({"G1", "G2", "G3"})}
        told = price_book(plan, limits, CANDIDATES, campaign_id="c", as_of=AS_OF,
                          org_unit_id=units, units=named)  # fmt: skip
        later = ["G1", "G3", "elsewhere", None]
        assert (told.charges(CANDIDATES, later) > 0).all(axis=1).tolist() == [
            True, True, False, False,
        ]  # fmt: skip
        # seeded defect: units guessed from a batch in which all are members charge everybody
        guess = price_book(plan, limits, CANDIDATES, campaign_id="c", as_of=AS_OF,
                           org_unit_id=units)  # fmt: skip
        assert (guess.charges(CANDIDATES, later) > 0).all()

    def test_a_minimum_without_any_member_is_a_bonus_where_it_applies(self):
        value = random_stream(2, "city").gamma(2.0, 5.0, size=(200, 3))
        nobody = np.zeros(200, np.bool_)
        limits = [Limit("minimum in G9", "minimum", np.ones(3), 10, nobody, penalty=4.0)]
        plan = allocate(value, limits)
        assert plan.shortfall == {"minimum in G9": 10.0}
        book = price_book(plan, limits, CANDIDATES, campaign_id="c", as_of=AS_OF,
                          org_unit_id=pa.array(["G1"] * 200),
                          units={"minimum in G9": frozenset({"G9"})})  # fmt: skip
        assert book.charges(CANDIDATES, ["G9", "G1"]).tolist() == [[-4.0] * 3, [0.0] * 3]
        assert book.bonuses == PriceBook("c", AS_OF, book.limits)
