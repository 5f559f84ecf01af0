"""Customers who are undecided between two price vectors; everybody else is summed up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from bihuan.decision.allocation.descent import Crowd
from bihuan.decision.allocation.limit import ROUNDING
from bihuan.decision.allocation.options import Options
from bihuan.decision.allocation.pairs import Floats, Indices, Pairs, join_pairs
from bihuan.decision.allocation.quote import Quote
from bihuan.decision.allocation.rules import list_bundles
from bihuan.decision.allocation.terms import Terms
from bihuan.kernel import random_stream
from bihuan.kernel.scatter import mix


@dataclass(frozen=True, slots=True, eq=False)
class Core:
    """The undecided of many customers.

    Parameters
    ----------
    crowd
        Their possible pairs; the others are its fixed part.
    customer
        Row of each in the whole, ascending, shape ``(q,)``.
    """

    crowd: Crowd
    customer: Indices


def gather_core(
    blocks: Iterable[Pairs],
    terms: Terms,
    prices: Floats,
    slack: Floats,
    *,
    begin: tuple[float, Floats] | None = None,
    report: Callable[[], None] = lambda: None,
) -> Core:
    """Collect who may change while charges move by at most ``slack``, and sum up the others.

    Parameters
    ----------
    blocks
        All customers, in order.
    terms, prices
        What a contact pays.
    slack
        By how much the charge of a contact may move either way, shape ``(G, J)``.
    begin
        Value and use of customers who are fixed already.
    report
        Called after every block; may raise to stop.
    """
    worth, use = (0.0, np.zeros(len(prices))) if begin is None else begin
    parts: list[tuple[Indices, Pairs]] = []
    offset = 0
    for block in blocks:
        quote = Quote(block, terms, prices)
        marks = quote.mark(slack)
        rows, undecided = quote.copy(slack, marks)
        parts.append((rows + offset, undecided))
        worth, use = worth + marks.worth, use + terms.use(*marks.taken)
        offset += block.n_customers
        report()
    pairs = join_pairs([pairs for _, pairs in parts])
    customer = np.concatenate([np.empty(0, dtype=np.int64), *(rows for rows, _ in parts)])
    return Core(Crowd(pairs, np.ones(terms.shape[0]), worth, use), customer)


def count_core(pairs: Pairs, terms: Terms, prices: Floats, slack: Floats) -> int:
    """Return how many pairs would be undecided."""
    return int(Quote(pairs, terms, prices).mark(slack).pairs.sum())


def count_options(pairs: Pairs, terms: Terms) -> int:
    """Return how many pairs, or at most how many sets of pairs, customers choose from."""
    if terms.rules.is_single:
        return pairs.n_pairs
    sizes, counts = np.unique(np.diff(pairs.start), return_counts=True)
    sets = [
        sum(math.comb(size, k) for k in range(1, terms.rules.most + 1)) for size in sizes.tolist()
    ]
    return sum(n * int(count) for n, count in zip(sets, counts, strict=True))


def canonical_order(pairs: Pairs, seed: int) -> Indices:
    """Return the customers ordered by group, then by a hash of candidates, values and measures."""
    words = random_stream(seed, "allocate", "order").integers(
        1, 2**63, size=pairs.n_candidates, dtype=np.uint64
    )
    mark = mix(pairs.value.astype(np.float64).view(np.uint64) ^ words[pairs.candidate])
    for measure in pairs.measures:
        mark = mix(mark ^ measure.astype(np.float64).view(np.uint64))
    content = np.zeros(pairs.n_customers, dtype=np.uint64)
    some = np.flatnonzero(np.diff(pairs.start))
    if len(some):
        content[some] = np.add.reduceat(mark, pairs.start[some])
    order: Indices = np.lexsort((content, pairs.group))
    return order


def core_options(core: Core, terms: Terms) -> tuple[Options, Indices]:
    """Return the undecided as a problem of its own, under what the others leave of each limit.

    Returns
    -------
    Options
        One option per pair, or per set of pairs that the rules allow.
    numpy.ndarray
        Candidates of each option, -1 where it has fewer, shape ``(n_options, largest)``.
    """
    pairs = core.crowd.pairs
    customer = np.repeat(np.arange(pairs.n_customers), np.diff(pairs.start))
    candidate = pairs.candidate.astype(np.int64)
    if terms.rules.is_single:
        bundle = np.arange(pairs.n_pairs)[:, None]
    else:
        bundle = list_bundles(customer, candidate, terms.rules)
    present = bundle >= 0
    member = np.where(present, candidate[bundle], -1)
    owner = customer[bundle[:, 0]]
    group = pairs.group.astype(np.int64)[owner]
    sets, kind = np.unique(np.column_stack([group, member]), axis=0, return_inverse=True)
    rows, sizes = _members(sets, terms.shape[1])
    of_set = csr_array((np.ones(len(rows)), rows, np.append(0, np.cumsum(sizes))),
                       shape=(len(sets), terms.plain.shape[0]))  # fmt: skip
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    options = Options(
        start=np.append(first, len(owner)),
        value=np.where(present, pairs.value.astype(np.float64)[bundle], 0.0).sum(axis=1),
        kind=kind.ravel(),
        extra=_extra(core, terms, bundle),
        usage=csr_array(of_set @ terms.plain),
        bound=_left(core, terms),
        ceiling=terms.ceiling,
        group=group[first],
        customer=owner[first],
        mass=np.ones(len(first)),
    )
    return options, member


def _left(core: Core, terms: Terms) -> Floats:
    """Return what the others leave of each bound; what only rounding takes is not missed."""
    left = terms.bound - core.crowd.fixed_use
    is_rounding = np.isinf(terms.ceiling) & (np.abs(left) <= ROUNDING * np.abs(terms.bound))
    return np.where(is_rounding, np.maximum(left, 0.0), left)


def _members(sets: Indices, n_candidates: int) -> tuple[Indices, Indices]:
    """Return the (group, candidate) row of every member of every set, and the sizes of the sets."""
    present = sets[:, 1:] >= 0
    rows = sets[:, :1] * n_candidates + sets[:, 1:]
    return rows[present], present.sum(axis=1)


def _extra(core: Core, terms: Terms, bundle: Indices) -> dict[int, Floats]:
    """Return what each set uses of the limits that are measured pair by pair."""
    pairs, extra = core.crowd.pairs, {}
    kind = np.repeat(pairs.group.astype(np.int64), np.diff(pairs.start)) * terms.shape[1]
    kind += pairs.candidate
    for table, amount in zip(terms.by_measure, pairs.measures, strict=True):
        for limit in np.flatnonzero(np.diff(table.tocsc().indptr)):
            weight = table[:, [limit]].toarray().ravel()[kind] * amount.astype(np.float64)
            extra[int(limit)] = np.where(bundle >= 0, weight[bundle], 0.0).sum(axis=1)
    return extra
