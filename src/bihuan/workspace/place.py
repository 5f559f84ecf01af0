"""How a caller names a day and a source."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TypeAlias

from bihuan.data import SqlTable
from bihuan.kernel import UserError

Day: TypeAlias = date | str
"""A date, or its text in the form 2026-10-31."""


def place_of(source: Path | str) -> Path | SqlTable:
    """Read ``URL#table`` or ``URL#schema.table`` as a database table, anything else as a file."""
    if isinstance(source, Path) or "://" not in source:
        return Path(source)
    url, _, table = source.rpartition("#")
    if not url:
        raise UserError(
            "The address of the database does not say which table.",
            remedy="Write  URL#table, for example sqlite:///crm.db#customers.",
            zh="数据库地址没有指明表名，请写成 URL#表名，例如 sqlite:///crm.db#customers。",
        )
    schema, _, name = table.rpartition(".")
    return SqlTable(url, name, schema or None)


def day_of(day: Day) -> date:
    """Read a day; raise :class:`UserError` if the text is not a date."""
    if isinstance(day, date):
        return day
    try:
        return date.fromisoformat(day)
    except ValueError as error:
        raise UserError(
            f"'{day}' is not a date.",
            remedy="Write it as 2026-10-31.",
            zh=f"“{day}”不是日期，请写成 2026-10-31 的形式。",
        ) from error
