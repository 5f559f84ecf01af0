"""The date that a scheduled job means by "the newest": decided once in the life of the job."""

from __future__ import annotations

from datetime import date

from bihuan.server.app.errors import RefusedError
from bihuan.server.app.job import JobContext


class NoDataError(RefusedError):
    """The lake has nothing that the job could work on."""


def resolve_day(context: JobContext, as_of: date | None, table: str) -> date:
    """Return ``as_of``, or the newest date of a table; the same after a take-over.

    Raises
    ------
    NoDataError
        If the lake has no such table.
    """
    if as_of is not None:
        return as_of
    found = context.run_step("as_of", lambda: _newest(context, table))
    if found is None:
        raise NoDataError(
            f"The lake has no '{table}' yet.",
            remedy="Ingest data (and refresh the tags) first, or name a date.",
            zh=f"数据湖中还没有 {table}，请先导入数据（并刷新标签），或指明日期。",
        )
    return date.fromisoformat(found)


def day_of_tags(context: JobContext, as_of: date | None, subject: str = "customer") -> date:
    """Return ``as_of``, or the newest date for which a subject's tags were derived."""
    return resolve_day(context, as_of, f"tag__{subject}__*")


def _newest(context: JobContext, table: str) -> str | None:
    view = context.workspace.view
    prefix = table.removesuffix("*")
    names = [t for t in view.tables if t == table or (table != prefix and t.startswith(prefix))]
    days = [day for name in names for day in view.dates(name)]
    return max(days).isoformat() if days else None
