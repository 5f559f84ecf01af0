"""Small groups: a count that tells of fewer than k customers is not told, nor made computable.

A cross table with margins hides a cell in vain if its row has only that hole. Therefore, after
rows and columns whose totals are too small have been merged with others, each small cell gets
three companions at the other corners of a rectangle (the hypercube method of official statistics).
Then two tables agree with everything shown: the true one, and one in which the small cell is larger
by k. So nobody can compute it, nor even tell that it is small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import RefusedError

CLEARANCE = "small_groups.see"
Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]


class SmallGroupError(RefusedError):
    """The group is so small that its members could be told apart."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """A cross table without what would tell of small groups.

    Parameters
    ----------
    cells
        Counts with -1 where hidden, shape ``(rows, columns)``.
    row_totals, column_totals
        Margins with -1 where hidden, shapes ``(rows,)`` and ``(columns,)``.
    total
        Sum over all, or -1.
    k
        The bound.
    """

    cells: Counts
    row_totals: Counts
    column_totals: Counts
    total: int
    k: int


def show_count(count: int, k: int, *, clearance: bool) -> int | str:
    """Return a count as it may be shown.

    Examples
    --------
    >>> show_count(19, 20, clearance=False), show_count(20, 20, clearance=False)
    ('<20', 20)
    >>> show_count(3, 20, clearance=True)
    3
    """
    return count if clearance or count >= k else f"<{k}"


def require_large(actor: Actor, count: int, k: int) -> None:
    """Refuse to export a list of fewer than ``k`` customers without clearance.

    Raises
    ------
    SmallGroupError
        If the list is that small.
    """
    if count < k and not actor.may(CLEARANCE):
        raise SmallGroupError(
            f"A list of fewer than {k} customers needs clearance ({CLEARANCE}).",
            remedy="Widen the audience, or ask an analyst.",
            zh=f"少于 {k} 位客户的清单需要“查看小群体”权限，请放宽条件或联系分析人员。",
        )


def suppress_small(counts: Counts, k: int, *, clearance: bool = False) -> Hidden:
    """Hide what would tell of fewer than ``k`` members, and what would let it be computed.

    Parameters
    ----------
    counts
        Members per cell, shape ``(rows, columns)``, >= 0. Empty cells count as small.
    k
        Smallest group that may be told.
    clearance
        True shows everything.

    Returns
    -------
    Hidden
        For each hidden cell, and each hidden margin, there is a table that agrees with all that is
        shown and in which it is at least ``k``. No row, column or merged group below ``k`` can be
        computed from the margins.
    """
    cells = np.asarray(counts, dtype=np.int64)
    rows, columns, total = cells.sum(axis=1), cells.sum(axis=0), int(cells.sum())
    if clearance:
        return Hidden(cells, rows, columns, total, k)
    row_groups, column_groups = _merged(rows, k), _merged(columns, k)
    if total < k or row_groups is None or column_groups is None:
        return _nothing(cells, k)
    hidden = _complemented(_summed(cells, row_groups, column_groups), k)
    if hidden is None:  # no rectangle is large enough: the margins alone are told
        hidden = np.ones((len(row_groups), len(column_groups)), dtype=np.bool_)
    shown, shown_rows, shown_columns = _nothing_of(cells)
    for at, row in enumerate(row_groups):
        if len(row) == 1:
            shown_rows[row[0]] = rows[row[0]]
        for beside, column in enumerate(column_groups):
            if len(row) == len(column) == 1 and not hidden[at, beside]:
                shown[row[0], column[0]] = cells[row[0], column[0]]
    for column in column_groups:
        if len(column) == 1:
            shown_columns[column[0]] = columns[column[0]]
    return Hidden(shown, shown_rows, shown_columns, total, k)


def suppress_line(counts: Counts, k: int, *, clearance: bool = False) -> list[int | None]:
    """Hide small counts of one row whose sum is known, so that none can be computed.

    Parameters
    ----------
    counts
        Members per cell, shape ``(n,)``, >= 0.
    k
        Smallest group that may be told.
    clearance
        True shows everything.

    Returns
    -------
    list
        None where hidden; what is hidden together has ``k`` members or more.

    Examples
    --------
    >>> suppress_line(np.array([50, 3, 70]), 20)
    [None, None, 70]
    """
    if clearance:
        return [int(count) for count in counts]
    groups = _merged(np.asarray(counts, dtype=np.int64), k) or []
    told = {group[0] for group in groups if len(group) == 1}
    return [int(count) if at in told else None for at, count in enumerate(counts)]


def _nothing_of(cells: Counts) -> tuple[Counts, Counts, Counts]:
    return (
        np.full(cells.shape, -1, dtype=np.int64),
        np.full(cells.shape[0], -1, dtype=np.int64),
        np.full(cells.shape[1], -1, dtype=np.int64),
    )


def _nothing(cells: Counts, k: int) -> Hidden:
    total = int(cells.sum())
    return Hidden(*_nothing_of(cells), total if total >= k else -1, k)


def _merged(totals: Counts, k: int) -> list[list[int]] | None:
    """Group lines so that each group has ``k`` members or more; None if that cannot be.

    Small lines go together; if they are still too few, the smallest large line joins them, and is
    hidden with them.
    """
    small = [int(at) for at in np.flatnonzero(totals < k)]
    large = sorted((int(at) for at in np.flatnonzero(totals >= k)), key=lambda at: totals[at])
    if not small:
        return [[int(at)] for at in range(totals.size)]
    while len(small) == 1 or totals[small].sum() < k:
        if not large:
            return None
        small.append(large.pop(0))
    return [sorted(small), *([at] for at in sorted(large))]


def _summed(cells: Counts, row_groups: list[list[int]], column_groups: list[list[int]]) -> Counts:
    rows = np.stack([cells[group].sum(axis=0) for group in row_groups])
    return np.stack([rows[:, group].sum(axis=1) for group in column_groups], axis=1)


def _complemented(cells: Counts, k: int) -> Mask | None:
    """Return which cells are hidden; None if some small cell finds no rectangle."""
    hidden = cells < k
    primary = np.argwhere(hidden)
    for row, column in primary:
        corners = _rectangle(cells, hidden, int(row), int(column), k)
        if corners is None:
            return None
        other_row, other_column = corners
        hidden[row, other_column] = True
        hidden[other_row, column] = True
        hidden[other_row, other_column] = True
    return hidden


def _rectangle(
    cells: Counts, hidden: Mask, row: int, column: int, k: int
) -> tuple[int, int] | None:
    """Return the cheapest opposite corner whose two neighbours have ``k`` members to give."""
    rows = [at for at in range(cells.shape[0]) if at != row and cells[at, column] >= k]
    columns = [at for at in range(cells.shape[1]) if at != column and cells[row, at] >= k]
    if not rows or not columns:
        return None
    price = np.where(hidden, 0, cells + 1)  # what is hidden anyway costs nothing
    costs = (
        price[np.ix_(rows, [column])] + price[np.ix_([row], columns)] + price[np.ix_(rows, columns)]
    )
    at, beside = np.unravel_index(int(costs.argmin()), costs.shape)
    return rows[at], columns[beside]
