"""Open pairs of customers and candidates, side by side: the form in which millions are decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihuan.decision.allocation.limit import AllocationError
from bihuan.kernel.parallel import on_each_part

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
SMALL = 4_000_000  # cells up to which NumPy lists pairs before compiled loops would have loaded


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """What may be done with whom, and what it is worth.

    Parameters
    ----------
    start
        Pairs of customer i are ``start[i]`` up to ``start[i + 1]``; int64, shape ``(n + 1,)``.
    candidate
        Candidate of each pair, 0 up to ``n_candidates``, ascending within a customer; uint8 or
        uint16, shape ``(p,)``.
    value
        Worth of each pair in the workspace's currency, finite; float32 or float64, shape ``(p,)``.
        A pair that is not eligible is not listed; one with a value <= 0 is chosen only where a
        minimum needs it.
    n_candidates
        How many candidates there are.
    group
        Group of each customer (a city, a grid), 0 up to ``n_groups``; unsigned, shape ``(n,)``.
    n_groups
        How many groups there are; limits apply to whole groups.
    measures
        What a pair adds to limits beside 1 contact (the probability of a sale), >= 0, float32 or
        float64, shape ``(n_measures, p)``.
    measure_names
        One for each of them, as in ``Limit.measure``.
    key, first_key
        What tells customers apart where they are worth the same: a number each, uint32, shape
        ``(n,)``; if empty, ``first_key`` and so on in their order.
    """

    start: Indices
    candidate: NDArray[np.unsignedinteger]
    value: NDArray[np.floating]
    n_candidates: int
    group: NDArray[np.unsignedinteger]
    n_groups: int = 1
    measures: NDArray[np.floating] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    measure_names: tuple[str, ...] = ()
    key: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    first_key: int = 0

    @property
    def n_customers(self) -> int:
        """Number of customers, those without pairs among them."""
        return len(self.group)

    @property
    def n_pairs(self) -> int:
        """Number of open pairs."""
        return int(self.start[-1] - self.start[0])

    def require_valid(self) -> None:
        """Raise :class:`AllocationError` where arrays do not go together or a value is bad."""
        n, p = self.n_customers, self.n_pairs
        lengths = {len(self.candidate), len(self.value)}
        if self.measure_names:
            lengths.add(self.measures.shape[1])
        if len(self.start) != n + 1 or lengths != {p} or self.start[0] != 0:
            raise AllocationError(
                f"{len(self.start) - 1} starts, {n} groups, and {sorted(lengths)} entries for {p} "
                "pairs do not go together.",
                remedy="Give one start and group per customer and one entry of each per pair.",
                zh=f"客户、分组与候选对的长度不一致({n}、{sorted(lengths)})。",
            )
        with np.errstate(invalid="ignore", over="ignore"):
            total = self.value.sum()  # shows whether any is not finite, in a fraction of the time
        if not np.isfinite(total) and not (fine := np.isfinite(self.value)).all():
            at = int(np.argmin(fine))
            raise AllocationError(
                f"Pair {at} has the value {self.value[at]}.",
                remedy="List only pairs with a finite value.",
                zh=f"第 {at} 个候选对的价值为 {self.value[at]},应为有限数。",
            )
        if p and int(self.candidate.max()) >= self.n_candidates:
            raise AllocationError(
                f"A pair names candidate {int(self.candidate.max())} of {self.n_candidates}.",
                remedy="Number candidates from 0.",
                zh=f"候选编号 {int(self.candidate.max())} 超出候选数 {self.n_candidates}。",
            )

    def take(self, customers: Indices) -> Pairs:
        """Return the pairs of some customers (ascending)."""
        size = np.diff(self.start)[customers]
        start = np.concatenate([[0], np.cumsum(size)])
        at = np.arange(start[-1]) + np.repeat(self.start[customers] - start[:-1], size)
        return Pairs(
            start=start,
            candidate=self.candidate[at],
            value=self.value[at],
            n_candidates=self.n_candidates,
            group=self.group[customers],
            n_groups=self.n_groups,
            measures=self.measures[:, at] if self.measure_names else self.measures,
            measure_names=self.measure_names,
            key=self.keys()[customers],
        )

    def keys(self) -> NDArray[np.uint32]:
        """Return the key of every customer, shape ``(n,)``."""
        if len(self.key):
            return self.key
        return np.arange(self.first_key, self.first_key + self.n_customers, dtype=np.uint32)


def narrow(count: int) -> type[np.unsignedinteger[Any]]:
    """Return the narrowest unsigned type that numbers ``count`` things."""
    for kind in (np.uint8, np.uint16, np.uint32):
        if count <= np.iinfo(kind).max:
            return kind
    return np.uint64


def open_pairs(
    value: NDArray[np.floating],
    group: NDArray[np.unsignedinteger] | None = None,
    n_groups: int = 1,
) -> Pairs:
    """List the open pairs of a matrix: those with a value > 0.

    Parameters
    ----------
    value
        Shape ``(n_customers, n_candidates)``; NaN = not eligible.
    group, n_groups
        See :class:`Pairs`; None puts all customers into one group.

    Raises
    ------
    AllocationError
        If a value is infinite; names the row.
    """
    n, m = value.shape
    if group is None:
        group = np.zeros(n, dtype=np.uint8)
    if value.size <= SMALL:
        is_open = value > 0
        _refuse_infinite(value, np.flatnonzero(np.isinf(value).any(axis=1)))
        start = np.concatenate([[0], np.cumsum(is_open.sum(axis=1))])
        candidate = np.nonzero(is_open)[1].astype(narrow(m))
        return Pairs(start, candidate, value[is_open], m, group, n_groups)
    from bihuan.decision.allocation import kernel

    dense = np.ascontiguousarray(value)
    size = np.zeros(n, dtype=np.int64)
    infinite = on_each_part(lambda a, b: int(kernel.count_open(a, b, dense, size)), n)
    _refuse_infinite(value, np.array([row for row in infinite if row >= 0], dtype=np.int64))
    start = np.concatenate([[0], np.cumsum(size)])
    candidate = np.empty(start[-1], dtype=narrow(m))
    worth = np.empty(start[-1], dtype=dense.dtype)
    on_each_part(lambda a, b: kernel.copy_open(a, b, dense, start, candidate, worth), n)
    return Pairs(start, candidate, worth, m, group, n_groups)


def _refuse_infinite(value: NDArray[np.floating], rows: Indices) -> None:
    if len(rows):
        row, at = int(rows[0]), int(np.argmax(np.isinf(value[rows[0]])))
        raise AllocationError(
            f"value is infinite at customer row {row}, candidate {at}.",
            remedy="Give finite values; NaN means not eligible.",
            zh=f"第 {row} 行客户、第 {at} 个候选的价值为无穷大;不可选请用 NaN。",
        )


def join_pairs(parts: list[Pairs]) -> Pairs:
    """Return the customers of several blocks as one."""
    if len(parts) == 1:
        return parts[0]
    template = parts[0]
    first = np.concatenate([[0], np.cumsum([part.n_pairs for part in parts])])
    return Pairs(
        start=np.concatenate(
            [[0], *(part.start[1:] + at for part, at in zip(parts, first, strict=False))]
        ),
        candidate=np.concatenate([part.candidate for part in parts]),
        value=np.concatenate([part.value for part in parts]),
        n_candidates=template.n_candidates,
        group=np.concatenate([part.group for part in parts]),
        n_groups=template.n_groups,
        measures=np.concatenate([part.measures for part in parts], axis=1),
        measure_names=template.measure_names,
        key=np.concatenate([part.keys() for part in parts]),
    )


def typical_worth(pairs: Pairs) -> float:
    """Return the mean best value of a customer with any pair."""
    first = pairs.start[:-1][np.diff(pairs.start) > 0]
    if not len(first):
        return 1.0
    return float(np.maximum.reduceat(pairs.value, first).mean(dtype=np.float64))
