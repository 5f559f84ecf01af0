"""How large must the control group be? Answered before the campaign, by closed forms.

The same difference of proportions (or means) that the evaluation will use, in its normal
approximation with unpooled variances. Stratification can only help, so the answers err on the
safe side.
"""

from __future__ import annotations

import math

from scipy.special import ndtr, ndtri

from bihuan.evaluation.text import Text, not_estimable
from bihuan.kernel import NotEstimable, UserError


class DesignError(UserError):
    """A size, rate or effect given to the design is impossible."""


def power(
    n_treatment: int, n_control: int, base_rate: float, effect: float, *, alpha: float = 0.05
) -> float:
    """Return the chance that the interval excludes nought when the effect is real.

    Parameters
    ----------
    n_treatment, n_control
        Customers in each arm, >= 1.
    base_rate
        Response rate without contact, 0..1.
    effect
        True difference of rates; ``base_rate + effect`` must stay within 0..1.
    alpha
        Two-sided error level.

    Returns
    -------
    float
        0..1; at ``effect = 0`` it is ``alpha``.

    Raises
    ------
    DesignError
        If a number is impossible.

    Examples
    --------
    >>> round(power(385, 385, 0.5, 0.1), 2)
    0.8
    """
    error = _error(n_treatment, n_control, base_rate, effect)
    return _power(effect, error, alpha)


def power_of_means(
    n_treatment: int, n_control: int, deviation: float, effect: float, *, alpha: float = 0.05
) -> float:
    """Return the power for a difference of means.

    Parameters
    ----------
    n_treatment, n_control
        Customers in each arm, >= 1.
    deviation
        Standard deviation of the response in both arms, >= 0.
    effect
        True difference of means, in the same unit.
    alpha
        Two-sided error level.

    Examples
    --------
    >>> round(power_of_means(63, 63, 1.0, 0.5), 2)
    0.8
    """
    if min(n_treatment, n_control) < 1 or deviation < 0:
        raise _impossible("two arms of at least one customer and a deviation >= 0")
    return _power(effect, deviation * math.sqrt(1 / n_treatment + 1 / n_control), alpha)


def minimum_detectable_effect(
    n_treatment: int,
    n_control: int,
    base_rate: float,
    *,
    wanted_power: float = 0.8,
    alpha: float = 0.05,
) -> float | NotEstimable:
    """Return the smallest positive effect that would be seen with ``wanted_power``.

    Parameters
    ----------
    n_treatment, n_control, base_rate
        As in :func:`power`.
    wanted_power
        Chance of seeing it, between ``alpha`` and 1.
    alpha
        Two-sided error level.

    Returns
    -------
    float or NotEstimable
        Difference of rates, or NotEstimable if not even a rate of 100 % would be seen.

    Examples
    --------
    >>> round(minimum_detectable_effect(9000, 1000, 0.05), 4)
    0.0207
    """
    _check_power(wanted_power, alpha)
    largest = 1 - base_rate

    def missing(effect: float) -> float:
        return power(n_treatment, n_control, base_rate, effect, alpha=alpha) - wanted_power

    if largest <= 0 or missing(largest) < 0:
        return not_estimable(
            Text(
                f"实验组 {n_treatment:,} 人、对照组 {n_control:,} 人时，"
                f"任何可能的效果都达不到 {wanted_power:.0%} 的检出率。",
                f"With {n_treatment:,} and {n_control:,} customers no possible effect would be "
                f"seen with {wanted_power:.0%} power.",
            )
        )
    low, high = 0.0, largest  # power rises with the effect; halving is exact enough and plain
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if missing(middle) < 0 else (low, middle)
    return high


def control_share(
    n_planned: int,
    base_rate: float,
    effect: float,
    *,
    wanted_power: float = 0.8,
    alpha: float = 0.05,
) -> float | NotEstimable:
    """Return the smallest share of planned customers to hold out as control.

    Parameters
    ----------
    n_planned
        Planned customers of both arms.
    base_rate, effect
        As in :func:`power`.
    wanted_power
        Chance of seeing the effect.
    alpha
        Two-sided error level.

    Returns
    -------
    float or NotEstimable
        Share, 0..1, rounded up to a whole customer; NotEstimable if no share suffices, with the
        smallest effect that the best share would show.

    Examples
    --------
    >>> control_share(20_000, 0.05, 0.02)
    0.05
    """
    _check_power(wanted_power, alpha)

    def reached(n_control: int) -> float:
        return power(n_planned - n_control, n_control, base_rate, effect, alpha=alpha)

    control, treated = base_rate * (1 - base_rate), (base_rate + effect) * (1 - base_rate - effect)
    spread = math.sqrt(max(control, 0.0)) + math.sqrt(max(treated, 0.0))
    if n_planned < 2 or not spread > 0:
        raise _impossible("at least two planned customers and a rate strictly between 0 and 1")
    best = round(n_planned * math.sqrt(max(control, 0.0)) / spread)  # Neyman's allocation
    best = min(max(best, 1), n_planned - 1)
    if reached(best) < wanted_power:
        smallest = minimum_detectable_effect(
            n_planned - best, best, base_rate, wanted_power=wanted_power, alpha=alpha
        )
        shown = "" if isinstance(smallest, NotEstimable) else f"{smallest * 100:.2f}"
        return not_estimable(
            Text(
                f"计划客户只有 {n_planned:,} 人，无论对照组多大，"
                f"都无法以 {wanted_power:.0%} 的把握看到 "
                f"{effect * 100:.2f} 个百分点的效果"
                + (f"；最小可检出效果为 {shown} 个百分点。" if shown else "。"),
                f"{n_planned:,} planned customers are too few to see {effect * 100:.2f} pp with "
                f"{wanted_power:.0%} power, whatever the control share"
                + (f"; the smallest effect to be seen is {shown} pp." if shown else "."),
            )
        )
    low, high = 0, best  # power rises with the control share up to Neyman's allocation
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= wanted_power else (middle, high)
    return high / n_planned


def _power(effect: float, error: float, alpha: float) -> float:
    if not 0 < alpha < 1:
        raise _impossible("an error level between 0 and 1")
    if error == 0:
        return alpha if effect == 0 else 1.0
    bound, ratio = -ndtri(alpha / 2), abs(effect) / error
    return float(ndtr(ratio - bound) + ndtr(-ratio - bound))


def _error(n_treatment: int, n_control: int, base_rate: float, effect: float) -> float:
    contacted = base_rate + effect
    if min(n_treatment, n_control) < 1 or not (0 <= base_rate <= 1 and -1e-12 <= contacted <= 1):
        raise _impossible("two arms of at least one customer and rates within 0..1")
    spread = contacted * (1 - contacted) / n_treatment + base_rate * (1 - base_rate) / n_control
    return math.sqrt(max(spread, 0.0))


def _check_power(wanted: float, alpha: float) -> None:
    if not alpha < wanted < 1:
        raise _impossible("a wanted power between the error level and 1")


def _impossible(needed: str) -> DesignError:
    return DesignError(
        f"The design needs {needed}.",
        remedy="Mend the number and try again.",
        zh="样本设计的参数不合理：人数至少为 1，比率与检出率须在 0 到 1 之间，请修改后重试。",
    )
