"""Mappings: how the columns and codes of one source become tables of the lake.

A mapping is a YAML file that an analyst writes and mends (read by
:func:`~bihuan.data.mapping_file.load_mapping`). One source may feed several tables::

    mapping: billing_customers
    source: {delimiter: "|", encoding: gb18030}
    missing: ["", "NA"]
    tables:
      customer:
        columns:
          customer_id: CUST_NO
          gender: {column: SEX, codes: {"男": M, "女": F}}
          joined_on: {column: OPEN_DATE, date_format: "%d/%m/%Y"}
      holding:
        melt:
          columns: {VAS_RING: ring_tone, VAS_MAIL: mail_139}
          keep: ["Y"]
        columns:
          subscription_id: {template: "S-{CUST_NO}"}
          product_id: {melt: name}

Two column names need no source: ``_row``, the record's number from 1, and ``_as_of``, the
snapshot date.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import TypeAlias

from bihuan.data.contract import Column, ColumnType, TableContract
from bihuan.kernel import UserError, hash_id

Cell: TypeAlias = str | int | float | bool | Decimal | date | datetime
PSEUDO_COLUMNS = ("_row", "_as_of")
_FIELD = re.compile(r"\{([^{}]*)\}")


class MappingError(UserError):
    """A mapping file is wrong, or does not fit its contracts or its source."""


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """How one target column gets its value.

    Exactly one of ``column``, ``constant``, ``template`` and ``melt`` is set.

    Parameters
    ----------
    column
        Source column.
    constant
        The same value for every row.
    template
        Text with source columns in braces (``"A-{customerID}"``); missing if one of them is.
    melt
        ``name`` for the name that ``melt.columns`` gives, ``value`` for the melted cell.
    codes
        Source code to value; None takes the cell as it is.
    unknown_codes
        What becomes of a cell that ``codes`` or the contract does not know: ``quarantine`` the
        row, store it as ``missing``, or ``keep`` it (text columns without contract codes).
    date_formats
        ``strptime`` forms, tried in order, or ``unix`` / ``unix_ms``; empty takes ISO forms and
        ``20261031``.
    factor
        The number is multiplied by it (unit conversion); None leaves it.
    trim
        Whether blanks around the cell are taken off (all that Unicode calls white space).
    missing
        Cells that mean "no value".
    default
        Value of a missing cell; None leaves it missing.
    thousands, decimal
        Signs within numbers, for example ``","`` and ``"."``; ``thousands`` may be empty.
    """

    column: str | None = None
    constant: Cell | None = None
    template: str | None = None
    melt: str | None = None
    codes: Mapping[str, Cell] | None = None
    unknown_codes: str = "quarantine"
    date_formats: tuple[str, ...] = ()
    factor: float | None = None
    trim: bool = True
    missing: tuple[str, ...] = ("",)
    default: Cell | None = None
    thousands: str = ""
    decimal: str = "."

    @property
    def sources(self) -> tuple[str, ...]:
        """Source columns that the value is made from (melted ones aside)."""
        if self.column is not None:
            return (self.column,)
        if self.template is not None:
            return tuple(name for _, name in template_parts(self.template) if name)
        return ()


@dataclass(frozen=True, slots=True)
class Melt:
    """Several source columns that become one row each.

    Parameters
    ----------
    columns
        Source column to the row's name; or to a name per cell value, where the value decides.
    keep
        Cells that make a row; None: every cell that is not missing.
    """

    columns: Mapping[str, str | Mapping[str, str]]
    keep: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class TableMapping:
    """How one table is filled.

    Parameters
    ----------
    table
        Target table.
    columns
        Target column to its mapping.
    when
        Source column to the cells for which a record belongs to the table; all must hold.
    melt
        Set where one record becomes several rows.
    distinct
        Whether rows that are equal in every column count as one; for a table whose rows are
        repeated in the source. Rows of one key that differ are duplicates all the same.
    missing
        Cells that mean "no value" for melted columns.
    """

    table: str
    columns: Mapping[str, ColumnMapping]
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    melt: Melt | None = None
    distinct: bool = False
    missing: tuple[str, ...] = ("",)

    @property
    def sources(self) -> tuple[str, ...]:
        """Source columns that the table needs, in order of first use, each once."""
        names = [name for column in self.columns.values() for name in column.sources]
        names += list(self.when)
        names += list(self.melt.columns) if self.melt else []
        return tuple(dict.fromkeys(name for name in names if name not in PSEUDO_COLUMNS))


@dataclass(frozen=True, slots=True)
class SourceFormat:
    """How the source is written; what is None is found out from the file.

    Parameters
    ----------
    format
        ``csv``, ``parquet``, ``excel``, ``spss`` or ``sql``; None goes by the file's ending.
    encoding
        Text encoding by its Python name.
    delimiter
        One character.
    quote
        Quoting character; empty where quotes are plain text.
    skip_lines
        Lines (rows of a sheet) before the header.
    columns
        Column names of a file without header line.
    sheet
        Name of the Excel sheet; None takes the first.
    labels
        Whether SPSS codes are replaced by their labels.
    """

    format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quote: str = '"'
    skip_lines: int = 0
    columns: tuple[str, ...] = ()
    sheet: str | None = None
    labels: bool = False


@dataclass(frozen=True, slots=True)
class SourceMapping:
    """How one source becomes tables of the lake.

    Parameters
    ----------
    name
        Name of the mapping.
    tables
        Target table to its mapping.
    source
        How the source is written.
    timezone
        IANA name of the zone in which moments without offset are meant.
    may_be_empty
        Whether a source with a header and no rows is a month in which nothing happened; otherwise
        it is refused as one that was cut off.
    """

    name: str
    tables: Mapping[str, TableMapping]
    source: SourceFormat = field(default_factory=SourceFormat)
    timezone: str = "UTC"
    may_be_empty: bool = False

    @property
    def fingerprint(self) -> str:
        """Changes whenever the mapping would read a row differently."""
        said = dataclasses.asdict(self)
        del said["may_be_empty"]
        return hash_id("mapping", said)

    @property
    def sources(self) -> tuple[str, ...]:
        """Source columns that any table needs, each once."""
        names = (name for table in self.tables.values() for name in table.sources)
        return tuple(dict.fromkeys(names))


def template_parts(template: str) -> list[tuple[str, str]]:
    """Split a template into pairs of plain text and the source column that follows it.

    Examples
    --------
    >>> template_parts("A-{id}/{no}.")
    [('A-', 'id'), ('/', 'no'), ('.', '')]
    """
    parts, end = [], 0
    for found in _FIELD.finditer(template):
        parts.append((template[end : found.start()], found[1]))
        end = found.end()
    return [*parts, (template[end:], "")] if template[end:] else parts


def check_contracts(mapping: SourceMapping, contracts: Mapping[str, TableContract]) -> None:
    """Hold a mapping against the contracts of its tables.

    Raises
    ------
    MappingError
        If a table or column is not in the contracts, a required column has no mapping, or a
        constant, default or code does not fit its column; the message names the field.
    """
    for name, table in mapping.tables.items():
        if name not in contracts:
            told = ("no such table", "没有这张表")
            raise _wrong(mapping, f"tables.{name}", told, near(name, contracts))
        contract = contracts[name]
        for target, column in table.columns.items():
            place = f"tables.{name}.columns.{target}"
            if target not in contract:
                told = ("no such column", "合约中没有这一列")
                raise _wrong(mapping, place, told, near(target, contract.names))
            _check_column(mapping, place, column, contract[target])
        for column_ in contract.columns:
            required = not column_.nullable or column_.name in contract.key
            if required and column_.name not in table.columns:
                told = (
                    f"'{column_.name}' is required by the contract and is not mapped",
                    f"合约要求的列 {column_.name} 没有映射",
                )
                remedy = f"Add a line '{column_.name}: <source column>'."
                raise _wrong(mapping, f"tables.{name}.columns", told, remedy)


def check_columns(mapping: SourceMapping, columns: Iterable[str]) -> tuple[str, ...]:
    """Hold a mapping against the columns that its source has.

    Parameters
    ----------
    mapping
        The mapping.
    columns
        Column names of the source.

    Returns
    -------
    tuple[str, ...]
        The source columns that the mapping does not use.

    Raises
    ------
    MappingError
        If the mapping needs a column that the source lacks; the message names the nearest.
    """
    have = list(columns)
    lacking = [name for name in mapping.sources if name not in have]
    if lacking:
        remedy = " ".join(f"'{name}': {near(name, have)}" for name in lacking[:3])
        names = ", ".join(lacking)
        raise MappingError(
            f"Mapping '{mapping.name}' reads columns that the source does not have: {names}.",
            remedy=remedy,
            zh=f"映射“{mapping.name}”用到了数据源中没有的列:{names}。数据源的列有:"
            f"{'、'.join(have[:20])}。",
        )
    used = set(mapping.sources)
    return tuple(name for name in have if name not in used)


def near(name: str, known: Iterable[str]) -> str:
    """Return a remedy that proposes the known names nearest to ``name``."""
    names = sorted(known)
    folded = {text.casefold(): text for text in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {', '.join(folded[text] for text in close)}?"
    return f"Choose one of: {', '.join(names[:30])}."


def stored_value(column: Column, value: Cell) -> Cell:
    """Return ``value`` as the type of ``column``; for constants, defaults and codes.

    Parameters
    ----------
    column
        Target column.
    value
        As YAML read it. Moments may be text in ISO form.

    Raises
    ------
    ValueError
        If it does not fit the column's type, codes or range.
    """
    typed = _typed(column.type, value)
    if column.codes is not None and str(typed) not in column.codes:
        msg = f"'{value}' is not a code of {column.name} ({', '.join(column.codes)})"
        raise ValueError(msg)
    if isinstance(typed, (int, float, Decimal)) and not isinstance(typed, bool):
        low, high = column.minimum, column.maximum
        if (low is not None and typed < float(low)) or (high is not None and typed > float(high)):
            msg = f"'{value}' is outside the range of {column.name}"
            raise ValueError(msg)
    return typed


def _typed(kind: ColumnType, value: Cell) -> Cell:
    if kind is ColumnType.BOOLEAN or isinstance(value, bool):
        if kind is ColumnType.BOOLEAN and isinstance(value, bool):
            return value
        msg = f"'{value}' does not fit a column of type {kind.value}"
        raise ValueError(msg)
    try:
        return _READERS[kind](value)
    except (InvalidOperation, TypeError, ValueError) as error:
        msg = f"'{value}' does not fit a column of type {kind.value}"
        raise ValueError(msg) from error


def _whole(value: Cell) -> int:
    number = Decimal(str(value))
    if number != int(number):
        raise ValueError
    return int(number)


def _finite(value: Cell) -> float:
    number = float(str(value))
    if not math.isfinite(number):
        raise ValueError
    return number


def _day(value: Cell) -> date:
    return value if type(value) is date else date.fromisoformat(str(value))


def _moment(value: Cell) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(str(value))


_READERS: Mapping[ColumnType, Callable[[Cell], Cell]] = {
    ColumnType.STRING: str,
    ColumnType.INTEGER: _whole,
    ColumnType.NUMBER: _finite,
    ColumnType.MONEY: lambda value: Decimal(str(value)).quantize(Decimal("0.01")),
    ColumnType.DATE: _day,
    ColumnType.TIMESTAMP: _moment,
}


def _check_column(
    mapping: SourceMapping, place: str, column: ColumnMapping, target: Column
) -> None:
    values = [("constant", column.constant), ("default", column.default)]
    values += [(f"codes.{code}", value) for code, value in (column.codes or {}).items()]
    for name, value in values:
        if value is None:
            continue
        try:
            stored_value(target, value)
        except ValueError as error:
            told = (str(error), f"“{value}”不符合该列的类型、代码或范围")
            raise _wrong(mapping, f"{place}.{name}", told, "Mend the value.") from error
    _check_options(mapping, place, column, target)


def _check_options(
    mapping: SourceMapping, place: str, column: ColumnMapping, target: Column
) -> None:
    numeric = target.type in (ColumnType.INTEGER, ColumnType.NUMBER, ColumnType.MONEY)
    timed = target.type in (ColumnType.DATE, ColumnType.TIMESTAMP)
    if (column.factor is not None or column.thousands or column.decimal != ".") and not numeric:
        told = (
            "factor, thousands and decimal are for number columns only",
            "只有数值列可用 factor、thousands、decimal",
        )
        raise _wrong(mapping, place, told, "Take them away.")
    if column.date_formats and not timed:
        told = ("date_format is for date and timestamp columns only", "只有日期列可用 date_format")
        raise _wrong(mapping, place, told, "Take it away.")
    if column.unknown_codes == "keep" and (
        target.type is not ColumnType.STRING or target.codes is not None
    ):
        told = (
            "unknown_codes: keep is for text columns whose contract has no codes",
            "只有合约没有代码表的文本列可用 unknown_codes: keep",
        )
        raise _wrong(mapping, place, told, "Write quarantine or missing.")


def _wrong(mapping: SourceMapping, place: str, told: tuple[str, str], remedy: str) -> MappingError:
    """Make the error of one field; ``told`` is the problem in English and in Chinese."""
    return MappingError(
        f"Mapping '{mapping.name}', field {place}: {told[0]}.",
        remedy=remedy,
        zh=f"映射“{mapping.name}”的字段 {place} 有误:{told[1]}。",
    )
