"""The learners: logistic regression with bends, boosted trees, and their blend.

All of them speak in log-odds (logits), which add up over features, so that every score can be
taken apart into the contributions of single features, and a blend is the mean of its parts.

The heavy libraries are imported inside the functions that fit: scoring with a logistic model
needs neither of them.

References
----------
.. [1] Lundberg et al. (2020), From local explanations to global understanding with explainable AI
   for trees, Nature Machine Intelligence 2 (the contributions of boosted trees).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bihuan.kernel import DefectError, random_stream
from bihuan.model.frame import Columns, FeatureKind
from bihuan.model.steps.binning import Floats, quantile_edges
from bihuan.model.steps.calibration import expit
from bihuan.model.steps.plan import FeaturePlan

Flags = NDArray[np.bool_]

RICH_CASES = 3_000
BATCH_ROWS = 65_536  # the design matrix of one batch stays near 100 MB


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows to learn from.

    Parameters
    ----------
    columns, label
        ``n`` rows.
    weight
        Shape ``(n,)``, mean 1; None = all alike.
    log_keep
        Log of the share of negatives that was kept, <= 0; added to every logit to undo it.
    """

    columns: Columns
    label: Flags
    weight: Floats | None = None
    log_keep: float = 0.0


@dataclass(frozen=True, slots=True)
class LogisticSettings:
    """Settings of the logistic learner.

    Parameters
    ----------
    strength
        Inverse of the L2 penalty (``C``), > 0.
    knots
        Most bends per numeric feature, at quantiles; fewer where positives are few.
    """

    strength: float = 1.0
    knots: int = 8


@dataclass(frozen=True, slots=True)
class BoostedSettings:
    """Settings of the boosted trees (LightGBM).

    Parameters
    ----------
    trees, rate
        Number of trees and learning rate.
    leaves
        Most leaves of a tree; None goes by the evidence: 7, and 15 from 3,000 cases of the rarer
        answer on.
    min_rows
        Least rows of a leaf.
    l2
        Penalty on leaf values.
    feature_share
        Share of the features that each tree may use, 0..1.
    """

    trees: int = 150
    rate: float = 0.05
    leaves: int | None = None
    min_rows: int = 40
    l2: float = 10.0
    feature_share: float = 0.5


class Learner(Protocol):
    """A fitted learner."""

    @property
    def plan(self) -> FeaturePlan:
        """The features it reads."""
        ...

    def logits(self, columns: Columns) -> Floats:
        """Return the log-odds before calibration, shape ``(n,)``."""
        ...

    def contributions(self, columns: Columns) -> Floats:
        """Return each feature's share of the log-odds, shape ``(n, n_features)``.

        Against the average training customer; a row's sum plus one constant is its logit.
        """
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON (the trees' text aside)."""
        ...


@dataclass(frozen=True, slots=True)
class LogisticLearner:
    """Logistic regression on standardised values, bends, missing flags and one-hot groups.

    Parameters
    ----------
    plan
        Features.
    knots
        Bends of each numeric feature: the slope may change there.
    mean, scale, weight
        Per column of the design matrix, shape ``(n_columns,)``.
    intercept
        Log-odds of the average customer, thinning of negatives undone.
    """

    plan: FeaturePlan
    knots: Mapping[str, tuple[float, ...]]
    mean: Floats
    scale: Floats
    weight: Floats
    intercept: float

    def logits(self, columns: Columns) -> Floats:
        """See :class:`Learner`."""
        parts = [self._standard(batch) @ self.weight for batch in batches(columns)]
        return np.concatenate(parts) + self.intercept

    def contributions(self, columns: Columns) -> Floats:
        """See :class:`Learner`."""
        starts = np.cumsum([0, *design_widths(self.plan, self.knots)])[:-1]
        parts = [
            np.add.reduceat(self._standard(batch) * self.weight, starts, axis=1)
            for batch in batches(columns)
        ]
        return np.concatenate(parts)

    def _standard(self, columns: Columns) -> Floats:
        return (design_matrix(self.plan, self.knots, columns) - self.mean) / self.scale

    def to_dict(self) -> dict[str, Any]:
        """See :class:`Learner`."""
        return {
            "kind": "logistic",
            "knots": {name: list(knots) for name, knots in self.knots.items()},
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "weight": self.weight.tolist(),
            "intercept": self.intercept,
        }


@dataclass(frozen=True)
class BoostedLearner:
    """Boosted trees, kept as LightGBM's own text.

    Parameters
    ----------
    plan
        Features.
    text
        The model in LightGBM's text form; every score is computed from it, so a saved and loaded
        model scores alike to the last bit.
    log_keep
        See :class:`Sample`.
    """

    plan: FeaturePlan
    text: str
    log_keep: float

    @cached_property
    def _booster(self) -> Any:
        import lightgbm

        return lightgbm.Booster(model_str=self.text)

    def logits(self, columns: Columns) -> Floats:
        """See :class:`Learner`."""
        parts = [
            self._booster.predict(self.plan.tree_matrix(batch), raw_score=True, num_threads=1)
            for batch in batches(columns)
        ]
        return np.concatenate(parts) + self.log_keep

    def contributions(self, columns: Columns) -> Floats:
        """See :class:`Learner`; exact Shapley values of the trees [1]_."""
        parts = [
            self._booster.predict(self.plan.tree_matrix(batch), pred_contrib=True, num_threads=1)
            for batch in batches(columns)
        ]
        return np.concatenate(parts)[:, :-1]

    def to_dict(self) -> dict[str, Any]:
        """See :class:`Learner`."""
        return {"kind": "lightgbm", "log_keep": self.log_keep}


@dataclass(frozen=True, slots=True)
class BlendLearner:
    """The mean of other learners' log-odds.

    Parameters
    ----------
    parts
        At least one; all on the same plan.
    """

    parts: tuple[Learner, ...]

    @property
    def plan(self) -> FeaturePlan:
        """See :class:`Learner`."""
        return self.parts[0].plan

    def logits(self, columns: Columns) -> Floats:
        """See :class:`Learner`."""
        return np.asarray(np.mean([part.logits(columns) for part in self.parts], axis=0))

    def contributions(self, columns: Columns) -> Floats:
        """See :class:`Learner`."""
        return np.asarray(np.mean([part.contributions(columns) for part in self.parts], axis=0))

    def to_dict(self) -> dict[str, Any]:
        """See :class:`Learner`."""
        return {"kind": "blend", "parts": [part.to_dict() for part in self.parts]}


def fit_logistic(sample: Sample, plan: FeaturePlan, settings: LogisticSettings) -> LogisticLearner:
    """Fit a logistic regression with an L2 penalty on standardised columns."""
    evidence = int(min(sample.label.sum(), (~sample.label).sum()))
    n_knots = min(settings.knots, evidence // 40)  # a bend wants about 40 events to stand on
    knots = {
        name: _knots(recipe.apply(sample.columns.numbers[name]), n_knots)
        for name, recipe in plan.recipes.items()
        if plan.kinds[name] is not FeatureKind.BOOLEAN
    }
    matrix = design_matrix(plan, knots, sample.columns)
    mean = np.average(matrix, axis=0, weights=sample.weight)
    scale = np.sqrt(np.average((matrix - mean) ** 2, axis=0, weights=sample.weight))
    scale[scale < 1e-12] = 1.0
    standard = (matrix - mean) / scale
    weight, intercept = newton_logistic(standard, sample.label, sample.weight, settings.strength)
    return LogisticLearner(plan, knots, mean, scale, weight, intercept + sample.log_keep)


def newton_logistic(
    matrix: Floats, label: Flags, weight: Floats | None, strength: float
) -> tuple[Floats, float]:
    """Minimise the log loss plus ``|coefficients|^2 / (2 * strength)`` by Newton's method.

    The minimum is unique. The gradient is exact; the curvature is computed in single precision
    and kept while it still serves, because it decides the path and not the goal.

    Parameters
    ----------
    matrix
        Standardised columns, shape ``(n, d)``.
    label
        Shape ``(n,)``.
    weight
        Shape ``(n,)``, or None.
    strength
        Inverse penalty, > 0; the intercept bears none.

    Returns
    -------
    coefficients, intercept
        Shape ``(d,)`` and a number.
    """
    columns = np.column_stack([matrix, np.ones(len(label))])
    single = columns.astype(np.float32)
    w = np.ones(len(label)) if weight is None else weight
    y = label.astype(np.float64)
    ridge = np.append(np.full(matrix.shape[1], 1 / strength), 1e-9)
    rate = float(np.average(y, weights=w))
    beta = np.append(np.zeros(matrix.shape[1]), np.log(rate / (1 - rate)))
    logit = np.full(len(label), beta[-1])
    inverse: NDArray[Any] = np.empty((0, 0))
    loss, size = np.inf, np.inf
    for _ in range(100):
        p = expit(logit)
        gradient = columns.T @ (w * (p - y)) + ridge * beta
        last, size = size, float(np.abs(gradient).max())
        if size < 1e-9 * len(label):
            break
        if not inverse.size or size > 0.1 * last:
            root = np.sqrt(w * p * (1 - p)).astype(np.float32)[:, None] * single
            inverse = np.linalg.inv((root.T @ root).astype(np.float64) + np.diag(ridge))
        step: Floats = np.asarray(inverse @ gradient, dtype=np.float64)
        for _ in range(30):  # halve the step until the loss falls
            new_logit = logit - columns @ step
            new_loss = _loss(new_logit, y, w) + float(ridge @ (beta - step) ** 2) / 2
            if new_loss <= loss * (1 + 1e-13):  # at the goal only rounding is left
                break
            step = step / 2
        beta, logit, loss = beta - step, new_logit, new_loss
    return beta[:-1], float(beta[-1])


def _loss(logit: Floats, y: Floats, w: Floats) -> float:
    return float(w @ (np.logaddexp(0.0, logit) - y * logit))


def fit_boosted(
    sample: Sample, plan: FeaturePlan, settings: BoostedSettings, *, seed: int, threads: int
) -> BoostedLearner:
    """Fit boosted trees; the same rows, settings and seed give the same trees."""
    import lightgbm

    cases = int(min(sample.label.sum(), (~sample.label).sum()))
    options = {
        "objective": "binary",
        "learning_rate": settings.rate,
        "num_leaves": settings.leaves or (15 if cases >= RICH_CASES else 7),
        "min_data_in_leaf": settings.min_rows,
        "lambda_l2": settings.l2,
        "feature_fraction": settings.feature_share,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "max_bin": 63,
        "feature_pre_filter": False,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads,
        "seed": int(random_stream(seed, "lightgbm").integers(2**31)),
        "verbosity": -1,
    }
    matrix = plan.tree_matrix(sample.columns)
    target = sample.label.astype(np.float64)
    data = lightgbm.Dataset(matrix, target, weight=sample.weight, params=options)
    booster = lightgbm.train(options, data, settings.trees)
    return BoostedLearner(plan, booster.model_to_string(), sample.log_keep)


def read_learner(raw: Mapping[str, Any], plan: FeaturePlan, trees: str) -> Learner:
    """Make a learner from what ``to_dict`` wrote and the text of its trees (may be empty)."""
    kind = raw["kind"]
    if kind == "blend":
        return BlendLearner(tuple(_read_part(part, plan, trees) for part in raw["parts"]))
    return _read_part(raw, plan, trees)


def _read_part(
    raw: Mapping[str, Any], plan: FeaturePlan, trees: str
) -> LogisticLearner | BoostedLearner:
    if raw["kind"] == "lightgbm":
        return BoostedLearner(plan, trees, raw["log_keep"])
    if raw["kind"] != "logistic":
        raise DefectError(f"A saved learner is of an unknown kind: {raw['kind']}.")
    return LogisticLearner(
        plan,
        {name: tuple(knots) for name, knots in raw["knots"].items()},
        np.array(raw["mean"], dtype=np.float64),
        np.array(raw["scale"], dtype=np.float64),
        np.array(raw["weight"], dtype=np.float64),
        float(raw["intercept"]),
    )


def trees_of(learner: Learner) -> str:
    """Return the text of the boosted trees inside a learner, empty if there are none."""
    parts = learner.parts if isinstance(learner, BlendLearner) else (learner,)
    return next((part.text for part in parts if isinstance(part, BoostedLearner)), "")


def batches(columns: Columns) -> Iterator[Columns]:
    """Cut rows into batches of :data:`BATCH_ROWS`; at least one, maybe empty."""
    if columns.n <= BATCH_ROWS:
        yield columns
        return
    for start in range(0, columns.n, BATCH_ROWS):
        yield columns.take(np.arange(start, min(start + BATCH_ROWS, columns.n)))


def design_widths(plan: FeaturePlan, knots: Mapping[str, tuple[float, ...]]) -> list[int]:
    """Return how many columns of the design matrix each feature has, in the plan's order."""
    widths = []
    for name, kind in plan.kinds.items():
        if kind is FeatureKind.CATEGORICAL:
            widths.append(len(plan.groupings[name].groups))
        else:
            widths.append(1 + len(knots.get(name, ())) + plan.recipes[name].flags_missing)
    return widths


def design_matrix(
    plan: FeaturePlan, knots: Mapping[str, tuple[float, ...]], columns: Columns
) -> Floats:
    """Return the columns of the logistic model, not yet standardised, ``(n, n_columns)``.

    Per numeric feature: the value, ``max(value - knot, 0)`` per knot, and "is missing" where
    flagged. Per categorical feature: one column of 0 and 1 per group.
    """
    widths = design_widths(plan, knots)
    matrix = np.empty((columns.n, sum(widths)))
    at = 0
    for (name, kind), width in zip(plan.kinds.items(), widths, strict=True):
        block = matrix[:, at : at + width]
        if kind is FeatureKind.CATEGORICAL:
            np.equal(plan.groups(columns, name)[:, None], np.arange(width), out=block)
        else:
            values, recipe = columns.numbers[name], plan.recipes[name]
            block[:, 0] = recipe.apply(values)
            for k, knot in enumerate(knots.get(name, ()), start=1):
                block[:, k] = np.maximum(block[:, 0] - knot, 0.0)
            if recipe.flags_missing:
                block[:, -1] = np.isnan(values)
        at += width
    return matrix


def _knots(values: Floats, n_knots: int) -> tuple[float, ...]:
    if n_knots < 1:
        return ()
    edges = quantile_edges(values, n_knots + 1)
    return tuple(float(edge) for edge in edges if edge < values.max())
