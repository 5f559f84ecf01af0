"""Table contracts: what a table of the lake promises to every reader."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from bihuan.kernel import UserError
from bihuan.kernel.document import read_yaml

CONTRACT_FOLDER = Path(__file__).parent / "contracts"


class ContractError(UserError):
    """A contract file cannot be read as a contract."""


class ColumnType(enum.StrEnum):
    """The types a column of the lake may have."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    MONEY = "money"
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type in which the column is stored."""
        return _ARROW[self]

    @property
    def sql(self) -> str:
        """The DuckDB type in which the column is stored."""
        return _SQL[self]


_ARROW: Mapping[ColumnType, pa.DataType] = {
    ColumnType.STRING: pa.string(),
    ColumnType.INTEGER: pa.int64(),
    ColumnType.NUMBER: pa.float64(),
    ColumnType.MONEY: pa.decimal128(18, 2),
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.DATE: pa.date32(),
    ColumnType.TIMESTAMP: pa.timestamp("us", tz="UTC"),
}
_SQL: Mapping[ColumnType, str] = {
    ColumnType.STRING: "VARCHAR",
    ColumnType.INTEGER: "BIGINT",
    ColumnType.NUMBER: "DOUBLE",
    ColumnType.MONEY: "DECIMAL(18,2)",
    ColumnType.BOOLEAN: "BOOLEAN",
    ColumnType.DATE: "DATE",
    ColumnType.TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column's promise.

    Parameters
    ----------
    name
        Snake case, singular.
    type
        Storage type.
    meaning
        What it says, by language (``zh``, ``en``).
    unit
        ``month``, ``MB``, ``minute``, ``currency`` (the workspace's), ...; empty where none.
    nullable
        Whether it may be missing.
    codes
        The allowed values with their titles by language; None where the domain is open.
    minimum, maximum
        Allowed range in ``unit``, both ends included; None where open. Dates in ISO form.
    references
        ``table.column`` that this column points to, or None.
    personal
        ``phone``, ``identity`` or ``name`` where the column tells who somebody is; empty
        otherwise. A workspace with keys stores tokens in such columns.
    """

    name: str
    type: ColumnType
    meaning: Mapping[str, str]
    unit: str = ""
    nullable: bool = True
    codes: Mapping[str, Mapping[str, str]] | None = None
    minimum: float | str | None = None
    maximum: float | str | None = None
    references: str | None = None
    personal: str = ""


@dataclass(frozen=True)
class TableContract:
    """A table's promise: its columns, key, grain and period.

    Parameters
    ----------
    name
        Singular snake case (``bill``).
    meaning
        What one row is, by language.
    columns
        In storage order.
    key
        Names of the columns that identify a row within one snapshot.
    grain
        ``state`` for a picture of the world at the snapshot date, ``period`` for the facts of one
        month ending at the snapshot date, ``event`` for things that happened within it.
    group
        The resource or fact family it belongs to (``customer``, ``address``, ``usage`` ...).
    """

    name: str
    meaning: Mapping[str, str]
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    grain: str = "state"
    group: str = ""
    _by_name: Mapping[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_name = {column.name: column for column in self.columns}
        missing = [name for name in self.key if name not in by_name]
        if missing or not self.key or len(by_name) != len(self.columns):
            raise ContractError(
                f"Contract '{self.name}' is not whole: key {list(self.key)} "
                f"over columns {[column.name for column in self.columns]}.",
                remedy="Name every key column once under columns.",
            )
        told = [c.name for c in self.columns if c.personal and c.name in self.key]
        if told:  # rows are found by their key, so it must be readable by everybody
            raise ContractError(
                f"Contract '{self.name}' has the personal column {told[0]} in its key.",
                remedy="Give the rows an id of their own.",
                zh=f"契约 {self.name} 的主键含个人信息列 {told[0]}，请为记录设置独立编号。",
            )
        object.__setattr__(self, "_by_name", by_name)

    def __getitem__(self, column: str) -> Column:
        """Return a column by name; raise KeyError if the table has none."""
        return self._by_name[column]

    def __contains__(self, column: object) -> bool:
        return column in self._by_name

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in storage order."""
        return tuple(self._by_name)

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema in which the table is stored."""
        return pa.schema(
            [pa.field(c.name, c.type.arrow, nullable=c.nullable) for c in self.columns]
        )


def load_contract(path: Path) -> TableContract:
    """Read one contract from a YAML file.

    Raises
    ------
    ContractError
        If the file does not have the form of a contract; the message names file and field.
    """
    try:
        return _parse(read_yaml(path.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        told = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error)
        raise ContractError(
            f"{path.name} is not a table contract: {told}.",
            remedy="Compare it with contracts/customer.yaml.",
            zh=f"{path.name} 不是合格的表契约：{told}。请对照 contracts/customer.yaml。",
        ) from error


def load_contracts(folders: Iterable[Path] = ()) -> dict[str, TableContract]:
    """Read the built-in contracts and those of further folders (packs, the workspace).

    Parameters
    ----------
    folders
        Folders of ``*.yaml``; a table of the same name in a later folder replaces the earlier.

    Returns
    -------
    dict[str, TableContract]
        By table name.
    """
    contracts: dict[str, TableContract] = {}
    for folder in (CONTRACT_FOLDER, *folders):
        for path in sorted(folder.glob("*.yaml")):
            contract = load_contract(path)
            contracts[contract.name] = contract
    return contracts


_TABLE_FIELDS = {"table", "meaning", "group", "grain", "key", "columns"}
_COLUMN_FIELDS = {"type", "unit", "nullable", "range", "codes", "references", "meaning", "personal"}
PERSONAL_KINDS = ("phone", "identity", "name")
_GRAINS = ("state", "period", "event")


def _require_fields(raw: Mapping[str, Any], known: set[str], place: str) -> None:
    unknown = sorted(set(raw) - known)
    if unknown:  # a misspelt 'nulable' must not be taken for its default
        raise ValueError(f"{place} has no field {', '.join(unknown)}")


def _parse(raw: Mapping[str, Any]) -> TableContract:
    _require_fields(raw, _TABLE_FIELDS, "a contract")
    if raw.get("grain", "state") not in _GRAINS:
        raise ValueError(f"grain '{raw['grain']}' is none of {', '.join(_GRAINS)}")
    return TableContract(
        name=raw["table"],
        meaning=raw["meaning"],
        columns=tuple(_parse_column(name, column) for name, column in raw["columns"].items()),
        key=tuple(raw["key"]),
        grain=raw.get("grain", "state"),
        group=raw.get("group", ""),
    )


def _parse_column(name: str, raw: Mapping[str, Any]) -> Column:
    _require_fields(raw, _COLUMN_FIELDS, f"column '{name}'")
    for needed in ("type", "meaning"):
        if needed not in raw:
            raise ValueError(f"column '{name}' needs '{needed}'")
    personal = raw.get("personal", "")
    if personal and (personal not in PERSONAL_KINDS or raw["type"] != "string"):
        kinds = ", ".join(PERSONAL_KINDS)
        raise ValueError(f"column '{name}': personal is one of {kinds}, and the type string")
    codes = raw.get("codes")
    if codes is not None:
        codes = {
            str(code): title if isinstance(title, dict) else {"en": str(title)}
            for code, title in codes.items()
        }
    low, high = (
        bound.isoformat() if isinstance(bound, date) else bound  # YAML reads 2026-01-01 as a date
        for bound in raw.get("range", (None, None))
    )
    return Column(
        name=name,
        type=ColumnType(raw["type"]),
        meaning=raw["meaning"],
        unit=raw.get("unit", ""),
        nullable=raw.get("nullable", True),
        codes=codes,
        minimum=low,
        maximum=high,
        references=raw.get("references"),
        personal=personal,
    )
