"""Screening by a score: where to cut, what a cut lets in, and whether it keeps its meaning.

A threshold must not be a fixed number that nobody can argue with: the table shows what every
threshold means, a threshold is found from the size or the response that is wanted, and the
stability index tells month by month whether the same cut still finds the same customers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.kernel import NotEstimable, UserError
from bihuan.model.metrics import wilson
from bihuan.model.steps.binning import quantile_edges, stability_index

Floats = NDArray[np.float64]
MAX_THRESHOLDS = 200


class ThresholdError(UserError):
    """A threshold cannot be asked for in this way."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A cut: customers with ``score > value``.

    Parameters
    ----------
    value
        On the score's own scale.
    size
        Customers above it.
    response
        Their response, observed or expected, 0..1.
    lift
        Their response over that of all.
    """

    value: float
    size: int
    response: float
    lift: float

    def to_text(self, tag: str) -> str:
        """Return the cut as an audience condition, for example ``score > 500``."""
        return f"{tag} > {self.value:g}"


def threshold_table(
    score: Floats,
    *,
    label: NDArray[np.bool_] | None = None,
    probability: Floats | None = None,
) -> pa.Table:
    """Tell for every threshold how many customers it lets in and how many respond.

    Parameters
    ----------
    score
        Any scale, shape ``(n,)``, ``n`` >= 1.
    label
        Whether each responded, shape ``(n,)``; gives the observed response.
    probability
        Calibrated probability, shape ``(n,)``; gives the expected response where labels are not
        known yet.

    Returns
    -------
    pyarrow.Table
        Falling thresholds, at most about 200, each with: ``threshold`` (customers with score >
        threshold), ``size``, ``share``, ``response``, ``response_low`` and ``response_high``
        (95 %; null for an expected response), ``captured`` (share of all responders), ``lift``.
        The last row lets everyone in.

    Raises
    ------
    ThresholdError
        If neither or both of ``label`` and ``probability`` are given, or shapes differ.

    Examples
    --------
    >>> table = threshold_table(
    ...     np.array([700.0, 600.0, 500.0, 400.0]), label=np.array([True, True, False, False])
    ... )
    >>> table.select(["threshold", "size", "response", "lift"]).to_pylist()[1]
    {'threshold': 500.0, 'size': 2, 'response': 1.0, 'lift': 2.0}
    """
    given = label if label is not None else probability
    if given is None or (label is not None and probability is not None) or not len(score):
        raise ThresholdError(
            "Give scores and either labels or probabilities.",
            remedy="Use labels where the answer is known, probabilities where it is not.",
            zh="请提供评分，并在标签和概率中二选一。",
        )
    if given.shape != score.shape:
        raise ThresholdError(
            f"There are {score.shape} scores and {given.shape} answers.",
            remedy="Give one answer per score.",
            zh="评分与标签（概率）的数量不一致。",
        )
    cuts = _cuts(score)
    order = np.argsort(-score, kind="stable")
    size = np.searchsorted(-score[order], -cuts, side="left")
    hits = np.cumsum(given[order].astype(np.float64))[size - 1]
    total = float(given.sum())
    response = hits / size
    nothing = np.full(len(cuts), np.nan)
    low, high = nothing, nothing
    if label is not None:
        bounds = np.array([wilson(float(h), int(n))[1:] for h, n in zip(hits, size, strict=True)])
        low, high = bounds[:, 0], bounds[:, 1]
    return pa.table(
        {
            "threshold": cuts,
            "size": size.astype(np.int64),
            "share": size / len(score),
            "response": response,
            "response_low": pa.array(low, from_pandas=True),
            "response_high": pa.array(high, from_pandas=True),
            "captured": pa.array(hits / total if total else nothing, from_pandas=True),
            "lift": pa.array(
                response / (total / len(score)) if total else nothing, from_pandas=True
            ),
        }
    )


def find_threshold(
    table: pa.Table, *, size: int | None = None, response: float | None = None
) -> Threshold | NotEstimable:
    """Find a threshold from what is wanted of it.

    Parameters
    ----------
    table
        From :func:`threshold_table`.
    size
        At most so many customers; the largest such cut is taken.
    response
        At least such a response, 0..1; the largest such cut is taken.

    Returns
    -------
    Threshold or NotEstimable
        The latter if no cut does what is wanted.
    """
    if (size is None) == (response is None):
        raise ThresholdError(
            "Ask for a size or for a response.",
            remedy="Give exactly one of them.",
            zh="请在规模和响应率中指定一个。",
        )
    sizes = table["size"].to_numpy()
    rates = table["response"].to_numpy()
    fits = sizes <= size if size is not None else rates >= response
    if not fits.any():
        best = f"{rates.max():.2%}"
        return NotEstimable(
            {
                "en": f"No threshold does that: the smallest cut has {sizes.min()} customers, the "
                f"best response is {best}.",
                "zh": f"没有满足条件的阈值：最小规模为 {sizes.min()} 人，最高响应率为 {best}。",
            }
        )
    at = int(np.flatnonzero(fits)[-1])
    row = table.slice(at, 1).to_pylist()[0]
    lift = float("nan") if row["lift"] is None else row["lift"]
    return Threshold(row["threshold"], row["size"], row["response"], lift)


def stability_by_period(score: Floats, period: NDArray[np.int32]) -> pa.Table:
    """Tell month by month how far the scores have moved from the first month.

    Parameters
    ----------
    score
        Any scale, shape ``(n,)``.
    period
        Month of each row, growing with time, shape ``(n,)``.

    Returns
    -------
    pyarrow.Table
        One row per month, in order: ``period``, ``rows``, ``mean`` score, and ``stability_index``
        against the first month (0 for itself; above 0.25 the customers or the tags have changed).
    """
    months, place = np.unique(period, return_inverse=True)
    edges = quantile_edges(score[place == 0], 10)
    bins = np.searchsorted(edges, score, side="right")
    counts = np.zeros((len(months), len(edges) + 1))
    np.add.at(counts, (place, bins), 1.0)
    rows = counts.sum(axis=1)
    mean = np.bincount(place, weights=score) / rows
    return pa.table(
        {
            "period": months,
            "rows": rows.astype(np.int64),
            "mean": mean,
            "stability_index": [stability_index(counts[0], other) for other in counts],
        }
    )


def _cuts(score: Floats) -> Floats:
    """Return falling thresholds, each letting in at least one customer; the last lets in all."""
    distinct = np.unique(score)
    if len(distinct) > MAX_THRESHOLDS:
        shares = np.arange(1, MAX_THRESHOLDS) / MAX_THRESHOLDS
        distinct = np.unique(np.quantile(score, shares, method="lower"))
        distinct = distinct[distinct < score.max()]
    else:
        distinct = distinct[:-1]
    lowest = float(score.min())
    below = lowest - 1 if lowest == round(lowest) else float(np.nextafter(lowest, -np.inf))
    return np.append(distinct[::-1], below)
