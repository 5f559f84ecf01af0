"""The allocation problem in the form in which it is solved: every customer's open options.

A matrix of customers and candidates is mostly closed cells. Here it becomes a ragged list of
*options*, one per eligible pair with a positive value, grouped by customer. What an option uses
of each limit is the same for all customers who belong to the same limits, so it is stored once
per *kind* = (membership pattern, candidate). Several contacts of one customer, with conflicts among
them, need only another builder of options (:mod:`bihuan.decision.instance`), not another solver.

Customers stand in an order that depends on their content alone, never on their row. So a
permuted input is the same problem, down to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bihuan.kernel import UserError, random_stream

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

CHUNK_OPTIONS = 1 << 20  # temporaries of one chunk stay near 30 MB
ROUNDING = 1e-9  # a usage may exceed its bound by this share: 3 * 0.1 fits into 0.3
_UNITS = {"capacity": "contact", "maximum": "contact", "budget": "currency", "sales": "sale"}


class AllocationError(UserError):
    """Values or limits that cannot be read as an allocation problem."""


@dataclass(frozen=True, slots=True, eq=False)
class Limit:
    """At most ``bound`` of something over the chosen contacts.

    The limit says: the sum of ``weight`` over the chosen (customer, candidate) pairs whose
    customer is a member must not exceed ``bound``.

    Parameters
    ----------
    name
        Unique among the limits of one allocation, for example ``outbound_seats_shijiazhuang``.
    kind
        ``capacity`` (contacts of a channel), ``budget`` (money), ``maximum`` (contacts of an
        offer), ``sales`` (expected sales), or a word of one's own.
    weight
        What one contact uses, >= 0, shape ``(n_candidates,)``; or ``(n_customers, n_candidates)``
        where it differs between customers.
    bound
        Hard bound >= 0 in the unit of the weight; infinity means no limit.
    members
        To which customers it applies, boolean, shape ``(n_customers,)``; None: to all.
    unit
        Of the weight, singular (``call``, ``SMS``); empty takes the usual one of the kind.

    Raises
    ------
    AllocationError
        If a weight is negative or not finite, the bound is negative or NaN, or ``members`` is
        not boolean.

    Examples
    --------
    >>> seats = Limit("seats", "capacity", np.array([1.0, 0.0]), 120, unit="call")
    >>> seats.unit
    'call'
    """

    name: str
    kind: str
    weight: Floats
    bound: float
    members: NDArray[np.bool_] | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        weight = np.asarray(self.weight, dtype=np.float64)
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "bound", float(self.bound))
        object.__setattr__(self, "unit", self.unit or _UNITS.get(self.kind, "unit"))
        bad = ~np.isfinite(weight) | (weight < 0)
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            raise AllocationError(
                f"Limit '{self.name}': weight {weight[at]} at position {at} is not allowed.",
                remedy="A contact uses a finite amount >= 0 of a limit.",
                zh=f"限制“{self.name}”在位置 {at} 的权重 {weight[at]} 无效,应为非负有限数。",
            )
        if math.isnan(self.bound) or self.bound < 0:
            raise AllocationError(
                f"Limit '{self.name}': bound {self.bound} is not allowed.",
                remedy="Give a bound >= 0; infinity means no limit.",
                zh=f"限制“{self.name}”的上限 {self.bound} 无效,必须不小于 0。",
            )
        if self.members is not None:
            members = np.asarray(self.members)
            if members.dtype != np.bool_ or members.ndim != 1:
                raise AllocationError(
                    f"Limit '{self.name}': members is {members.dtype} of shape {members.shape}.",
                    remedy="Give one boolean per customer, not a list of positions.",
                    zh=f"限制“{self.name}”的 members 必须是每位客户一个布尔值。",
                )
            object.__setattr__(self, "members", members)


def require_shapes(value: NDArray[np.floating], limits: Sequence[Limit]) -> None:
    """Raise :class:`AllocationError` where shapes or names do not go together."""
    if value.ndim != 2 or not np.issubdtype(value.dtype, np.floating):
        raise AllocationError(
            f"value is {value.dtype} of shape {value.shape}.",
            remedy="Give a float matrix with one row per customer and one column per candidate.",
            zh=f"value 的形状为 {value.shape}、类型为 {value.dtype},应为“客户 × 候选”的浮点矩阵。",
        )
    n, m = value.shape
    names: set[str] = set()
    for limit in limits:
        if limit.name in names:
            raise AllocationError(
                f"Two limits are named '{limit.name}'.",
                remedy="Give every limit its own name.",
                zh=f"有两个限制都叫“{limit.name}”,请分别命名。",
            )
        names.add(limit.name)
        if limit.weight.shape not in ((m,), (n, m)):
            raise AllocationError(
                f"Limit '{limit.name}': weight has shape {limit.weight.shape}, "
                f"value has shape {value.shape}.",
                remedy=f"Give a weight of shape ({m},) or ({n}, {m}).",
                zh=f"限制“{limit.name}”的权重形状 {limit.weight.shape} 应为 ({m},) 或 ({n}, {m})。",
            )
        if limit.members is not None and limit.members.shape != (n,):
            raise AllocationError(
                f"Limit '{limit.name}': {limit.members.size} members for {n} customers.",
                remedy="Give one boolean per customer.",
                zh=f"限制“{limit.name}”有 {limit.members.size} 个成员标志,但客户有 {n} 位。",
            )


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


def build_options(
    value: NDArray[np.floating], limits: Sequence[Limit], *, seed: int = 0
) -> Options:
    """List the open options of every customer.

    Pairs that are not eligible (NaN) or not worth a contact (value <= 0) are left out; a best plan
    never needs them.

    Parameters
    ----------
    value
        Shape ``(n_customers, n_candidates)``.
    limits
        Checked by :func:`require_shapes`.
    seed
        Of the order in which customers of equal group stand.

    Raises
    ------
    AllocationError
        If a value is infinite.
    """
    n, m = value.shape
    words = random_stream(seed, "allocate", "order").integers(
        1, 2**63, size=len(limits) + m, dtype=np.uint64
    )
    group, members = _group(n, limits, words[: len(limits)])
    usage = _usage(m, limits, members)
    bound = np.array([limit.bound for limit in limits], dtype=np.float64)
    size = np.zeros(n, dtype=np.int64)
    step = max(1, CHUNK_OPTIONS // max(m, 1))
    opened = [_open_cells(value, slice(at, at + step), size) for at in range(0, n, step)]
    customer = np.flatnonzero(size)
    small = np.int16 if usage.shape[0] < 2**15 else np.int32
    raw = Options(
        start=np.concatenate([[0], np.cumsum(size[customer])]),
        value=_joined([value[part].astype(np.float64) for part in opened], np.float64),
        kind=_joined([(group[row] * m + column).astype(small) for row, column in opened], small),
        extra={
            i: _joined([limit.weight[p] * members[group[p[0]], i] for p in opened], np.float64)
            for i, limit in enumerate(limits)
            if limit.weight.ndim == 2
        },
        usage=usage,
        bound=bound,
        ceiling=np.full(len(bound), np.inf),
        group=group[customer],
        customer=customer,
        mass=np.ones(len(customer)),
    )
    del opened
    return raw.take(_canonical_order(raw, words[len(limits) :]), raw.mass)


def _joined(parts: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype=dtype), *parts])


def _group(
    n: int, limits: Sequence[Limit], words: NDArray[np.uint64]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return each customer's membership pattern and, per pattern and limit, its membership.

    Patterns are told apart by the sum of one random 64-bit word per limit and numbered by that
    sum, so the number does not depend on the order of customers.
    """
    mark = np.zeros(n, dtype=np.uint64)
    for limit, word in zip(limits, words, strict=True):
        if limit.members is not None:
            mark[limit.members] += word
    _, first, group = np.unique(mark, return_index=True, return_inverse=True)
    members = np.ones((len(first), len(limits)), dtype=np.bool_)
    for i, limit in enumerate(limits):
        if limit.members is not None:
            members[:, i] = limit.members[first]
    return group.astype(np.int32), members


def _usage(m: int, limits: Sequence[Limit], members: NDArray[np.bool_]) -> csr_array:
    """Return the usage of every kind (pattern * m + candidate); wide limits stay empty here."""
    row, column, weight = [], [], []
    for i, limit in enumerate(limits):
        if limit.weight.ndim == 2:
            continue
        candidates = np.flatnonzero(limit.weight)
        kinds = (np.flatnonzero(members[:, i])[:, None] * m + candidates[None, :]).ravel()
        row.append(kinds)
        column.append(np.full(len(kinds), i))
        weight.append(np.tile(limit.weight[candidates], len(kinds) // max(len(candidates), 1)))
    shape = (max(len(members), 1) * m, len(limits))
    if not row:
        return csr_array(shape, dtype=np.float64)
    entries = (np.concatenate(weight), (np.concatenate(row), np.concatenate(column)))
    return csr_array(entries, shape=shape)


def _open_cells(
    value: NDArray[np.floating], rows: slice, size: Indices
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return row and column of the open cells of some rows; write how many each row has."""
    block = value[rows]
    if np.isinf(block).any():
        at = np.argwhere(np.isinf(block))[0]
        raise AllocationError(
            f"value is infinite at customer row {rows.start + at[0]}, candidate {at[1]}.",
            remedy="Give finite values; NaN means not eligible.",
            zh=f"第 {rows.start + at[0]} 行客户、第 {at[1]} 个候选的价值为无穷大;不可选请用 NaN。",
        )
    is_open = block > 0
    size[rows] = is_open.sum(axis=1)
    row, column = np.nonzero(is_open)
    return (row + rows.start).astype(np.int32), column.astype(np.int32)


def _canonical_order(options: Options, word: NDArray[np.uint64]) -> Indices:
    """Return the customers ordered by group, then by a hash of candidates, values and weights."""
    content = np.zeros(options.n_customers, dtype=np.uint64)
    for customers, cells in options.chunks():
        candidate = options.kind[cells] % len(word)
        mark = mix(options.value[cells].view(np.uint64) ^ word[candidate])
        for weight in options.extra.values():
            mark = mix(mark ^ weight[cells].view(np.uint64))
        begin = options.start[customers] - options.start[customers.start]
        content[customers] = np.add.reduceat(mark, begin)
    order: Indices = np.lexsort((content, options.group))
    return order


def mix(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter 64-bit words so that every input bit moves about half of the output bits.

    The finaliser of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
    generators", OOPSLA). Wraps around on purpose.
    """
    with np.errstate(over="ignore"):
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return word ^ (word >> np.uint64(31))
