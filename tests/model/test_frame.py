"""Types, missing values, dates, and mistakes that are named."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from bihuan.model import LabelledFrame
from bihuan.model.frame import (
    FeatureKind,
    FeatureTypeError,
    FrameError,
    MissingFeatureError,
    decode,
)


def frame(**features):
    n = len(next(iter(features.values())))
    return LabelledFrame(
        pa.array([f"c{i}" for i in range(n)]), pa.table(features), np.arange(n) % 2 == 0
    )


class TestKinds:
    def test_arrow_type_decides(self):
        kinds = frame(
            a=pa.array([1, 2]),
            b=pa.array([Decimal("1.20"), None], pa.decimal128(18, 2)),
            c=pa.array([True, None]),
            d=pa.array([dt.date(2026, 1, 1), None]),
            e=pa.array(["x", None]),
            f=pa.array(["x", "y"]).dictionary_encode(),
            g=pa.nulls(2),
            h=pa.array([dt.datetime(2026, 1, 1, tzinfo=dt.UTC), None]),
        ).kinds
        assert list(kinds.values()) == [
            FeatureKind.NUMERIC,
            FeatureKind.NUMERIC,
            FeatureKind.BOOLEAN,
            FeatureKind.DATE,
            FeatureKind.CATEGORICAL,
            FeatureKind.CATEGORICAL,
            FeatureKind.NUMERIC,
            FeatureKind.DATE,
        ]

    def test_a_list_is_refused_by_name(self):
        with pytest.raises(FeatureTypeError, match="'basket'"):
            frame(basket=pa.array([[1], [2]]))


class TestDecode:
    def test_missing_and_infinite_numbers_are_nan(self):
        columns = frame(x=pa.array([1.5, None, float("inf"), float("nan")])).decode()
        assert columns.numbers["x"][0] == 1.5
        assert np.isnan(columns.numbers["x"][1:]).all()

    def test_money_and_booleans_become_numbers(self):
        columns = frame(
            fee=pa.array([Decimal("58.30"), None], pa.decimal128(18, 2)),
            flag=pa.array([True, None]),
        ).decode()
        assert columns.numbers["fee"][0] == pytest.approx(58.3, abs=1e-12)
        assert columns.numbers["flag"][0] == 1.0
        assert np.isnan(columns.numbers["flag"][1])

    def test_levels_are_sorted_whatever_the_order_of_rows(self):
        one = frame(city=["b", "a", None, "b"]).decode().levels["city"]
        two = frame(city=["a", "b", "b", None]).decode().levels["city"]
        assert one.vocabulary == two.vocabulary == ("a", "b")
        assert one.codes.tolist() == [1, 0, -1, 1]

    def test_days_before_one_date_or_a_date_per_row(self):
        table = pa.table({"joined": pa.array([dt.date(2026, 10, 1), dt.date(2026, 9, 1)])})
        one = decode(table, as_of=dt.date(2026, 10, 31))
        each = decode(table, as_of=np.array(["2026-10-31", "2026-09-30"], "datetime64[D]"))
        assert one.numbers["joined"].tolist() == [30, 60]
        assert each.numbers["joined"].tolist() == [30, 29]

    def test_a_date_without_as_of_is_refused(self):
        with pytest.raises(FeatureTypeError, match="as_of"):
            decode(pa.table({"joined": pa.array([dt.date(2026, 10, 1)])}))

    def test_an_absent_feature_is_named(self):
        with pytest.raises(MissingFeatureError, match="arpu") as caught:
            decode(pa.table({"x": [1]}), kinds={"arpu": FeatureKind.NUMERIC})
        assert "arpu" in caught.value.zh

    def test_a_feature_that_changed_its_type_is_named(self):
        with pytest.raises(FeatureTypeError, match="'x' was numeric"):
            decode(pa.table({"x": ["1"]}), kinds={"x": FeatureKind.NUMERIC})

    def test_an_integer_may_become_a_float_and_a_month_may_be_empty(self):
        kinds = {"x": FeatureKind.NUMERIC, "c": FeatureKind.CATEGORICAL}
        columns = decode(pa.table({"x": [1.5], "c": pa.nulls(1)}), kinds=kinds)
        assert columns.levels["c"].codes.tolist() == [-1]

    def test_take_keeps_rows_together(self):
        columns = frame(x=[1.0, 2.0, 3.0], c=["a", "b", "c"]).decode().take(np.array([2, 0]))
        assert columns.numbers["x"].tolist() == [3.0, 1.0]
        assert [columns.levels["c"].vocabulary[i] for i in columns.levels["c"].codes] == ["c", "a"]


class TestLabelledFrame:
    def test_lengths_must_agree(self):
        with pytest.raises(FrameError, match="different lengths") as caught:
            LabelledFrame(pa.array(["a"]), pa.table({"x": [1, 2]}), np.array([True, False]))
        assert caught.value.zh

    def test_a_missing_label_is_refused(self):
        with pytest.raises(FrameError, match="missing in 1 rows"):
            LabelledFrame(pa.array(["a", "b"]), pa.table({"x": [1, 2]}), pa.array([True, None]))

    def test_a_label_of_words_is_refused(self):
        with pytest.raises(FrameError, match="true or false"):
            LabelledFrame(pa.array(["a"]), pa.table({"x": [1]}), np.array(["Yes"]))

    def test_a_doubled_feature_name_is_refused(self):
        doubled = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
        with pytest.raises(FrameError, match="more than once: x"):
            LabelledFrame(pa.array(["a"]), doubled, np.array([True]))

    def test_periods_may_be_dates(self):
        days = pa.array([dt.date(2026, 1, 31), dt.date(2026, 2, 28)])
        found = LabelledFrame(
            pa.array(["a", "b"]), pa.table({"x": [1, 2]}), np.array([True, False]), days
        )
        assert np.diff(found.period).tolist() == [1]
        assert found.period.dtype == np.int32
