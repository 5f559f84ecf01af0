"""Where to draw the line: the score from which contacting customers is worth most.

Customers are taken in the order of their score; each gets the channel and offer that is worth most
to him among those with room. The value of the first k customers is a running sum; the line stands
where it is greatest, within the limits of size and budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bihuan.server.app.errors import RefusedError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class NothingWorthwhileError(RefusedError):
    """No threshold gives contacts that are worth their cost within the limits."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of an audience.

    Parameters
    ----------
    least, most
        Customers; ``most`` None where open.
    budget
        For contacts and accepted offers, in the workspace's currency; None where open.
    """

    least: int = 1
    most: int | None = None
    budget: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Where the line stands.

    Parameters
    ----------
    threshold
        Score from which customers are taken; a short number that parts the same customers.
    rows
        Rows of the customers taken, by falling score.
    candidate
        What each of them gets: a column of the value matrix; -1: no channel has room.
    value
        Expected value of all contacts, in the workspace's currency.
    curve
        ``(threshold, customers, value)`` at some other places of the line, by falling threshold.
    """

    threshold: float
    rows: Ints
    candidate: Ints
    value: float
    curve: tuple[tuple[float, int, float], ...]


def draw_line(
    score: Floats,
    value: Floats,
    spent: Floats,
    room: Sequence[tuple[Sequence[int], float]],
    bounds: Bounds,
) -> Line:
    """Find the threshold of greatest expected value.

    Parameters
    ----------
    score
        Of each customer, shape ``(n,)``; not missing.
    value
        Expected value of each customer and candidate, less its cost, shape ``(n, m)``; NaN where
        it is not possible.
    spent
        Expected cost of contact and offer, shape ``(n, m)``.
    room
        Groups of candidates that share a capacity (one channel's), and the capacity.
    bounds
        Size and budget.

    Raises
    ------
    NothingWorthwhileError
        If nobody is possible, or no line within the bounds has a value above nought.
    """
    order = np.lexsort((np.arange(len(score)), -score))
    candidate = fill_in_order(value[order], room)
    at = np.arange(len(order))
    taken = candidate >= 0
    column = np.maximum(candidate, 0)
    worth = np.where(taken, np.nan_to_num(value[order][at, column]), 0.0)
    cost = np.where(taken, np.nan_to_num(spent[order][at, column]), 0.0)
    total, money = np.cumsum(worth), np.cumsum(cost)
    sizes = np.arange(1, len(order) + 1)
    ordered = score[order]
    is_end = np.append(ordered[1:] < ordered[:-1], True)[: len(order)]
    fits = is_end & (sizes >= bounds.least)
    if bounds.most is not None:
        fits &= sizes <= bounds.most
    if bounds.budget is not None:
        fits &= money <= bounds.budget
    if not fits.any() or total[fits].max() <= 0:
        raise _nothing(bounds)
    best = int(np.flatnonzero(fits)[np.argmax(total[fits])])
    below = float(ordered[best + 1]) if best + 1 < len(ordered) else -math.inf
    ends = np.flatnonzero(is_end)
    some = ends[np.unique(np.linspace(0, len(ends) - 1, 21).astype(np.int64))]
    return Line(
        threshold=short_between(float(ordered[best]), below),
        rows=order[: best + 1].astype(np.int64),
        candidate=candidate[: best + 1],
        value=float(total[best]),
        curve=tuple((float(ordered[i]), int(i) + 1, float(total[i])) for i in some),
    )


def fill_in_order(value: Floats, room: Sequence[tuple[Sequence[int], float]]) -> Ints:
    """Give each customer, in order, the best candidate whose channel still has room.

    One pass per capacity that runs out: up to the first that does, everybody has his best.

    Returns
    -------
    numpy.ndarray
        Column per customer, -1 where none is possible or has room; shape ``(n,)``.
    """
    n, m = value.shape
    found = np.full(n, -1, dtype=np.int64)
    held = np.where(np.isnan(value), -np.inf, value)
    open_ = np.ones(m, dtype=np.bool_)
    left = [float(capacity) for _, capacity in room]
    start = 0
    while start < n and open_.any():
        for group, capacity in zip(room, left, strict=True):
            if capacity < 1:
                open_[list(group[0])] = False
        part = np.where(open_, held[start:], -np.inf)
        choice = part.argmax(axis=1) if m else np.zeros(0, dtype=np.int64)
        possible = part[np.arange(len(part)), choice] > -np.inf
        stop = n - start
        counts = []
        for (columns, _), capacity in zip(room, left, strict=True):
            used = np.cumsum(possible & np.isin(choice, list(columns)))
            counts.append(used)
            full = np.flatnonzero(used >= np.floor(capacity))
            if capacity >= 1 and len(full):
                stop = min(stop, int(full[0]) + 1)
        found[start : start + stop] = np.where(possible, choice, -1)[:stop]
        left = [
            capacity - float(used[stop - 1]) for capacity, used in zip(left, counts, strict=True)
        ]
        start += stop
    return found


def short_between(last: float, below: float) -> float:
    """Return a short number in ``(below, last]``: it parts the same customers as ``last``.

    Examples
    --------
    >>> short_between(0.237491, 0.231)
    0.237
    >>> short_between(0.5, 0.4999)
    0.5
    """
    for digits in range(2, 16):
        short: float = math.floor(last * 10**digits) / 10**digits
        if below < short <= last:
            return short
    return last


def split_whole(total: int, shares: Sequence[float]) -> list[int]:
    """Split a whole number in proportion to shares so that the parts sum to it exactly.

    Largest remainders first, the earlier of equals before the later.

    Examples
    --------
    >>> split_whole(10, [1, 1, 1])
    [4, 3, 3]
    """
    whole = sum(shares)
    if whole <= 0:
        return [0] * len(shares)
    exact = [total * share / whole for share in shares]
    parts = [math.floor(one) for one in exact]
    by_rest = sorted(range(len(parts)), key=lambda at: (parts[at] - exact[at], at))
    for at in by_rest[: total - sum(parts)]:
        parts[at] += 1
    return parts


def _nothing(bounds: Bounds) -> NothingWorthwhileError:
    return NothingWorthwhileError(
        "No threshold gives contacts that are worth their cost "
        f"(at least {bounds.least} customers, at most {bounds.most or 'any'}, "
        f"budget {'any' if bounds.budget is None else f'{bounds.budget:g}'}).",
        remedy="Lower the cost, raise the budget, or choose another product.",
        zh="在规模与预算限制内，没有任何阈值使接触收益大于成本，请降低成本、提高预算或更换产品。",
    )
