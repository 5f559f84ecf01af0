"""Which channel has how much to do on which day, and what does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from bihuan.kernel import UserError

Floats = NDArray[np.float64]
ROUNDING = 1e-6  # contacts
Desk = tuple[str, str | None]
"""A channel kind and an org unit id; None where contacts belong to no unit."""


@dataclass(frozen=True, slots=True)
class DayLoad:
    """What one channel does on one day, over all units.

    Parameters
    ----------
    day, channel
        When and where.
    planned
        Contacts of the rehearsed plan.
    live
        Contacts of campaigns that are under way.
    capacity
        Contacts that the channel can make on that day; infinity where open.
    """

    day: date
    channel: str
    planned: float
    live: float
    capacity: float


@dataclass(frozen=True, slots=True)
class DeskLoad:
    """What one channel, or one unit's part of it, has to do over the whole campaign.

    Parameters
    ----------
    channel, org_unit_id
        Where; no unit for a whole channel and where the contacts belong to none.
    planned
        Contacts of the plan.
    overflow
        Those for which there is no room on any day.
    peak
        Greatest share of a day's capacity in use, live campaigns included; 0 where open.
    """

    channel: str
    org_unit_id: str | None
    planned: float
    overflow: float
    peak: float


@dataclass(frozen=True, slots=True)
class ChannelLoad:
    """The load of all channels, by day and by desk.

    Parameters
    ----------
    days
        By channel and day, in that order.
    channels
        By channel, all units together; the fullest first.
    desks
        By channel and unit; the fullest first.
    overflow
        Contacts for which there is no room.
    peak
        Greatest use of a day's capacity over all channels and desks.
    """

    days: tuple[DayLoad, ...]
    channels: tuple[DeskLoad, ...]
    desks: tuple[DeskLoad, ...]
    overflow: float
    peak: float


@dataclass(frozen=True, slots=True)
class DailyCapacity:
    """Contacts per day; what is not named is open.

    Parameters
    ----------
    by_channel
        By channel kind, over all its units.
    by_desk
        By channel kind and org unit id.
    """

    by_channel: Mapping[str, float]
    by_desk: Mapping[Desk, float]

    def __post_init__(self) -> None:
        for name, number in (*self.by_channel.items(), *self.by_desk.items()):
            if not number >= 0:
                raise UserError(
                    f"The daily capacity of {name} is {number}.",
                    remedy="Give a number of contacts >= 0.",
                    zh=f"{name} 的每日容量为 {number},应不小于 0。",
                )


def working_days(
    periods: Sequence[tuple[date, date]], *, rest_days: frozenset[int] = frozenset()
) -> tuple[date, ...]:
    """Return the days on which contacts are made, each once, in order.

    Parameters
    ----------
    periods
        First and last day of each step of the action plan in which contacts are made.
    rest_days
        Days of the week without contacts, Monday = 0.

    Examples
    --------
    >>> days = working_days([(date(2026, 11, 6), date(2026, 11, 9))], rest_days=frozenset({5, 6}))
    >>> [day.isoformat() for day in days]
    ['2026-11-06', '2026-11-09']
    """
    found = {
        first + timedelta(days=i) for first, last in periods for i in range((last - first).days + 1)
    }
    return tuple(sorted(day for day in found if day.weekday() not in rest_days))


def spread_load(
    planned: Mapping[Desk, float],
    live: Mapping[tuple[date, str, str | None], float],
    days: Sequence[date],
    capacity: DailyCapacity,
) -> ChannelLoad:
    """Spread contacts over the days as evenly as the room that is left allows.

    Parameters
    ----------
    planned
        Contacts by channel and unit.
    live
        Contacts of campaigns under way by day, channel and unit; they go first.
    days
        On which contacts are made, ascending.
    capacity
        Per day.

    Returns
    -------
    ChannelLoad
        Within a desk the days are filled to one level where there is room (so that the fullest
        day is as light as possible); what fits on no day is overflow. A channel's own capacity
        is held against the sum of its desks day by day.
    """
    if not days:
        total = float(sum(planned.values()))
        empty = [DeskLoad(c, unit, k, k, 0.0) for (c, unit), k in planned.items()]
        return ChannelLoad((), (), tuple(empty), total, 0.0)
    place = {day: i for i, day in enumerate(days)}
    busy: dict[Desk, Floats] = {}
    for (day, channel, unit), number in live.items():
        if day in place:
            row = busy.setdefault((channel, unit), np.zeros(len(days)))
            row[place[day]] += number
    days_found: list[DayLoad] = []
    desks: list[DeskLoad] = []
    channels: list[DeskLoad] = []
    for channel in sorted({channel for channel, _ in planned}):
        mine = {desk: number for desk, number in planned.items() if desk[0] == channel}
        found = [
            _fill_desk(desk, number, busy.get(desk, np.zeros(len(days))), capacity)
            for desk, number in mine.items()
        ]
        desks += [load for load, _ in found]
        others = sum((row for desk, row in busy.items() if desk[0] == channel), np.zeros(len(days)))
        whole = np.full(len(days), capacity.by_channel.get(channel, np.inf))
        room = np.minimum(np.maximum(whole - others, 0.0), sum(room for _, room in found))
        own = level_fill(sum(load.planned - load.overflow for load, _ in found), room)
        days_found += [
            DayLoad(day, channel, float(own[i]), float(others[i]), float(whole[i]))
            for i, day in enumerate(days)
        ]
        total = float(sum(mine.values()))
        left = total - float(own.sum())
        peak = max(_share(float(u), float(w)) for u, w in zip(own + others, whole, strict=True))
        channels.append(DeskLoad(channel, None, total, left if left > ROUNDING else 0.0, peak))
    return ChannelLoad(
        days=tuple(days_found),
        channels=tuple(sorted(channels, key=_tightest)),
        desks=tuple(sorted(desks, key=_tightest)),
        overflow=sum(channel.overflow for channel in channels),
        peak=max((load.peak for load in (*channels, *desks)), default=0.0),
    )


def _tightest(load: DeskLoad) -> tuple[float, float, str, str]:
    return -load.overflow, -load.peak, load.channel, load.org_unit_id or ""


def level_fill(total: float, room: Floats) -> Floats:
    """Spread ``total`` over the rooms so that the fullest is as light as possible.

    Parameters
    ----------
    total
        What there is to spread, >= 0.
    room
        What each can take, >= 0, infinity where open; shape ``(n,)``.

    Returns
    -------
    numpy.ndarray
        Shape ``(n,)``; every room filled to one level, or to its brim below it. What exceeds all
        rooms together is left out.

    Examples
    --------
    >>> level_fill(10.0, np.array([2.0, 5.0, 9.0])).tolist()
    [2.0, 4.0, 4.0]
    >>> level_fill(99.0, np.array([2.0, 5.0])).tolist()
    [2.0, 5.0]
    """
    if total >= room.sum():
        return room.copy()
    left, level = total, 0.0
    for i, brim in enumerate(np.sort(room)):
        level = left / (len(room) - i)
        if level <= brim:
            break
        left -= float(brim)
    return np.minimum(room, level)


def _fill_desk(
    desk: Desk, number: float, live: Floats, capacity: DailyCapacity
) -> tuple[DeskLoad, Floats]:
    """Level one desk; also return the room that it has on each day."""
    whole = capacity.by_desk.get(desk, np.inf)
    room = np.maximum(whole - live, 0.0)
    own = level_fill(number, room)
    peak = max((_share(float(used), whole) for used in own + live), default=0.0)
    left = number - float(own.sum())
    return DeskLoad(*desk, number, left if left > ROUNDING else 0.0, peak), room


def _share(used: float, capacity: float) -> float:
    if capacity == 0:
        return float("inf") if used > 0 else 0.0
    return used / capacity
