"""From prices to a plan: whole customers, every limit kept, as near to the bound as can be.

The linear program over the last core is whole for all but a few customers (at most one per
binding limit). What it leaves is finished in three steps: contacts over a bound are dropped, least
loss first; what is free is filled, greatest reduced value first; and a small mixed-integer program
over the customers who lose least by another option looks for a better combination, until the gap
is within tolerance or nothing more is gained.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from bihuan.decision.options import ROUNDING, Floats, Indices, Options
from bihuan.decision.price import Core, Pricing

FILL_BLOCK = 4096
FILL_ROUNDS = 200
OPEN_CUSTOMERS = (150, 500, 1500)  # customers in the mixed-integer programs, one after another
OPEN_OPTIONS = 5000
NODE_LIMIT = 2000  # of branch and bound; a limit in seconds would not be deterministic


@dataclass(frozen=True, slots=True, eq=False)
class Repaired:
    """A feasible plan.

    Parameters
    ----------
    choice
        Option of each customer, -1 none, shape ``(c,)``.
    value
        Worth of the plan in the workspace's currency.
    is_searched
        Whether branch and bound over every customer who could be part of a better plan found none
        that is better by more than the tolerance.
    """

    choice: Indices
    value: float
    is_searched: bool


def fits(use: Floats, bound: Floats) -> NDArray[np.bool_]:
    """Return which limits hold, up to rounding."""
    return use <= bound + ROUNDING * bound


def plan_value(options: Options, choice: Indices) -> float:
    """Return the worth of a plan, correctly rounded."""
    return math.fsum(options.value[choice[choice >= 0]])


def make_plan(
    options: Options, pricing: Pricing, *, tolerance: float, report: Callable[[], None]
) -> Repaired:
    """Turn prices and the core's solution into a plan that keeps every limit.

    Parameters
    ----------
    options
        The whole problem (every mass is 1).
    pricing
        Of the same problem.
    tolerance
        Relative gap at which the search may stop.
    report
        Called after every step; may raise to stop.
    """
    choice = round_core(options, pricing)
    drop_excess(options, choice, pricing.prices)
    fill(options, choice, pricing.prices)
    report()
    best, is_searched = plan_value(options, choice), False
    for n_open in OPEN_CUSTOMERS:
        if pricing.bound - best <= tolerance * pricing.bound or is_searched:
            break
        trial, is_searched = _search(options, choice, pricing, n_open, tolerance)
        drop_excess(options, trial, pricing.prices)
        fill(options, trial, pricing.prices)
        worth = plan_value(options, trial)
        if worth > best:
            choice, best = trial, worth
        report()
    return Repaired(choice, best, is_searched)


def round_core(options: Options, pricing: Pricing) -> Indices:
    """Return the plan of the core's linear program, whole customers only, shape ``(c,)``.

    Where the core was only a sample, every undecided customer takes the best option at the
    prices.
    """
    core = pricing.core
    choice = core.anchor.copy()
    if not core.is_exact:
        return best_choice(options, pricing.prices)
    choice[core.customer] = -1
    count = np.floor(pricing.share + 1e-6).astype(np.int64)
    order = np.argsort(core.customer_row, kind="stable")
    begin = np.searchsorted(core.customer_row[order], core.row)
    before = np.cumsum(count) - count
    first_of_row = np.searchsorted(core.row, core.row)
    within = before - before[first_of_row] if len(before) else before
    room = np.bincount(core.customer_row, minlength=len(core.mass))[core.row] - within
    count = np.clip(count, 0, room)
    option = np.repeat(np.arange(len(count)), count)
    place = np.arange(len(option)) - np.repeat(np.cumsum(count) - count, count)
    member = order[begin[option] + within[option] + place]
    choice[core.customer[member]] = core.own[core.own_first[member] + core.rank[option]]
    return choice


def best_choice(options: Options, prices: Floats) -> Indices:
    """Return the option of greatest reduced value per customer, -1 where none is positive."""
    choice = np.full(options.n_customers, -1, dtype=np.int64)
    for customers, cells in options.chunks():
        reduced = options.reduced(prices, cells)
        begin = options.start[customers] - options.start[customers.start]
        best = np.maximum.reduceat(reduced, begin)
        size = np.diff(np.append(begin, len(reduced)))
        hits = np.flatnonzero((reduced == np.repeat(best, size)) & (reduced > 0))
        who = np.searchsorted(begin, hits, side="right") - 1
        is_first = np.diff(who, prepend=-1) > 0
        choice[customers.start + who[is_first]] = hits[is_first] + cells.start
    return choice


def drop_excess(options: Options, choice: Indices, prices: Floats) -> None:
    """Take back contacts, least reduced value per unit first, until every limit holds."""
    use = options.use(choice[choice >= 0])
    while not (holds := fits(use, options.bound)).all():
        limit = int(np.argmin(holds))
        taken = np.flatnonzero(choice >= 0)
        rows = options.weight(limit, choice[taken])
        users, weight = taken[rows > 0], rows[rows > 0]
        loss = options.reduced(prices, choice[users]) / weight
        order = np.argsort(loss, kind="stable")
        freed = np.cumsum(weight[order])
        excess = use[limit] - options.bound[limit]
        n_drop = int(np.searchsorted(freed, excess * (1 - 1e-12))) + 1
        choice[users[order[:n_drop]]] = -1
        use = options.use(choice[choice >= 0])


def fill(options: Options, choice: Indices, prices: Floats) -> None:
    """Give customers without a contact one that still fits, greatest reduced value first."""
    for _ in range(FILL_ROUNDS):
        slack = options.bound - options.use(choice[choice >= 0])
        option = _fitting(options, choice, slack, prices)
        if not len(option):
            return
        _accept(options, choice, option, slack)


def _fitting(options: Options, choice: Indices, slack: Floats, prices: Floats) -> Indices:
    """Return the best fitting option of every customer without one, best first."""
    allowed = slack + ROUNDING * options.bound
    entries = options.usage.tocoo()
    blocked = np.zeros(options.usage.shape[0], dtype=np.bool_)
    blocked[entries.coords[0][entries.data > allowed[entries.coords[1]]]] = True
    if blocked.all():
        return np.empty(0, dtype=np.int64)
    found, worth = [], []
    for customers, cells in options.chunks():
        size = np.diff(options.start[customers.start : customers.stop + 1])
        is_free = np.repeat(choice[customers] < 0, size) & ~blocked[options.kind[cells]]
        for limit, weight in options.extra.items():
            is_free &= weight[cells] <= allowed[limit]
        option = np.flatnonzero(is_free) + cells.start
        reduced = options.reduced(prices, option)
        owner = np.repeat(np.arange(len(size)), size)[option - cells.start]
        order = np.lexsort((-reduced, owner))
        best = order[np.diff(owner[order], prepend=-1) > 0]
        found.append(option[best])
        worth.append(reduced[best])
    option = np.concatenate(found)
    return option[np.argsort(-np.concatenate(worth), kind="stable")]


def _accept(options: Options, choice: Indices, option: Indices, slack: Floats) -> None:
    """Take ``option`` in order while the limits that each one uses still have room."""
    room = slack + ROUNDING * options.bound
    for at in range(0, len(option), FILL_BLOCK):
        block = option[at : at + FILL_BLOCK]
        rows = options.rows(block)
        used = np.flatnonzero(rows.sum(axis=0))
        dense = rows[:, used].toarray()
        over = np.cumsum(dense, axis=0) > room[used]
        taken = ~(over & (dense > 0)).any(axis=1)
        room[used] -= dense[taken].sum(axis=0)
        block = block[taken]
        choice[options.owner(block)] = block
        if not taken.any():
            return


def _search(
    options: Options, choice: Indices, pricing: Pricing, n_open: int, tolerance: float
) -> tuple[Indices, bool]:
    """Let the customers who lose least by another option choose anew, all others fixed.

    A plan better than this one has a total loss against the bound of less than the present gap,
    so customers whose every other option loses more need not be looked at. If all others are
    open, the search is exhaustive.
    """
    gap = pricing.bound - plan_value(options, choice)
    customer, option, is_complete = _open(options, choice, pricing.prices, gap, n_open)
    if not len(option):
        return choice.copy(), is_complete
    kept = choice.copy()
    kept[customer] = -1
    room = options.bound - options.use(kept[kept >= 0])
    row = np.searchsorted(customer, options.owner(option))
    once = csr_array(
        (np.ones(len(option)), (row, np.arange(len(option)))), shape=(len(customer), len(option))
    )
    use = options.rows(option)
    unit = np.maximum(use.max(axis=0).toarray().ravel(), 1e-300)
    touched = np.flatnonzero(unit > 1e-300)
    worth = float(options.value[option].mean())
    scale = csr_array(use[:, touched] * (1 / unit[touched])).T
    limits = LinearConstraint(scale, ub=np.maximum(room[touched], 0) / unit[touched])
    present = float(options.value[choice[customer][choice[customer] >= 0]].sum())
    result = milp(
        -options.value[option] / worth,
        integrality=np.ones(len(option)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(once, ub=np.ones(len(customer))), limits],
        options={
            "node_limit": NODE_LIMIT,
            "mip_rel_gap": min(0.5, 0.1 * tolerance * pricing.bound / max(present, 1e-300)),
        },
    )
    if result.x is None:
        return choice.copy(), False
    chosen = option[result.x > 0.5]
    kept[options.owner(chosen)] = chosen
    return kept, is_complete and result.status == 0


def _open(
    options: Options, choice: Indices, prices: Floats, gap: float, n_open: int
) -> tuple[Indices, Indices, bool]:
    """Return up to ``n_open`` customers with the cheapest alternatives, and their options.

    Also says whether these are all customers who can be part of a better plan.
    """
    loss = np.empty(len(options.value))
    cheapest = np.empty(options.n_customers)
    for customers, cells in options.chunks():
        reduced = options.reduced(prices, cells)
        begin = options.start[customers] - options.start[customers.start]
        best = np.maximum(np.maximum.reduceat(reduced, begin), 0.0)
        size = np.diff(np.append(begin, len(reduced)))
        loss[cells] = np.repeat(best, size) - reduced
        other = loss[cells].copy()
        present = choice[customers]
        other[present[present >= 0] - cells.start] = np.inf
        none = np.where(present >= 0, best, np.inf)
        cheapest[customers] = np.minimum(np.minimum.reduceat(other, begin), none)
    worst = gap * (1 + 1e-9)
    candidates = np.flatnonzero(cheapest <= worst)
    order = candidates[np.argsort(cheapest[candidates], kind="stable")]
    customer = np.sort(order[:n_open])
    reach = worst if len(candidates) <= n_open else float(cheapest[order[n_open - 1]])
    size = options.start[customer + 1] - options.start[customer]
    place = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    option = np.repeat(options.start[customer], size) + place
    is_present = option == np.repeat(choice[customer], size)
    option = option[(loss[option] <= max(reach, 0.0)) | is_present]
    is_complete = len(candidates) <= n_open and len(option) <= OPEN_OPTIONS
    if len(option) > OPEN_OPTIONS:
        threshold = np.partition(loss[option], OPEN_OPTIONS)[OPEN_OPTIONS]
        option = option[(loss[option] < threshold) | np.isin(option, choice[customer])]
    return customer, option, is_complete
