"""The formula guard, masking and layout of target lists."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from python_calamine import CalamineWorkbook
from sqlglot import exp

from bihuan.data import DuckDBEngine
from bihuan.delivery import ListLayout, target_list
from bihuan.delivery.target_list import (
    BLANKS,
    FORMULA_STARTS,
    ListLayoutError,
    guarded,
    masked_number,
    xlsx_bytes,
)

LIVE = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\x00=1",
    "＝1",
    "＋1",
    "－1",
    "＠x",
    "  =1",
    "\u3000=1",
    "\u00a0=1",
    "\ufeff=1",
    "\u200b=cmd|' /C calc'!A0",
    "\n=1",
    "\x0b=1",
    "-2+3+cmd|' /C calc'!A0",
    '=HYPERLINK("http://x","y")',
]
HARMLESS = [
    "",
    "a=1",
    "张三",
    "12",
    "0571-88886666",
    "a\t=1",
    "\u3000北京",
    "_x",
    "😀",
    "|x",
    "x@y.cn",
]
DULL = HARMLESS[:-1]

BORDERS = "09:;@AZ[az{~一龥鿿ꀀ\"',"


def sql_guarded(texts: list[str | None]) -> list[str | None]:
    expression = target_list._guarded(exp.column("text"))
    query = exp.select(expression.as_("text")).from_("t")
    rows = pa.table({"text": pa.array(texts, pa.string())})
    return DuckDBEngine(threads=1).query(query, {"t": rows})["text"].to_pylist()


def is_live(text: str) -> bool:
    """Whether a spreadsheet could take the text for a formula: the check, written anew."""
    for character in text:
        if character in FORMULA_STARTS:
            return True
        if character not in BLANKS:
            return False
    return False


class TestGuard:
    @pytest.mark.parametrize("text", LIVE)
    def test_live_text_is_made_harmless(self, text):
        assert is_live(text)
        assert guarded(text) == "'" + text

    @pytest.mark.parametrize("text", HARMLESS)
    def test_harmless_text_stays(self, text):
        assert guarded(text) == text

    def test_sql_and_python_agree_on_the_corpus(self):
        texts = [*LIVE, *HARMLESS]
        assert sql_guarded(texts) == [guarded(text) for text in texts]
        assert sql_guarded([None]) == [None]

    @given(
        st.lists(
            st.text(st.sampled_from([*BLANKS, *FORMULA_STARTS, *BORDERS]), max_size=6)
            | st.text(max_size=5),
            min_size=10,
        )
    )
    @settings(max_examples=25, deadline=None)
    def test_sql_and_python_agree_and_nothing_live_remains(self, texts):
        found = sql_guarded(texts)
        assert found == [guarded(text) for text in texts]
        assert not [text for text in found if text is not None and is_live(text)]

    def test_the_first_character_alone_is_not_enough(self):
        """The seeded defect: a guard that looks at the first character only."""

        def naive(text: str) -> str:
            return "'" + text if text[:1] in "=+-@" else text

        assert [text for text in LIVE if is_live(naive(text))]


class TestMaskedNumber:
    @pytest.mark.parametrize(
        ("number", "shown"),
        [
            ("13812348000", "138****8000"),
            ("8613812348000", "861******8000"),
            ("88886666", "****6666"),
            ("8886666", "***6666"),
            ("10010", "*****"),
            ("", ""),
        ],
    )
    def test_hides_the_middle_in_both_writers(self, number, shown):
        assert masked_number(number) == shown
        query = exp.select(target_list._masked(exp.column("n")).as_("n")).from_("t")
        rows = pa.table({"n": [number]})
        assert DuckDBEngine(threads=1).query(query, {"t": rows})["n"].to_pylist() == [shown]


class TestListLayout:
    def test_needs_the_customer_and_no_fixed_column(self):
        for names in (["arpu"], ["customer_id", "priority"], ["customer_id", "script"]):
            with pytest.raises(ListLayoutError):
                ListLayout(details=pa.table({name: ["x"] for name in names}))

    def test_details_come_after_the_customer(self):
        layout = ListLayout(
            details=pa.table({"customer_id": ["c"], "arpu": [1.0]}),
            titles={"arpu": {"zh": "户均收入", "en": "ARPU"}},
            language="en",
        )
        assert layout.columns[5:7] == ("customer_id", "arpu")
        assert layout.header[5:8] == ("Customer id", "ARPU", "Offer")

    def test_titles_exist_in_both_languages(self):
        assert ListLayout().header[0] == "优先级"
        assert ListLayout(language="en").header[0] == "Priority"


class TestXlsx:
    rows = pa.table(
        {
            "text": ["=1+1", "张三", None],
            "count": [1, 2**60, None],
            "amount": pa.array([Decimal("1.50"), None, Decimal("-2.25")], pa.decimal128(18, 2)),
            "share": [0.5, float("nan"), -1.0],
            "flag": [True, None, False],
            "day": [date(2026, 11, 2), None, None],
        }
    )
    moment = datetime(2026, 11, 2, 2, tzinfo=UTC)

    def test_text_is_text_and_numbers_are_numbers(self):
        content = xlsx_bytes(self.rows, ("=a", "b", "c", "d", "e", "f"), self.moment)
        sheet = CalamineWorkbook.from_filelike(io.BytesIO(content)).get_sheet_by_index(0)
        header, first, second, third = sheet.to_python(skip_empty_area=False)
        assert header == ["=a", "b", "c", "d", "e", "f"]
        assert first == ["=1+1", 1.0, 1.5, 0.5, True, "2026-11-02"]
        assert second == ["张三", str(2**60), "", "", "", ""]
        assert third[2:5] == [-2.25, -1.0, False]
        assert b"<f>" not in content

    def test_the_same_rows_give_the_same_bytes(self):
        header = tuple("abcdef")
        assert xlsx_bytes(self.rows, header, self.moment) == xlsx_bytes(
            self.rows, header, self.moment
        )

    def test_a_text_too_long_for_a_cell_is_refused_and_not_cut(self):
        with pytest.raises(ListLayoutError, match="40000 characters"):
            xlsx_bytes(pa.table({"a": ["x" * 40_000]}), ("a",), self.moment)

    def test_too_many_rows_are_refused(self, monkeypatch):
        monkeypatch.setattr(target_list, "XLSX_ROWS", 2)
        with pytest.raises(ListLayoutError, match="holds 2 rows"):
            xlsx_bytes(self.rows, tuple("abcdef"), self.moment)
