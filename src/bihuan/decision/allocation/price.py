"""Prices of limits: the Lagrangian dual, solved by exact linear programs over undecided customers.

At prices λ >= 0 every customer takes the option with the greatest value less charge, or none. The
sum of what they get plus Σ λ·bound is a bound on every feasible plan, and the least such bound is
sought. Within a box around λ most customers cannot change their mind; they are *fixed*. For the
others, the *core*, the dual within the box is a small linear program that HiGHS solves exactly.
If its prices lie inside the box they are optimal for all customers, because the dual is convex;
otherwise the box moves. A ladder of samples of growing size gives the first prices.

Equal customers within a core become one class with a mass, so ties, however many, cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, eye_array, hstack

from bihuan.decision.allocation.options import Floats, Indices, Options
from bihuan.kernel import DefectError
from bihuan.kernel.scatter import mix

CORE_OPTIONS = 6_000  # HiGHS solves a core of this size in about a tenth of a second
LADDER_STEP = 8
FEWEST_SAMPLED = 100
MAX_STEPS = 40
EDGE = 1e-5  # share of the box that counts as its edge: the solver's prices are not exact
PATIENCE = 5  # steps in a row that may fail
LARGEST = 8  # how far the core may grow where a sample of it keeps failing
SETTLED = 1e-10  # relative gain below which a further step is not worth it
OPENING = 1e-3  # a limit of 0 is priced as if this share of one contact were allowed
EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True, eq=False)
class Core:
    """The customers who may change their mind between two price vectors, and everybody else.

    Parameters
    ----------
    option
        Options that may become a core customer's best, ascending, shape ``(e,)``.
    row
        Core row (class) of each of them, shape ``(e,)``.
    mass
        How many customers each class stands for, shape ``(r,)``.
    anchor
        Best option of every customer who is not in the core; -1 none, -2 in the core; ``(c,)``.
    rank
        Place of each of them among the undecided options of its customer, shape ``(e,)``.
    customer
        Core customers, shape ``(q,)``; ``customer_row`` gives the class of each.
    own, own_first
        Undecided options of all core customers, and where those of each begin, ``(q,)``.
    fixed_use
        What the fixed customers use of each limit, shape ``(k,)``.
    is_exact
        Whether every undecided customer is represented (not a sample of the classes).
    """

    option: Indices
    row: Indices
    rank: Indices
    mass: Floats
    anchor: Indices
    customer: Indices
    customer_row: Indices
    own: Indices
    own_first: Indices
    fixed_use: Floats
    is_exact: bool


@dataclass(frozen=True, slots=True, eq=False)
class Pricing:
    """Prices, what they prove, and the last core with its (nearly whole) solution.

    Parameters
    ----------
    prices
        Shape ``(k,)``, >= 0.
    bound
        No feasible plan is worth more.
    core, share
        The last core and how many customers of its class take each of its options.
    steps
        Linear programs solved.
    """

    prices: Floats
    bound: float
    core: Core
    share: Floats
    steps: int


def dual_bound(options: Options, prices: Floats) -> float:
    """Return an upper bound on the value of every feasible plan, safe against rounding.

    Parameters
    ----------
    options
        The problem.
    prices
        Shape ``(k,)``, from 0 to the ceiling; any such prices give a valid bound (weak duality).

    Notes
    -----
    Sums within a chunk are pairwise and chunk sums are added exactly. The result is raised by
    (number of limits + 64) units of rounding of the magnitudes involved, more than the worst case
    of the products and sums made.
    """
    sums, sizes = [], []
    for customers, cells in options.chunks():
        charge = options.charge(prices, cells)
        reduced = options.value[cells] - charge
        first = options.start[customers] - options.start[customers.start]
        best = np.maximum(np.maximum.reduceat(reduced, first), 0.0)
        size = np.maximum.reduceat(np.abs(options.value[cells]) + np.abs(charge), first)
        mass = options.mass[customers]
        sums.append(float((best * mass).sum()))
        sizes.append(float((size * mass).sum()))
    paid = prices[prices > 0] * options.bound[prices > 0]
    total = math.fsum([*sums, *paid])
    magnitude = math.fsum([*sizes, *np.abs(paid)])
    return total + (options.n_limits + 64) * EPSILON * magnitude


def take_core(options: Options, low: Floats, high: Floats, *, most: int) -> Core:
    """Split customers into those who may and those who cannot change between two price vectors.

    Parameters
    ----------
    options
        The problem.
    low, high
        Corners of the box of prices, shape ``(k,)``.
    most
        If more than twice as many options are undecided, even with equal customers merged, only
        a part of the classes is kept and stands for all.
    """
    anchor = np.empty(options.n_customers, dtype=np.int64)
    found = [_undecided(options, chunk, low, high, anchor) for chunk in options.chunks()]
    own = np.concatenate([np.empty(0, dtype=np.int64), *found])
    customer = np.flatnonzero(anchor == -2)
    fixed = np.flatnonzero(anchor >= 0)
    own_first = np.searchsorted(own, options.start[customer])
    place, row, rank, customer_row = _merge_equal(options, own, own_first, customer)
    mass = np.bincount(customer_row, options.mass[customer]).astype(np.float64)
    is_exact = len(place) <= 2 * most
    if not is_exact:
        keep, mass = _sample_classes(options, (own[place], row, mass), (low, high), most)
        place, rank, row = place[keep[row]], rank[keep[row]], (np.cumsum(keep) - 1)[row[keep[row]]]
        mass = mass[keep]
    return Core(
        option=own[place],
        row=row,
        rank=rank,
        mass=mass,
        anchor=anchor,
        customer=customer,
        customer_row=customer_row,
        own=own,
        own_first=own_first,
        fixed_use=options.use(anchor[fixed], options.mass[fixed]),
        is_exact=is_exact,
    )


def _undecided(
    options: Options, chunk: tuple[slice, slice], low: Floats, high: Floats, anchor: Indices
) -> Indices:
    """Return the options that may become a best one; write ``anchor`` of the chunk's customers."""
    customers, cells = chunk
    most, least = _range(options, cells, low, high)
    begin = options.start[customers] - options.start[customers.start]
    size = np.diff(np.append(begin, len(most)))
    floor = np.maximum(np.maximum.reduceat(least, begin), 0.0)
    spread = np.repeat(floor, size)
    ties = np.flatnonzero((least == spread) & (spread > 0))
    who = np.searchsorted(begin, ties, side="right") - 1
    is_first = np.diff(who, prepend=-1) > 0
    best = np.full(len(begin), -1, dtype=np.int64)
    best[who[is_first]] = ties[is_first]
    rivals = most > spread
    rivals[best[best >= 0]] = False
    is_open = np.logical_or.reduceat(rivals, begin)
    rivals[best[is_open & (best >= 0)]] = True
    anchor[customers] = np.where(is_open, -2, np.where(best >= 0, best + cells.start, -1))
    undecided: Indices = np.flatnonzero(rivals & np.repeat(is_open, size)) + cells.start
    return undecided


def _range(
    options: Options, cells: slice | Indices, low: Floats, high: Floats
) -> tuple[Floats, Floats]:
    """Return the greatest and the least reduced value of each option within a box of prices."""
    most = options.reduced(np.where(options.is_hard, low, high), cells)
    least = options.reduced(np.where(options.is_hard, high, low), cells)
    return most, least


def _sample_classes(
    options: Options,
    classes: tuple[Indices, Indices, Floats],
    box: tuple[Floats, Floats],
    most: int,
) -> tuple[NDArray[np.bool_], Floats]:
    """Choose classes for a core of about ``most`` options: which to keep, and their masses.

    Half are those with most at stake within the box, so that a few rare customers of great value
    are never overlooked; the other half is drawn evenly from the rest and stands for it.
    """
    option, row, mass = classes
    begin = np.searchsorted(row, np.arange(len(mass)))
    top, bottom = (np.maximum.reduceat(part, begin) for part in _range(options, option, *box))
    stake = (top - np.maximum(bottom, 0.0)) * mass
    n_kept = max(2, len(mass) * most // len(option))
    n_even = n_kept - n_kept // 2
    keep = np.zeros(len(mass), dtype=np.bool_)
    keep[np.argsort(-stake, kind="stable")[: n_kept // 2]] = True
    rest = np.flatnonzero(~keep)
    drawn = rest[((np.arange(n_even) + 0.5) * len(rest) / n_even).astype(np.int64)]
    scaled = mass.copy()
    scaled[drawn] *= mass[rest].sum() / mass[drawn].sum()
    keep[drawn] = True
    return keep, scaled


def _merge_equal(
    options: Options, own: Indices, first: Indices, customer: Indices
) -> tuple[Indices, Indices, Indices, Indices]:
    """Merge core customers whose undecided options are equal.

    Returns the places in ``own`` of the options of one customer per class, their class and their
    rank, and the class of every core customer.
    """
    if not len(customer):
        return own, own, own, customer
    mark = mix(options.value[own].view(np.uint64))
    mark = mix(mark ^ options.kind[own].astype(np.uint64))
    for weight in options.extra.values():
        mark = mix(mark ^ weight[own].view(np.uint64))
    content = np.add.reduceat(mark, first)
    _, chosen, customer_row = np.unique(content, return_index=True, return_inverse=True)
    order = np.argsort(chosen)  # classes in the order of customers, so group by group
    chosen, customer_row = chosen[order], np.argsort(order)[customer_row]
    size = np.diff(np.append(first, len(own)))[chosen]
    rank = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    return (
        np.repeat(first[chosen], size) + rank,
        np.repeat(np.arange(len(chosen)), size),
        rank,
        customer_row,
    )


def solve_core(
    options: Options, core: Core, box: tuple[Floats, Floats], cap: Floats
) -> tuple[Floats, Floats]:
    """Minimise the dual over a box of prices exactly.

    Parameters
    ----------
    options
        The problem.
    core
        Taken for the same box.
    box
        Least and greatest prices, each of shape ``(k,)``.
    cap
        Prices at which nobody would use a limit; 0 where it cannot bind, ``(k,)``.

    Returns
    -------
    prices
        A minimiser, shape ``(k,)``.
    share
        The primal solution: how many customers of its class take each core option, ``(e,)``.

    Notes
    -----
    A price held at its greatest lets the limit be exceeded at that price, one held at its least
    pays for what is left over; so the linear program always has a solution.
    """
    low, high = box
    prices = low.copy()
    active = np.flatnonzero(cap > 0)
    n_options, k = len(core.option), len(active)
    if not n_options or not k:  # nobody can change his mind: the dual is linear in the box
        return np.where(core.fixed_use > options.bound, high, low), np.zeros(n_options)
    rows = options.rows(core.option)[:, active]
    heaviest = abs(rows).max(axis=0).toarray().ravel()
    unit = np.where(heaviest > 0, heaviest, 1.0)
    worth = float(np.abs(options.value[core.option]).mean()) or 1.0
    price_unit = worth / unit
    is_free = (high[active] >= cap[active]) & options.is_hard[active]
    reward, fine = low[active], np.where(is_free, 0.0, high[active])
    gain = np.concatenate(
        [options.value[core.option] / worth, reward / price_unit, -fine / price_unit]
    )
    ceiling = np.full(len(gain), np.inf)
    ceiling[n_options + k :][is_free] = 0.0
    once = csr_array(
        (np.ones(n_options), (core.row, np.arange(n_options))), shape=(len(core.mass), len(gain))
    )
    coupling = hstack([(rows * (1 / unit)).T, eye_array(k), -eye_array(k)]).tocsr()
    left = (options.bound - core.fixed_use)[active] / unit
    left = np.where(options.bound[active] == 0, left + OPENING, left)
    from scipy.optimize import linprog  # takes half a second to load

    result = linprog(
        -gain,
        A_ub=once,
        b_ub=core.mass,
        A_eq=coupling,
        b_eq=left,
        bounds=np.column_stack([np.zeros_like(ceiling), ceiling]),
        method="highs",
    )
    if result.x is None:
        prices[active] = (low + high)[active] / 2
        return prices, np.zeros(n_options)
    found = -result.eqlin.marginals * price_unit
    prices[active] = np.clip(found, low[active], high[active])
    return prices, result.x[:n_options]


def price_caps(options: Options) -> Floats:
    """Return, per limit, a price at which nobody would use it, or its ceiling; ``(k,)``."""
    hard = options.is_hard
    prize = np.where(hard, 0.0, options.ceiling)
    top = np.zeros(options.usage.shape[0])
    cap = np.zeros(options.n_limits)
    use = np.zeros(options.n_limits)
    for customers, cells in options.chunks():
        worth = options.reduced(prize, cells)
        np.maximum.at(top, options.kind[cells], worth)
        for limit, weight in options.extra.items():
            used = weight[cells] > 0
            ratio = worth[used] / weight[cells][used]
            cap[limit] = max(cap[limit], float(ratio.max(initial=0.0)))
        everybody = np.repeat(options.mass[customers], np.diff(options.start)[customers])
        use += options.use(np.arange(cells.start, cells.stop), everybody)
    entries = options.usage.tocoo()
    uses = entries.data > 0
    ratio = top[entries.coords[0][uses]] / entries.data[uses]
    np.maximum.at(cap, entries.coords[1][uses], ratio)
    cap *= 2.0
    cap[use <= options.bound] = 0.0  # cannot bind, whatever is chosen
    return np.where(hard, cap, options.ceiling)


def find_prices(
    options: Options,
    *,
    start: tuple[Floats, Floats] | None = None,
    report: Callable[[], None] = lambda: None,
) -> Pricing:
    """Minimise the Lagrangian dual.

    Parameters
    ----------
    options
        The problem.
    start
        Prices to begin with and how far each may be off, ``(k,)`` each; None: found from samples
        of growing size.
    report
        Called after every linear program; may raise to stop.

    Returns
    -------
    Pricing
        Prices whose bound cannot be lowered noticeably.

    References
    ----------
    .. [1] Fisher (1981), The Lagrangian Relaxation Method for Solving Integer Programming
       Problems, Management Science 27(1).
    .. [2] Marsten, Hogan, Blankenship (1975), The Boxstep Method for Large-Scale Optimization,
       Operations Research 23(3).
    """
    cap = price_caps(options)
    if start is not None:
        return _descend(options, np.minimum(start[0], cap), start[1], cap, report)
    prices, radius, steps = np.zeros(options.n_limits), cap, 0
    ladder = _ladder(options)
    for level, size in enumerate(ladder):
        pricing = _descend(options.sample(size), prices, radius, cap, report)
        prices, steps = pricing.prices, steps + pricing.steps
        radius = (0.3 * prices + 0.02 * cap) / math.sqrt(LADDER_STEP) ** level
    return replace(pricing, steps=steps)


def _ladder(options: Options) -> list[int]:
    """Return sample sizes, ascending, the last one everybody."""
    sizes = [options.n_customers]
    per_customer = len(options.value) / max(options.n_customers, 1)
    smallest = max(int(CORE_OPTIONS / max(per_customer, 1)), FEWEST_SAMPLED)
    while sizes[-1] > 2 * smallest:
        sizes.append(max(sizes[-1] // LADDER_STEP, smallest))
    return sizes[::-1]


def _descend(
    options: Options, prices: Floats, radius: Floats, cap: Floats, report: Callable[[], None]
) -> Pricing:
    """Move a box of prices downhill until it holds the minimum and its core is exact."""
    best: Pricing | None = None
    failures, most = 0, CORE_OPTIONS
    for step in range(1, MAX_STEPS + 1):
        low, high = np.maximum(prices - radius, 0.0), np.minimum(prices + radius, cap)
        core = take_core(options, low, high, most=most)
        found, share = solve_core(options, core, (low, high), cap)
        bound = dual_bound(options, found)
        report()
        gain = math.inf if best is None else best.bound - bound
        near = EDGE * (high - low)
        is_at_edge = ((found <= low + near) & (low > 0)) | ((found >= high - near) & (high < cap))
        is_level = core.is_exact and best is not None and gain >= -SETTLED * best.bound
        if best is None or gain > 0 or is_level:  # an exact core gives a better plan, too
            radius = _next_radius(radius, np.abs(found - prices), is_at_edge, core)
            prices, best, failures = found, Pricing(found, bound, core, share, step), 0
        else:  # the sample misled: look nearer, and at more
            radius, failures, most = radius / 4, failures + 1, min(2 * most, LARGEST * CORE_OPTIONS)
        if core.is_exact and (not is_at_edge.any() or gain <= SETTLED * best.bound):
            break
        if failures > PATIENCE:
            break
    if best is None:
        raise DefectError("The search for prices ended before its first step.")
    return replace(best, steps=step)


def _next_radius(
    radius: Floats, moved: Floats, is_at_edge: NDArray[np.bool_], core: Core
) -> Floats:
    """Return the half-widths of the next box.

    A sampled core is right to about its sampling error, so the box shrinks; an exact core is
    right within its box, so the box follows the prices that moved and uses the room there is.
    """
    if not core.is_exact:
        return np.where(is_at_edge, 2 * radius, radius / 6)
    room = min(math.sqrt(CORE_OPTIONS / max(len(core.option), 1)), 4.0)
    return max(room, 0.5) * np.where(is_at_edge, 2 * radius, np.maximum(2 * moved, radius / 4))
