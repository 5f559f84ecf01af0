"""Turning log-odds into probabilities that are true to frequency.

References
----------
.. [1] Platt (1999), Probabilistic outputs for support vector machines.
.. [2] Oron, Flournoy (2017), Centered isotonic regression, Statistics in Biopharmaceutical
   Research 9: straight lines through the centres of the isotonic blocks, so that customers keep
   their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihuan.model.metrics import mean_log_loss
from bihuan.model.steps.binning import Floats, quantile_edges

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Calibration:
    """From a learner's log-odds to log-odds that are true to frequency; strictly rising.

    Parameters
    ----------
    kind
        ``platt``: ``y[0] + x[0] * logit``. ``isotonic``: straight lines through the points
        ``(x, y)``, slope 1 beyond them. ``none``: as they are.
    x, y
        Its numbers.
    """

    kind: str
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def apply(self, logit: Floats) -> Floats:
        """Return calibrated log-odds, shape ``(n,)``."""
        if self.kind == "none":
            return logit
        if self.kind == "platt":
            return self.y[0] + self.x[0] * logit
        x, y = np.array(self.x), np.array(self.y)
        beyond = np.minimum(logit - x[0], 0.0) + np.maximum(logit - x[-1], 0.0)
        # The thousandth keeps customers in order where the fitted line is flat.
        order = 1e-3 * (np.clip(logit, x[0], x[-1]) - x[0])
        return np.asarray(np.interp(logit, x, y) + beyond + order, dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Calibration:
        """Read what :meth:`to_dict` wrote."""
        return cls(raw["kind"], tuple(raw["x"]), tuple(raw["y"]))


def expit(logit: Floats) -> Floats:
    """Return probabilities from log-odds, same shape; no overflow at either end."""
    small = np.exp(-np.abs(logit))
    return np.where(logit >= 0, 1 / (1 + small), small / (1 + small))


def fit_calibration(logit: Floats, label: Flags, kind: str) -> Calibration:
    """Fit one kind of calibration on log-odds of rows that the learner has not seen.

    Parameters
    ----------
    logit, label
        Shape ``(n,)``, both classes present.
    kind
        ``platt``, ``isotonic`` or ``none``.
    """
    if kind == "none":
        return Calibration("none")
    if kind == "platt":
        return _fit_platt(logit, label)
    return _fit_isotonic(logit, label)


def choose_calibration(
    logit: Floats, label: Flags, kinds: tuple[str, ...], rng: np.random.Generator
) -> tuple[Calibration, Floats, dict[str, float]]:
    """Choose a calibration by log loss on rows that it was not fitted on.

    The rows are cut into two halves; each half is judged with the calibration of the other.

    Returns
    -------
    calibration
        The better kind, fitted on all rows.
    probability
        Cross-fitted probabilities by that kind, shape ``(n,)``: honest to be judged.
    losses
        Mean log loss by kind.
    """
    half = np.zeros(len(label), dtype=np.bool_)
    for rows in (np.flatnonzero(label), np.flatnonzero(~label)):
        half[rng.permutation(rows)[: len(rows) // 2]] = True
    crossed = {kind: np.empty(len(label)) for kind in kinds}
    for kind in kinds:
        for side in (half, ~half):
            fitted = fit_calibration(logit[~side], label[~side], kind)
            crossed[kind][side] = expit(fitted.apply(logit[side]))
    losses = {kind: mean_log_loss(label, crossed[kind]) for kind in kinds}
    best = min(kinds, key=lambda kind: losses[kind])
    return fit_calibration(logit, label, best), crossed[best], losses


def _fit_platt(logit: Floats, label: Flags) -> Calibration:
    n_pos, n_neg = float(label.sum()), float((~label).sum())
    target = np.where(label, (n_pos + 1) / (n_pos + 2), 1 / (n_neg + 2))  # Platt's own smoothing
    centre = float(logit.mean())
    columns = np.column_stack([logit - centre, np.ones_like(logit)])
    weight = np.array([1.0, np.log((n_pos + 1) / (n_neg + 1))])
    for _ in range(50):
        p = expit(columns @ weight)
        curvature = (columns * (p * (1 - p))[:, None]).T @ columns + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, columns.T @ (p - target))
        weight = weight - np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-10:
            break
    # A negative slope would turn the order round on the strength of noise: the scores are then
    # worth nothing, and all customers get about the mean.
    slope = max(float(weight[0]), 1e-3)
    return Calibration("platt", (slope,), (float(weight[1]) - slope * centre,))


def _fit_isotonic(logit: Floats, label: Flags) -> Calibration:
    from sklearn.isotonic import isotonic_regression

    edges = quantile_edges(logit, max(2, min(200, len(logit) // 25)))
    bins = np.searchsorted(edges, logit, side="right")
    n = np.bincount(bins).astype(np.float64)
    filled = n > 0
    hits = np.bincount(bins, weights=label)[filled]
    centre = np.bincount(bins, weights=logit)[filled] / n[filled]
    n = n[filled]
    rate = isotonic_regression(hits / n, sample_weight=n)
    starts = np.flatnonzero(np.append(True, np.diff(rate) > 0))
    size = np.add.reduceat(n, starts)
    x = np.add.reduceat(centre * n, starts) / size
    prior = label.mean()
    share = (np.add.reduceat(hits, starts) + prior) / (size + 1)
    y = np.maximum.accumulate(np.log(share / (1 - share)))
    return Calibration("isotonic", tuple(x.tolist()), tuple(y.tolist()))
