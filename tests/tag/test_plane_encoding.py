"""Values as codes: every type keeps its order exactly."""

from __future__ import annotations

import math
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.data import ColumnType
from bihuan.tag.plane.column import MAX_TEXTS, ColumnReader, TooManyTextsError
from bihuan.tag.plane.encoding import Encoding
from bihuan.tag.plane.pack import pack_column, read_rows
from bihuan.tag.plane.store import words_for

_MOMENT = datetime(2020, 1, 1, tzinfo=UTC)
VALUES = {
    ColumnType.BOOLEAN: st.booleans(),
    ColumnType.INTEGER: st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-5, 5),
    ColumnType.MONEY: st.integers(-(10**18) + 1, 10**18 - 1).map(lambda n: Decimal(n).scaleb(-2))
    | st.integers(-500, 500).map(lambda n: Decimal(n)),
    ColumnType.NUMBER: st.floats(allow_nan=False)
    | st.integers(-(10**6), 10**6).map(lambda n: n / 100),
    ColumnType.STRING: st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3
    ),
    ColumnType.DATE: st.dates(),
    ColumnType.TIMESTAMP: st.integers(-(10**15), 10**15).map(
        lambda n: _MOMENT + timedelta(microseconds=n)
    ),
}


def columns(kind: ColumnType):
    return st.lists(st.none() | VALUES[kind], min_size=1, max_size=140)


def read(tmp_path_factory, values, kind, row_group_size=37):
    path = tmp_path_factory.mktemp("column") / "part-00000.parquet"
    table = pa.table({"tag": pa.array(values, kind.arrow)})
    pq.write_table(table, path, row_group_size=row_group_size)
    return ColumnReader(len(values)).read([path], "tag", kind)


def decoded(column, rows: int) -> list:
    """Read every row back from the planes."""
    planes = pack_column(column, words_for(rows))
    encoding = column.encoding
    known = np.ones(rows, np.uint64)
    base, stride = planes.ctypes.data, planes.strides[0]
    addresses = np.array([base + stride * i for i in range(len(planes))], np.uint64)
    codes = np.zeros((1, rows), np.uint64)
    gap = int(encoding.missing == "plane")
    everyone = np.arange(rows)
    read_rows(addresses[gap:], np.array([0, len(planes) - gap]), everyone, codes)
    if encoding.missing == "plane":
        found = np.zeros((1, rows), np.uint64)
        read_rows(addresses[:1], np.array([0, 1]), everyone, found)
        known = found[0]
    elif encoding.missing == "zero":
        known = codes[0] > 0
    return [encoding.value(int(c)) if k else None for c, k in zip(codes[0], known, strict=True)]


class TestEveryType:
    @pytest.mark.parametrize("kind", list(VALUES))
    def test_values_come_back_and_comparisons_are_of_codes(self, kind, tmp_path_factory):
        @settings(deadline=None)
        @given(columns(kind), VALUES[kind])
        def check(values, literal):
            column = read(tmp_path_factory, values, kind)
            assert decoded(column, len(values)) == values
            encoding = column.encoding
            known = sorted({v for v in values if v is not None})
            at_least = encoding.first_at_least(literal)
            expected = known[bisect_left(known, literal) :]
            found = [v for v in known if encoding.find(v) >= at_least]
            assert found == expected
            assert (encoding.find(literal) is not None) or literal not in known

        check()

    @pytest.mark.parametrize("kind", list(VALUES))
    def test_a_column_without_any_value(self, kind, tmp_path_factory):
        column = read(tmp_path_factory, [None, None], kind)
        assert decoded(column, 2) == [None, None]
        assert column.encoding.lowest is None or kind is ColumnType.BOOLEAN

    def test_what_is_stored_is_read_back(self, tmp_path_factory):
        encoding = read(tmp_path_factory, ["b", None, "a"], ColumnType.STRING).encoding
        assert Encoding.from_json(encoding.to_json()) == encoding


class TestPlanes:
    def test_money_is_exact_to_the_cent(self, tmp_path_factory):
        values = [Decimal("58.36"), Decimal("58.37"), Decimal("58.38")]
        encoding = read(tmp_path_factory, values, ColumnType.MONEY).encoding
        assert encoding.first_at_least(Decimal("58.37")) == encoding.find(Decimal("58.37")) == 1
        assert encoding.first_at_least(Decimal("58.375")) == 2
        assert encoding.find(Decimal("58.375")) is None

    def test_doubles_with_two_decimals_take_the_planes_of_their_cents(self, tmp_path_factory):
        values = [n / 100 for n in range(0, 131072, 7)]
        encoding = read(tmp_path_factory, values, ColumnType.NUMBER).encoding
        assert (encoding.decimals, encoding.step, encoding.bits) == (2, 7, 15)

    def test_doubles_that_are_no_decimals_are_kept_bit_by_bit(self, tmp_path_factory):
        values = [0.1 + 0.2, 0.3, math.pi, -math.inf, 5e-324]
        column = read(tmp_path_factory, values, ColumnType.NUMBER)
        assert decoded(column, 5) == values
        assert column.encoding.decimals == -1

    def test_a_late_row_with_more_decimals_is_not_rounded(self, tmp_path_factory):
        values = [float(i) for i in range(9_000)] + [0.001, 0.5]
        column = read(tmp_path_factory, values, ColumnType.NUMBER, row_group_size=1_000)
        assert column.encoding.decimals == 3
        assert decoded(column, len(values)) == values

    def test_missing_takes_code_zero_where_the_bits_allow_it_and_a_plane_where_not(
        self, tmp_path_factory
    ):
        three = read(tmp_path_factory, ["a", "b", "c", None], ColumnType.STRING).encoding
        four = read(tmp_path_factory, ["a", "b", "c", "d", None], ColumnType.STRING).encoding
        assert (three.missing, three.planes) == ("zero", 2)
        assert (four.missing, four.planes) == ("plane", 3)

    def test_planes_are_as_many_as_the_codes_need(self, tmp_path_factory):
        codes = [f"c{i:03d}" for i in range(400)]
        assert read(tmp_path_factory, codes, ColumnType.STRING).encoding.planes == 9
        assert read(tmp_path_factory, [True, False], ColumnType.BOOLEAN).encoding.planes == 1
        assert read(tmp_path_factory, ["only"], ColumnType.STRING).encoding.planes == 0

    def test_names_are_refused(self, tmp_path_factory):
        names = [f"n{i}" for i in range(MAX_TEXTS + 1)]
        with pytest.raises(TooManyTextsError):
            read(tmp_path_factory, names, ColumnType.STRING, row_group_size=50_000)

    def test_bits_after_the_last_row_are_zero(self, tmp_path_factory):
        column = read(tmp_path_factory, [True] * 70, ColumnType.BOOLEAN)
        planes = pack_column(column, words_for(70))
        assert int(np.bitwise_count(planes).sum()) == 70
