"""When a schedule is due: cron expressions on the wall clock of a time zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterBadDateError, croniter

from bihuan.server.app.errors import RefusedError

_WORD = re.compile(r"[a-z]+", re.IGNORECASE)
_NAMES = frozenset(
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
     "sun", "mon", "tue", "wed", "thu", "fri", "sat", "l")
)  # fmt: skip

_CHANGE = timedelta(hours=3)
"""No zone puts its clock forward or back by more."""
_WINDOWS = tuple(timedelta(days=days) for days in (1 / 720, 1 / 24, 1, 32, 366, 1500, 15000))


class CronError(RefusedError):
    """A schedule does not say when it is due."""


class Cron:
    """A cron expression, read in a time zone.

    Parameters
    ----------
    expression
        Five fields (minute, hour, day of the month, month, day of the week), or six with the
        second in front.
    time_zone
        Name of the zone whose wall clock the fields are read on.

    Raises
    ------
    CronError
        If either cannot be read.

    Notes
    -----
    Where the clock is put forward, a time that does not exist is due when it would have been.
    Where it is put back, a time that comes twice is due the first time; an expression for every
    hour goes on through both, so that "every 15 minutes" means that.

    Examples
    --------
    >>> cron = Cron("30 8 * * 1-5", "Asia/Shanghai")
    >>> cron.next(datetime(2026, 11, 6, 1, tzinfo=UTC)).isoformat()  # a Friday, 09:00 there
    '2026-11-09T00:30:00+00:00'
    """

    def __init__(self, expression: str, time_zone: str = "Asia/Shanghai") -> None:
        self.expression = " ".join(expression.split())
        fields = self.expression.split(" ")
        words = {word.lower() for word in _WORD.findall(self.expression)}
        self._seconds = len(fields) == 6
        if (
            len(fields) not in (5, 6)
            or words - _NAMES  # no aliases, no random or hashed times
            or not croniter.is_valid(self.expression, second_at_beginning=self._seconds)
        ):
            raise CronError(
                f"'{expression}' is not a cron expression.",
                remedy="Write five fields, for example 0 6 * * 1-5; a sixth in front: seconds.",
                zh=f"“{expression}”不是有效的 cron 表达式，示例：0 6 * * 1-5（六段时首段为秒）。",
            )
        try:
            self.zone = ZoneInfo(time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise CronError(
                f"There is no time zone '{time_zone}'.",
                remedy="Write for example Asia/Shanghai.",
                zh=f"没有时区 {time_zone}，示例：Asia/Shanghai。",
            ) from error
        self._every_hour = fields[2 if self._seconds else 1] == "*"

    def next(self, after: datetime) -> datetime | None:
        """Return the first time after a moment at which it is due, UTC; None if never again."""
        try:
            return self._by_elapsed(after) if self._every_hour else self._by_wall(after)
        except (CroniterBadDateError, OverflowError):  # the 30th of February
            return None

    def newest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last time in ``(after, until]``; None if there is none.

        Looked for from the end, so that a schedule by the second is quick after a long silence.
        """
        for back in _WINDOWS:
            start = max(after, until - back)
            found, moment = None, self.next(start)
            while moment is not None and moment <= until:
                found, moment = moment, self.next(moment)
            if found is not None or start == after:
                return found
        return None

    def times(self, after: datetime, until: datetime, *, most: int = 1000) -> list[datetime]:
        """Return the times in ``(after, until]``, oldest first, at most ``most``."""
        found: list[datetime] = []
        moment = self.next(after)
        while moment is not None and moment <= until and len(found) < most:
            found.append(moment)
            moment = self.next(moment)
        return found

    def _read(self, wall: datetime) -> Any:
        return croniter(self.expression, wall, second_at_beginning=self._seconds)

    def _by_wall(self, after: datetime) -> datetime:
        wall = after.astimezone(self.zone).replace(tzinfo=None, fold=0)
        if self._offset(after - _CHANGE) != self._offset(after + _CHANGE):
            end, found = wall + _CHANGE, []  # the wall clock is no line here: look at all of it
            wall = self._read(wall - _CHANGE).get_next(datetime)
            while wall <= end:
                found.append(self._moment(wall))
                wall = self._read(wall).get_next(datetime)
            found.append(self._moment(wall))
            return min(moment for moment in found if moment > after)
        return self._moment(self._read(wall).get_next(datetime))

    def _by_elapsed(self, after: datetime) -> datetime:
        offset = self._offset(after)
        found: datetime = self._read(_naive(after + offset)).get_next(datetime)
        moment = found.replace(tzinfo=UTC) - offset
        if self._offset(moment) == offset:
            return moment
        change = self._change(after, moment, offset)  # read on from there, on the new clock
        offset = self._offset(change)
        found = self._read(_naive(change + offset - timedelta(seconds=1))).get_next(datetime)
        return found.replace(tzinfo=UTC) - offset

    def _moment(self, wall: datetime) -> datetime:
        return wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC)

    def _offset(self, moment: datetime) -> timedelta:
        return moment.astimezone(self.zone).utcoffset() or timedelta()

    def _change(self, low: datetime, high: datetime, offset: timedelta) -> datetime:
        """Return the second from which on the zone's offset is no longer ``offset``."""
        low = low.replace(microsecond=0)
        while high - low > timedelta(seconds=1):
            middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
            if self._offset(middle) == offset:
                low = middle
            else:
                high = middle
        return high


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)
