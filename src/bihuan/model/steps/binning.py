"""Cutting a feature into bins and saying how much the bins know about the label.

Weight of evidence of a bin is ``ln(share of positives in it / share of negatives in it)``;
information value (IV) is the sum of ``(share of positives - share of negatives) * WOE``.

References
----------
.. [1] Siddiqi (2006), Credit Risk Scorecards, chapter 6.
.. [2] Barlow, Bartholomew, Bremner, Brunk (1972), Statistical Inference under Order Restrictions
   (pool adjacent violators).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SMOOTH = 0.5  # Haldane's correction: an empty cell must not claim infinite evidence


def count_by_bin(
    bins: NDArray[np.integer], label: NDArray[np.bool_], n_bins: int
) -> tuple[Floats, Floats]:
    """Count positives and negatives in each bin.

    Parameters
    ----------
    bins
        Bin of each row, 0 to ``n_bins - 1``, shape ``(n,)``.
    label
        Shape ``(n,)``.
    n_bins
        Number of bins.

    Returns
    -------
    positives, negatives
        Each of shape ``(n_bins,)``.
    """
    total = np.bincount(bins, minlength=n_bins).astype(np.float64)
    positives = np.bincount(bins[label], minlength=n_bins).astype(np.float64)
    return positives, total - positives


def weight_of_evidence(positives: Floats, negatives: Floats, *, smooth: float = SMOOTH) -> Floats:
    """Return the WOE of each bin, shape ``(n_bins,)``; > 0 where positives are over-represented.

    Examples
    --------
    >>> weight_of_evidence(np.array([30.0, 10.0]), np.array([30.0, 90.0]), smooth=0.0).round(4)
    array([ 1.0986, -1.0986])
    """
    p = (positives + smooth) / (positives.sum() + smooth * len(positives))
    q = (negatives + smooth) / (negatives.sum() + smooth * len(negatives))
    return np.asarray(np.log(p / q), dtype=np.float64)


def information_value(positives: Floats, negatives: Floats, *, smooth: float = SMOOTH) -> float:
    """Return the information value of a binned feature, >= 0.

    Below 0.02 is usually called useless, 0.1 to 0.3 medium, above 0.5 suspicious [1]_.
    """
    p = (positives + smooth) / (positives.sum() + smooth * len(positives))
    q = (negatives + smooth) / (negatives.sum() + smooth * len(negatives))
    return float(((p - q) * np.log(p / q)).sum())


def chance_information(n_bins: int, positives: float, negatives: float) -> tuple[float, float]:
    """Return the IV that a useless feature is expected to show, and its 95 % reach above that.

    For a useless feature the IV is about a chi-square of ``n_bins - 1`` degrees times
    ``1 / positives + 1 / negatives``: with 30 positives and 5 bins that is 0.13 on average, more
    than the usual rule of thumb calls useful.

    Returns
    -------
    mean, reach
        Of 100 useless features about 5 show more than ``mean + reach``.
    """
    degrees = max(n_bins - 1, 0)
    unit = 1.0 / max(positives, 1.0) + 1.0 / max(negatives, 1.0)
    return degrees * unit, 1.645 * float(np.sqrt(2 * degrees)) * unit


def quantile_edges(values: Floats, n_bins: int) -> Floats:
    """Return inner edges of about equally full bins, rising, shape ``(<= n_bins - 1,)``.

    A value ``v`` belongs to bin ``searchsorted(edges, v, side="right")``: an edge is the lowest
    value of the bin above it. Missing values are left out. Few distinct values give a bin each.
    """
    present = values[~np.isnan(values)]
    if len(present) == 0:
        return np.empty(0)
    lowest = present.min()
    rest = present[present > lowest]
    if len(rest) == 0:
        return np.empty(0)
    if len(rest) < len(present) * (1 - 1 / n_bins):
        # One value at the bottom (no roaming, no complaint) would swallow the cuts: it is a bin
        # of its own, and the quantiles are taken among the rest.
        cuts = np.append(
            np.quantile(rest, np.arange(1, n_bins - 1) / (n_bins - 1), method="higher"), rest.min()
        )
    else:
        cuts = np.quantile(present, np.arange(1, n_bins) / n_bins, method="higher")
    edges = np.unique(cuts)
    return np.asarray(edges[edges > lowest], dtype=np.float64)


def assign_bins(values: Floats, edges: Floats) -> NDArray[np.intp]:
    """Return the bin of each value, shape ``(n,)``; missing values go to ``len(edges) + 1``."""
    bins = np.searchsorted(edges, values, side="right")
    return np.where(np.isnan(values), len(edges) + 1, bins)


@dataclass(frozen=True, slots=True)
class BinRule:
    """How a numeric feature is cut for a scorecard.

    Parameters
    ----------
    max_bins
        Most bins, the one for missing values aside.
    min_share
        Least share of the rows in a bin, 0..1.
    min_rows
        Least number of rows in a bin.
    trend
        ``rising`` or ``falling`` forces the response to move one way, ``auto`` takes the better
        of the two, ``free`` forces nothing.
    """

    max_bins: int = 6
    min_share: float = 0.05
    min_rows: int = 30
    trend: str = "auto"


def optimal_edges(values: Floats, label: NDArray[np.bool_], rule: BinRule) -> Floats:
    """Cut a feature so that its information value is greatest under ``rule``.

    The feature is cut into at most 40 quantile bins on readable numbers; for a monotone trend
    neighbours that break it are pooled; then a dynamic programme chooses, among all ways of
    joining neighbours into at most ``max_bins`` bins of sufficient size, the one of greatest IV.

    Parameters
    ----------
    values
        Shape ``(n,)``; NaN rows are left out.
    label
        Shape ``(n,)``.
    rule
        The limits.

    Returns
    -------
    numpy.ndarray
        Inner edges, rising, shape ``(n_bins - 1,)``; empty if one bin is all that can be had.
    """
    present = ~np.isnan(values)
    x, y = values[present], label[present]
    edges = readable_edges(quantile_edges(x, 40))
    if len(edges) == 0 or y.all() or not y.any():
        return np.empty(0)
    positives, negatives = count_by_bin(np.searchsorted(edges, x, side="right"), y, len(edges) + 1)
    trends = ("rising", "falling") if rule.trend == "auto" else (rule.trend,)
    least = max(rule.min_share * len(x), rule.min_rows)
    best, best_value = np.empty(0), -1.0
    for trend in trends:
        starts = _pool(positives, negatives, trend)
        p = np.add.reduceat(positives, starts)
        q = np.add.reduceat(negatives, starts)
        chosen, value = _best_joins(p, q, rule.max_bins, least)
        if value > best_value:
            best, best_value = edges[starts[chosen][1:] - 1], value
    return best


def readable_edges(edges: Floats) -> Floats:
    """Round edges to the digits that their typical distance calls for, and drop doubles.

    Examples
    --------
    >>> readable_edges(np.array([20.05, 39.92, 61.13, 80.4])).tolist()
    [20.0, 40.0, 60.0, 80.0]
    """
    if len(edges) == 0:
        return edges
    gaps = np.diff(edges) if len(edges) > 1 else np.abs(edges)
    gap = float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else 1.0
    digits = -int(np.floor(np.log10(gap)))
    return np.unique(np.round(edges, digits))


def _pool(positives: Floats, negatives: Floats, trend: str) -> NDArray[np.intp]:
    """Return the starts of the blocks that pool adjacent violators of ``trend``."""
    if trend == "free":
        return np.arange(len(positives))
    sign = 1.0 if trend == "rising" else -1.0
    blocks: list[tuple[int, float, float]] = []
    for i, (p, q) in enumerate(zip(positives, negatives, strict=True)):
        start, block_p, block_q = i, float(p), float(q)
        while blocks and _breaks(blocks[-1], block_p, block_q, sign):
            start, last_p, last_q = blocks.pop()
            block_p, block_q = block_p + last_p, block_q + last_q
        blocks.append((start, block_p, block_q))
    return np.array([start for start, _, _ in blocks])


def _breaks(last: tuple[int, float, float], p: float, q: float, sign: float) -> bool:
    _, last_p, last_q = last
    if p + q == 0 or last_p + last_q == 0:
        return True
    return sign * (last_p / (last_p + last_q) - p / (p + q)) >= 0


def _best_joins(
    positives: Floats, negatives: Floats, max_bins: int, least: float
) -> tuple[NDArray[np.intp], float]:
    """Choose the starts of joined bins by dynamic programming over all joins; IV is additive."""
    m = len(positives)
    cum_p = np.concatenate([[0.0], np.cumsum(positives)])
    cum_q = np.concatenate([[0.0], np.cumsum(negatives)])
    value = np.full((max_bins + 1, m + 1), -np.inf)
    value[0, 0] = 0.0
    origin = np.zeros((max_bins + 1, m + 1), dtype=np.intp)
    for end in range(1, m + 1):
        p, q = cum_p[end] - cum_p[:end], cum_q[end] - cum_q[:end]
        a, b = (p + SMOOTH) / cum_p[-1], (q + SMOOTH) / cum_q[-1]
        gain = np.where((p + q >= least), (a - b) * np.log(a / b), -np.inf)
        for k in range(1, max_bins + 1):
            total = value[k - 1, :end] + gain
            origin[k, end] = int(np.argmax(total))
            value[k, end] = total[origin[k, end]]
    k = int(np.argmax(value[:, m]))
    best = float(value[k, m])
    if not np.isfinite(best):
        return np.zeros(1, dtype=np.intp), 0.0
    starts: list[int] = []
    end = m
    while k > 0:
        end = int(origin[k, end])
        starts.append(end)
        k -= 1
    return np.array(starts[::-1]), best


@dataclass(frozen=True, slots=True)
class MergeRule:
    """When levels of a categorical feature are put together.

    Parameters
    ----------
    min_rows
        A level with fewer rows says nothing about its own response and goes to the pool of rare
        levels.
    min_share
        A group with a smaller share of the rows is merged with the group of the nearest response.
    max_groups
        Most groups that stay; the most alike neighbours are merged until they fit.
    """

    min_rows: int = 30
    min_share: float = 0.01
    max_groups: int = 20


def merge_levels(
    positives: Floats, negatives: Floats, rule: MergeRule
) -> tuple[tuple[int, ...], ...]:
    """Merge the levels of a categorical feature by support and alike response.

    Rare levels are pooled *without* a look at their own response: a level of three customers of
    whom three left is chance, and a feature made of such levels would repeat its training labels.

    Parameters
    ----------
    positives, negatives
        Counts per level, shape ``(n_levels,)``.
    rule
        The limits.

    Returns
    -------
    tuple of tuple of int
        Groups of level positions, ordered by rising response; levels inside a group ascend.
    """
    total = positives + negatives
    rare = (total < rule.min_rows) & (total > 0)
    seen = np.flatnonzero((total > 0) & ~rare)
    groups: list[tuple[int, ...]] = [(int(i),) for i in seen]
    if rare.any():
        groups.append(tuple(int(i) for i in np.flatnonzero(rare)))
    p = np.array([positives[list(group)].sum() for group in groups])
    q = np.array([negatives[list(group)].sum() for group in groups])
    prior = p.sum() / max(p.sum() + q.sum(), 1.0)
    order = np.lexsort((np.arange(len(groups)), (p + 20 * prior) / (p + q + 20)))
    groups, p, q = [groups[i] for i in order], p[order], q[order]
    least = max(rule.min_share * total.sum(), rule.min_rows)
    while len(groups) > 1:
        at = _next_merge(p, q, least, rule.max_groups)
        if at is None:
            break
        groups[at : at + 2] = [groups[at] + groups[at + 1]]
        p = np.concatenate([p[:at], [p[at] + p[at + 1]], p[at + 2 :]])
        q = np.concatenate([q[:at], [q[at] + q[at + 1]], q[at + 2 :]])
    return tuple(tuple(sorted(group)) for group in groups)


def _next_merge(p: Floats, q: Floats, least: float, max_groups: int) -> int | None:
    """Return which neighbours to merge next (left position), or None if all limits hold."""
    total = p + q
    if len(total) > max_groups:
        return int(np.argmin(_distances(p, q)))
    smallest = int(np.argmin(total))
    if total[smallest] >= least:
        return None
    rate = p / np.maximum(total, 1.0)
    left = abs(rate[smallest] - rate[smallest - 1]) if smallest > 0 else np.inf
    right = abs(rate[smallest + 1] - rate[smallest]) if smallest + 1 < len(p) else np.inf
    return smallest - 1 if left <= right else smallest


def _distances(p: Floats, q: Floats) -> Floats:
    """Return the chi-square distance of each pair of neighbours, shape ``(n_groups - 1,)``."""
    n = p + q
    pooled = (p[:-1] + p[1:]) / (n[:-1] + n[1:])
    spread = np.maximum(pooled * (1 - pooled), 1e-12) * (1 / n[:-1] + 1 / n[1:])
    return np.asarray((p[:-1] / n[:-1] - p[1:] / n[1:]) ** 2 / spread, dtype=np.float64)


def binned_auc(positives: Floats, negatives: Floats) -> float:
    """Return the AUC of a score that ranks bins by their response; 0.5 if a class is absent."""
    if not positives.sum() or not negatives.sum():
        return 0.5
    rate = positives / np.maximum(positives + negatives, 1.0)
    order = np.argsort(rate, kind="stable")
    p, q = positives[order], negatives[order]
    below = np.cumsum(q) - q / 2
    return float((p * below).sum() / (p.sum() * q.sum()))


def stability_index(expected: Sequence[float] | Floats, actual: Sequence[float] | Floats) -> float:
    """Return the population stability index of two distributions over the same bins, >= 0.

    Below 0.1 is usually called stable, 0.1 to 0.25 worth a look, above 0.25 shifted [1]_.

    Parameters
    ----------
    expected, actual
        Counts per bin, shape ``(n_bins,)``; half a row is added to each bin.

    Examples
    --------
    >>> stability_index([500, 500], [500, 500])
    0.0
    >>> round(stability_index([500, 500], [800, 200]), 2)
    0.41
    """
    e = np.asarray(expected, dtype=np.float64) + SMOOTH
    a = np.asarray(actual, dtype=np.float64) + SMOOTH
    p, q = e / e.sum(), a / a.sum()
    return float(((q - p) * np.log(q / p)).sum())
