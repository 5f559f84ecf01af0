"""Month ends: the dates of snapshots."""

from __future__ import annotations

import calendar
from datetime import date


def month_end_before(month: date, months_ago: int) -> date:
    """Return the date some months before, at the month's end if the date is one.

    Examples
    --------
    >>> month_end_before(date(2026, 3, 31), 1), month_end_before(date(2026, 3, 15), 12)
    (datetime.date(2026, 2, 28), datetime.date(2025, 3, 15))
    """
    if months_ago == 0:
        return month
    count = month.year * 12 + month.month - 1 - months_ago
    year, number = divmod(count, 12)
    last = calendar.monthrange(year, number + 1)[1]
    is_end = month.day == calendar.monthrange(month.year, month.month)[1]
    return date(year, number + 1, last if is_end else min(month.day, last))
