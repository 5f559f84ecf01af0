"""Results on the terminal: tables for people, one JSON document for machines."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from bihuan.cli.words import heading, word

NO_UNITS: Mapping[str, str] = {}


class Screen:
    """Where a command shows its results.

    Parameters
    ----------
    as_json
        Whether a machine reads.
    language
        ``zh`` or ``en``.
    """

    def __init__(self, *, as_json: bool, language: str) -> None:
        self.as_json = as_json
        self.language = language
        self.currency = ""
        self.out = Console(soft_wrap=True)
        self.err = Console(stderr=True)

    def say(self, zh: str, en: str) -> None:
        """Say one line to a person; a machine is told nothing."""
        if not self.as_json:
            self.out.print(zh if self.language == "zh" else en, highlight=False, markup=False)

    def title(self, titles: Mapping[str, str]) -> str:
        """Return a title in the language shown."""
        return titles.get(self.language) or titles["en"]

    def word(self, group: str, code: str | None) -> str:
        """Return what a code (a channel, a status, ...) means in the language shown."""
        return "—" if code is None else word(group, code, self.language)

    def words(self, group: str, codes: Iterable[str]) -> str:
        """Return the meanings of several codes in one line."""
        return ("、" if self.language == "zh" else ", ").join(self.word(group, c) for c in codes)

    @property
    def money_unit(self) -> str:
        """The unit of amounts of money in the language shown."""
        return word("unit", self.currency, self.language)

    def amount(self, value: Any) -> str:
        """Return an amount of money with its currency."""
        return f"{value:,.2f} {self.money_unit}"

    def table(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        title: str = "",
        units: Mapping[str, str] = NO_UNITS,
        whole: Sequence[str] = (),
    ) -> None:
        """Show rows to a person as a table; a machine is told nothing.

        Parameters
        ----------
        rows
            With the same names; a name is the column's heading, in the language shown.
        title
            Above the table.
        units
            Of columns of numbers: ``%`` for shares, ``money`` (or ``money/month``) for amounts,
            else what is written behind the heading.
        whole
            Columns that are not broken over lines, e.g. ids to be copied.
        """
        if self.as_json or not rows:
            return
        units = {name: unit.replace("money", self.currency) for name, unit in units.items()}
        table = Table(title=title or None, title_justify="left", header_style="bold")
        for name in rows[0]:
            head = heading(name, self.language, units.get(name, ""))
            is_number = all(_is_number(row[name]) for row in rows)
            table.add_column(
                head,
                justify="right" if is_number else "left",
                overflow="fold",
                no_wrap=name in whole,
            )
        for row in rows:
            table.add_row(*(_cell(value, units.get(name, "")) for name, value in row.items()))
        self.out.print(table)

    def result(self, value: Any) -> None:
        """Give a machine the whole result as one JSON document; a person is told nothing."""
        if self.as_json:
            self.out.print(json.dumps(plain(value), ensure_ascii=False), highlight=False,
                           markup=False, soft_wrap=True)  # fmt: skip


def fields_of(value: Any) -> dict[str, Any]:
    """Return a dataclass's fields by name, unchanged."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def plain(value: Any) -> Any:
    """Return ``value`` in the types that JSON knows; missing numbers become null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: plain(item) for name, item in fields_of(value).items()}
    if isinstance(value, pa.Table):
        return plain(value.to_pylist())
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float, Decimal)) and value is not True
                             and value is not False)  # fmt: skip


def _cell(value: Any, unit: str = "") -> str:
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "✓" if value else ""
    if isinstance(value, int):
        return f"{value:,}"
    return _decimal(value, unit) if isinstance(value, float) else str(value)


def _decimal(value: float, unit: str) -> str:
    if unit == "%":
        return f"{value:.1%}"
    if unit:
        return f"{value:,.2f}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
