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
from scipy.sparse import csr_array, hstack

from bihuan.decision.allocation.limit import ROUNDING
from bihuan.decision.allocation.options import Floats, Indices, Options
from bihuan.decision.allocation.price import Pricing

FILL_BLOCK = 4096
FILL_ROUNDS = 200
# Customers and options in the mixed-integer programs, one after another. The last is run only if
# it holds everybody who can be part of a better plan, for the sake of the proof.
SEARCHES = ((60, 400), (150, 400), (300, 1200))
NODE_OPTIONS = 20_000  # nodes x options of branch and bound; a time limit could not be repeated


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


def plan_value(options: Options, choice: Indices) -> float:
    """Return the worth of a plan, less the penalties of floors it misses, correctly rounded."""
    chosen = choice[choice >= 0]
    soft = ~options.is_hard
    missing = np.maximum(options.use(chosen) - options.bound, 0.0)[soft]
    return math.fsum([*options.value[chosen], *(-options.ceiling[soft] * missing)])


def allowance(options: Options, choice: Indices) -> Floats:
    """Return how much more of each limit may be used, up to rounding; infinite for floors."""
    left = options.bound - options.use(choice[choice >= 0])
    return np.where(options.is_hard, left + ROUNDING * options.bound, np.inf)


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
    for size in SEARCHES:
        if pricing.bound - best <= tolerance * abs(pricing.bound) or is_searched:
            break
        trial, is_searched = _search(options, choice, pricing, size, tolerance)
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
    while ((left := allowance(options, choice)) < 0).any():
        limit = int(np.argmax(left < 0))
        taken = np.flatnonzero(choice >= 0)
        rows = options.weight(limit, choice[taken])
        users, weight = taken[rows > 0], rows[rows > 0]
        loss = options.reduced(prices, choice[users]) / weight
        order = np.argsort(loss, kind="stable")
        freed = np.cumsum(weight[order])
        n_drop = int(np.searchsorted(freed, -left[limit])) + 1
        choice[users[order[:n_drop]]] = -1


def fill(options: Options, choice: Indices, prices: Floats) -> None:
    """Give customers without a contact one that still fits, greatest reduced value first."""
    for _ in range(FILL_ROUNDS):
        room = allowance(options, choice)
        option = _fitting(options, choice, room, prices)
        if not len(option):
            return
        _accept(options, choice, option, room)


def _fitting(options: Options, choice: Indices, room: Floats, prices: Floats) -> Indices:
    """Return the best fitting option of every customer without one, best first."""
    entries = options.usage.tocoo()
    blocked = np.zeros(options.usage.shape[0], dtype=np.bool_)
    blocked[entries.coords[0][entries.data > room[entries.coords[1]]]] = True
    if blocked.all():
        return np.empty(0, dtype=np.int64)
    found, worth = [], []
    for customers, cells in options.chunks():
        size = np.diff(options.start[customers.start : customers.stop + 1])
        is_free = np.repeat(choice[customers] < 0, size) & ~blocked[options.kind[cells]]
        is_free &= options.value[cells] > 0
        for limit, weight in options.extra.items():
            is_free &= weight[cells] <= room[limit]
        option = np.flatnonzero(is_free) + cells.start
        reduced = options.reduced(prices, option)
        owner = np.repeat(np.arange(len(size)), size)[option - cells.start]
        order = np.lexsort((-reduced, owner))
        best = order[np.diff(owner[order], prepend=-1) > 0]
        found.append(option[best])
        worth.append(reduced[best])
    option = np.concatenate([np.empty(0, dtype=np.int64), *found])
    return option[np.argsort(-np.concatenate([np.empty(0), *worth]), kind="stable")]


def _accept(options: Options, choice: Indices, option: Indices, room: Floats) -> None:
    """Take ``option`` in order while the limits that each one uses still have room."""
    for at in range(0, len(option), FILL_BLOCK):
        block = option[at : at + FILL_BLOCK]
        rows = options.rows(block)
        used = np.flatnonzero(np.isfinite(room) & (rows.sum(axis=0) > 0))
        dense = rows[:, used].toarray()
        over = np.cumsum(dense, axis=0) > room[used]
        taken = ~(over & (dense > 0)).any(axis=1)
        room[used] -= dense[taken].sum(axis=0)
        block = block[taken]
        choice[options.owner(block)] = block
        if not taken.any():
            return


def _search(
    options: Options, choice: Indices, pricing: Pricing, size: tuple[int, int], tolerance: float
) -> tuple[Indices, bool]:
    """Let the customers who lose least by another option choose anew, all others fixed.

    A plan better than this one has a total loss against the bound of less than the present gap,
    so customers whose every other option loses more need not be looked at. If all others are
    open, the search is exhaustive.
    """
    gap = pricing.bound - plan_value(options, choice)
    customer, option, is_complete = _open(options, choice, pricing.prices, gap, size)
    if not len(option) or (size == SEARCHES[-1] and not is_complete):
        return choice.copy(), is_complete
    kept = choice.copy()
    kept[customer] = -1
    room = options.bound - options.use(kept[kept >= 0])
    present = math.fsum(np.abs(options.value[choice[customer][choice[customer] >= 0]]))
    allowed = 0.1 * tolerance * abs(pricing.bound) / max(present, 1e-300)
    chosen, is_finished = _branch_and_bound(options, customer, option, room, min(allowed, 0.5))
    kept[options.owner(chosen)] = chosen
    return kept, is_complete and is_finished


def _branch_and_bound(
    options: Options, customer: Indices, option: Indices, room: Floats, relative_gap: float
) -> tuple[Indices, bool]:
    """Return the best choice among ``option``, one per customer, within ``room``.

    Also says whether the search came to its end.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp  # takes half a second to load

    use = options.rows(option)
    unit = abs(use).max(axis=0).toarray().ravel()
    touched = np.flatnonzero(unit > 0)
    unit, soft = unit[touched], np.flatnonzero(~options.is_hard[touched])
    worth = float(np.abs(options.value[option]).mean()) or 1.0
    penalty = options.ceiling[touched][soft] * unit[soft] / worth
    n, n_soft = len(option), len(soft)
    row = np.searchsorted(customer, options.owner(option))
    once = csr_array((np.ones(n), (row, np.arange(n))), shape=(len(customer), n + n_soft))
    scaled = (use[:, touched] * (1 / unit)).T
    missing = csr_array((-np.ones(n_soft), (soft, np.arange(n_soft))), (len(touched), n_soft))
    left = np.where(options.is_hard[touched], np.maximum(room[touched], 0.0), room[touched])
    result = milp(
        np.concatenate([-options.value[option] / worth, penalty]),
        integrality=np.concatenate([np.ones(n), np.zeros(n_soft)]),
        bounds=Bounds(0, np.concatenate([np.ones(n), np.full(n_soft, np.inf)])),
        constraints=[
            LinearConstraint(once, ub=np.ones(len(customer))),
            LinearConstraint(hstack([scaled, missing]).tocsr(), ub=left / unit),
        ],
        options={"node_limit": max(5, NODE_OPTIONS // n), "mip_rel_gap": relative_gap},
    )
    if result.x is None:
        return option[:0], False
    return option[result.x[:n] > 0.5], result.status == 0


def _open(
    options: Options, choice: Indices, prices: Floats, gap: float, most: tuple[int, int]
) -> tuple[Indices, Indices, bool]:
    """Return the customers with the cheapest alternatives, and their options, ``most`` of each.

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
    n_open, n_options = most
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
    is_complete = len(candidates) <= n_open and len(option) <= n_options
    if len(option) > n_options:
        threshold = np.partition(loss[option], n_options)[n_options]
        option = option[(loss[option] < threshold) | np.isin(option, choice[customer])]
    return customer, option, is_complete
