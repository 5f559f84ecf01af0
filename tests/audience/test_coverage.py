"""What distinguishes an audience, and how audiences cover each other."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import numpy as np
import pytest

from bihuan.audience import (
    AudienceError,
    NotEstimable,
    UnknownTagError,
    describe,
    movement,
    overlap,
    parse,
    take_snapshot,
)
from bihuan.audience.bind import TagTypeError
from bihuan.audience.coverage import cross
from bihuan.kernel import random_stream

ROWS = [
    {"customer_id": name, "arpu": arpu, "mms_count": 0, "has_contract": contract, "city": city}
    for name, arpu, contract, city in [
        ("a", Decimal("100"), True, "保定"),
        ("b", Decimal("200"), True, "保定"),
        ("c", None, None, None),
        ("d", Decimal("20"), False, "唐山"),
        ("e", Decimal("80"), False, "保定"),
        ("f", Decimal("0"), False, "唐山"),
    ]
]


@pytest.fixture(scope="module")
def tags(harness, lake):
    return harness.store_tags(lake, harness.FIELDS, ROWS)


@pytest.fixture(scope="module")
def take(tags, lake, engine, clock):
    def taken(text, table=tags):
        return take_snapshot(parse(text), table, lake=lake, engine=engine, clock=clock)

    return taken


class TestDescribe:
    def test_holds_numbers_beside_the_base(self, take, tags, engine):
        found = describe(take("arpu >= 80"), tags, ["arpu", "has_contract"], engine=engine)
        assert (found.count.members, found.count.base, found.count.share) == (3, 6, 0.5)
        arpu, contract = found.tags
        assert (arpu.mean, arpu.median, arpu.known) == pytest.approx((380 / 3, 100, 3))
        assert (arpu.base_mean, arpu.base_median, arpu.base_known) == pytest.approx((80, 80, 5))
        assert arpu.index == pytest.approx(100 * (380 / 3) / 80)
        deviation = np.std([100, 200, 20, 80, 0])
        assert arpu.distance == pytest.approx((380 / 3 - 80) / deviation)
        assert (contract.mean, contract.base_mean) == pytest.approx((2 / 3, 2 / 5))
        assert contract.title["zh"] == "有合约"

    def test_counts_the_values_of_texts(self, take, tags, engine):
        found = describe(take("arpu >= 80"), tags, ["city"], engine=engine)
        top = found.values[0]
        assert (top.value, top.members, top.base, top.share, top.base_share) == (
            "保定",
            3,
            3,
            1.0,
            0.5,
        )
        assert top.index == pytest.approx(200)
        assert {row.value: row.members for row in found.values} == {"保定": 3, "唐山": 0, None: 0}

    def test_ranks_what_distinguishes(self, take, tags, engine):
        found = describe(
            take("arpu >= 80"), tags, ["mms_count", "has_contract", "arpu"], engine=engine
        )
        assert [tag.tag for tag in found.most_distinct(2)] == ["arpu", "has_contract"]

    def test_what_cannot_be_told_is_said(self, take, tags, engine):
        found = describe(take("nobody"), tags, ["arpu", "city"], engine=engine)
        assert found.tags[0].mean is None
        assert isinstance(found.tags[0].index, NotEstimable)
        assert found.values[0].share is None
        found = describe(take("everyone"), tags, ["mms_count", "churn_score"], engine=engine)
        zero, unknown = found.tags
        assert (zero.mean, zero.known) == (0, 6)
        assert "not positive" in zero.index.reason["en"]
        assert isinstance(zero.distance, NotEstimable)
        assert unknown.mean is None
        assert found.most_distinct() == ()

    @pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e300])
    def test_what_cannot_be_averaged_is_left_out(self, harness, lake, engine, clock, odd):
        rows = [{"customer_id": str(i), "churn_score": v} for i, v in enumerate([0.2, 0.4, odd])]
        tags = harness.store_tags(lake, harness.FIELDS, rows)
        everyone = take_snapshot(parse("everyone"), tags, lake=lake, engine=engine, clock=clock)
        (score,) = describe(everyone, tags, ["churn_score"], engine=engine).tags
        assert (score.mean, score.known) == pytest.approx((0.3, 2))

    def test_refuses_what_has_no_mean(self, take, tags, engine):
        with pytest.raises(TagTypeError, match="joined_on"):
            describe(take("everyone"), tags, ["joined_on"], engine=engine)
        with pytest.raises(UnknownTagError, match="nonsense"):
            describe(take("everyone"), tags, ["nonsense"], engine=engine)


class TestOverlap:
    def test_counts_pairs(self, take, engine):
        audiences = {
            "rich": take("arpu >= 80"),
            "bound": take("has_contract"),
            "baoding": take("city = '保定'"),
            "none": take("nobody"),
        }
        found = overlap(audiences, engine=engine)
        assert found.names == ("rich", "bound", "baoding", "none")
        assert found.counts.tolist() == [[3, 2, 3, 0], [2, 2, 2, 0], [3, 2, 3, 0], [0, 0, 0, 0]]
        assert (found.covered, found.shared) == (3, 3)
        assert found.share("rich", "bound") == pytest.approx(2 / 3)
        assert found.share("bound", "rich") == 1.0
        assert isinstance(found.share("none", "rich"), NotEstimable)

    def test_one_audience_or_none(self, take, engine):
        assert overlap({"x": take("arpu >= 80")}, engine=engine).counts.tolist() == [[3]]
        with pytest.raises(AudienceError, match="one kind of subject"):
            overlap({}, engine=engine)
        snapshot = take("everyone")
        with pytest.raises(AudienceError, match="one kind of subject"):
            overlap({"a": snapshot, "b": replace(snapshot, subject="staff")}, engine=engine)

    def test_counts_are_exact_beyond_one_block(self):
        flags = random_stream(51, "flags").random((200_003, 3)) < 0.5
        found = cross(("a", "b", "c"), flags)
        wide = flags.astype(np.int64)
        assert (found.counts == wide.T @ wide).all()
        assert found.covered == int(flags.any(axis=1).sum())
        assert found.shared == int((flags.sum(axis=1) > 1).sum())


class TestMovement:
    def test_says_who_stayed_joined_and_left(self, harness, take, lake, engine):
        poorer, richer = {**ROWS[0], "arpu": Decimal("10")}, {**ROWS[3], "arpu": Decimal("90")}
        new = {"customer_id": "g", "arpu": Decimal("300")}
        changed = [poorer, *ROWS[1:3], richer, *ROWS[4:], new]
        later = harness.store_tags(lake, harness.FIELDS, changed, as_of=date(2026, 11, 30))
        found = movement(take("arpu >= 80"), take("arpu >= 80", later), engine=engine)
        assert (found.stayed, found.joined, found.left) == (2, 2, 1)
        assert found.growth == pytest.approx(1 / 3)
        found = movement(take("nobody"), take("arpu >= 80", later), engine=engine)
        assert isinstance(found.growth, NotEstimable)
