"""Files that leave for a spreadsheet or for SPSS.

A text that a customer once typed must not become a formula on an analyst's screen: CSV texts that a
spreadsheet would calculate get an apostrophe in front (OWASP ASVS 5.0, 1.2.10), Excel cells are
typed as text.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from bihuan.kernel import UserError, write_atomically

# also behind blanks and in full width: some spreadsheets trim and fold before they calculate
_FORMULA = r"^[\s\pZ\pC]*[=+\-@＝＋－＠]|^[\t\r\n\x00]"
_SHEET_ROWS, _SHEET_COLUMNS, _CELL_CHARACTERS = 1_048_576, 16_384, 32_767
_SAV_TEXT_BYTES, _SAV_NAME_BYTES = 32_767, 64
_SAV_RESERVED = frozenset(
    ("ALL", "AND", "BY", "EQ", "GE", "GT", "LE", "LT", "NE", "NOT", "OR", "TO", "WITH")
)
_EXACT = 10**15  # larger whole numbers lose digits as a spreadsheet's or SPSS's number
_EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001 - a fixed stamp, so that equal tables give equal files


class ExchangeError(UserError):
    """A table does not fit into the file format asked for."""


def write_csv(table: pa.Table, path: Path) -> None:
    """Write a table as CSV that a spreadsheet opens without harm.

    UTF-8 with a byte order mark (Excel reads Chinese only with it), RFC 4180 quoting, written
    atomically. Texts that begin like a formula get an apostrophe in front.

    Parameters
    ----------
    table
        Rows of the lake's types; times are written in UTC.
    path
        Target file; replaced if it is there.
    """
    safe = pa.table(
        [_without_formulas(table.column(name)) for name in table.column_names],
        names=_without_formulas(pa.chunked_array([table.column_names], pa.string())).to_pylist(),
    )
    buffer = io.BytesIO(b"")
    buffer.write(b"\xef\xbb\xbf")
    pyarrow.csv.write_csv(safe, buffer)
    write_atomically(path, buffer.getvalue())


def write_excel(
    table: pa.Table, path: Path, *, titles: Mapping[str, str] | None = None, sheet: str = "data"
) -> None:
    """Write a table as an Excel workbook with one sheet.

    Texts are typed cells, never formulas or links; missing values, NaN and infinities are empty
    cells; times are written in UTC; whole numbers of more than 15 digits and days before 1900 are
    texts, because a sheet cannot hold them. Equal tables give equal files.

    Parameters
    ----------
    table
        At most 1,048,575 rows and 16,384 columns, texts up to 32,767 characters.
    path
        Target file; replaced if it is there, atomically.
    titles
        Headings by column name; the name itself where there is none.
    sheet
        Name of the sheet, at most 31 characters.

    Raises
    ------
    ExchangeError
        If the table does not fit.
    """
    import xlsxwriter  # only this function needs it

    _require_sheet_size(table)
    buffer = io.BytesIO()
    book = xlsxwriter.Workbook(
        buffer,
        {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False},
    )
    book.set_properties({"created": _EPOCH})
    formats = {
        "date": book.add_format({"num_format": "yyyy-mm-dd"}),
        "time": book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
        "head": book.add_format({"bold": True, "bottom": 1}),
    }
    page = book.add_worksheet(sheet)
    page.freeze_panes(1, 0)
    for place, name in enumerate(table.column_names):
        page.set_column(place, place, min(max(len(name) + 4, 12), 40))
        page.write_string(0, place, (titles or {}).get(name, name), formats["head"])
    writers = [_cell_writer(page, field.type, formats) for field in table.schema]
    row = 1
    for batch in table.to_batches():
        for values in zip(*(_plain(column).to_pylist() for column in batch.columns), strict=True):
            for place, value in enumerate(values):
                if value is not None:
                    writers[place](row, place, value)
            row += 1
    book.close()
    write_atomically(path, buffer.getvalue())


def write_sav(
    table: pa.Table,
    path: Path,
    labels: Mapping[str, str] | None = None,
    codes: Mapping[str, Mapping[int, str]] | None = None,
) -> None:
    """Write a table as an SPSS system file.

    Numbers, money and integers become numeric variables, booleans 0 and 1 with value labels, dates
    and times SPSS dates and times (UTC), texts strings. A missing number is system-missing; SPSS
    has no missing text, it becomes empty. A column of whole numbers with more than 15 digits
    becomes text, because SPSS would round them.

    Parameters
    ----------
    table
        Column names must be SPSS names: at most 64 bytes, beginning with a letter, without blanks,
        not a reserved word, and different even when upper and lower case are not told apart.
    path
        Target ``.sav`` file; replaced if it is there, atomically.
    labels
        Variable labels by column name.
    codes
        Value labels of integer columns, by column name.

    Raises
    ------
    ExchangeError
        If a name or a text does not fit.
    """
    import pyreadstat  # only this function needs it

    _require_sav_names(table.column_names)
    columns, styles = [], {}
    value_labels: dict[str, dict[int | float, str]] = {
        name: {code: title for code, title in titles.items()}  # noqa: C416 - widens the key type
        for name, titles in (codes or {}).items()
    }
    for name in table.column_names:
        column, style = _spss_column(name, _plain(table.column(name)))
        columns.append(column)
        if style:
            styles[name] = style
        if pa.types.is_boolean(table.schema.field(name).type):
            value_labels.setdefault(name, {0: "否 no", 1: "是 yes"})
    frame = _as_frame(pa.table(columns, names=table.column_names))
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "table.sav"
        pyreadstat.write_sav(
            frame,
            draft,
            column_labels=dict(labels or {}),
            variable_value_labels=value_labels,
            variable_format=styles,
        )
        write_atomically(path, draft.read_bytes())


# -- cells --------------------------------------------------------------------------------------


def _without_formulas(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        return column
    live = pc.match_substring_regex(column, _FORMULA)
    return pc.if_else(live, pc.binary_join_element_wise("'", column, ""), column)


def _plain(column: Any) -> Any:
    """Turn NaN and infinities into missing values and times into UTC without a zone."""
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
    if pa.types.is_timestamp(column.type):
        # an Arrow time with a zone is stored in UTC, so dropping the zone leaves UTC
        return column.cast(pa.timestamp("us"))
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column


def _cell_writer(page: Any, kind: pa.DataType, formats: Mapping[str, Any]) -> Any:
    def write_text(row: int, place: int, value: Any) -> None:
        page.write_string(row, place, str(value))

    def write_integer(row: int, place: int, value: int) -> None:
        (page.write_number if abs(value) < _EXACT else write_text)(row, place, value)

    def write_day(row: int, place: int, value: date) -> None:
        if value.year < 1900:  # a sheet's calendar begins there
            write_text(row, place, value)
        else:
            style = formats["time" if isinstance(value, datetime) else "date"]
            page.write_datetime(row, place, value, style)

    if pa.types.is_boolean(kind):
        return page.write_boolean
    if pa.types.is_integer(kind):
        return write_integer
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return page.write_number
    return write_day if pa.types.is_date(kind) or pa.types.is_timestamp(kind) else write_text


def _require_sheet_size(table: pa.Table) -> None:
    if table.num_rows >= _SHEET_ROWS or table.num_columns > _SHEET_COLUMNS:
        raise ExchangeError(
            f"The table has {table.num_rows:,} rows and {table.num_columns:,} columns; a sheet "
            f"holds {_SHEET_ROWS - 1:,} and {_SHEET_COLUMNS:,}.",
            remedy="Group or filter it, or write CSV or Parquet.",
            zh=f"表有 {table.num_rows:,} 行 {table.num_columns:,} 列，超过 Excel 的上限，"
            "请先分组或过滤，或改用 CSV、Parquet。",
        )
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_string(column.type):
            longest = pc.max(pc.utf8_length(column)).as_py() or 0
            if longest > _CELL_CHARACTERS:
                raise ExchangeError(
                    f"Column '{name}' holds a text of {longest:,} characters; a cell holds "
                    f"{_CELL_CHARACTERS:,}.",
                    remedy="Shorten it, or write CSV or Parquet.",
                    zh=f"{name} 列有 {longest:,} 个字符的文本，超过 Excel 单元格上限。",
                )


# -- SPSS ---------------------------------------------------------------------------------------


def _require_sav_names(names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        wrong = (
            not re.fullmatch(r"[^\W\d_][\w.]*", name)
            or len(name.encode()) > _SAV_NAME_BYTES
            or name.upper() in _SAV_RESERVED
            or name.upper() in seen
        )
        if wrong:
            raise ExchangeError(
                f"'{name}' cannot name an SPSS variable, or is named twice.",
                remedy="Rename it: a letter first, then letters, digits and '_', at most 64 bytes.",
                zh=f"{name} 不能作为 SPSS 变量名或重名，请改名。",
            )
        seen.add(name.upper())


def _spss_column(name: str, column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, str]:
    """Return the values as SPSS stores them, and their print format."""
    kind = column.type
    result, style = None, ""
    if pa.types.is_boolean(kind):
        result, style = column.cast(pa.int32()), "F1.0"
    elif pa.types.is_integer(kind) and (pc.max(pc.abs(column)).as_py() or 0) < _EXACT:
        result, style = column.cast(pa.float64()), "F16.0"
    elif pa.types.is_decimal(kind):
        result, style = column.cast(pa.float64()), f"F20.{kind.scale}"
    elif pa.types.is_date(kind):
        result, style = _spss_seconds(column.cast(pa.timestamp("us"))), "SDATE10"
    elif pa.types.is_timestamp(kind):
        result, style = _spss_seconds(column), "DATETIME20"
    elif pa.types.is_floating(kind):
        result = column.cast(pa.float64())
    return (_spss_text(name, column), "") if result is None else (result, style)


def _spss_text(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    text = column.cast(pa.string())
    longest = pc.max(pc.binary_length(text)).as_py() or 0
    if longest > _SAV_TEXT_BYTES:
        raise ExchangeError(
            f"Column '{name}' holds a text of {longest:,} bytes; SPSS holds {_SAV_TEXT_BYTES:,}.",
            remedy="Shorten it, or leave the column out.",
            zh=f"{name} 列有 {longest:,} 字节的文本，超过 SPSS 上限。",
        )
    return text


def _spss_seconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Turn times into seconds since the Gregorian calendar began, 14 October 1582."""
    seconds = pc.divide(column.cast(pa.int64()).cast(pa.float64(), safe=False), 1e6)
    return pc.add(seconds, 12_219_379_200.0)


def _as_frame(table: pa.Table) -> Any:
    """Wrap an Arrow table so that the SPSS writer takes it.

    The writer walks any narwhals frame, but asks beforehand whether it is pandas or Polars; it
    treats missing values as Polars and Arrow both give them, as None.
    """
    import narwhals.stable.v2 as narwhals

    class ArrowFrame(narwhals.DataFrame):  # type: ignore[type-arg]
        @property
        def implementation(self) -> Any:  # type: ignore[override]
            return narwhals.Implementation.POLARS

    frame = narwhals.from_native(table, eager_only=True)
    frame.__class__ = ArrowFrame
    return frame
