"""How good are scores? Ranking, lift, calibration, each with its uncertainty.

Equal scores are treated as a random order among themselves: the AUC counts half for a tie, and
the gains curve is a straight line through a block of ties. So a constant score has AUC 0.5 and a
lift of 1 everywhere.

References
----------
.. [1] DeLong, DeLong, Clarke-Pearson (1988), Comparing the areas under two or more correlated
   receiver operating characteristic curves, Biometrics 44.
.. [2] Moro, Cortez, Rita (2014), A data-driven approach to predict the success of bank
   telemarketing, Decision Support Systems 62 (ALIFT).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihuan.kernel import NotEstimable, UserError, random_stream

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

LEVEL = 0.95


class ScoreShapeError(UserError):
    """Labels and scores do not belong together."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval; ``low`` and ``high`` enclose ``value``."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Customers of about equal score: what was promised and what came.

    Parameters
    ----------
    n
        Customers.
    predicted
        Mean score, 0..1.
    observed
        Share that responded, 0..1, with Wilson interval ``low`` to ``high``.
    """

    n: int
    predicted: float
    observed: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """How good scores are on rows with known answers.

    Parameters
    ----------
    n, positives
        Rows, and rows whose label is true.
    auc
        Probability that a random positive scores above a random negative; DeLong interval.
    alift
        Area under the gains curve, 0.5 for a random order.
    gains
        Share of positives found in the best 10 %, 20 %, ... 100 % by score, ten numbers.
    lift
        Response of each tenth by score over the overall response, ten numbers, best tenth first.
    top_decile_lift
        First of ``lift`` with a bootstrap interval.
    brier, log_loss
        Mean squared error and mean log loss (nats) of the probabilities.
    calibration
        Up to ten bins of equal size, rising score.
    calibration_error
        Expected calibration error: mean absolute gap of the bins, weighted by size.
    """

    n: int
    positives: int
    auc: Estimate
    alift: Estimate
    gains: tuple[float, ...]
    lift: tuple[float, ...]
    top_decile_lift: Estimate
    brier: Estimate
    log_loss: Estimate
    calibration: tuple[CalibrationBin, ...]
    calibration_error: float

    @property
    def rate(self) -> float:
        """Share of positives."""
        return self.positives / self.n

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Metrics:
        """Read what :meth:`to_dict` wrote."""
        estimates = ("auc", "alift", "top_decile_lift", "brier", "log_loss")
        return cls(
            **{name: Estimate(**raw[name]) for name in estimates},
            n=raw["n"],
            positives=raw["positives"],
            gains=tuple(raw["gains"]),
            lift=tuple(raw["lift"]),
            calibration=tuple(CalibrationBin(**item) for item in raw["calibration"]),
            calibration_error=raw["calibration_error"],
        )


def evaluate_scores(label: Flags, score: Floats, *, seed: int = 0) -> Metrics | NotEstimable:
    """Judge scores against what happened.

    Parameters
    ----------
    label
        Whether it happened, bool, shape ``(n,)``.
    score
        Predicted probability, 0..1, shape ``(n,)``, no missing value.
    seed
        Of the bootstrap of the top-decile lift.

    Returns
    -------
    Metrics or NotEstimable
        The latter if all labels are the same.

    Raises
    ------
    ScoreShapeError
        If shapes differ, or a score is missing or outside 0..1.

    Examples
    --------
    >>> label = np.array([True, True, False, False])
    >>> found = evaluate_scores(label, np.array([0.9, 0.4, 0.4, 0.1]))
    >>> found.auc.value
    0.875
    """
    _require_scores(label, score)
    if (score < 0).any() or (score > 1).any():
        raise ScoreShapeError(
            f"Scores lie between {score.min():g} and {score.max():g}, not between 0 and 1.",
            remedy="Give probabilities; use auc or gains_curve for other scores.",
            zh="评分应为 0 到 1 之间的概率。",
        )
    if label.all() or not label.any():
        return _one_class(label)
    area = delong_interval(label, score)
    rate = float(label.mean())
    gains = gains_at(label, score, np.arange(1, 11) / 10)
    bins = calibration_table(label, score)
    losses = _log_losses(label, score)
    return Metrics(
        n=len(label),
        positives=int(label.sum()),
        auc=area,
        alift=Estimate(*(_alift(value, rate) for value in (area.value, area.low, area.high))),
        gains=tuple(float(gain) for gain in gains),
        lift=tuple(float(step) for step in np.diff(gains, prepend=0.0) * 10),
        top_decile_lift=_bootstrap_top_lift(label, score, seed),
        brier=_mean_interval((score - label) ** 2),
        log_loss=_mean_interval(losses),
        calibration=bins,
        calibration_error=expected_calibration_error(bins),
    )


def auc(label: Flags, score: Floats) -> float | NotEstimable:
    """Return the area under the ROC curve: Mann-Whitney's U over the number of pairs.

    Parameters
    ----------
    label
        Shape ``(n,)``.
    score
        Any scale, shape ``(n,)``; a tie counts one half.

    Examples
    --------
    >>> auc(np.array([True, False, False]), np.array([2.0, 2.0, 1.0]))
    0.75
    """
    _require_scores(label, score)
    n_pos = int(label.sum())
    n_neg = len(label) - n_pos
    if not n_pos or not n_neg:
        return _one_class(label)
    ranks = midranks(score)
    return float((ranks[label].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def delong_interval(label: Flags, score: Floats, *, level: float = LEVEL) -> Estimate:
    """Return the AUC with DeLong's interval, formed on the logit scale so it stays within 0..1.

    Parameters
    ----------
    label, score
        Shape ``(n,)``, both classes present.
    level
        Coverage, 0..1.
    """
    positives, negatives = score[label], score[~label]
    m, n = len(positives), len(negatives)
    ranks = midranks(np.concatenate([positives, negatives]))
    above = (ranks[:m] - midranks(positives)) / n  # share of negatives below each positive
    below = 1 - (ranks[m:] - midranks(negatives)) / m
    value = float(above.mean())
    variance = _variance(above) / m + _variance(below) / n
    if value in {0.0, 1.0}:
        # No overlap seen: the bound that k independent agreeing trials would give.
        reach = 1 - ((1 - level) / 2) ** (1 / min(m, n))
        return Estimate(value, max(value - reach, 0.0), min(value + reach, 1.0))
    if variance == 0:
        return Estimate(value, value, value)
    centre = math.log(value / (1 - value))
    reach = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(variance) / (value * (1 - value))
    return Estimate(value, _expit(centre - reach), _expit(centre + reach))


def gains_curve(label: Flags, score: Floats) -> tuple[Floats, Floats]:
    """Return the gains curve: contacted share against share of positives found.

    Returns
    -------
    contacted, found
        Both from 0 to 1, shape ``(n_distinct_scores + 1,)``; straight between the points.
    """
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    hits = np.cumsum(label[order])[ends]
    contacted = np.concatenate([[0.0], (ends + 1) / len(score)])
    return contacted, np.concatenate([[0.0], hits / hits[-1]])


def gains_at(label: Flags, score: Floats, share: Floats) -> Floats:
    """Return the share of positives found when the best ``share`` is contacted, same shape."""
    contacted, found = gains_curve(label, score)
    return np.asarray(np.interp(share, contacted, found), dtype=np.float64)


def calibration_table(
    label: Flags, score: Floats, *, n_bins: int = 10
) -> tuple[CalibrationBin, ...]:
    """Compare promised and observed response in bins of about equal size.

    Equal scores share a bin, so there may be fewer than ``n_bins``.
    """
    cuts = np.unique(np.quantile(score, np.arange(1, n_bins) / n_bins, method="higher"))
    bins = np.searchsorted(cuts, score, side="right")
    n = np.bincount(bins, minlength=len(cuts) + 1)
    predicted = np.bincount(bins, weights=score, minlength=len(cuts) + 1)
    hits = np.bincount(bins, weights=label, minlength=len(cuts) + 1)
    return tuple(
        CalibrationBin(int(n[i]), float(predicted[i] / n[i]), *wilson(float(hits[i]), int(n[i])))
        for i in np.flatnonzero(n)
    )


def expected_calibration_error(bins: tuple[CalibrationBin, ...]) -> float:
    """Return the mean absolute gap between promised and observed response, 0..1."""
    total = sum(item.n for item in bins)
    return sum(item.n * abs(item.observed - item.predicted) for item in bins) / total


def wilson(hits: float, n: int, *, level: float = LEVEL) -> tuple[float, float, float]:
    """Return a share with its Wilson score interval: ``(share, low, high)``; ``n`` >= 1."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return share, max(0.0, min(centre - reach, share)), min(1.0, max(centre + reach, share))


def midranks(values: Floats) -> Floats:
    """Return ranks from 1, equal values sharing the mean of theirs, shape ``(n,)``."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    ends = np.append(starts[1:], len(values))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks


def _alift(area: float, rate: float) -> float:
    # Area under the gains curve from that under the ROC curve: contacted = rate * found
    # positives + (1 - rate) * found negatives, integrated over the curve.
    return area * (1 - rate) + rate / 2


def _bootstrap_top_lift(label: Flags, score: Floats, seed: int) -> Estimate:
    contacted, found = gains_curve(label, score)
    value = float(np.interp(0.1, contacted, found) * 10)
    order = np.argsort(-score, kind="stable")
    ordered, hit = score[order], label[order]
    block = np.append(ordered[1:] != ordered[:-1], True)
    rng = random_stream(seed, "metrics", "bootstrap")
    draws = []
    for _ in range(200 if len(label) <= 100_000 else 50):
        weight = rng.poisson(1.0, len(label))  # Poisson bootstrap: one pass, no resorting
        size = np.append(0, np.cumsum(weight)[block])
        hits = np.append(0, np.cumsum(weight * hit)[block])
        if hits[-1]:
            draws.append(10 * np.interp(0.1 * size[-1], size, hits) / hits[-1])
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, min(float(low), value), max(float(high), value))


def _mean_interval(values: Floats) -> Estimate:
    mean = float(values.mean())
    reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt(_variance(values) / len(values))
    return Estimate(mean, max(mean - reach, 0.0), mean + reach)


def _log_losses(label: Flags, score: Floats) -> Floats:
    p = np.clip(score, 1e-15, 1 - 1e-15)  # a certain and wrong score must stay finite
    return np.asarray(-np.log(np.where(label, p, 1 - p)), dtype=np.float64)


def mean_log_loss(label: Flags, score: Floats) -> float:
    """Return the mean log loss in nats, >= 0; a certain, wrong score costs about 34.5."""
    return float(_log_losses(label, score).mean())


def _variance(values: Floats) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def _expit(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _one_class(label: Flags) -> NotEstimable:
    if len(label) == 0:
        return NotEstimable({"en": "There are no rows.", "zh": "没有数据。"})
    en, zh = ("positive", "正例") if label.all() else ("negative", "负例")
    return NotEstimable(
        {
            "en": f"All {len(label)} labels are {en}, so nothing can be ranked against them.",
            "zh": f"全部 {len(label)} 个标签都是{zh}，无法比较排序。",
        }
    )


def _require_scores(label: Flags, score: Floats) -> None:
    if label.shape != score.shape or label.ndim != 1:
        raise ScoreShapeError(
            f"There are {label.shape} labels and {score.shape} scores.",
            remedy="Give one score per label.",
            zh="标签与评分的数量不一致。",
        )
    if label.dtype != np.bool_ or np.isnan(score).any():
        raise ScoreShapeError(
            "Labels must be true or false and no score may be missing.",
            remedy="Leave out rows without a score or an answer.",
            zh="标签必须为真假，评分不能缺失。",
        )
