"""Millions of customers: prices by descent, the last customers exactly, one pass for the proof.

1. Prices from a sample, or from everybody where there are few.
2. One pass collects who is still undecided around these prices; the descent goes on among them.
3. The last thousands are handed to the exact solver (linear programs over classes of equal
   customers, then whole customers), under what all others leave of the limits.
4. One pass at the final prices writes every choice, counts every limit anew and sums up the dual:
   the certificate does not rest on anything that came before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bihuan.decision.allocation.core import (
    Core,
    canonical_order,
    core_options,
    count_core,
    count_options,
    gather_core,
)
from bihuan.decision.allocation.descent import (
    EPSILON,
    Crowd,
    Descent,
    ask,
    descend,
    descend_by_grains,
)
from bihuan.decision.allocation.limit import ROUNDING
from bihuan.decision.allocation.options import Options
from bihuan.decision.allocation.pairs import Floats, Indices, Pairs, join_pairs, typical_worth
from bihuan.decision.allocation.price import Pricing, find_prices
from bihuan.decision.allocation.quote import Quote
from bihuan.decision.allocation.repair import Repaired, make_plan
from bihuan.decision.allocation.source import Checkpoint, Forgetful, InMemory, Source
from bihuan.decision.allocation.terms import Terms
from bihuan.kernel import DefectError

SAMPLE = 400_000  # customers; what smaller cells lack is found out by the core
LARGE_SAMPLE = 1_000_000
SAMPLED = 20  # one of so many, between the two
CLOSE = 2e-5  # share of the dual at which the descent hands over to the exact solver
ROUGH = 3e-3  # share of the dual at which a descent has failed
LOOSE = 3e-4  # the same for a sample, whose prices are off by more than that
CORE_PAIRS = 3_000  # wanted for the exact solver: a second's work
ROOM = 0.05  # share of a typical worth, and of a penalty, beside what prices may be off
MOST_PAIRS = 40_000_000  # undecided ones kept in memory between two passes
DIRECT = 100_000  # options up to which everybody goes to the exact solver
DIRECT_SETS = 400_000  # the same where options are sets, counted as if nothing were in conflict
HALVINGS = 20  # of the box; customers who are all alike stay undecided in any box
STEPS = 60
ROUNDS = 6
GRAIN = 2e-5  # of a typical worth: breaks ties, far below the gap that is asked for
OPEN, NONE = -2, -1
Report = Callable[[], None]
Keep = Callable[[NDArray[np.int16]], None]


@dataclass(frozen=True, slots=True, eq=False)
class Priced:
    """Prices and the choices of the customers who were settled one by one.

    Parameters
    ----------
    prices
        Shape ``(L,)``.
    customer
        Settled customers, ascending, shape ``(q,)``.
    choice
        Their candidates, -1 where there are fewer, shape ``(q, most)``.
    steps
        Passes and linear programs it took.
    """

    prices: Floats
    customer: Indices
    choice: Indices
    steps: int


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A plan, by what it is worth and uses; the choices themselves went to ``keep``.

    Parameters
    ----------
    value
        Of all choices, before penalties.
    bound
        No plan is worth more, less the penalties of what it misses; raised by what rounding may
        hide.
    use
        Of each limit, shape ``(L,)``; negative for floors.
    prices
        Shape ``(L,)``.
    steps
        Passes and linear programs it took.
    is_searched
        Whether branch and bound found nothing better by more than the tolerance.
    scale
        Size of the sums behind it: what is tiny beside it may be rounding.
    """

    value: float
    bound: float
    use: Floats
    prices: Floats
    steps: int
    is_searched: bool
    scale: float


def solve(  # noqa: PLR0913 - a problem, when to stop, and where things go
    source: Source,
    terms: Terms,
    *,
    tolerance: float,
    seed: int,
    keep: Keep,
    report: Report,
    checkpoint: Checkpoint | None = None,
) -> Solution:
    """Solve an allocation, exactly where it is small.

    Parameters
    ----------
    source, terms
        The problem.
    tolerance
        Relative gap at which the search for a better plan may stop.
    seed
        Of the order in which equal customers are taken.
    keep
        Takes the choices of one block after another, int16, shape ``(n_block, most)``.
    report
        Called after every step; may raise to stop.
    checkpoint
        Where to keep what was found on the way; None: nowhere.
    """
    most = DIRECT if terms.rules.is_single else DIRECT_SETS
    if isinstance(source, InMemory) and count_options(source.pairs, terms) <= most:
        return _solve_directly(source.pairs, terms, tolerance, seed, keep, report)
    memory = checkpoint or Forgetful()
    grained = replace(terms, jitter=GRAIN * source.typical())
    settled = memory.load("settled")
    if settled is None:
        around = _undecided(source, grained, memory, report)
        priced = _settle(around, grained, tolerance, report)
        memory.save(
            "settled", prices=priced.prices, customer=priced.customer, choice=priced.choice,
            steps=np.array([priced.steps]),
        )  # fmt: skip
    else:
        priced = Priced(
            settled["prices"].astype(np.float64), settled["customer"].astype(np.int64),
            settled["choice"].astype(np.int64), int(settled["steps"][0]),
        )  # fmt: skip
    return prove(source, grained, priced, keep, report)


def _solve_directly(
    pairs: Pairs, terms: Terms, tolerance: float, seed: int, keep: Keep, report: Report
) -> Solution:
    """Hand everybody to the exact solver, in an order that depends on content alone."""
    order = canonical_order(pairs, seed)
    everybody = Crowd(pairs.take(order), np.ones(terms.shape[0]), 0.0, np.zeros(len(terms.bound)))
    options, members = core_options(Core(everybody, order), terms)
    report()
    pricing = find_prices(options, report=report)
    plan = make_plan(options, pricing, tolerance=tolerance, report=report)
    choice = np.full((pairs.n_customers, terms.rules.most), NONE, dtype=np.int16)
    taken = plan.choice >= 0
    rows = order[options.customer[taken]]
    choice[rows, : members.shape[1]] = members[plan.choice[taken]]
    keep(choice)
    use = options.use(plan.choice[taken])
    best = np.maximum.reduceat(options.value, options.start[:-1]) if len(options.value) else [1.0]
    return Solution(
        value=math.fsum(options.value[plan.choice[taken]]),
        bound=pricing.bound,
        use=use,
        prices=pricing.prices,
        steps=pricing.steps,
        is_searched=plan.is_searched,
        scale=float(np.sum(best)),
    )


def prove(
    source: Source,
    terms: Terms,
    priced: Priced,
    keep: Keep,
    report: Report,
) -> Solution:
    """Write every customer's choice, and prove what the plan is worth and what it uses.

    Parameters
    ----------
    source, terms
        The problem.
    priced
        Prices and settled customers.
    keep
        Takes the choices of one block after another, int16, shape ``(n_block, most)``.
    report
        Called after every block; may raise to stop.
    """
    counts, measured = np.zeros(terms.shape), np.zeros((len(terms.by_measure), *terms.shape))
    offset, dual, value, magnitude, amount = 0, 0.0, 0.0, 0.0, 0.0
    for pairs in source.blocks():
        first, last = np.searchsorted(priced.customer, [offset, offset + pairs.n_customers])
        choice = np.full((pairs.n_customers, terms.rules.most), OPEN, dtype=np.int16)
        choice[priced.customer[first:last] - offset] = priced.choice[first:last]
        best, worth, taken = Quote(pairs, terms, priced.prices).choose(choice)
        dual, value = dual + best, value + worth
        counts, measured = counts + taken[0], measured + taken[1]
        magnitude += pairs.n_customers * float(np.abs(pairs.value).max(initial=0.0))
        amount = max(amount, float(pairs.measures.max(initial=0.0)))
        keep(choice)
        offset += pairs.n_customers
        report()
    use = terms.use(counts, measured)
    paid = float(priced.prices @ np.where(priced.prices > 0, terms.bound, 0.0))
    charge = np.abs(terms.plain @ priced.prices).max(initial=0.0)
    charge += amount * len(measured) * np.abs(terms.rates(priced.prices)).max(initial=0.0)
    magnitude = (magnitude + offset * float(charge)) * terms.rules.most + abs(paid)
    hidden = (len(priced.prices) + 64) * EPSILON * magnitude
    return Solution(
        value, dual + paid + hidden, use, priced.prices, priced.steps, False, max(magnitude, 1.0)
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Around:
    """Good prices, and the customers who are undecided around them.

    ``core`` holds everybody who may change while prices stay within ``box``; ``drift`` is how far
    the prices may still be off.
    """

    core: Core
    prices: Floats
    box: tuple[Floats, Floats]
    drift: Floats
    steps: int


def _undecided(source: Source, terms: Terms, memory: Checkpoint, report: Report) -> _Around:
    """Return good prices and the customers who are undecided around them."""
    n_limits, everybody = len(terms.bound), np.ones(terms.shape[0])
    zero, wide = np.zeros(n_limits), (np.zeros(n_limits), terms.ceiling)
    if source.n_customers <= 2 * SAMPLE:
        pairs = _joined(source)
        crowd = Crowd(pairs, everybody, 0.0, zero)
        worth = typical_worth(pairs)
        found = _first_prices(crowd, terms, worth, CLOSE, report)
        core = Core(crowd, np.arange(pairs.n_customers))
        return _Around(core, found.prices, wide, _drift(found.drift, terms, worth), found.steps)
    one, other, measured = _samples(source, n_limits, report)
    worth = typical_worth(one.pairs)
    known = memory.load("around")
    if known is None:
        prices, radius, steps = _from_samples(one, other, terms, worth, report)
    else:
        prices, radius, steps = known["prices"], known["radius"], int(known["steps"][0])
    drift = radius
    for _ in range(ROUNDS):
        radius = _bounded(radius, one, terms, prices, source.n_customers)
        slack = terms.reach(radius, measured)
        core = gather_core(source.blocks(), terms, prices, slack, report=report)
        box = np.maximum(prices - radius, 0.0), np.minimum(prices + radius, terms.ceiling)
        found = descend(
            core.crowd, terms, prices, box=box, worth=worth, enough=CLOSE, steps=STEPS,
            radius=np.minimum(radius, 8 * drift) / 2, report=report,
        )  # fmt: skip
        prices, drift, steps = found.prices, found.drift, steps + found.steps
        stuck = _stuck(found, box, radius, terms)
        if not stuck.any():
            break
        radius = np.where(stuck, 4 * radius, radius / 2)
        memory.save("around", prices=prices, radius=radius, steps=np.array([steps]))
    return _Around(core, prices, box, _drift(drift, terms, worth), steps)


def _first_prices(
    crowd: Crowd, terms: Terms, worth: float, enough: float, report: Report
) -> Descent:
    """Descend from nothing, plainly at first; with grains of chance where that fails."""
    zero = np.zeros(len(terms.bound))
    box = zero, terms.ceiling
    found = descend(
        crowd, terms, zero, box=box, worth=worth, enough=enough, steps=STEPS, report=report
    )
    if found.loose <= ROUGH:
        return found
    slow = descend_by_grains(crowd, terms, zero, box=box, worth=worth, enough=enough, report=report)
    best = slow if slow.dual < found.dual else found
    return replace(best, steps=found.steps + slow.steps)


def _from_samples(
    one: Crowd, other: Crowd, terms: Terms, worth: float, report: Report
) -> tuple[Floats, Floats, int]:
    """Return prices, how far they may be off, and passes: from where two samples part."""
    heavy, wide = _heavy(terms), (np.zeros(len(terms.bound)), terms.ceiling)
    first = _first_prices(one, terms, worth, LOOSE, report)
    second = descend(
        other, terms, first.prices, box=wide, worth=worth, enough=LOOSE, steps=STEPS // 2,
        radius=np.maximum(8 * first.drift, 1e-3 * worth / heavy), report=report,
    )  # fmt: skip
    apart = np.abs(first.prices - second.prices) * heavy
    typical = float(np.median(apart[apart > 0])) if (apart > 0).any() else 1e-3 * worth
    radius = (1.5 * apart + typical / 2) / heavy
    return (first.prices + second.prices) / 2, radius, first.steps + second.steps


def _bounded(
    radius: Floats, sample: Crowd, terms: Terms, prices: Floats, n_customers: int
) -> Floats:
    """Return the radius, made smaller until the undecided fit into memory."""
    stands_for = n_customers / sample.pairs.n_customers
    for _ in range(HALVINGS):
        slack = _slack(terms, radius, sample.pairs)
        if stands_for * count_core(sample.pairs, terms, prices, slack) <= MOST_PAIRS:
            break
        radius = radius / 2
    return radius


def _stuck(
    found: Descent, box: tuple[Floats, Floats], radius: Floats, terms: Terms
) -> NDArray[np.bool_]:
    """Say which prices stand at the edge of their box, if any of them matters."""
    near = 1e-3 * radius
    stuck = (found.prices < box[0] + near) & (box[0] > 0)
    stuck |= (found.prices > box[1] - near) & (box[1] < terms.ceiling)
    over = found.use > terms.bound + ROUNDING * np.abs(terms.bound)
    wasted = float((np.abs(terms.bound - found.use) * radius)[stuck].sum())
    matters = (stuck & over).any() or wasted > CLOSE * abs(found.dual)
    return stuck if matters else np.zeros_like(stuck)


def _settle(around: _Around, terms: Terms, tolerance: float, report: Report) -> Priced:
    """Solve the last undecided customers exactly; the wider the slack, the fewer are fixed."""
    prices, drift, (low, high) = around.prices, around.drift, around.box
    crowd, share = around.core.crowd, 1.0
    begin = crowd.fixed_worth, crowd.fixed_use
    while share < 1e4 and (
        count_core(crowd.pairs, terms, prices, _slack(terms, share * drift, crowd.pairs))
        < CORE_PAIRS
    ):
        share *= 2
    best: tuple[float, Priced] | None = None
    steps, radius = around.steps, share * drift
    for _ in range(ROUNDS):
        slack = _slack(terms, radius, crowd.pairs)
        last = gather_core([crowd.pairs], terms, prices, slack, begin=begin, report=report)
        options, members = core_options(last, terms)
        if (options.bound[np.isinf(terms.ceiling)] < 0).any():
            radius = 8 * radius  # the fixed alone use too much: fix fewer
            continue
        pricing, plan = _solve_core(options, last, terms, (prices, radius), tolerance, report)
        box = np.maximum(low, prices - radius), np.minimum(high, prices + radius)
        found, steps = np.clip(pricing.prices, *box), steps + pricing.steps
        honest = replace(terms, jitter=0.0)
        bound = ask(crowd, honest, found, np.ones(terms.shape[1] + 1)).dual
        gap = (bound - last.crowd.fixed_worth - plan.value) / max(abs(bound), 1e-300)
        if best is None or gap < best[0]:
            chosen = np.full((len(last.customer), terms.rules.most), NONE)
            taken = plan.choice >= 0
            chosen[options.customer[taken], : members.shape[1]] = members[plan.choice[taken]]
            best = gap, Priced(found, around.core.customer[last.customer], chosen, steps)
        if gap <= tolerance or len(last.customer) == len(around.core.customer):
            break
        is_out = np.abs(pricing.prices - found) > 0  # look around where the prices went
        prices, radius = found, np.where(is_out, 4 * radius, radius)
        if not is_out.any():
            radius = 4 * radius
    if best is None:
        raise DefectError("The customers who are left cannot keep the limits.")
    return best[1]


def _solve_core(
    options: Options,
    core: Core,
    terms: Terms,
    start: tuple[Floats, Floats],
    tolerance: float,
    report: Report,
) -> tuple[Pricing, Repaired]:
    """Solve the core exactly, in a box with room: a narrow one gives good prices, but no plan."""
    prices, radius = start
    roomy = radius + ROOM * typical_worth(core.crowd.pairs) / _heavy(terms)
    soft = np.isfinite(terms.ceiling)
    roomy[soft] += ROOM * terms.ceiling[soft]
    pricing = find_prices(options, start=(prices, roomy), report=report)
    whole = abs(core.crowd.fixed_worth + pricing.bound) / max(abs(pricing.bound), 1e-300)
    return pricing, make_plan(options, pricing, tolerance=tolerance * whole, report=report)


def _slack(terms: Terms, radius: Floats, pairs: Pairs) -> Floats:
    return terms.reach(radius, _most_measured(pairs))


def _most_measured(pairs: Pairs) -> Floats:
    most: Floats = pairs.measures.max(axis=1, initial=0.0).astype(np.float64)
    return most


def _drift(drift: Floats, terms: Terms, worth: float) -> Floats:
    return np.maximum(drift, 1e-7 * worth / _heavy(terms))


def _heavy(terms: Terms) -> Floats:
    return np.maximum(terms.heaviest(), 1e-300)


def _joined(source: Source) -> Pairs:
    return join_pairs(list(source.blocks()))


def _samples(source: Source, n_limits: int, report: Report) -> tuple[Crowd, Crowd, Floats]:
    """Return two disjoint even samples, each standing for everybody, group by group.

    Also the greatest amount of each measure in any pair, sampled or not.
    """
    wanted = min(max(source.n_customers // SAMPLED, SAMPLE), LARGE_SAMPLE)
    stride = max(source.n_customers // wanted, 2)
    drawn: tuple[list[Pairs], list[Pairs]] = ([], [])
    size: Floats = np.zeros(0)
    measured: Floats = np.zeros(0)
    offset = 0
    for pairs in source.blocks():
        most = _most_measured(pairs)
        measured = np.maximum(measured, most) if len(measured) else most
        counted = np.bincount(pairs.group, minlength=pairs.n_groups).astype(np.float64)
        size = size + counted if len(size) else counted
        for parts, phase in zip(drawn, (0, stride // 2), strict=True):
            parts.append(
                pairs.take(np.arange((phase - offset) % stride, pairs.n_customers, stride))
            )
        offset += pairs.n_customers
        report()
    crowds = []
    for parts in drawn:
        pairs = join_pairs(parts)
        sampled = np.bincount(pairs.group, minlength=pairs.n_groups)
        crowds.append(Crowd(pairs, size / np.maximum(sampled, 1), 0.0, np.zeros(n_limits)))
    return crowds[0], crowds[1], measured
