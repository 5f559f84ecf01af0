"""Who gets which candidate: the most value within every limit, with a proof of how near it is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihuan.decision.allocation.limit import ROUNDING, AllocationError, Limit, require_shapes
from bihuan.decision.allocation.pairs import Pairs, narrow, open_pairs
from bihuan.decision.allocation.rules import ContactRules
from bihuan.decision.allocation.solve import solve
from bihuan.decision.allocation.source import Checkpoint, InMemory, Source
from bihuan.decision.allocation.terms import build_terms
from bihuan.kernel import DefectError, Progress, SilentProgress, random_stream
from bihuan.kernel.parallel import on_each_part

TINY_SHARE = 1e-9  # of the sums behind a plan; a smaller bound is rounding
MOST_CANDIDATES = int(np.iinfo(np.int16).max)
PENALTY = 10.0  # greatest values that a missing unit of a minimum costs, unless told


@dataclass(frozen=True, slots=True)
class LimitUse:
    """What a plan uses of one limit and what one more unit would be worth.

    Parameters
    ----------
    name, kind, unit
        Of the limit.
    bound, usage, slack
        In ``unit``. Slack is bound - usage, and >= 0 up to rounding; of a minimum it is usage -
        bound, negative where the minimum is missed.
    price
        Shadow price >= 0: value per unit. One more unit raises the bound by at most this; one unit
        less of a minimum, too.
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
    contacts
        Candidates of each customer in no order, -1 where there are fewer; int16, shape
        ``(n_customers, most)``.
    value
        Total value of the plan, in the unit of the values given, before any penalty.
    bound
        No plan within the limits that misses no more of the minimums is worth more (weak duality).
    gap
        ``(bound - value) / |bound|``, >= 0; 0 where the bound is 0.
    limits
        One entry per limit, in the order given.
    shortfall
        Missing units of the minimums that are missed, by name.
    proof
        ``duality``: the gap is within the tolerance. ``search``: the gap is larger because
        customers cannot be divided, and branch and bound found nothing better by more than the
        tolerance. ``none``: neither; the gap still holds.
    iterations
        Passes over the customers and linear programs solved.
    seconds
        Wall time.
    """

    contacts: NDArray[np.signedinteger[Any]]
    value: float
    bound: float
    gap: float
    limits: tuple[LimitUse, ...]
    shortfall: Mapping[str, float]
    proof: str
    iterations: int
    seconds: float

    @property
    def choice(self) -> NDArray[np.signedinteger[Any]]:
        """Candidate of each customer, -1 none, where one contact is the most; shape ``(n,)``."""
        if self.contacts.shape[1] != 1:
            raise DefectError("Customers may get several contacts here; read 'contacts'.")
        return self.contacts[:, 0]

    @property
    def prices(self) -> Mapping[str, float]:
        """Shadow price by limit name."""
        return {limit.name: limit.price for limit in self.limits}

    @property
    def violated(self) -> tuple[str, ...]:
        """Names of hard limits that do not hold; empty by construction and checked."""
        return tuple(
            use.name
            for use in self.limits
            if use.kind != "minimum" and use.slack < -ROUNDING * use.bound
        )


def allocate(  # noqa: PLR0913 - each may be left out
    value: NDArray[np.floating] | Pairs,
    limits: Sequence[Limit],
    *,
    rules: ContactRules | None = None,
    tolerance: float = 1e-3,
    seed: int = 0,
    progress: Progress | None = None,
    unit: str = "currency",
) -> Allocation:
    """Give customers candidates so that total value is greatest within limits and rules.

    Parameters
    ----------
    value
        Worth of contacting a customer with a candidate, in the workspace's currency: a float
        matrix of shape ``(n_customers, n_candidates)``, NaN = not eligible; or
        :class:`~bihuan.decision.Pairs`, where most of the matrix would be empty. Cells of a
        matrix with a value <= 0 are never chosen.
    limits
        Maxima, capacities and budgets are hard and kept exactly (up to 1e-9 of the bound, for
        sums of fractions). Minimums are soft: a missing unit costs its penalty. With ``Pairs``,
        ``members`` has one entry per group, and a weight one per candidate.
    rules
        What one customer may get together, hard; None: one contact each.
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
        The plan with its bound, gap and prices. The same for the same seed. Up to 100,000 pairs a
        permutation of customers does not change its value; beyond, by less than the gap.

    Raises
    ------
    AllocationError
        If shapes do not go together, a value is infinite, or a limit is not readable.

    Notes
    -----
    A multiple-choice knapsack problem with several knapsacks, solved by Lagrangian duality
    (``docs/theory/allocation.md``). Time grows linearly with the pairs. Memory: 5 bytes per pair
    and 10 per customer of the input, and up to 40 million undecided pairs on the way.

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
    if isinstance(value, Pairs):
        value.require_valid()
        pairs, grouped = value, list(limits)
    else:
        pairs, grouped = group_customers(value, limits)
    blocks: list[NDArray[np.int16]] = []
    solution = allocate_source(
        InMemory(pairs), grouped, pairs, rules=rules, tolerance=tolerance, seed=seed,
        keep=blocks.append, progress=progress, unit=unit,
    )  # fmt: skip
    contacts = np.concatenate(blocks) if len(blocks) != 1 else blocks[0]
    allocation = replace(solution, contacts=contacts, seconds=time.perf_counter() - begun)
    check_allocation(allocation, value, rules or ContactRules(pairs.n_candidates))
    return allocation


def allocate_source(  # noqa: PLR0913 - the choices of allocate, and where from and to
    source: Source,
    limits: Sequence[Limit],
    shape: Pairs,
    *,
    keep: Callable[[NDArray[np.int16]], None],
    rules: ContactRules | None = None,
    tolerance: float = 1e-3,
    seed: int = 0,
    progress: Progress | None = None,
    unit: str = "currency",
    checkpoint: Checkpoint | None = None,
) -> Allocation:
    """Allocate customers who come in blocks; see :func:`allocate`.

    Parameters
    ----------
    source
        The customers.
    limits
        With a weight per candidate and members per group.
    shape
        Any block: how many candidates and groups there are, and which measures.
    keep
        Takes the choices block after block, in order.
    rules, tolerance, seed, progress, unit
        See :func:`allocate`.
    checkpoint
        Where to keep what was found on the way; None: nowhere.

    Returns
    -------
    Allocation
        Without contacts: ``keep`` has them.
    """
    begun = time.perf_counter()
    rules = rules or ContactRules(shape.n_candidates)
    _require_pairs(shape, limits, rules)
    terms = build_terms(_with_penalties(limits, source), shape.n_groups, rules, shape.measure_names)
    with (progress or SilentProgress()).task("allocate", unit="passes") as task:
        found = solve(
            source, terms, tolerance=tolerance, seed=seed, keep=keep, report=task.advance,
            checkpoint=checkpoint,
        )  # fmt: skip
    uses = tuple(
        _limit_use(limit, float(price), float(used), unit)
        for limit, price, used in zip(limits, found.prices, found.use, strict=True)
    )
    shortfall = {
        use.name: -use.slack
        for use in uses
        if use.kind == "minimum" and use.slack < -ROUNDING * use.bound
    }
    soft = np.isfinite(terms.ceiling)
    missed = np.maximum(found.use - terms.bound, 0.0)[soft]
    penalty = math.fsum(terms.ceiling[soft] * missed)
    value, bound = found.value, found.bound + penalty
    gap = max(bound - value, 0.0) / max(abs(bound), TINY_SHARE * found.scale, 1e-300)
    allocation = Allocation(
        contacts=np.empty((0, rules.most), dtype=np.int16),
        value=value,
        bound=bound,
        gap=gap,
        limits=uses,
        shortfall=shortfall,
        proof="duality" if gap <= tolerance else "search" if found.is_searched else "none",
        iterations=found.steps,
        seconds=time.perf_counter() - begun,
    )
    if allocation.violated:
        raise DefectError(f"The plan breaks the limits {', '.join(allocation.violated)}.")
    return allocation


def check_allocation(
    allocation: Allocation, value: NDArray[np.floating] | Pairs, rules: ContactRules | None = None
) -> None:
    """Raise :class:`DefectError` unless the plan keeps what an allocation promises.

    Parameters
    ----------
    allocation
        What is claimed.
    value
        The values it was made from, as for :func:`allocate`.
    rules
        The rules it was made under; None: one contact each.
    """
    contacts = allocation.contacts
    total, unknown = _worth_of(value, contacts)
    if unknown:
        raise DefectError("The plan contacts a customer who is not eligible or not worth it.")
    if rules is not None and not rules.is_single:
        _require_rules(contacts, rules)
    if abs(total - allocation.value) > 1e-9 * max(abs(total), allocation.bound, 1e-300):
        raise DefectError(f"The plan claims {allocation.value} and is worth {total}.")
    if allocation.value > allocation.bound:
        raise DefectError(f"The plan is worth {allocation.value}, above {allocation.bound}.")


def limit_usage(limit: Limit, choice: NDArray[np.integer[Any]]) -> float:
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


def _limit_use(limit: Limit, price: float, used: float, unit: str) -> LimitUse:
    usage = -used if limit.is_floor else used
    return LimitUse(
        name=limit.name,
        kind=limit.kind,
        unit=limit.unit,
        bound=limit.bound,
        usage=usage,
        slack=usage - limit.bound if limit.is_floor else limit.bound - usage,
        price=price,
        price_unit=f"{unit} per {limit.unit}",
        is_binding=price > 0,
    )


def group_customers(
    value: NDArray[np.floating], limits: Sequence[Limit]
) -> tuple[Pairs, list[Limit]]:
    """Put customers of equal memberships into groups, and weights per customer into measures.

    Parameters
    ----------
    value
        Shape ``(n_customers, n_candidates)``; NaN = not eligible.
    limits
        With members per customer.

    Returns
    -------
    Pairs
        The open pairs.
    list of Limit
        The same limits with members per group.

    Notes
    -----
    Groups are told apart by the sum of one random 64-bit word per limit and numbered by that sum,
    so the number does not depend on the order of customers.
    """
    value = np.asarray(value)
    require_shapes(value, limits)
    n, m = value.shape
    words = random_stream(0, "allocate", "groups").integers(
        1, 2**63, size=len(limits), dtype=np.uint64
    )
    mark = np.zeros(n, dtype=np.uint64)
    for limit, word in zip(limits, words, strict=True):
        if limit.members is not None:
            mark[limit.members] += word
    _, first, group = np.unique(mark, return_index=True, return_inverse=True)
    n_groups = max(len(first), 1)
    pairs = open_pairs(value, group.astype(narrow(n_groups)), n_groups)
    customer = np.repeat(np.arange(n), np.diff(pairs.start))
    grouped, measures = [], []
    for limit in limits:
        members = None
        if limit.members is not None:
            members = limit.members[first] if n else np.zeros(n_groups, dtype=np.bool_)
        weight, measure = limit.weight, limit.measure
        if weight.ndim == 2:
            measures.append((limit.name, weight[customer, pairs.candidate]))
            weight, measure = np.ones(m), limit.name
        grouped.append(replace(limit, weight=weight, members=members, measure=measure))
    if measures:
        amounts = np.stack([amount for _, amount in measures])
        pairs = replace(pairs, measures=amounts, measure_names=tuple(name for name, _ in measures))
    return pairs, grouped


def _with_penalties(limits: Sequence[Limit], source: Source) -> list[Limit]:
    if not any(limit.is_floor and math.isnan(limit.penalty) for limit in limits):
        return list(limits)
    usual = PENALTY * source.greatest()
    return [
        replace(limit, penalty=usual) if math.isnan(limit.penalty) else limit for limit in limits
    ]


def _require_pairs(shape: Pairs, limits: Sequence[Limit], rules: ContactRules) -> None:
    m, names = shape.n_candidates, [limit.name for limit in limits]
    if m > MOST_CANDIDATES:
        raise AllocationError(
            f"{m} candidates are more than {MOST_CANDIDATES}.",
            remedy="Leave out candidates that nobody may get, or decide in parts.",
            zh=f"候选数 {m} 超过上限 {MOST_CANDIDATES},请剔除无人可选的候选或分批决策。",
        )
    if rules.n_candidates != m:
        raise AllocationError(
            f"The rules are of {rules.n_candidates} candidates, the values of {m}.",
            remedy="Make the rules for the same candidates.",
            zh=f"接触规则针对 {rules.n_candidates} 个候选,而价值有 {m} 个候选。",
        )
    for limit in limits:
        members = shape.n_groups if limit.members is None else len(limit.members)
        known = limit.measure == "" or limit.measure in shape.measure_names
        if limit.weight.shape != (m,) or members != shape.n_groups or not known:
            raise AllocationError(
                f"Limit '{limit.name}': weight of shape {limit.weight.shape}, {members} members, "
                f"measure '{limit.measure}' do not fit {m} candidates, {shape.n_groups} groups and "
                f"the measures {list(shape.measure_names)}.",
                remedy="Give a weight per candidate, a member flag per group, a known measure.",
                zh=f"限制“{limit.name}”的权重、分组或度量与候选({m})、分组({shape.n_groups})不符。",
            )
        if names.count(limit.name) > 1:
            raise AllocationError(
                f"Two limits are named '{limit.name}'.",
                remedy="Give every limit its own name.",
                zh=f"有两个限制都叫“{limit.name}”,请分别命名。",
            )


def _worth_of(
    value: NDArray[np.floating] | Pairs, contacts: NDArray[np.signedinteger[Any]]
) -> tuple[float, int]:
    """Return what contacts are worth, and how many of them may not be made."""
    if isinstance(value, Pairs):
        from bihuan.decision.allocation import kernel

        sums = on_each_part(
            lambda a, b: kernel.worth_part(
                a, b, value.start, value.candidate, value.value, contacts
            ),
            value.n_customers,
        )
        return math.fsum(part[0] for part in sums), sum(part[1] for part in sums)
    rows, place = np.nonzero(contacts >= 0)
    taken = np.asarray(value)[rows, contacts[rows, place]].astype(np.float64)
    return math.fsum(taken), int((~(taken > 0)).sum())


def _require_rules(contacts: NDArray[np.signedinteger[Any]], rules: ContactRules) -> None:
    sets = np.unique(np.sort(contacts, axis=1), axis=0)
    for row in sets:
        chosen = [int(j) for j in row if j >= 0]
        if not rules.allows(chosen):
            raise DefectError(f"The plan gives one customer the candidates {chosen}.")
