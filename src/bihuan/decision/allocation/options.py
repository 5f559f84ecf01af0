"""The allocation problem in the form in which it is solved exactly: every customer's open options.

An *option* is one pair of a customer, or a set of pairs that the rules allow together; of those
that one customer has, at most one is chosen. What an option uses of each limit is the same for all
customers of a group, so it is stored once per *kind*.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

CHUNK_OPTIONS = 1 << 20  # temporaries of one chunk stay near 30 MB


@dataclass(frozen=True, slots=True, eq=False)
class Options:
    """The open options of c customers, e in all, under k limits.

    No option is better than none: where there is no floor, only options with a value > 0 are
    listed.

    Parameters
    ----------
    start
        Options of customer i are ``start[i]`` up to ``start[i + 1]``; shape ``(c + 1,)``, every
        customer has at least one.
    value
        Value of each option in the workspace's currency, shape ``(e,)``.
    kind
        Row of ``usage`` for each option, shape ``(e,)``.
    extra
        Limits whose weight differs between customers: column of ``usage`` -> weight, ``(e,)``.
    usage
        What one option of a kind uses of each limit, sparse, shape ``(n_kinds, k)``.
    bound
        Bound of each limit, shape ``(k,)``.
    ceiling
        Greatest price of each limit, shape ``(k,)``: infinite for a hard limit. A finite one makes
        a *floor*: its usage and its bound are negative (at least ``-bound``), and every unit that
        is missing costs the ceiling.
    group
        Membership pattern of each customer, ascending, shape ``(c,)``.
    customer
        Row of each customer in the input, shape ``(c,)``.
    mass
        How many customers each one stands for, shape ``(c,)``; 1 except in a sample.
    """

    start: Indices
    value: Floats
    kind: NDArray[np.integer]
    extra: Mapping[int, Floats]
    usage: csr_array
    bound: Floats
    ceiling: Floats
    group: NDArray[np.integer]
    customer: Indices
    mass: Floats

    @property
    def n_customers(self) -> int:
        """Number of customers with at least one option."""
        return len(self.customer)

    @property
    def n_limits(self) -> int:
        """Number of limits."""
        return len(self.bound)

    @property
    def is_hard(self) -> NDArray[np.bool_]:
        """Which limits must hold (the others are floors with a penalty), shape ``(k,)``."""
        hard: NDArray[np.bool_] = np.isinf(self.ceiling)
        return hard

    def chunks(self) -> Iterator[tuple[slice, slice]]:
        """Yield (customers, options) slices of bounded size that together cover everything."""
        begin = 0
        while begin < self.n_customers:
            reach = np.searchsorted(self.start, self.start[begin] + CHUNK_OPTIONS, side="right") - 1
            end = min(max(int(reach), begin + 1), self.n_customers)
            yield slice(begin, end), slice(int(self.start[begin]), int(self.start[end]))
            begin = end

    def charge(self, prices: Floats, options: slice | Indices) -> Floats:
        """Return what ``options`` pay at ``prices``; shape of ``options``."""
        tariff: Floats = self.usage @ prices
        paid: Floats = tariff[self.kind[options]]
        for limit, weight in self.extra.items():
            if prices[limit]:
                paid += prices[limit] * weight[options]
        return paid

    def reduced(self, prices: Floats, options: slice | Indices) -> Floats:
        """Return value less charge of ``options``."""
        net: Floats = self.value[options] - self.charge(prices, options)
        return net

    def owner(self, options: Indices) -> Indices:
        """Return the position of the customer to whom each option belongs."""
        owner: Indices = np.searchsorted(self.start, options, side="right") - 1
        return owner

    def use(self, chosen: Indices, mass: Floats | None = None) -> Floats:
        """Return what the options ``chosen`` use of each limit, shape ``(k,)``.

        Counted per kind first, so that equal weights are multiplied, not added up.
        """
        counts = np.bincount(self.kind[chosen], weights=mass, minlength=self.usage.shape[0])
        total: Floats = self.usage.T @ counts.astype(np.float64)
        for limit, weight in self.extra.items():
            used = weight[chosen] if mass is None else weight[chosen] * mass
            total[limit] += used.sum()
        return total

    def rows(self, options: Indices) -> csr_array:
        """Return what each of ``options`` uses, sparse, shape ``(len(options), k)``."""
        rows = self.usage[self.kind[options]]
        for limit, weight in self.extra.items():
            column = np.zeros(self.n_limits)
            column[limit] = 1.0
            rows = rows + csr_array(weight[options][:, None]) @ csr_array(column[None, :])
        return csr_array(rows)

    def weight(self, limit: int, options: Indices) -> Floats:
        """Return what each of ``options`` uses of one limit, shape of ``options``."""
        weight: Floats = self.usage[:, [limit]].toarray().ravel()[self.kind[options]]
        return weight + self.extra[limit][options] if limit in self.extra else weight

    def take(self, customers: Indices, mass: Floats) -> Options:
        """Return the problem of some ``customers`` (ascending), each standing for ``mass``."""
        size = np.diff(self.start)[customers]
        start = np.concatenate([[0], np.cumsum(size)])
        options = np.arange(start[-1]) + np.repeat(self.start[customers] - start[:-1], size)
        return replace(
            self,
            start=start,
            value=self.value[options],
            kind=self.kind[options],
            extra={limit: weight[options] for limit, weight in self.extra.items()},
            group=self.group[customers],
            customer=self.customer[customers],
            mass=mass,
        )

    def sample(self, size: int) -> Options:
        """Return about ``size`` customers, evenly from every group, standing for all of them."""
        if size >= self.n_customers:
            return self
        first = np.flatnonzero(np.diff(self.group, prepend=-1))
        count = np.diff(np.append(first, self.n_customers))
        drawn = np.maximum(1, np.rint(count * (size / self.n_customers))).astype(np.int64)
        place = np.arange(drawn.sum()) - np.repeat(np.cumsum(drawn) - drawn, drawn)
        within = ((place + 0.5) * np.repeat(count / drawn, drawn)).astype(np.int64)
        return self.take(np.repeat(first, drawn) + within, np.repeat(count / drawn, drawn))
