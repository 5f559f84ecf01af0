"""The next best offer: what to do with each customer once limits have their price.

One core for a table of millions and for one profile: value less what the limits used are worth to
others, best first. Nothing is recommended that brings no more than it takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bihuan.kernel import UserError


class RecommendError(UserError):
    """Arrays that do not go together."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The best candidates of each customer.

    Parameters
    ----------
    candidate
        Column of the candidate by rank, -1 where there is none left; int32, shape ``(n, top)``.
    net
        Value less charge of each, NaN where there is none; shape ``(n, top)``.
    """

    candidate: NDArray[np.int32]
    net: NDArray[np.float64]


def recommend(
    value: NDArray[np.float64],
    charge: ArrayLike = 0.0,
    *,
    top: int = 3,
    group: NDArray[np.integer] | None = None,
) -> Ranking:
    """Rank what may be done with each customer by value less charge.

    Parameters
    ----------
    value
        Expected value of every pair in the workspace's currency, shape ``(n, m)``; NaN = must
        not be done.
    charge
        What the limits used are worth to others (see :meth:`bihuan.decision.PriceBook.charges`);
        one number, or shape ``(m,)``, ``(1, m)`` or ``(n, m)``.
    top
        How many at most, >= 1.
    group
        Group of each candidate, shape ``(m,)``: of each group only the best is taken (one
        channel per offer). None: every candidate is a group of its own.

    Returns
    -------
    Ranking
        Of equals the first stands first. Only what leaves more than 0.

    Raises
    ------
    RecommendError
        If shapes do not go together or ``top`` is below 1.

    Examples
    --------
    >>> value = np.array([[9.0, 8.0, np.nan, 2.0], [1.0, np.nan, 3.0, 3.0]])
    >>> ranking = recommend(value, [4.0, 1.0, 0.0, 2.5], top=2)
    >>> ranking.candidate.tolist(), ranking.net.tolist()
    ([[1, 0], [2, 3]], [[7.0, 5.0], [3.0, 0.5]])
    >>> recommend(value, top=3, group=np.array([0, 0, 1, 1])).candidate.tolist()
    [[0, 3, -1], [2, 0, -1]]
    """
    cost = np.asarray(charge, dtype=np.float64)
    if value.ndim != 2 or top < 1 or (group is not None and group.shape != value.shape[1:]):
        raise _unfit(value, top)
    try:
        net = value - cost
    except ValueError as error:
        raise _unfit(value, top) from error
    if net.shape != value.shape:
        raise _unfit(value, top)
    n, m = net.shape
    kinds = np.arange(m) if group is None else group
    chosen = np.full((n, top), -1, dtype=np.int32)
    worth = np.full((n, top), np.nan)
    if not m:
        return Ranking(chosen, worth)
    with np.errstate(invalid="ignore"):
        left = np.where(net > 0, net, -np.inf)
    rows = np.arange(n)
    for rank in range(min(top, m)):
        best = left.argmax(axis=1)
        gain = left[rows, best]
        is_some = gain > 0
        if not is_some.any():
            break
        chosen[is_some, rank] = best[is_some]
        worth[is_some, rank] = gain[is_some]
        left[kinds[None, :] == kinds[best][:, None]] = -np.inf
    return Ranking(chosen, worth)


def _unfit(value: NDArray[np.float64], top: int) -> RecommendError:
    return RecommendError(
        f"Values of shape {value.shape}, charges and groups do not go together (top {top}).",
        remedy="Give a row per customer, a column per candidate, and top >= 1.",
        zh=f"价值(形状 {value.shape})与占用价格、分组不一致,或 top({top})小于 1。",
    )
