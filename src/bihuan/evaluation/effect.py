"""The effect of a campaign: what happened because of it, with an honest interval, or a refusal.

The decision room assigned planned customers to treatment and control at random within strata and
logged the probability *before* delivery. That log is the only thing that the estimate trusts:
``docs/theory/effect.md`` states estimand, estimator, interval and the checks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import groupby
from operator import add

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import stdtrit

from bihuan.data import Engine
from bihuan.evaluation.check import (
    NO_VARIATION,
    NOTHING_TO_COMPARE,
    Balance,
    SampleRatio,
    check_balance,
    check_ratio,
    find_refusal,
    list_warnings,
    refuse,
)
from bihuan.evaluation.statistic import (
    Cell,
    Fit,
    Rows,
    Tally,
    residual_squares,
    tally,
    tally_with_rows,
)
from bihuan.evaluation.text import Text, not_estimable
from bihuan.kernel import NotEstimable

POOLED_NAMES = 3  # strata named in the title of a pooled one


@dataclass(frozen=True, slots=True)
class Lift:
    """Relative effect, ``treatment_mean / control_mean - 1``, with Fieller's interval.

    Parameters
    ----------
    estimate, low, high
        Relative change (0.1 is a tenth more) and its bounds, at the effect's error level.
    """

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class StratumEffect:
    """The plain difference of means inside one stratum; for looking, not for choosing winners.

    Parameters
    ----------
    stratum
        The logged stratum; pooled ones are joined by plus signs.
    n_treatment, n_control
        Customers compared.
    treatment_mean, control_mean
        Mean response of each arm.
    low, high
        Interval of the difference; infinite if the response does not vary.
    """

    stratum: str
    n_treatment: int
    n_control: int
    treatment_mean: float
    control_mean: float
    low: float
    high: float

    @property
    def estimate(self) -> float:
        """Difference of means."""
        return self.treatment_mean - self.control_mean


@dataclass(frozen=True, slots=True)
class Effect:
    """Mean effect of being assigned to treatment, per planned customer.

    Parameters
    ----------
    estimate, low, high
        Effect and the bounds of its ``1 - alpha`` interval, in units of the response.
    standard_error, degrees_of_freedom
        Conservative standard error; Welch and Satterthwaite's degrees of freedom.
    alpha
        Error level of the interval.
    n_treatment, n_control
        Customers compared.
    treatment_mean, control_mean
        Stratum-weighted (and, with covariates, adjusted) means; their difference is the estimate.
    lift
        Relative effect.
    sample_ratio, balance
        The checks; balance is None without covariates.
    strata
        Effect inside each stratum compared.
    method, warnings
        What was done, and what the reader must know, in words.
    """

    estimate: float
    low: float
    high: float
    standard_error: float
    degrees_of_freedom: float
    alpha: float
    n_treatment: int
    n_control: int
    treatment_mean: float
    control_mean: float
    lift: Lift | NotEstimable
    sample_ratio: SampleRatio
    balance: Balance | None
    strata: tuple[StratumEffect, ...]
    method: Text
    warnings: tuple[Text, ...]

    @property
    def n_planned(self) -> int:
        """Customers of both arms."""
        return self.n_treatment + self.n_control

    @property
    def is_positive(self) -> bool:
        """Whether the whole interval is above nought."""
        return self.low > 0

    @property
    def is_negative(self) -> bool:
        """Whether the whole interval is below nought."""
        return self.high < 0

    def covers(self, value: float) -> bool:
        """Whether ``value`` (a known true effect) lies in the interval."""
        return self.low <= value <= self.high


def estimate_effect(
    decisions: pa.Table,
    response: pa.Table,
    *,
    covariates: pa.Table | None = None,
    when_absent: float | None = None,
    alpha: float = 0.05,
    engine: Engine | None = None,
) -> Effect | NotEstimable:
    """Estimate what assignment to treatment changed, per planned customer.

    Stratified difference of means by logged stratum and treatment probability, intent to treat:
    a customer whose delivery failed stays in treatment. With covariates, Lin's fully interacted
    regression adjustment with HC2 standard errors.

    Parameters
    ----------
    decisions, response
        The log of one campaign, and ``customer_id, response``; see
        :func:`bihuan.evaluation.tally`.
    covariates
        ``customer_id`` and numbers known before the campaign; None: no adjustment.
    when_absent
        Response of planned customers without a response row: 0 if the table lists buyers only.
        None: unknown, counted and left out.
    alpha
        Error level of the interval, 0 < alpha < 1.
    engine
        Where the queries run; DuckDB if None.

    Returns
    -------
    Effect or NotEstimable
        ``NotEstimable`` if an arm is empty, no stratum has two customers in each arm, the
        response does not vary, or the counts contradict the logged probabilities (p < 1e-6).

    Raises
    ------
    EvaluationInputError
        If a table is malformed.

    Notes
    -----
    Strata with fewer than two customers in an arm are pooled with the other such strata of the
    same logged probability, where the pooled comparison is still unbiased; what remains too thin
    is left out and reported in ``warnings``.

    References
    ----------
    .. [1] Neyman (1923, translated 1990), On the Application of Probability Theory to
       Agricultural Experiments, Statistical Science 5(4).
    .. [2] Lin (2013), Agnostic Notes on Regression Adjustments to Experimental Data,
       Annals of Applied Statistics 7(1).
    .. [3] Imbens and Rubin (2015), Causal Inference for Statistics, Social, and Biomedical
       Sciences, chapters 6, 7 and 9.

    Examples
    --------
    >>> n = 400
    >>> log = pa.table({
    ...     "campaign_id": ["c"] * n, "customer_id": [f"{i:04d}" for i in range(n)],
    ...     "arm": ["treatment", "control"] * (n // 2),
    ...     "treatment_probability": [0.5] * n, "stratum": ["sms"] * n})
    >>> buyers = pa.table({"customer_id": [f"{i:04d}" for i in range(0, 80, 2)] + ["0001"] ,
    ...                    "response": [1.0] * 41})
    >>> effect = estimate_effect(log, buyers, when_absent=0)
    >>> round(effect.estimate, 3), effect.is_positive
    (0.195, True)
    """
    if covariates is None or covariates.num_columns < 2:
        return effect_of(
            tally(decisions, response, when_absent=when_absent, engine=engine), alpha=alpha
        )
    counts, rows = tally_with_rows(
        decisions, response, covariates=covariates, when_absent=when_absent, engine=engine
    )
    return effect_of(counts, alpha=alpha, rows=rows)


def effect_of(
    counts: Tally, *, alpha: float = 0.05, rows: Rows | None = None
) -> Effect | NotEstimable:
    """Estimate the effect from a tally alone; see :func:`estimate_effect`.

    Parameters
    ----------
    counts
        One campaign's tally.
    alpha
        Error level of the interval.
    rows
        The customers behind the tally, for HC2 standard errors of the adjusted estimate. None:
        residual variances per arm and stratum take their place.
    """
    ratio = check_ratio(counts)
    refusal = find_refusal(counts, ratio)
    if refusal is not None:
        return refusal
    groups, group_of, notes = _groups(counts)
    if not groups:
        return refuse(NOTHING_TO_COMPARE, counts)
    weight = np.array([cell.n for cell in groups]) / sum(cell.n for cell in groups)
    treatment, control, words = _means(groups, group_of, weight, counts.covariates, rows)
    variances = np.concatenate([treatment.variances, control.variances])
    if not variances.sum() > 0:
        return refuse(NO_VARIATION, counts)
    freedom = _freedom(variances, np.concatenate([treatment.freedoms, control.freedoms]))
    error = math.sqrt(variances.sum())
    quantile = float(stdtrit(freedom, 1 - alpha / 2))
    estimate = treatment.mean - control.mean
    balance = check_balance(groups, weight, counts.covariates)
    return Effect(
        estimate=estimate,
        low=estimate - quantile * error,
        high=estimate + quantile * error,
        standard_error=error,
        degrees_of_freedom=freedom,
        alpha=alpha,
        n_treatment=sum(cell.treatment.n for cell in groups),
        n_control=sum(cell.control.n for cell in groups),
        treatment_mean=treatment.mean,
        control_mean=control.mean,
        lift=_fieller(treatment, control, quantile),
        sample_ratio=ratio,
        balance=balance,
        strata=tuple(_stratum_effect(cell, alpha) for cell in groups),
        method=words.fill(strata=len(groups), level=f"{100 * (1 - alpha):g}%"),
        warnings=(*list_warnings(counts, groups, ratio, balance), *notes),
    )


# --- estimation -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Arm:
    mean: float
    variances: NDArray[np.float64]  # of the weighted mean, one share per group
    freedoms: NDArray[np.float64]

    @property
    def variance(self) -> float:
        return float(self.variances.sum())


def _groups(counts: Tally) -> tuple[list[Cell], NDArray[np.int64], list[Text]]:
    """Pool thin strata of equal probability, leave out what stays thin; map cells to groups."""
    groups: list[Cell] = []
    group_of = np.full(len(counts.cells), -1)
    thin: list[int] = []
    for i, cell in enumerate(counts.cells):
        if _is_thin(cell):
            thin.append(i)
        else:
            group_of[i] = len(groups)
            groups.append(cell)
    pooled, left_out = 0, 0
    thin.sort(key=lambda i: counts.cells[i].probability)
    for _, members in groupby(thin, key=lambda i: counts.cells[i].probability):
        indices = list(members)
        together = reduce(add, (counts.cells[i] for i in indices))
        if _is_thin(together):
            left_out += together.n
            continue
        group_of[indices] = len(groups)
        name = " + ".join(counts.cells[i].stratum for i in indices[:POOLED_NAMES])
        ellipsis = " + …" if len(indices) > POOLED_NAMES else ""
        groups.append(replace(together, stratum=name + ellipsis))
        pooled += len(indices)
    return groups, group_of, _pooling_notes(pooled, left_out)


def _is_thin(cell: Cell) -> bool:
    return min(cell.treatment.n, cell.control.n) < 2 or not 0 < cell.probability < 1


def _pooling_notes(pooled: int, left_out: int) -> list[Text]:
    notes = []
    if pooled:
        notes.append(
            Text(
                f"{pooled} 个过小的层（某组不足两人）已按相同的分组概率合并。",
                f"{pooled} strata with fewer than two customers in an arm were pooled with "
                "strata of the same probability.",
            )
        )
    if left_out:
        notes.append(
            Text(
                f"{left_out:,} 名客户所在的层某组不足两人且无法合并，未计入，结论不包括他们。",
                f"{left_out:,} customers are in strata too thin to compare and could not be "
                "pooled; the estimate does not speak for them.",
            )
        )
    return notes


_PLAIN = Text(
    "按意向处理，{strata} 层内实验组与对照组均值之差的加权平均；Neyman 保守方差，"
    "Welch–Satterthwaite 自由度，{level} 置信区间。",
    "Intent to treat: weighted difference of treatment and control means within {strata} strata; "
    "Neyman's conservative variance, Welch–Satterthwaite degrees of freedom, {level} interval.",
)
_ADJUSTED = Text(
    "按意向处理，{{strata}} 层，用活动前的 {k} 个协变量做完全交互的回归调整（Lin 2013），"
    "{error}方差，{{level}} 置信区间。",
    "Intent to treat, {{strata}} strata, fully interacted regression adjustment on {k} covariates "
    "known before the campaign (Lin 2013), {error} variance, {{level}} interval.",
)


def _means(
    groups: Sequence[Cell],
    group_of: NDArray[np.int64],
    weight: NDArray[np.float64],
    names: tuple[str, ...],
    rows: Rows | None,
) -> tuple[_Arm, _Arm, Text]:
    smallest = min(sum(cell.treatment.n for cell in groups), sum(cell.control.n for cell in groups))
    if not names or smallest < len(groups) + 2 * len(names) + 2:  # too few to fit slopes
        return _plain_arm(groups, weight, True), _plain_arm(groups, weight, False), _PLAIN
    arms = [_adjusted_arm(groups, group_of, weight, arm, rows) for arm in (True, False)]
    error = Text("残差", "residual") if rows is None else Text("HC2 稳健", "robust HC2")
    return arms[0], arms[1], _ADJUSTED.fill(k=len(names), error=error)


def _plain_arm(groups: Sequence[Cell], weight: NDArray[np.float64], arm: bool) -> _Arm:
    moments = [cell.treatment if arm else cell.control for cell in groups]
    mean = float(weight @ np.array([m.mean[0] for m in moments]))
    n = np.array([m.n for m in moments])
    variances = weight**2 * np.array([m.variance() for m in moments]) / n
    return _Arm(mean, variances, n - 1.0)


def _adjusted_arm(
    groups: Sequence[Cell],
    group_of: NDArray[np.int64],
    weight: NDArray[np.float64],
    arm: bool,
    rows: Rows | None,
) -> _Arm:
    moments = [cell.treatment if arm else cell.control for cell in groups]
    scatters = np.array([m.scatter for m in moments])
    pooled = scatters.sum(axis=0)
    inverse = np.linalg.pinv(pooled[1:, 1:], hermitian=True)
    slopes = inverse @ pooled[1:, 0]
    planned = np.array([(cell.treatment + cell.control).mean[1:] for cell in groups])
    own = np.array([m.mean[1:] for m in moments])
    shift = weight @ (planned - own)
    mean = float(weight @ np.array([m.mean[0] for m in moments]) + shift @ slopes)
    n = np.array([m.n for m in moments])
    share = 1 - len(slopes) / (n.sum() - len(groups))
    freedoms = (n - 1) * share  # the slopes cost each stratum its share of k degrees
    fit = Fit(slopes, inverse, shift)
    if rows is not None:
        return _Arm(mean, residual_squares(rows, group_of, weight, arm, fit), freedoms)
    direction = np.concatenate([[1.0], -slopes])
    residual = np.einsum("i,gij,j->g", direction, scatters, direction) / freedoms
    pull = inverse @ shift
    leverage = weight**2 / n + np.einsum("i,gij,j->g", pull, scatters[:, 1:, 1:], pull)
    return _Arm(mean, residual * leverage, freedoms)


def _freedom(variances: NDArray[np.float64], freedoms: NDArray[np.float64]) -> float:
    """Welch and Satterthwaite: the freedom of a sum of independent variance estimates."""
    return max(1.0, float(variances.sum() ** 2 / np.sum(variances**2 / freedoms)))


def _fieller(treatment: _Arm, control: _Arm, quantile: float) -> Lift | NotEstimable:
    """Interval of a ratio of two independent means (Fieller 1954)."""
    a = control.mean**2 - quantile**2 * control.variance
    if control.mean <= 0 or a <= 0:
        return not_estimable(
            Text(
                "对照组均值与零无法区分，相对提升没有上界。",
                "The control mean cannot be told from nought, so a relative effect has no bound.",
            )
        )
    b = treatment.mean * control.mean
    c = treatment.mean**2 - quantile**2 * treatment.variance
    root = math.sqrt(max(b * b - a * c, 0.0))
    ratio = treatment.mean / control.mean
    return Lift(ratio - 1, (b - root) / a - 1, (b + root) / a - 1)


def _stratum_effect(cell: Cell, alpha: float) -> StratumEffect:
    parts = np.array(
        [cell.treatment.variance() / cell.treatment.n, cell.control.variance() / cell.control.n]
    )
    estimate = cell.treatment.mean[0] - cell.control.mean[0]
    margin = math.inf  # without variation the error is not known
    if parts.sum() > 0:
        freedom = _freedom(parts, np.array([cell.treatment.n - 1.0, cell.control.n - 1.0]))
        margin = float(stdtrit(freedom, 1 - alpha / 2)) * math.sqrt(parts.sum())
    return StratumEffect(
        stratum=cell.stratum,
        n_treatment=cell.treatment.n,
        n_control=cell.control.n,
        treatment_mean=cell.treatment.mean[0],
        control_mean=cell.control.mean[0],
        low=estimate - margin,
        high=estimate + margin,
    )
