"""Time, passed in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the present moment."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - the one place that may ask


@dataclass(slots=True)
class FixedClock:
    """A clock that stands still until it is moved; for replays and tests.

    Examples
    --------
    >>> clock = FixedClock(datetime(2026, 10, 31, tzinfo=UTC))
    >>> clock.advance(timedelta(hours=2)); clock.now().isoformat()
    '2026-10-31T02:00:00+00:00'
    """

    moment: datetime

    def now(self) -> datetime:
        """Return the set moment."""
        return self.moment

    def advance(self, by: timedelta) -> None:
        """Move the clock by ``by``; a negative step goes back."""
        self.moment += by
