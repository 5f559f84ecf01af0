"""How one cell becomes one value, as sqlglot trees in DuckDB's dialect.

Every function takes trees and gives a new tree; the text of a mapping comes in as literals only.
DuckDB's casts are more generous than a table of facts should be (``1_000``, ``0x1F``, ``3.7`` for
a whole number, ``infinity`` and ``epoch`` for dates); what is refused beyond them is told by
:func:`value_checks`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
from sqlglot import exp

from bihuan.data.contract import Column, ColumnType
from bihuan.data.mapping import Cell, ColumnMapping, stored_value
from bihuan.data.reasons import Reason

NUMERIC = (ColumnType.INTEGER, ColumnType.NUMBER, ColumnType.MONEY)
EPOCHS = ("unix", "unix_ms")
_TRUE = ("true", "1", "yes", "y", "t", "是")
_FALSE = ("false", "0", "no", "n", "f", "否")
_CALENDAR = ("0001-01-01", "9999-12-31")  # what every reader of Parquet knows
_DAY_LENGTH = len(_CALENDAR[0])
_LARGEST = sys.float_info.max
_COMPACT = (("%Y%m%d", 8), ("%Y%m%d%H%M%S", 14))
_WRITTEN = ("%Y年%m月%d日", "%Y.%m.%d")
_DATE_WORDS = ("infinity", "-infinity", "epoch")
_OFFSET = r":\d\d.*(Z|[+-]\d\d(:?\d\d)?)$"
_EXACT = 10**15  # below it a float that is whole prints as a whole number


def call(name: str, *arguments: exp.Expr) -> exp.Anonymous:
    """Return a call of a DuckDB function."""
    return exp.Anonymous(this=name, expressions=[argument.copy() for argument in arguments])


def number(value: float) -> exp.Expr:
    """Return a number literal."""
    written = exp.Literal.number(repr(abs(value)))
    return exp.Neg(this=written) if value < 0 else written


def text(value: str) -> exp.Expr:
    """Return a text literal."""
    return exp.Literal.string(value)


def is_null(cell: exp.Expr) -> exp.Expr:
    """Return ``cell IS NULL``."""
    return exp.Is(this=cell.copy(), expression=exp.null())


def among(cell: exp.Expr, values: Iterable[str]) -> exp.Expr:
    """Return whether a text cell is one of ``values``; NULL is none of them."""
    return exp.In(this=cell.copy(), expressions=[text(value) for value in values])


def case(*branches: tuple[exp.Expr, exp.Expr], other: exp.Expr | None = None) -> exp.Case:
    """Return a CASE of conditions and values; sqlglot's own builder copies the whole tree."""
    return exp.Case(ifs=[exp.If(this=when, true=then) for when, then in branches], default=other)


def null_among(cell: exp.Expr, values: Sequence[str]) -> exp.Expr:
    """Return the cell, or NULL if it is one of ``values``."""
    if not values:
        return cell
    return case((among(cell, values), exp.null()), other=cell)


def case_map(
    cell: exp.Expr,
    values: Mapping[str, exp.Expr],
    other: exp.Expr | None = None,
) -> exp.Expr:
    """Return the value that stands for the cell, else ``other``."""
    ifs = [exp.If(this=text(code), true=value.copy()) for code, value in values.items()]
    default = other.copy() if other is not None else None
    return exp.Case(this=cell.copy(), ifs=ifs, default=default)


def try_cast(cell: exp.Expr, kind: str) -> exp.Expr:
    """Return the cell as a DuckDB type, NULL where it is none."""
    return exp.TryCast(this=cell.copy(), to=exp.DataType.build(kind, dialect="duckdb"))


def text_of(cell: exp.Expr, kind: pa.DataType) -> exp.Expr:
    """Return a typed cell as the text that a CSV file would hold."""
    written = exp.cast(cell.copy(), "VARCHAR")
    if not pa.types.is_floating(kind):
        return written
    whole = exp.and_(
        exp.EQ(this=cell.copy(), expression=call("trunc", cell)),
        exp.LT(this=call("abs", cell), expression=number(_EXACT)),
        copy=False,
    )
    as_whole = exp.cast(try_cast(cell, "BIGINT"), "VARCHAR")
    return case((call("isnan", cell), exp.null()), (whole, as_whole), other=written)


def is_direct(column: Column, mapping: ColumnMapping, kind: pa.DataType) -> bool:
    """Tell whether a cell of this type is converted as it is, and not by way of its text."""
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if mapping.codes is not None:
        return False
    if column.type in NUMERIC:
        return bool(is_number)
    if column.type is ColumnType.BOOLEAN:
        return bool(pa.types.is_boolean(kind))
    if column.type in (ColumnType.DATE, ColumnType.TIMESTAMP):
        if mapping.date_formats[:1] and mapping.date_formats[0] in EPOCHS:
            return bool(is_number)
        return bool(pa.types.is_date32(kind) or pa.types.is_timestamp(kind))
    return False


def without_missing_numbers(cell: exp.Expr, kind: pa.DataType, missing: Sequence[str]) -> exp.Expr:
    """Return a typed cell, NULL where it is NaN or a missing code that is a number."""
    if pa.types.is_floating(kind):
        cell = case((call("isnan", cell), exp.null()), other=cell)
    codes = [code for code in map(_as_number, missing) if code is not None]
    if pa.types.is_boolean(kind) or pa.types.is_temporal(kind) or not codes:
        return cell
    coded = exp.In(this=cell.copy(), expressions=[number(code) for code in codes])
    return case((coded, exp.null()), other=cell)


def value_of(
    cell: exp.Expr,
    column: Column,
    mapping: ColumnMapping,
    kind: pa.DataType,
    *,
    timezone: str,
    iso_dates: bool,
) -> exp.Expr:
    """Return the value of a cell whose missing codes are NULL already; NULL where it has none.

    Parameters
    ----------
    cell, kind
        The cell and its type, text or one that :func:`is_direct` accepts.
    column, mapping
        The target column and how it is filled; code maps are applied elsewhere.
    timezone
        Zone of moments without offset.
    iso_dates
        Whether ISO dates are taken although the mapping states another form.
    """
    if column.type in NUMERIC:
        return _numeric(cell, column.type, mapping, kind)
    if column.type is ColumnType.BOOLEAN:
        return cell.copy() if pa.types.is_boolean(kind) else _truth(cell)
    if column.type is ColumnType.DATE:
        return try_cast(_day(cell, mapping, kind, timezone, iso_dates), "DATE")
    if column.type is ColumnType.TIMESTAMP:
        return _moment(cell, mapping, kind, timezone, iso_dates)
    return cell.copy()


def why_no_value(
    cell: exp.Expr, column: Column, mapping: ColumnMapping
) -> Reason | exp.Expr | None:
    """Return why a cell that is there gave no value: a reason, or a tree of reason numbers.

    None: a cell that is there always gives a value.
    """
    if mapping.codes is not None:
        return None if mapping.unknown_codes == "keep" else Reason.UNKNOWN_CODE
    if column.type is ColumnType.BOOLEAN:
        return Reason.UNKNOWN_CODE
    if column.type in (ColumnType.DATE, ColumnType.TIMESTAMP):
        return Reason.NOT_A_DATE
    if column.type in NUMERIC:
        finite = call("isfinite", try_cast(_digits(cell, mapping), "DOUBLE"))
        beyond, other = (number(r.number) for r in (Reason.OUT_OF_RANGE, Reason.NOT_A_NUMBER))
        return case((finite, beyond), other=other)
    return Reason.UNKNOWN_CODE if column.codes is not None else None


@dataclass(frozen=True, slots=True)
class Check:
    """What a value must fulfil.

    Parameters
    ----------
    holds
        The condition; NULL counts as false.
    reason
        Why a value that does not fulfil it is refused: a reason or a tree of reason numbers.
    implied
        Whether the other checks of the column fail, too, when this one does; it then serves only
        to tell the reason.
    """

    holds: exp.Expr
    reason: Reason | exp.Expr
    implied: bool = False


def value_checks(
    cell: exp.Expr,
    value: exp.Expr,
    column: Column,
    mapping: ColumnMapping,
    kind: pa.DataType,
) -> Iterator[Check]:
    """Yield what a value must fulfil, in the order in which reasons are told."""
    if column.type in NUMERIC:
        yield from _number_checks(cell, value, column, mapping, kind)
    low, high = column.minimum, column.maximum
    if column.type is ColumnType.NUMBER:  # NaN and infinity lie outside of every range
        yield Check(call("isfinite", value), Reason.NOT_A_NUMBER, implied=True)
        low = -_LARGEST if low is None else low
        high = _LARGEST if high is None else high
    if column.type in (ColumnType.DATE, ColumnType.TIMESTAMP):
        yield Check(_within(value, column, *_CALENDAR), Reason.NOT_A_DATE)
    if low is not None or high is not None:
        yield Check(_within(value, column, low, high), Reason.OUT_OF_RANGE)
    if column.codes is not None and mapping.codes is None:
        written = value if column.type is ColumnType.STRING else exp.cast(value.copy(), "VARCHAR")
        yield Check(among(written, column.codes), Reason.UNKNOWN_CODE)


def literal(column: Column, value: Cell, timezone: str) -> exp.Expr:
    """Return a constant, default or code value of the mapping as the column's type."""
    stored = stored_value(column, value)
    if isinstance(stored, bool):
        return exp.true() if stored else exp.false()
    if isinstance(stored, datetime) and stored.tzinfo is None:
        return call("timezone", text(timezone), exp.cast(text(stored.isoformat()), "TIMESTAMP"))
    written = stored.isoformat() if isinstance(stored, date) else str(stored)
    return exp.cast(text(written), column.type.sql, dialect="duckdb")


def _numeric(
    cell: exp.Expr, target: ColumnType, mapping: ColumnMapping, kind: pa.DataType
) -> exp.Expr:
    source = _digits(cell, mapping) if pa.types.is_string(kind) else cell
    if mapping.factor is None:
        return try_cast(source, target.sql)
    product = exp.Mul(this=try_cast(source, "DOUBLE"), expression=number(mapping.factor))
    rounded = call("round", product) if target is ColumnType.INTEGER else product
    return try_cast(rounded, target.sql)


def _digits(cell: exp.Expr, mapping: ColumnMapping) -> exp.Expr:
    plain = cell
    if mapping.thousands:
        plain = call("replace", plain, text(mapping.thousands), text(""))
    if mapping.decimal != ".":
        plain = call("replace", plain, text(mapping.decimal), text("."))
    return plain


def _number_checks(
    cell: exp.Expr,
    value: exp.Expr,
    column: Column,
    mapping: ColumnMapping,
    kind: pa.DataType,
) -> Iterator[Check]:
    is_text = pa.types.is_string(kind)
    if is_text:
        yield Check(exp.not_(call("contains", cell, text("_"))), Reason.NOT_A_NUMBER)
    if column.type is not ColumnType.INTEGER or mapping.factor or pa.types.is_integer(kind):
        return
    exact = try_cast(_digits(cell, mapping) if is_text else cell, "DOUBLE")
    whole = exp.EQ(this=exact, expression=exp.cast(value.copy(), "DOUBLE"))
    # 0x1F and 0b1 are whole numbers to a cast, but no doubles
    no_number, broken = (number(r.number) for r in (Reason.NOT_A_NUMBER, Reason.NOT_WHOLE))
    yield Check(whole, case((is_null(exact), no_number), other=broken))


def _truth(cell: exp.Expr) -> exp.Expr:
    word = call("lower", cell)
    return case((among(word, _TRUE), exp.true()), (among(word, _FALSE), exp.false()))


def _day(
    cell: exp.Expr,
    mapping: ColumnMapping,
    kind: pa.DataType,
    timezone: str,
    iso_dates: bool,
) -> exp.Expr:
    if pa.types.is_date32(kind):
        return cell
    if pa.types.is_timestamp(kind):
        return call("timezone", text(timezone), cell) if kind.tz else cell
    if mapping.date_formats[:1] and mapping.date_formats[0] in EPOCHS:
        return call("timezone", text(timezone), _from_epoch(cell, mapping.date_formats[0]))
    read = _read_moment(cell, mapping, iso_dates)
    return call("timezone", text(timezone), read) if _has_offset_form(mapping) else read


def _moment(
    cell: exp.Expr,
    mapping: ColumnMapping,
    kind: pa.DataType,
    timezone: str,
    iso_dates: bool,
) -> exp.Expr:
    zone = text(timezone)
    if pa.types.is_timestamp(kind) or pa.types.is_date32(kind):
        aware = pa.types.is_timestamp(kind) and kind.tz
        return cell.copy() if aware else call("timezone", zone, exp.cast(cell.copy(), "TIMESTAMP"))
    if mapping.date_formats[:1] and mapping.date_formats[0] in EPOCHS:
        return _from_epoch(cell, mapping.date_formats[0])
    read = _read_moment(cell, mapping, iso_dates)
    if _has_offset_form(mapping):
        return read
    local = call("timezone", zone, read)
    if mapping.date_formats and not iso_dates:
        return local
    tells_offset = call("regexp_matches", cell, text(_OFFSET))
    return case((tells_offset, try_cast(cell, "TIMESTAMPTZ")), other=local)


def _has_offset_form(mapping: ColumnMapping) -> bool:
    return any("%z" in form for form in mapping.date_formats)


def _read_moment(cell: exp.Expr, mapping: ColumnMapping, iso_dates: bool) -> exp.Expr:
    """Return text as a TIMESTAMP (with zone if the form has one), NULL where it is none."""
    # infinity, epoch and years before Christ are dates to DuckDB
    begins_with_digit = exp.and_(
        exp.GTE(this=cell.copy(), expression=text("0")),
        exp.LT(this=cell.copy(), expression=text(":")),
        copy=False,
    )
    iso = try_cast(cell, "TIMESTAMP")
    if mapping.date_formats:
        is_word = among(call("lower", cell), _DATE_WORDS)
        told = _strptime(cell, mapping.date_formats)
        tries = [told, case((begins_with_digit, iso))] if iso_dates else [told]
        return case((is_word, exp.null()), other=_first(tries))
    compact = case(  # the cast to a form of digits would take shorter ones, too
        *[
            (exp.EQ(this=call("length", cell), expression=number(size)), _strptime(cell, (form,)))
            for form, size in _COMPACT
        ]
    )
    return case((begins_with_digit, _first([iso, compact, _strptime(cell, _WRITTEN)])))


def _first(tries: Sequence[exp.Expr]) -> exp.Expr:
    return exp.Coalesce(this=tries[0], expressions=list(tries[1:]))


def _strptime(cell: exp.Expr, forms: Sequence[str]) -> exp.Expr:
    return call("try_strptime", cell, exp.Array(expressions=[text(form) for form in forms]))


def _from_epoch(cell: exp.Expr, form: str) -> exp.Expr:
    seconds: exp.Expr = try_cast(cell, "DOUBLE")
    if form == "unix_ms":
        seconds = exp.Div(this=seconds, expression=number(1000.0), typed=True)
    # beyond the year 9999 to_timestamp would stop the query
    in_time = exp.Between(this=seconds.copy(), low=number(-6.2e10), high=number(2.53e11))
    return case((in_time, call("to_timestamp", seconds)))


def _within(
    value: exp.Expr, column: Column, low: float | str | None, high: float | str | None
) -> exp.Expr:
    least, most = (
        None if bound is None else _bound(column, bound, last_moment=bound is high)
        for bound in (low, high)
    )
    if least is None:
        return exp.LTE(this=value.copy(), expression=most)
    if most is None:
        return exp.GTE(this=value.copy(), expression=least)
    return exp.Between(this=value.copy(), low=least, high=most)


def _bound(column: Column, value: float | str, *, last_moment: bool) -> exp.Expr:
    if column.type is ColumnType.INTEGER and float(value).is_integer():
        return number(int(float(value)))  # a decimal literal would cast every row
    if column.type in NUMERIC:
        return exp.cast(number(float(value)), "DOUBLE")
    written = str(value)
    if column.type is ColumnType.TIMESTAMP and len(written) == _DAY_LENGTH and last_moment:
        written = f"{written} 23:59:59.999999+00"
    return exp.cast(text(written), column.type.sql, dialect="duckdb")


def _as_number(code: str) -> float | None:
    try:
        value = float(code)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
