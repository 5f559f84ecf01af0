"""Results on the terminal: tables for people, one JSON document for machines."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table


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
        self.out = Console(soft_wrap=True)
        self.err = Console(stderr=True)

    def say(self, zh: str, en: str) -> None:
        """Say one line to a person; a machine is told nothing."""
        if not self.as_json:
            self.out.print(zh if self.language == "zh" else en, highlight=False, markup=False)

    def title(self, titles: Mapping[str, str]) -> str:
        """Return a title in the language shown."""
        return titles.get(self.language) or titles["en"]

    def table(self, rows: Sequence[Mapping[str, Any]], *, title: str = "") -> None:
        """Show rows to a person as a table; a machine is told nothing."""
        if self.as_json or not rows:
            return
        table = Table(title=title or None, title_justify="left", header_style="bold")
        for name, value in rows[0].items():
            is_number = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
            table.add_column(name, justify="right" if is_number else "left", overflow="fold")
        for row in rows:
            table.add_row(*(_cell(value) for value in row.values()))
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


def _cell(value: Any) -> str:
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "✓" if value else ""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)
