"""Customers at given prices: the only place that knows the compiled loops.

There are two families of loops, for one contact each and for sets under rules. Whichever fits is
called on as many parts of the customers as there are cores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihuan.decision.allocation.pairs import Floats, Indices, Pairs
from bihuan.decision.allocation.terms import Terms
from bihuan.kernel import random_stream
from bihuan.kernel.parallel import on_each_part

Counts = tuple[Floats, Floats]
"""Contacts by group and candidate, and the sums of their measures."""


@dataclass(frozen=True, eq=False)
class Quote:
    """Pairs and what they pay.

    Parameters
    ----------
    pairs, terms
        Customers, limits and rules.
    prices
        Of the limits, shape ``(L,)``.
    """

    pairs: Pairs
    terms: Terms
    prices: Floats

    @cached_property
    def _market(self) -> tuple[Any, ...]:
        """What every loop reads."""
        pairs, terms = self.pairs, self.terms
        return (
            pairs.start, pairs.candidate, pairs.value, pairs.group, pairs.measures,
            terms.tariff(self.prices), terms.rates(self.prices), pairs.key, pairs.first_key,
            _words(pairs.n_candidates), terms.jitter,
        )  # fmt: skip

    @cached_property
    def _rules(self) -> tuple[tuple[Any, ...], ...]:
        """The rules as a last argument, where there are any to be looked at."""
        rules = self.terms.rules
        return () if rules.is_single else (rules.compiled(),)

    def _empty(self) -> Counts:
        shape = self.terms.shape
        return np.zeros(shape), np.zeros((len(self.terms.by_measure), *shape))

    def ask(self, weight: Floats, wide: Floats) -> tuple[float, Counts, Floats]:
        """Let every customer take the best.

        Parameters
        ----------
        weight
            How many customers each one of a group stands for, shape ``(G,)``.
        wide
            Margin within which a customer counts as about to change to or from each candidate,
            and none; ``(J + 1,)``, > 0.

        Returns
        -------
        float
            Sum of what customers get, value less charge.
        tuple
            What was taken.
        numpy.ndarray
            Density of customers about to change, by group, from, to; ``(G, J + 1, J + 1)``.
        """
        from bihuan.decision.allocation import kernel, set_kernel

        n_groups, n = self.terms.shape
        loop = set_kernel.price_sets if self._rules else kernel.price_part

        def part(first: int, last: int) -> tuple[Any, ...]:
            counts, (_, measured) = np.zeros((n_groups, n + 1)), self._empty()
            table = np.zeros((n_groups, n + 1, n + 1))
            best = loop(
                first, last, self._market, weight, wide, *self._rules, counts, measured, table
            )
            return best, counts, measured, table

        found = on_each_part(part, self.pairs.n_customers)
        counts, measured, table = (np.sum([own[i] for own in found], axis=0) for i in (1, 2, 3))
        taken = counts[:, :-1] * weight[:, None], measured * weight[:, None]
        return sum(own[0] for own in found), taken, table * weight[:, None, None]

    def choose(self, choice: NDArray[np.int16]) -> tuple[float, float, Counts]:
        """Write every open customer's best candidates into ``choice``.

        Parameters
        ----------
        choice
            Shape ``(n, most)``; -2 in the first column where it is open, else given and kept.

        Returns
        -------
        float
            Sum of what customers would get at best, value less charge.
        float
            Value of what is chosen.
        tuple
            What is chosen.
        """
        from bihuan.decision.allocation import kernel, set_kernel

        loop = set_kernel.choose_sets if self._rules else kernel.choose_part
        target = choice if self._rules else choice[:, 0]

        def part(first: int, last: int) -> tuple[Any, ...]:
            counts, measured = self._empty()
            best, worth = loop(first, last, self._market, *self._rules, target, counts, measured)
            return best, worth, counts, measured

        found = on_each_part(part, self.pairs.n_customers)
        best, worth = (sum(own[i] for own in found) for i in (0, 1))
        return best, worth, _added(found, 2)

    def mark(self, slack: Floats) -> Marks:
        """Tell the customers whose answer depends on where charges lie within ``slack``.

        Parameters
        ----------
        slack
            By how much the charge of a contact may move either way, shape ``(G, J)``.
        """
        from bihuan.decision.allocation import kernel, set_kernel

        loop = set_kernel.mark_sets if self._rules else kernel.mark_core
        kept = np.empty(self.pairs.n_customers, dtype=np.uint16)

        def part(first: int, last: int) -> tuple[Any, ...]:
            counts, measured = self._empty()
            found = loop(first, last, self._market, slack, *self._rules, kept, counts, measured)
            return (*found, last, counts, measured)

        found = on_each_part(part, self.pairs.n_customers)
        customers, pairs, ends = (np.array([own[i] for own in found]) for i in (1, 2, 3))
        return Marks(kept, sum(own[0] for own in found), _added(found, 4), customers, pairs, ends)

    def copy(self, slack: Floats, marks: Marks) -> tuple[Indices, Pairs]:
        """Return the undecided customers (their rows), with the pairs that may matter."""
        from bihuan.decision.allocation import kernel, set_kernel

        loop = set_kernel.copy_sets if self._rules else kernel.copy_core
        whole, n, p = self.pairs, int(marks.customers.sum()), int(marks.pairs.sum())
        customer, start = np.empty(n, dtype=np.int64), np.zeros(n + 1, dtype=np.int64)
        candidate, value = np.empty(p, whole.candidate.dtype), np.empty(p, whole.value.dtype)
        group = np.empty(n, dtype=whole.group.dtype)
        measures = np.empty((len(whole.measures), p), dtype=whole.measures.dtype)
        key = np.empty(n, dtype=np.uint32)
        places = dict(
            zip(
                marks.ends.tolist(),
                zip(
                    (np.cumsum(marks.customers) - marks.customers).tolist(),
                    (np.cumsum(marks.pairs) - marks.pairs).tolist(),
                    strict=True,
                ),
                strict=True,
            )
        )

        def part(first: int, last: int) -> None:
            if first < last:
                loop(
                    first, last, self._market, slack, *self._rules, marks.kept, customer, start,
                    candidate, value, group, measures, key, *places[last],
                )  # fmt: skip

        on_each_part(part, whole.n_customers)
        core = replace(
            whole, start=start, candidate=candidate, value=value, group=group, measures=measures,
            key=key,
        )  # fmt: skip
        return customer, core


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """Who is undecided.

    Parameters
    ----------
    kept
        How many pairs of each customer may matter, 0 where the customer is fixed, ``(n,)``.
    worth
        Value that the fixed ones take.
    taken
        What they take.
    customers, pairs, ends
        Per part of the customers: how many are undecided, with how many pairs, and where the
        part ends.
    """

    kept: NDArray[np.uint16]
    worth: float
    taken: Counts
    customers: Indices
    pairs: Indices
    ends: Indices


def _added(found: list[Any], at: int) -> Counts:
    counts, measured = (np.sum([own[i] for own in found], axis=0) for i in (at, at + 1))
    return counts, measured


@cache
def _words(n_candidates: int) -> NDArray[np.uint64]:
    """Return an odd 64-bit word for each candidate; multiples of them break ties."""
    words = random_stream(0, "allocate", "ties").integers(
        0, 2**63, size=n_candidates, dtype=np.uint64
    )
    return words * np.uint64(2) + np.uint64(1)
