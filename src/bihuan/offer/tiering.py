"""Tiers of add-on packs, set from what customers use beyond their plans.

A customer who needs ``x`` MB and is sold a pack of ``s`` MB pays for ``s - x`` that stays unused,
or lacks ``x - s``. Which sizes to sell is then a placement of ``k`` points on a line with least
total loss, the one-dimensional k-median with unequal sides. With sizes sorted, what lies between
two neighbouring packs hangs on these two alone, so dynamic programming over the sizes gives the
optimum exactly, where k-means finds a local one (Hassin & Tamir, "Improved complexity bounds for
location problems on the real line", Operations Research Letters 10, 1991; Wang & Song,
"Ckmeans.1d.dp", The R Journal 3/2, 2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bihuan.kernel import NotEstimable, UserError

Floats: TypeAlias = NDArray[np.float64]
MOST_SIZES = 1000
_DEFAULT_SIZES = 400


class TieringError(UserError):
    """Tiers cannot be set from these figures."""


@dataclass(frozen=True, slots=True)
class AddonTiers:
    """Pack sizes that fit what customers use beyond their plans.

    Parameters
    ----------
    sizes
        MB per month, smallest first; fewer than asked for if fewer serve as well.
    customers
        Customers whom each size suits best.
    without
        Customers who need data beyond their plan and are best off without any pack.
    needs
        Customers who use data beyond their plan.
    unknown
        Customers of whom it is not known.
    overbought_mb, unmet_mb
        Sold and not used; used and not covered by the pack; MB per month over all.
    loss
        ``overbought * overbought_mb + unmet * unmet_mb``: least of all choices of sizes.
    loss_by_tiers
        The least loss with 0, 1, 2, ... sizes, as far as asked for; shows when one more tier
        no longer pays.
    overbought, unmet
        The weights.
    """

    sizes: tuple[float, ...]
    customers: tuple[int, ...]
    without: int
    needs: int
    unknown: int
    overbought_mb: float
    unmet_mb: float
    loss: float
    loss_by_tiers: tuple[float, ...]
    overbought: float
    unmet: float

    def tier_of(self, consumption: ArrayLike) -> NDArray[np.int64]:
        """Return which size suits each customer best.

        Parameters
        ----------
        consumption
            MB per month beyond the plan, shape ``(n,)``; NaN = not known.

        Returns
        -------
        numpy.ndarray
            Position in ``sizes``, shape ``(n,)``; -1 = no pack, or not known.
        """
        need = np.asarray(consumption, dtype=np.float64)
        borders = _borders(np.array([0.0, *self.sizes]), self.overbought, self.unmet)
        tier = np.searchsorted(borders, need, side="left") - 1
        return np.where(np.isnan(need), -1, tier).astype(np.int64)


def addon_tiers(
    consumption: ArrayLike,
    tiers: int,
    *,
    sizes: Sequence[float] | None = None,
    overbought: float = 1.0,
    unmet: float = 1.0,
) -> AddonTiers | NotEstimable:
    """Set the sizes of add-on packs so that customers lack and waste least.

    Parameters
    ----------
    consumption
        MB per month used beyond the plan, one value per customer, >= 0, shape ``(n,)``;
        NaN = not known, left out.
    tiers
        How many sizes at most, >= 1.
    sizes
        Sizes that can be sold, MB > 0, at most 1000; by default needs that occur (all of them up
        to 400 different ones, else 400 quantiles).
    overbought, unmet
        Loss per MB sold and not used, and per MB used and not covered; > 0. Only their ratio
        matters for the sizes: with ``unmet`` three times ``overbought`` packs are rather large.

    Returns
    -------
    AddonTiers or NotEstimable
        The optimum over all choices from ``sizes``; a reason if nobody needs data beyond the
        plan. Everybody may also go without a pack, which is size 0.

    Raises
    ------
    TieringError
        If a value is negative or infinite, or there are no sizes, or too many.

    Notes
    -----
    Time ``O(n log n + m² (log n + tiers))`` for ``m`` sizes; no loop over customers.

    Examples
    --------
    >>> packs = addon_tiers([0, 900, 1000, 1100, 5000, 5200], tiers=2, sizes=[1000, 3000, 5000])
    >>> packs.sizes, packs.customers, packs.loss
    ((1000.0, 5000.0), (3, 2), 400.0)
    """
    need, unknown = _needs(consumption)
    if tiers < 1 or not (overbought > 0 and unmet > 0):
        raise TieringError(
            "At least one tier is needed, and both losses must be above 0.",
            remedy="Give tiers >= 1, overbought > 0 and unmet > 0.",
            zh="至少需要一个档次，且两项损失权重均须大于 0。",
        )
    if not len(need):
        return NotEstimable(
            {
                "zh": "没有客户被确认有套外流量。",
                "en": "Nobody is known to use data beyond the plan.",
            }
        )
    points = np.concatenate([[0.0], _sizes(need, sizes)])
    gaps = _Gaps(need, overbought, unmet)
    chosen, by_tiers = _place(gaps, points, tiers)
    found = points[chosen]
    borders = _borders(found, overbought, unmet)
    tier = np.searchsorted(borders, need, side="left")
    sold = found[tier]
    counts = np.bincount(tier, minlength=len(found))
    over_mb = float(np.maximum(sold - need, 0).sum())
    unmet_mb = float(np.maximum(need - sold, 0).sum())
    return AddonTiers(
        sizes=tuple(found[1:].tolist()),
        customers=tuple(counts[1:].tolist()),
        without=int(counts[0]),
        needs=len(need),
        unknown=unknown,
        overbought_mb=over_mb,
        unmet_mb=unmet_mb,
        loss=overbought * over_mb + unmet * unmet_mb,
        loss_by_tiers=tuple(by_tiers),
        overbought=overbought,
        unmet=unmet,
    )


def _needs(consumption: ArrayLike) -> tuple[Floats, int]:
    values = np.asarray(consumption, dtype=np.float64).ravel()
    known = values[~np.isnan(values)]
    wrong = (known < 0) | np.isinf(known)
    if wrong.any():
        raise TieringError(
            f"Consumption must be 0 or more MB; there is {known[wrong][0]:g}.",
            remedy="Correct the figures, or give NaN where it is not known.",
            zh=f"超套餐用量须为不小于 0 的 MB 数，现有 {known[wrong][0]:g}，请更正。",
        )
    return np.sort(known[known > 0]), len(values) - len(known)


def _sizes(need: Floats, sizes: Sequence[float] | None) -> Floats:
    if sizes is None:
        found = np.unique(need)
        if len(found) > _DEFAULT_SIZES:
            found = np.unique(np.quantile(need, np.linspace(0, 1, _DEFAULT_SIZES)))
        return found
    found = np.unique(np.asarray(sizes, dtype=np.float64))
    if not len(found) or len(found) > MOST_SIZES or not (np.isfinite(found) & (found > 0)).all():
        raise TieringError(
            f"There must be 1 to {MOST_SIZES} sizes, each above 0 MB.",
            remedy="Correct the list of sizes.",
            zh=f"档次候选须为 1 至 {MOST_SIZES} 个大于 0 的 MB 数，请更正。",
        )
    return found


def _borders(points: Floats, overbought: float, unmet: float) -> Floats:
    """Return the need at which two neighbouring sizes lose alike; at it the smaller is taken."""
    return (unmet * points[:-1] + overbought * points[1:]) / (unmet + overbought)


class _Gaps:
    """Loss of the customers between two neighbouring sizes, from prefix sums.

    Parameters
    ----------
    need
        Sorted.
    overbought, unmet
        Loss per MB.
    """

    def __init__(self, need: Floats, overbought: float, unmet: float) -> None:
        self._need = need
        self._sum = np.concatenate([[0.0], np.cumsum(need)])
        self._over, self._unmet = overbought, unmet

    def between(self, low: float, highs: Floats) -> Floats:
        """Return the loss of those who need ``low < x <= high``, for each of ``highs``."""
        border = (self._unmet * low + self._over * highs) / (self._unmet + self._over)
        start = np.searchsorted(self._need, low, side="right")
        middle = np.searchsorted(self._need, border, side="right")
        end = np.searchsorted(self._need, highs, side="right")
        lacking = self._sum[middle] - self._sum[start] - low * (middle - start)
        wasted = highs * (end - middle) - (self._sum[end] - self._sum[middle])
        return np.asarray(self._unmet * lacking + self._over * wasted)

    def above(self, points: Floats) -> Floats:
        """Return the loss of those who need more than a size that is the largest."""
        start = np.searchsorted(self._need, points, side="right")
        rest = self._sum[-1] - self._sum[start]
        return np.asarray(self._unmet * (rest - points * (len(self._need) - start)))


def _place(gaps: _Gaps, points: Floats, tiers: int) -> tuple[list[int], list[float]]:
    """Choose up to ``tiers`` of ``points[1:]`` (``points[0]`` = no pack) with least loss."""
    m = len(points)
    cost = np.full((m, m), np.inf)  # between neighbours i < j
    for i in range(m - 1):
        cost[i, i + 1 :] = gaps.between(float(points[i]), points[i + 1 :])
    tail = gaps.above(points)
    best = np.full(m, np.inf)  # least loss up to a largest size, with the tiers so far
    best[0] = 0.0
    by_tiers, ends, before = [float(tail[0])], [0], []
    for _ in range(min(tiers, m - 1)):
        total = best[:, None] + cost
        came = np.argmin(total, axis=0)
        best = total[came, np.arange(m)]
        before.append(came)
        ends.append(int(np.argmin(best + tail)))
        by_tiers.append(float((best + tail)[ends[-1]]))
    used = int(np.argmin(by_tiers))  # the first of the least: no tier that serves nobody better
    chosen = [ends[used]]
    for came in reversed(before[:used]):
        chosen.append(int(came[chosen[-1]]))
    return chosen[::-1], by_tiers
