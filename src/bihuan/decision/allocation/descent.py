"""Prices by Newton steps on the Lagrangian dual, one pass over the customers per step.

A pass tells, beside the dual and its gradient (bound less use), how many customers are about to
change their mind between which two candidates. That table *is* the curvature of the dual, smoothed
over the width of the last price move. So the next prices come from a small quadratic program in a
box: as many unknowns as limits, however many the customers. The box of a price grows while its
gradient keeps its sign and halves when it turns.

References
----------
Bertsekas (1982), Projected Newton Methods for Optimization Problems with Simple Constraints, SIAM
Journal on Control and Optimization 20(2). Qi and Sun (1993), A nonsmooth version of Newton's
method, Mathematical Programming 58.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bihuan.decision.allocation.pairs import Floats, Pairs
from bihuan.decision.allocation.quote import Quote
from bihuan.decision.allocation.terms import Terms

EPSILON = float(np.finfo(np.float64).eps)
FINEST = 1 / 4096  # least width of the smoothing, as a share of the mean worth of a contact
STEEPEST = 3.0  # most that a price moves in one step, in the same unit
MOST_LUMPY = 1e-3  # share of the dual up to which a contact more or less per limit is let be
SWEEPS = 300
COARSEST = 0.25  # first grain, as a share of the mean worth
FINER = 3.0
FIRST_STEPS, GRAIN_STEPS = 60, 16


@dataclass(frozen=True, slots=True, eq=False)
class Crowd:
    """Customers at given prices: those who are asked, and the sum of those who are not.

    Parameters
    ----------
    pairs
        Who is asked.
    weight
        How many customers each asked one of a group stands for, shape ``(G,)``.
    fixed_worth
        Value that the others take, whatever the prices.
    fixed_use
        What the others use of each limit, shape ``(L,)``.
    """

    pairs: Pairs
    weight: Floats
    fixed_worth: float
    fixed_use: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a crowd does at prices.

    Parameters
    ----------
    dual
        Lagrangian dual: a bound on every plan, up to rounding.
    use
        Of each limit, shape ``(L,)``.
    curve
        Second derivative of the dual, smoothed; sparse, shape ``(L, L)``.
    """

    dual: float
    use: Floats
    curve: csr_array


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """Where a descent ended.

    Parameters
    ----------
    prices
        Shape ``(L,)``.
    dual, use
        Of the crowd at these prices.
    loose
        Estimated share by which the dual is still too high or its plan infeasible.
    drift
        How far prices lately moved in a step, shape ``(L,)``: how far they may still be off.
    steps
        Passes made.
    """

    prices: Floats
    dual: float
    use: Floats
    loose: float
    drift: Floats
    steps: int


def ask(crowd: Crowd, terms: Terms, prices: Floats, wide: Floats) -> Answer:
    """Ask every customer of a crowd for the best candidate at prices.

    Parameters
    ----------
    crowd, terms
        The problem.
    prices
        Shape ``(L,)``.
    wide
        Margin within which a customer counts as about to change to or from each candidate, and
        none; ``(J + 1,)``, > 0.
    """
    best, taken, table = Quote(crowd.pairs, terms, prices).ask(crowd.weight, wide)
    use = crowd.fixed_use + terms.use(*taken)
    fixed = crowd.fixed_worth - float(prices @ crowd.fixed_use)
    dual = best + fixed + float(prices @ np.where(prices > 0, terms.bound, 0.0))
    return Answer(dual, use, _curve(terms, table, *taken))


def descend(  # noqa: PLR0913 - a problem, where to begin, and when to stop
    crowd: Crowd,
    terms: Terms,
    prices: Floats,
    *,
    box: tuple[Floats, Floats],
    worth: float,
    enough: float,
    steps: int,
    finest: float = FINEST,
    radius: Floats | None = None,
    report: Callable[[], None] = lambda: None,
) -> Descent:
    """Lower the dual until hardly anything is left to gain.

    Parameters
    ----------
    crowd, terms
        The problem.
    prices
        Where to begin, shape ``(L,)``.
    box
        Least and greatest prices, ``(L,)`` each; at least 0 and at most the ceiling.
    worth
        Mean worth of a contact: the unit in which steps are measured.
    enough
        Share of the dual below which slack and excess, at their prices, may stay. Prices at the
        edge of the box are left out: another box has to see to them.
    steps
        Most passes.
    finest
        Least width of the smoothing, as a share of ``worth``.
    radius
        First step limits, ``(L,)``; None: a typical worth.
    report
        Called after every pass; may raise to stop.
    """
    heavy = np.maximum(terms.heaviest(), 1e-300)
    radius = worth / heavy if radius is None else radius
    move = np.full(terms.shape[1], float((radius * heavy).max(initial=0.0)) / 2)
    before, drift = np.zeros(len(prices)), radius
    best: Descent | None = None
    for step in range(1, steps + 1):
        wide = np.append(np.maximum(move, 2 * finest * worth), finest * worth)
        answer = ask(crowd, terms, prices, wide)
        report()
        slope = np.where(np.isinf(terms.bound), 0.0, terms.bound - answer.use)
        at_edge = ((prices <= box[0]) & (slope > 0)) | ((prices >= box[1]) & (slope < 0))
        loose = _loose(terms, prices, np.where(at_edge, 0.0, slope), answer.dual)
        if best is None or answer.dual < best.dual:
            best = Descent(prices, answer.dual, answer.use, loose, drift, step)
        lump = 2.0 * float(prices @ heavy) / max(abs(answer.dual), 1e-300)
        if loose < max(enough, min(lump, MOST_LUMPY)):  # customers cannot be divided
            best = Descent(prices, answer.dual, answer.use, loose, drift, step)
            break
        radius = np.where(before * slope < 0, radius / 2, radius * 1.3)
        radius = np.clip(radius, 1e-7 * worth / heavy, STEEPEST * worth / heavy)
        before = slope
        moved = _newton(answer.curve, slope, (prices, box, radius))
        prices = np.clip(prices + moved, *box)
        drift = np.maximum(drift / 2, np.abs(moved))
        shift = np.abs(terms.plain @ moved).reshape(terms.shape).max(axis=0, initial=0.0)
        move = (move + shift) / 2
    if best is None:
        raise ValueError("A descent takes at least one step.")
    return Descent(best.prices, best.dual, best.use, best.loose, best.drift, step)


def _loose(terms: Terms, prices: Floats, slope: Floats, dual: float) -> float:
    """Return slack and excess at their prices, as a share of the dual; excess counts a bit more."""
    excess = np.maximum(-slope, 0.0) / np.maximum(np.abs(terms.bound), 1.0)
    priced = float(prices @ np.abs(slope)) / max(abs(dual), 1e-300)
    return priced + 1e-2 * float(excess.max(initial=0.0))


def _newton(
    curve: csr_array, slope: Floats, here: tuple[Floats, tuple[Floats, Floats], Floats]
) -> Floats:
    from bihuan.decision.allocation import kernel

    prices, (low, high), radius = here
    diagonal = curve.diagonal()
    firm = 1e-3 * diagonal + 1e-9 * diagonal.sum() / max(len(diagonal), 1) + 1e-12
    least, most = np.maximum(low - prices, -radius), np.minimum(high - prices, radius)
    moved: Floats = kernel.step_in_box(
        curve.indptr, curve.indices, curve.data, diagonal + firm, slope, least, most, SWEEPS, 1e-9
    )
    return moved


def _curve(terms: Terms, table: Floats, counts: Floats, measured: Floats) -> csr_array:
    """Return A'LA, with L the graph Laplacian of who may change to whom, group by group."""
    n_groups, n = terms.shape
    both = (table + table.transpose(0, 2, 1)) / 2
    degree = both[:, :n, :].sum(axis=2)
    group, one, other = np.nonzero(both[:, :n, :n])
    row, column = group * n + one, group * n + other
    place = np.arange(n_groups * n)
    entries = np.concatenate([-both[group, one, other], degree.ravel()])
    at = (np.concatenate([row, place]), np.concatenate([column, place]))
    laplacian = csr_array((entries, at), shape=(n_groups * n, n_groups * n))
    use = terms.plain
    typical: NDArray[np.float64]
    for part, amount in zip(terms.by_measure, measured, strict=True):
        typical = (amount / np.maximum(counts, 1.0)).ravel()
        use = use + csr_array(part.multiply(typical[:, None]))
    curve = csr_array(use.T @ laplacian @ use)
    curve.sort_indices()
    return curve


def descend_by_grains(  # noqa: PLR0913 - a problem, where to begin, and when to stop
    crowd: Crowd,
    terms: Terms,
    prices: Floats,
    *,
    box: tuple[Floats, Floats],
    worth: float,
    enough: float,
    report: Callable[[], None] = lambda: None,
) -> Descent:
    """Lower the dual where so many customers are worth the same that a plain descent fails.

    Demand is then a staircase. A grain of chance in the values makes it a slope; the descent
    begins with a coarse one and follows the prices as it becomes finer.

    Parameters
    ----------
    crowd, terms, prices, box, worth, enough, report
        See :func:`descend`.
    """
    heavy = np.maximum(terms.heaviest(), 1e-300)
    steps, grain = 0, COARSEST
    while True:
        at_last = grain * worth <= terms.jitter
        grained = terms if at_last else replace(terms, jitter=grain * worth)
        found = descend(
            crowd, grained, prices, box=box, worth=worth, enough=enough,
            steps=GRAIN_STEPS if steps else FIRST_STEPS,
            finest=grain / 8, radius=4 * grain * worth / heavy, report=report,
        )  # fmt: skip
        prices, steps = found.prices, steps + found.steps
        if at_last:
            return replace(found, steps=steps)
        grain /= FINER
