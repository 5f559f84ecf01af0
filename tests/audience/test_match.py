"""The in-memory reader and the profiles it reads."""

from __future__ import annotations

import json
import math
from datetime import date
from decimal import Decimal
from time import perf_counter

import pytest

from bihuan.audience import (
    Compare,
    In,
    Member,
    Missing,
    Not,
    bind,
    match,
    matcher,
    parse,
    profile_of,
)
from bihuan.audience.match import ProfileError
from bihuan.kernel import DefectError

TWELVE = (
    "arpu >= 58.37 and balance between -20 and 500 and tenure_months >= 6 and tenure_months < 240 "
    "and mms_count > 0 and churn_score >= 0.2 and churn_score < 0.9 and not has_contract "
    "and not on_red_list and city in ('石家庄', '保定', '唐山') and brand != '神州行' "
    "and joined_on < 2026-01-31"
)


class TestMatch:
    def test_an_unresolved_member_is_our_defect(self):
        with pytest.raises(DefectError, match="bind it"):
            match(Not(Member("x")), {})

    def test_a_float_meets_a_money_literal_as_a_double(self):
        assert match(parse("arpu = 58.37"), {"arpu": 58.37})
        assert match(parse("arpu in (58.37)"), {"arpu": 58.37})
        assert not match(parse("arpu > 58.37"), {"arpu": 58.37})

    def test_a_double_literal_meets_a_decimal_as_a_double(self):
        assert match(Compare("x", "=", 0.1), {"x": Decimal("0.1")})
        assert match(In("x", (0.1,)), {"x": Decimal("0.1")})

    def test_a_decimal_is_exact(self):
        tiny = Decimal("58.3700000000000000000000000001")
        assert match(parse("arpu > 58.37"), {"arpu": tiny})
        assert not match(parse("arpu in (58.37)"), {"arpu": tiny})

    def test_absent_none_and_nan_are_missing(self):
        for profile in ({}, {"x": None}, {"x": math.nan}):
            assert match(Missing("x"), profile)
            assert not match(parse("x != 5"), profile)
            assert not match(Compare("x", "!=", 0.5), profile)


class TestMatcher:
    def test_gives_the_same_answer_each_time(self, harness):
        test = matcher(bind(parse(TWELVE), harness.FIELDS))
        profile = self.profile(harness)
        assert [test(profile) for _ in range(3)] == [True] * 3
        assert not test({**profile, "city": None})

    def test_twelve_conditions_take_microseconds(self, harness):
        """About 1.2 µs on an idle core; the bound leaves room for a busy machine."""
        test = matcher(bind(parse(TWELVE), harness.FIELDS))
        profile = self.profile(harness)
        best = math.inf
        for _ in range(7):
            start = perf_counter()
            for _ in range(2_000):
                test(profile)
            best = min(best, (perf_counter() - start) / 2_000)
        assert best < 20e-6

    @staticmethod
    def profile(harness):
        raw = {
            "arpu": 58.37, "balance": "12.50", "tenure_months": 24, "mms_count": 3,
            "churn_score": 0.4, "has_contract": False, "on_red_list": False, "city": "保定",
            "brand": "全球通", "joined_on": "2024-02-29",
        }  # fmt: skip
        return profile_of(raw, harness.FIELDS)


class TestProfileOf:
    def test_makes_exact_values_of_what_arrives(self, harness):
        raw = json.loads(
            '{"arpu": 58.37, "balance": "9999999999999999.98", "tenure_months": 24.0,'
            ' "churn_score": 1, "has_contract": true, "city": "保定", "joined_on": "2026-01-31",'
            ' "last_seen": "2026-01-31T10:00:00+00:00", "mms_count": null, "nonsense": 1}'
        )
        profile = profile_of(raw, harness.FIELDS)
        assert profile["arpu"] == Decimal("58.37")
        assert profile["balance"] == Decimal("9999999999999999.98")
        assert profile["tenure_months"] == 24
        assert type(profile["tenure_months"]) is int
        assert type(profile["churn_score"]) is float
        assert profile["joined_on"] == date(2026, 1, 31)
        assert profile["mms_count"] is None
        assert "nonsense" not in profile

    def test_nan_and_empty_numbers_and_dates_are_missing(self, harness):
        raw = {"arpu": math.nan, "tenure_months": " ", "churn_score": math.nan, "joined_on": ""}
        assert set(profile_of(raw, harness.FIELDS).values()) == {None}

    @pytest.mark.parametrize(
        ("tag", "value"),
        [
            ("arpu", "a lot"),
            ("arpu", True),
            ("arpu", "58.375"),
            ("tenure_months", 24.5),
            ("tenure_months", math.inf),
            ("churn_score", "high"),
            ("has_contract", 1),
            ("has_contract", "true"),
            ("city", 5),
            ("joined_on", "31.01.2026"),
            ("joined_on", 20260131),
            ("last_seen", "yesterday"),
        ],
    )
    def test_refuses_what_does_not_fit(self, harness, tag, value):
        with pytest.raises(ProfileError, match=tag) as caught:
            profile_of({tag: value}, harness.FIELDS)
        assert tag in caught.value.zh
