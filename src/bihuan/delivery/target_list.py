"""Target lists: what a seat, a clerk or a platform reads about each customer it is to contact.

A list is opened in a spreadsheet sooner or later, and a spreadsheet runs any cell that looks like
a formula. So every text cell of a CSV goes through one guard: if the first character that is not
blank could start a formula, an apostrophe is put before it. Numbers and dates are not text and
stay as they are.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pyarrow as pa
from sqlglot import exp

from bihuan.delivery.sql import joined, statement
from bihuan.kernel import UserError

BOM = b"\xef\xbb\xbf"  # without it Excel reads Chinese in the machine's code page
LINE_END = "\r\n"  # RFC 4180
XLSX_ROWS = 1_048_575  # a sheet has 2^20 rows, one of them the header
XLSX_CELL_CHARACTERS = 32_767
EXACT_NUMBER = 2**53  # a larger whole number would lose digits in a spreadsheet

# ASVS 5.0, 1.2.10: = + - @ TAB NUL. Besides, CR and LF, and the full-width forms, which Excel
# takes for the same where a Chinese input method is in use.
FORMULA_STARTS = "=+-@\t\r\n\x00＝＋－＠"
# Whatever a spreadsheet may trim away before it looks: all Unicode blanks and the zero-width ones.
BLANKS = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u00ad\u180e\u200b\u200c\u200d\u2060"
    "\ufeff"
)

LIST_TITLES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "priority": {"zh": "优先级", "en": "Priority"},
        "assignment_id": {"zh": "派发编号", "en": "Assignment id"},
        "campaign_id": {"zh": "方案编号", "en": "Campaign id"},
        "channel": {"zh": "渠道", "en": "Channel"},
        "org_unit_id": {"zh": "执行单位", "en": "Org unit"},
        "customer_id": {"zh": "客户编号", "en": "Customer id"},
        "offer_id": {"zh": "推荐商品", "en": "Offer"},
        "script_id": {"zh": "话术编号", "en": "Script id"},
        "script": {"zh": "话术", "en": "Script"},
        "valid_from": {"zh": "生效日期", "en": "Valid from"},
        "valid_until": {"zh": "失效日期", "en": "Valid until"},
    }
)
"""The columns of every list, in order; details of the customer come after ``customer_id``."""

_SCRIPT_SCHEMA = pa.schema([("script_id", pa.string()), ("script", pa.string())])


class ListLayoutError(UserError):
    """The columns asked for cannot be put on a list."""


@dataclass(frozen=True, slots=True)
class ListLayout:
    """What stands on a target list besides the assignment.

    Parameters
    ----------
    details
        ``customer_id`` and further columns (name, number, tags), at most one row per customer;
        None for none. A customer without a row has empty cells.
    titles
        Column titles of the details by language; a column without one shows its name.
    scripts
        The text that is to be said, by script id.
    numbers
        Detail columns that hold phone numbers; shown as ``138****8000``.
    unmasked
        Show the numbers in full. The caller must be allowed to, and say why in the audit.
    language
        ``zh`` or ``en``, for titles and yes/no.
    """

    details: pa.Table | None = None
    titles: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    numbers: frozenset[str] = frozenset({"number", "phone"})
    unmasked: bool = False
    language: str = "zh"

    def __post_init__(self) -> None:
        names = [] if self.details is None else self.details.column_names
        taken = [name for name in self.detail_names if name in LIST_TITLES]
        if (names and "customer_id" not in names) or taken or len(set(names)) != len(names):
            raise ListLayoutError(
                f"The details of a list cannot have the columns {names}.",
                remedy="Give customer_id once, and no column that every list has anyway.",
                zh=f"清单附加列 {names} 不合要求。须含一次 customer_id,且不与固有列重名。",
            )

    @property
    def detail_names(self) -> tuple[str, ...]:
        """Names of the detail columns, in order."""
        names = () if self.details is None else self.details.column_names
        return tuple(name for name in names if name != "customer_id")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns of the list, in order."""
        before = tuple(LIST_TITLES)[:6]
        return (*before, *self.detail_names, *tuple(LIST_TITLES)[6:])

    @property
    def header(self) -> tuple[str, ...]:
        """Titles of all columns in the layout's language."""
        titles = {**self.titles, **LIST_TITLES}
        return tuple(titles.get(name, {}).get(self.language, name) for name in self.columns)

    def sources(self) -> dict[str, pa.Table]:
        """Return the tables ``detail`` and ``script`` that :meth:`query` reads."""
        rows = [{"script_id": key, "script": text} for key, text in sorted(self.scripts.items())]
        empty = pa.table({"customer_id": pa.array([], pa.string())})
        return {
            "detail": empty if self.details is None else self.details,
            "script": pa.Table.from_pylist(rows, schema=_SCRIPT_SCHEMA),
        }

    def query(self, types: Mapping[str, pa.DataType]) -> exp.Select:
        """Return the query over ``assignment``, ``chunk``, ``detail`` and ``script``.

        Parameters
        ----------
        types
            Arrow types of the columns.

        Returns
        -------
        sqlglot.exp.Select
            Typed columns, then ``line``, the row as it stands in the CSV; ordered by channel, org
            unit (missing first), priority and id.
        """
        rows = statement(
            "SELECT script.script FROM assignment"
            " JOIN chunk ON assignment.channel = chunk.channel"
            " AND assignment.org_unit_id IS NOT DISTINCT FROM chunk.org_unit_id"
            " LEFT JOIN detail ON assignment.customer_id = detail.customer_id"
            " LEFT JOIN script ON assignment.script_id = script.script_id"
        )
        fixed = (name for name in LIST_TITLES if name != "script")
        rows = rows.select(*[exp.column(name, table="assignment") for name in fixed])
        for name in self.detail_names:
            value: exp.Expr = exp.column(name, table="detail", quoted=True)
            if name in self.numbers and not self.unmasked:
                value = _masked(exp.cast(value, "TEXT"))
            rows = rows.select(exp.alias_(value, name, quoted=True))
        cells = [self._cell(name, types[name]) for name in self.columns]
        parted = [part for cell in cells for part in (_text(","), cell)][1:]
        return (
            exp.select(*[exp.column(name, quoted=True) for name in self.columns])
            .select(exp.alias_(joined(*parted, _text(LINE_END)), "line"))
            .from_(rows.subquery("list_row"))
            .order_by("channel", "org_unit_id NULLS FIRST", "priority", "assignment_id")
        )

    def _cell(self, name: str, kind: pa.DataType) -> exp.Expr:
        column = exp.column(name, quoted=True)
        as_text: exp.Expr = exp.cast(column, "TEXT")
        if name in self.numbers or not _is_plain(kind):
            return exp.func("COALESCE", _quoted(_guarded(as_text)), _text(""))
        if pa.types.is_boolean(kind):
            yes, no = ("是", "否") if self.language == "zh" else ("yes", "no")
            as_text = exp.Case().when(column, _text(yes)).else_(_text(no))
            return exp.Case().when(column.copy().is_(exp.Null()), _text("")).else_(as_text)
        if pa.types.is_floating(kind):
            as_text = exp.Case().when(exp.func("ISNAN", column.copy()), _text("")).else_(as_text)
        return exp.func("COALESCE", as_text, _text(""))


def csv_line(texts: tuple[str, ...]) -> bytes:
    r"""Write texts as one guarded CSV line; the engine writes the others by the same rule.

    Examples
    --------
    >>> csv_line(("priority", "=cmd()", "a,b"))
    b'"priority","\'=cmd()","a,b"\r\n'
    """
    cells = ('"' + guarded(text).replace('"', '""') + '"' for text in texts)
    return (",".join(cells) + LINE_END).encode()


def guarded(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula.

    Examples
    --------
    >>> guarded("=1+1"), guarded("  @sum"), guarded("1+1")
    ("'=1+1", "'  @sum", '1+1')
    """
    bare = text.lstrip(BLANKS)
    led = text[: len(text) - len(bare)] + bare[:1]
    return "'" + text if any(sign in FORMULA_STARTS for sign in led) else text


def masked_number(number: str) -> str:
    """Return a phone number with its middle hidden.

    Examples
    --------
    >>> masked_number("13812348000"), masked_number("88886666"), masked_number("110")
    ('138****8000', '****6666', '***')
    """
    size = len(number)
    if size >= 11:
        return number[:3] + "*" * (size - 7) + number[-4:]
    return "*" * (size - 4) + number[-4:] if size >= 7 else "*" * size


def xlsx_bytes(rows: pa.Table, header: tuple[str, ...], created: datetime) -> bytes:
    """Write a list as an XLSX workbook whose text cells are typed text, so nothing can run.

    Parameters
    ----------
    rows
        At most 1,048,575 rows.
    header
        Titles of the columns.
    created
        Stands in the document's properties; the same moment gives the same bytes.

    Raises
    ------
    ListLayoutError
        If a sheet cannot hold the rows, or a cell its text.
    """
    import xlsxwriter  # only who asks for a workbook pays for loading it

    if rows.num_rows > XLSX_ROWS:
        raise ListLayoutError(
            f"A sheet holds {XLSX_ROWS} rows, this list has {rows.num_rows}.",
            remedy="Leave out XLSX for it, or split the org unit.",
            zh=f"一张工作表最多 {XLSX_ROWS} 行,本清单 {rows.num_rows} 行。请改用 CSV 或拆分。",
        )
    memory = io.BytesIO()
    # in memory, because only so the parts of the archive carry a fixed time
    with xlsxwriter.Workbook(memory, {"in_memory": True}) as book:
        book.set_properties({"created": created.replace(tzinfo=None)})
        sheet = book.add_worksheet("list")
        for at, title in enumerate(header):
            sheet.write_string(0, at, title)
        for at, column in enumerate(rows.columns):
            for row, value in enumerate(column.to_pylist(), start=1):
                _write_cell(sheet, row, at, value)
    return memory.getvalue()


def _write_cell(sheet: Any, row: int, at: int, value: Any) -> None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return
    if isinstance(value, bool):
        sheet.write_boolean(row, at, value)
    elif isinstance(value, (int, float, Decimal)) and -EXACT_NUMBER < value < EXACT_NUMBER:
        sheet.write_number(row, at, float(value))
    else:
        text = value.isoformat() if isinstance(value, (date, time)) else str(value)
        if len(text) > XLSX_CELL_CHARACTERS:
            raise ListLayoutError(
                f"Row {row} has a cell of {len(text)} characters; XLSX holds 32,767.",
                remedy="Shorten the text, or leave out XLSX.",
                zh=f"第 {row} 行有长达 {len(text)} 字的单元格,超出 XLSX 上限。请缩短文本。",
            )
        sheet.write_string(row, at, text)


def _is_plain(kind: pa.DataType) -> bool:
    """Whether a cell of this type is a number, a date or a yes/no and cannot hold a formula."""
    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_boolean(kind)
        or types.is_temporal(kind)
    )


def _guarded(text: exp.Expr) -> exp.Expr:
    # Nearly all cells start with a digit, a letter or a Chinese character, and comparing a prefix
    # is ten times cheaper than the pattern.
    harmless = exp.or_(
        *(
            exp.and_(text >= exp.Literal.string(low), text < exp.Literal.string(high))
            for low, high in (("0", ":"), ("A", "{"), ("\u4e00", "\ua000"))
        )
    )
    pattern = f"^[{_class(BLANKS)}]*[{_class(FORMULA_STARTS)}]"
    runs = exp.func("REGEXP_LIKE", text.copy(), _text(pattern), dialect="duckdb")
    return (
        exp.Case()
        .when(harmless, text.copy())
        .when(runs, joined(_text("'"), text.copy()))
        .else_(text)
    )


def _class(characters: str) -> str:
    return "".join(f"\\x{{{ord(character):x}}}" for character in characters)


def _quoted(text: exp.Expr) -> exp.Expr:
    return joined(_text('"'), exp.func("REPLACE", text, _text('"'), _text('""')), _text('"'))


def _masked(text: exp.Expr) -> exp.Expr:
    return exp.maybe_parse(
        "CASE WHEN LENGTH(x) >= 11"
        " THEN SUBSTRING(x, 1, 3) || REPEAT('*', LENGTH(x) - 7) || SUBSTRING(x, LENGTH(x) - 3)"
        " WHEN LENGTH(x) >= 7 THEN REPEAT('*', LENGTH(x) - 4) || SUBSTRING(x, LENGTH(x) - 3)"
        " ELSE REPEAT('*', LENGTH(x)) END",
        dialect="duckdb",
    ).transform(
        lambda node: text.copy() if isinstance(node, exp.Column) and node.name == "x" else node
    )


def _text(value: str) -> exp.Literal:
    return exp.Literal.string(value)
