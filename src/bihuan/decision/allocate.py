"""Who gets which candidate: the most value within every limit, with a proof of how near it is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bihuan.decision.options import (
    ROUNDING,
    Limit,
    Options,
    build_options,
    require_shapes,
)
from bihuan.decision.price import find_prices
from bihuan.decision.repair import make_plan
from bihuan.kernel import DefectError, Progress, SilentProgress

TINY_SHARE = 1e-9  # of the worth without limits; a smaller bound is rounding


@dataclass(frozen=True, slots=True)
class LimitUse:
    """What a plan uses of one limit and what one more unit would be worth.

    Parameters
    ----------
    name, kind, unit
        Of the limit.
    bound, usage, slack
        In ``unit``; slack = bound - usage, >= 0 up to rounding.
    price
        Shadow price >= 0: value per unit. One more unit raises the bound by at most this.
    price_unit
        For example ``currency per call``.
    is_binding
        Whether more of it would be worth anything.
    """

    name: str
    kind: str
    unit: str
    bound: float
    usage: float
    slack: float
    price: float
    price_unit: str
    is_binding: bool


@dataclass(frozen=True, slots=True, eq=False)
class Allocation:
    """A plan within all limits, and the certificate of its quality.

    Parameters
    ----------
    choice
        Candidate of each customer, -1 none, int32, shape ``(n_customers,)``.
    value
        Total value of the plan, in the unit of the values given.
    bound
        No plan within the limits is worth more (weak duality).
    gap
        ``(bound - value) / |bound|``, >= 0; 0 where the bound is 0.
    limits
        One entry per limit, in the order given.
    proof
        ``duality``: the gap is within the tolerance. ``search``: the gap is larger because
        customers cannot be divided, and branch and bound found nothing better by more than the
        tolerance. ``none``: neither; the gap still holds.
    iterations
        Linear programs solved.
    seconds
        Wall time.
    """

    choice: NDArray[np.int32]
    value: float
    bound: float
    gap: float
    limits: tuple[LimitUse, ...]
    proof: str
    iterations: int
    seconds: float

    @property
    def prices(self) -> Mapping[str, float]:
        """Shadow price by limit name."""
        return {limit.name: limit.price for limit in self.limits}

    @property
    def violated(self) -> tuple[str, ...]:
        """Names of limits that do not hold; empty by construction and checked."""
        return tuple(u.name for u in self.limits if u.slack < -ROUNDING * u.bound)


def allocate(
    value: NDArray[np.floating],
    limits: Sequence[Limit],
    *,
    tolerance: float = 1e-3,
    seed: int = 0,
    progress: Progress | None = None,
    unit: str = "currency",
) -> Allocation:
    """Give each customer at most one candidate so that total value is greatest within limits.

    Parameters
    ----------
    value
        Worth of contacting a customer with a candidate, in the workspace's currency, shape
        ``(n_customers, n_candidates)``, float64 or float32; NaN = not eligible. Pairs with a
        value <= 0 are never chosen.
    limits
        Hard limits. They are kept exactly (up to 1e-9 of the bound, for sums of fractions).
    tolerance
        Relative gap at which the search for a better plan may stop.
    seed
        Of the order in which equal customers are taken.
    progress
        Shows the steps and can stop the work.
    unit
        Of the values, for the text of prices.

    Returns
    -------
    Allocation
        The plan with its bound, gap and prices. The same for the same seed; a permutation of
        customers does not change its value.

    Raises
    ------
    AllocationError
        If shapes do not go together, a value is infinite, or a limit is not readable.

    Notes
    -----
    A multiple-choice knapsack problem with several knapsacks, solved by Lagrangian duality (see
    :func:`bihuan.decision.price.find_prices`) and a repair to whole customers (see
    :func:`bihuan.decision.repair.make_plan`). Memory: the open pairs at about 18 bytes each,
    beside the input; time grows linearly with them.

    References
    ----------
    .. [1] Sinha and Zoltners (1979), The Multiple-Choice Knapsack Problem, Operations Research
       27(3).
    .. [2] Fisher (1981), The Lagrangian Relaxation Method for Solving Integer Programming
       Problems, Management Science 27(1).

    Examples
    --------
    Three customers, two candidates, two calls in all:

    >>> value = np.array([[9.0, 4.0], [8.0, 5.0], [7.0, np.nan]])
    >>> calls = Limit("calls", "capacity", np.array([1.0, 0.0]), 2, unit="call")
    >>> plan = allocate(value, [calls])
    >>> plan.choice.tolist(), plan.value, round(plan.gap, 9)
    ([0, 1, 0], 21.0, 0.0)
    >>> plan.limits[0].price_unit, 3 <= round(plan.prices["calls"], 9) <= 5
    ('currency per call', True)
    """
    begun = time.perf_counter()
    value = np.asarray(value)
    require_shapes(value, limits)
    with (progress or SilentProgress()).task("allocate", unit="steps") as task:
        options = build_options(value, limits, seed=seed)
        task.advance()
        pricing = find_prices(options, report=task.advance)
        plan = make_plan(options, pricing, tolerance=tolerance, report=task.advance)
    choice = np.full(len(value), -1, dtype=np.int32)
    chosen = plan.choice >= 0
    rows = options.customer[chosen]
    choice[rows] = options.kind[plan.choice[chosen]] % max(value.shape[1], 1)
    uses = tuple(
        _limit_use(limit, choice, float(price), unit)
        for limit, price in zip(limits, pricing.prices, strict=True)
    )
    gap = (pricing.bound - plan.value) / max(pricing.bound, TINY_SHARE * _unlimited(options))
    allocation = Allocation(
        choice=choice,
        value=plan.value,
        bound=pricing.bound,
        gap=gap,
        limits=uses,
        proof="duality" if gap <= tolerance else "search" if plan.is_searched else "none",
        iterations=pricing.steps,
        seconds=time.perf_counter() - begun,
    )
    check_allocation(allocation, value)
    return allocation


def _unlimited(options: Options) -> float:
    """Return what the plan would be worth without any limit, at least a tiny number."""
    if not options.n_customers:
        return 1.0
    return float(np.maximum.reduceat(options.value, options.start[:-1]).sum())


def check_allocation(allocation: Allocation, value: NDArray[np.floating]) -> None:
    """Raise :class:`DefectError` unless the plan keeps what an allocation promises.

    Parameters
    ----------
    allocation
        What is claimed.
    value
        The values it was made from, shape ``(n_customers, n_candidates)``.
    """
    if allocation.violated:
        raise DefectError(f"The plan breaks the limits {', '.join(allocation.violated)}.")
    rows = np.flatnonzero(allocation.choice >= 0)
    taken = value[rows, allocation.choice[rows]].astype(np.float64)
    if not (taken > 0).all():
        raise DefectError("The plan contacts a customer who is not eligible or not worth it.")
    total = float(taken.sum())
    if abs(total - allocation.value) > 1e-9 * max(total, 1e-300):
        raise DefectError(f"The plan claims {allocation.value} and is worth {total}.")
    if allocation.value > allocation.bound:
        raise DefectError(f"The plan is worth {allocation.value}, above {allocation.bound}.")


def limit_usage(limit: Limit, choice: NDArray[np.integer]) -> float:
    """Return what a plan uses of ``limit``, in the limit's unit.

    Parameters
    ----------
    limit
        Of the same customers.
    choice
        Candidate of each customer, -1 none, shape ``(n_customers,)``.
    """
    inside = choice >= 0 if limit.members is None else (choice >= 0) & limit.members
    rows = np.flatnonzero(inside)
    if limit.weight.ndim == 2:
        return float(limit.weight[rows, choice[rows]].sum())
    counts = np.bincount(choice[rows], minlength=len(limit.weight))
    return float(counts @ limit.weight)


def _limit_use(limit: Limit, choice: NDArray[np.int32], price: float, unit: str) -> LimitUse:
    usage = limit_usage(limit, choice)
    return LimitUse(
        name=limit.name,
        kind=limit.kind,
        unit=limit.unit,
        bound=limit.bound,
        usage=usage,
        slack=limit.bound - usage,
        price=price,
        price_unit=f"{unit} per {limit.unit}",
        is_binding=price > 0,
    )
