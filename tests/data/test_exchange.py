"""Files for spreadsheets and SPSS: nothing is lost, nothing becomes a formula."""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyreadstat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from python_calamine import CalamineWorkbook

from bihuan.data.exchange import ExchangeError, write_csv, write_excel, write_sav

MONEY = pa.decimal128(18, 2)
FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "=cmd|' /C calc'!A0",
    " =1",
    "\t=1",
    "\r=1",
    "\n=1",
    "\u3000=1",
    "＝1+1",
    "＋1",
    "－1",
    "＠x",
    "\ufeff=1",
    "\t text",
    "'=1",
]


@pytest.fixture
def table():
    return pa.table(
        {
            "name": ["=1+1", "张三", None],
            "n": pa.array([1, None, -3], pa.int64()),
            "share": [0.5, float("nan"), float("inf")],
            "fee": pa.array([Decimal("1.20"), None, Decimal("-3.00")], MONEY),
            "day": pa.array([date(2026, 10, 31), None, date(1999, 12, 31)]),
            "is_new": [True, None, False],
            "at": pa.array([datetime(2026, 10, 31, 23, 59, 58, tzinfo=UTC), None, None]),
        }
    )


def read_csv(path):
    return list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"))))


def looks_live(text: str) -> bool:
    """Whether a spreadsheet might calculate a text (OWASP's list, blanks and full width too)."""
    bare = text.lstrip(" \t\r\n\x00\u3000\u00a0\u200b\ufeff")
    return bare[:1] in tuple("=+-@＝＋－＠") or text[:1] in tuple("\t\r\n\x00")


class TestWriteCsv:
    @pytest.mark.parametrize("text", FORMULAS[:-1])
    def test_a_text_that_begins_like_a_formula_gets_an_apostrophe(self, tmp_path, text):
        path = tmp_path / "t.csv"
        write_csv(pa.table({"a": [text, "x"]}), path)
        # csv.reader gives line ends inside quotes back as they are
        assert read_csv(path)[1] == ["'" + text] or text.startswith(("\r", "\n"))
        assert b"'" in path.read_bytes()

    def test_numbers_stay_numbers(self, tmp_path):
        path = tmp_path / "t.csv"
        write_csv(pa.table({"n": [-1], "m": pa.array([Decimal("-2.50")], MONEY)}), path)
        assert read_csv(path)[1] == ["-1", "-2.50"]

    def test_headings_are_safe_too(self, tmp_path):
        path = tmp_path / "t.csv"
        write_csv(pa.table({"=x": [1]}), path)
        assert read_csv(path)[0] == ["'=x"]

    def test_excel_reads_it_as_utf8(self, tmp_path):
        path = tmp_path / "t.csv"
        write_csv(pa.table({"名": ["张三"]}), path)
        assert path.read_bytes().startswith(b"\xef\xbb\xbf")
        assert read_csv(path) == [["名"], ["张三"]]

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.lists(
            st.text(
                st.sampled_from(list("=+-@＝＋－＠ \t\x00\u3000\u00a0\u200b\ufeff'\",;1a张"))
                | st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"),
                max_size=6,
            ),
            min_size=1,
        )
    )
    def test_no_text_is_live_and_harmless_ones_come_back(self, tmp_path, texts):
        path = tmp_path / "t.csv"
        write_csv(pa.table({"a": texts}), path)
        found = [row[0] if row else "" for row in read_csv(path)[1:]]
        for text, written in zip(texts, found, strict=True):
            assert not looks_live(written)
            assert written == (text if written == text else "'" + text)

    def test_a_plain_writer_would_be_caught(self, tmp_path):
        import pyarrow.csv

        path = tmp_path / "t.csv"
        pyarrow.csv.write_csv(pa.table({"a": FORMULAS[:4]}), path)
        assert all(looks_live(row[0]) for row in read_csv(path)[1:])


class TestWriteExcel:
    def read(self, path):
        return CalamineWorkbook.from_path(str(path)).get_sheet_by_index(0).to_python()

    def test_values_keep_their_types(self, tmp_path, table):
        path = tmp_path / "t.xlsx"
        write_excel(table, path, titles={"fee": "月费"})
        head, first, second, third = self.read(path)
        assert head == ["name", "n", "share", "月费", "day", "is_new", "at"]
        assert first == [
            "=1+1",
            1,
            0.5,
            1.2,
            date(2026, 10, 31),
            True,
            datetime(2026, 10, 31, 23, 59, 58),  # noqa: DTZ001 - a sheet knows no zone
        ]
        assert second == ["张三", "", "", "", "", "", ""]
        assert third[:4] == ["", -3, "", -3]

    def test_no_cell_is_a_formula_or_a_link(self, tmp_path):
        path = tmp_path / "t.xlsx"
        texts = [*FORMULAS, "https://example.org", "mailto:a@b", "{=1}"]
        write_excel(pa.table({"=head": texts}), path)
        with zipfile.ZipFile(path) as book:
            sheet = book.read("xl/worksheets/sheet1.xml").decode()
            assert not any("rels" in name and "sheet1" in name for name in book.namelist())
        assert "<f>" not in sheet
        assert "hyperlink" not in sheet
        assert self.read(path)[0] == ["=head"]

    def test_a_careless_writer_would_be_caught(self, tmp_path):
        import xlsxwriter

        path = tmp_path / "t.xlsx"
        with xlsxwriter.Workbook(str(path)) as book:
            book.add_worksheet().write(0, 0, "=1+1")
        with zipfile.ZipFile(path) as book:
            assert "<f>" in book.read("xl/worksheets/sheet1.xml").decode()

    def test_equal_tables_give_equal_files(self, tmp_path, table):
        for name in ("a.xlsx", "b.xlsx"):
            write_excel(table, tmp_path / name)
        assert (tmp_path / "a.xlsx").read_bytes() == (tmp_path / "b.xlsx").read_bytes()

    def test_long_numbers_and_old_days_become_texts(self, tmp_path):
        path = tmp_path / "t.xlsx"
        account = 6222021234567890123
        write_excel(pa.table({"n": [account, 5], "d": [date(1850, 1, 2), date(1900, 3, 1)]}), path)
        assert self.read(path)[1:] == [[str(account), "1850-01-02"], [5, date(1900, 3, 1)]]

    def test_an_empty_table_has_its_headings(self, tmp_path, table):
        path = tmp_path / "t.xlsx"
        write_excel(table.slice(0, 0), path)
        assert self.read(path) == [table.column_names]

    def test_a_table_that_does_not_fit_is_refused(self, tmp_path):
        path = tmp_path / "t.xlsx"
        with pytest.raises(ExchangeError, match="1,048,576 rows"):
            write_excel(pa.table({"n": pa.nulls(1_048_576, pa.int8())}), path)
        with pytest.raises(ExchangeError, match=r"'text'.*32,768"):
            write_excel(pa.table({"text": ["x" * 32_768]}), path)
        assert not path.exists()


class TestWriteSav:
    def read(self, path):
        values, about = pyreadstat.read_sav(str(path), output_format="dict")
        return dict(values), about

    def test_values_come_back(self, tmp_path, table):
        path = tmp_path / "t.sav"
        write_sav(table, path, {"fee": "月费", "name": "姓名"})
        values, about = self.read(path)
        assert values["name"] == ["=1+1", "张三", ""]
        assert values["n"] == [1, None, -3]
        assert values["share"] == [0.5, None, None]
        assert values["fee"] == [1.2, None, -3]
        assert values["day"] == [date(2026, 10, 31), None, date(1999, 12, 31)]
        assert values["is_new"] == [1, None, 0]
        moment = datetime(2026, 10, 31, 23, 59, 58)  # noqa: DTZ001 - SPSS knows no zone
        assert values["at"] == [moment, None, None]
        assert about.column_names_to_labels["fee"] == "月费"
        assert about.variable_value_labels["is_new"] == {0: "否 no", 1: "是 yes"}

    def test_codes_become_value_labels(self, tmp_path):
        path = tmp_path / "t.sav"
        write_sav(pa.table({"severity": [1, 5]}), path, codes={"severity": {1: "轻", 5: "重"}})
        assert self.read(path)[1].variable_value_labels == {"severity": {1: "轻", 5: "重"}}

    def test_chinese_names_and_long_texts(self, tmp_path):
        path = tmp_path / "t.sav"
        text = "很" * 300  # 900 bytes: SPSS splits texts above 255
        write_sav(pa.table({"客户": [text, "短"]}), path)
        assert self.read(path)[0] == {"客户": [text, "短"]}

    def test_long_numbers_stay_exact_as_texts(self, tmp_path):
        path = tmp_path / "t.sav"
        write_sav(pa.table({"account": [6222021234567890123, None]}), path)
        assert self.read(path)[0]["account"] == ["6222021234567890123", ""]

    def test_an_empty_table(self, tmp_path, table):
        path = tmp_path / "t.sav"
        write_sav(table.slice(0, 0), path)
        values, about = self.read(path)
        assert about.column_names == table.column_names
        assert all(not column for column in values.values())

    @pytest.mark.parametrize(
        "names", [["1a"], ["a b"], ["all"], ["_a"], ["x" * 65], ["客" * 22], ["Aa", "aA"], [""]]
    )
    def test_names_that_spss_does_not_take_are_refused(self, tmp_path, names):
        path = tmp_path / "t.sav"
        with pytest.raises(ExchangeError):
            write_sav(pa.table([[1]] * len(names), names=names), path)
        assert not path.exists()

    def test_a_text_that_is_too_long_is_refused(self, tmp_path):
        with pytest.raises(ExchangeError, match="32,768"):
            write_sav(pa.table({"t": ["x" * 32_768]}), tmp_path / "t.sav")

    def test_nothing_but_the_target_is_left(self, tmp_path, table):
        write_sav(table, tmp_path / "new" / "t.sav")
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["t.sav"]
