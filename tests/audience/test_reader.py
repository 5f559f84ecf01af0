"""What a planner asks while he explores: every answer is the one counted by hand."""

from __future__ import annotations

from collections import Counter as Tally
from decimal import Decimal

import numpy as np
import pytest

from bihuan.audience import AudienceError, NotEstimable, UnknownTagError, bind, parse
from bihuan.audience.bind import TagTypeError
from bihuan.audience.program import TagRangeError
from bihuan.audience.segment.reader import SqlReader
from bihuan.data import Lake

from .crowd import crowd

ROWS = crowd(1500)


@pytest.fixture(scope="module")
def reader(harness, tmp_path_factory, engine):
    lake = Lake(tmp_path_factory.mktemp("crowd"))
    return SqlReader(harness.store_tags(lake, harness.FIELDS, ROWS), engine)


@pytest.fixture(scope="module")
def said(harness):
    return lambda text: bind(parse(text), harness.FIELDS)


class TestCounts:
    def test_many_audiences_in_few_queries(self, reader, said, engine):
        texts = [f"arpu >= {n}" for n in range(0, 250)]
        before = engine.asked
        found = reader.counts([said(text) for text in texts])
        assert engine.asked - before == 2
        arpu = [row["arpu"] for row in ROWS if "arpu" in row]
        assert found.tolist() == [sum(a >= n for a in arpu) for n in range(0, 250)]

    def test_members_are_ordered(self, reader, said):
        expected = sorted(r["customer_id"] for r in ROWS if r.get("arpu", 0) >= 100)
        assert reader.members(said("arpu >= 100")).to_pylist() == expected


class TestCross:
    def test_every_combination_with_missing_last(self, reader, said):
        found = reader.cross(["city", "has_contract"], said("mms_count > 1"))
        tally = Tally((r.get("city"), r["has_contract"]) for r in ROWS if r["mms_count"] > 1)
        assert found.values[0][-1] is None
        for i, city in enumerate(found.values[0]):
            for j, contract in enumerate(found.values[1]):
                assert found.counts[i, j] == tally[city, contract]
        assert found.counts.sum() == sum(tally.values())

    def test_up_to_three_tags(self, reader):
        assert reader.cross(["city", "has_contract", "mms_count"]).counts.sum() == len(ROWS)
        with pytest.raises(AudienceError, match="one to three"):
            reader.cross(["city", "has_contract", "mms_count", "on_red_list"])
        with pytest.raises(UnknownTagError):
            reader.cross(["citty"])


class TestHistogram:
    def test_counts_like_numpy(self, reader, said):
        found = reader.histogram("arpu", said("has_contract"), bins=13)
        arpu = [float(r["arpu"]) for r in ROWS if r["has_contract"] and "arpu" in r]
        counts, edges = np.histogram(arpu, bins=13)
        assert np.allclose(found.edges, edges)
        assert found.counts.tolist() == counts.tolist()
        assert found.missing == sum(r["has_contract"] and "arpu" not in r for r in ROWS)

    def test_given_bounds(self, reader):
        found = reader.histogram("tenure_months", edges=[0, 12, 24])
        tenure = [r["tenure_months"] for r in ROWS if "tenure_months" in r]
        assert found.outside == sum(t > 24 for t in tenure)
        assert found.counts.tolist() == [
            sum(0 <= t < 12 for t in tenure), sum(12 <= t <= 24 for t in tenure)
        ]  # fmt: skip

    def test_nobody_has_a_value(self, reader, said):
        found = reader.histogram("arpu", said("arpu is missing"))
        assert (found.counts.sum(), found.edges) == (0, ())
        assert found.missing == sum("arpu" not in r for r in ROWS)


class TestThreshold:
    @pytest.mark.parametrize("side", ["top", "bottom"])
    @pytest.mark.parametrize("size", [1, 2, 100, 700])
    def test_exact_with_ties(self, reader, said, side, size):
        found = reader.threshold("arpu", size, said("not on_red_list"), side=side)
        arpu = [r["arpu"] for r in ROWS if not r["on_red_list"] and "arpu" in r]
        ordered = sorted(arpu, reverse=side == "top")
        value = ordered[min(size, len(ordered)) - 1]
        beyond = [a for a in arpu if (a > value if side == "top" else a < value)]
        assert (found.value, found.beyond, found.ties) == (value, len(beyond), arpu.count(value))
        assert found.beyond < size
        assert found.size_with_ties >= min(size, len(arpu))

    def test_nobody_has_a_value(self, reader, said):
        with pytest.raises(TagRangeError, match="0 members have a value"):
            reader.threshold("arpu", 5, said("arpu is missing"))
        with pytest.raises(TagRangeError, match="Ask for 1 to"):
            reader.threshold("arpu", 5000)

    def test_only_numbers(self, reader):
        with pytest.raises(TagTypeError, match="no threshold"):
            reader.threshold("city", 5)
        with pytest.raises(AudienceError, match="leaves 0"):
            reader.threshold("arpu", 0)


class TestTotals:
    def test_money_is_exact(self, reader, said):
        arpu = [r["arpu"] for r in ROWS if "arpu" in r]
        assert reader.total("arpu") == sum(arpu, Decimal(0))
        assert reader.mean("arpu") == pytest.approx(float(sum(arpu)) / len(arpu))
        assert reader.total("arpu", said("nobody")) == 0
        assert isinstance(reader.mean("arpu", said("nobody")), NotEstimable)

    def test_quantiles(self, reader):
        tenure = sorted(r["tenure_months"] for r in ROWS if "tenure_months" in r)
        found = reader.quantiles("tenure_months", [0, 0.5, 1])
        assert found == [tenure[0], tenure[(len(tenure) - 1) // 2], tenure[-1]]


class TestSample:
    def test_the_same_seed_draws_the_same(self, reader, said):
        one, two = (reader.sample(50, said("has_contract"), seed=s) for s in (1, 1))
        assert one.equals(two)
        assert not one.equals(reader.sample(50, said("has_contract"), seed=2))
        members = set(reader.members(said("has_contract")).to_pylist())
        assert len(set(one.to_pylist())) == 50
        assert set(one.to_pylist()) <= members
        assert len(reader.sample(9999, said("has_contract"), seed=1)) == len(members)

    def test_strata_keep_their_shares(self, reader):
        drawn = set(reader.stratified_sample(300, "city", seed=3).to_pylist())
        assert len(drawn) == 300
        whole = Tally(r.get("city") for r in ROWS)
        part = Tally(r.get("city") for r in ROWS if r["customer_id"] in drawn)
        for city, n in whole.items():
            assert abs(part[city] - 300 * n / len(ROWS)) < 1


class TestOverlap:
    def test_counts(self, reader, said):
        found = reader.overlap({"a": said("arpu > 80"), "b": said("has_contract")})
        both = sum(r.get("arpu", 0) > 80 and r["has_contract"] for r in ROWS)
        assert found.counts[0, 1] == both
