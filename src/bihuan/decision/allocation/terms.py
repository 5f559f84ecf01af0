"""What binds a plan: limits as tables by group and candidate, and the rules of each customer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bihuan.decision.allocation.limit import ROUNDING, Limit
from bihuan.decision.allocation.pairs import Floats
from bihuan.decision.allocation.rules import ContactRules


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """L limits over G groups and J candidates, and what one customer may get.

    Parameters
    ----------
    shape
        ``(G, J)``.
    plain
        What one contact uses of each limit, sparse, shape ``(G * J, L)``; negative for floors.
    by_measure
        The same per unit of a measure, one table for each.
    bound, ceiling
        Shape ``(L,)``. A floor's bound is negative and its ceiling (the penalty of a missing
        unit) finite; a hard limit's ceiling is infinite.
    rules
        Which candidates one customer may get together.
    closed
        Infinite where one contact alone would break a hard limit, else 0; shape ``(G, J)``.
    jitter
        Grain of chance, in the unit of the values, that breaks ties between customers and between
        candidates; 0 for none.
    """

    shape: tuple[int, int]
    plain: csr_array
    by_measure: tuple[csr_array, ...]
    bound: Floats
    ceiling: Floats
    rules: ContactRules
    closed: Floats
    jitter: float = 0.0

    def tariff(self, prices: Floats) -> Floats:
        """Return what a contact pays, shape ``(G, J)``."""
        paid: Floats = (self.plain @ prices).reshape(self.shape) + self.closed
        return paid

    def rates(self, prices: Floats) -> Floats:
        """Return what a unit of each measure pays, shape ``(K, G, J)``."""
        rates = [(table @ prices).reshape(self.shape) for table in self.by_measure]
        return np.stack(rates) if rates else np.zeros((0, *self.shape))

    def use(self, counts: NDArray[np.floating], measured: Floats) -> Floats:
        """Return what contacts counted by group and candidate use of each limit, ``(L,)``."""
        used: Floats = self.plain.T @ counts.ravel().astype(np.float64)
        for table, amount in zip(self.by_measure, measured, strict=True):
            used = used + table.T @ amount.ravel()
        return used

    def reach(self, radius: Floats, measured_most: Floats) -> Floats:
        """Return by how much a contact's charge may move while prices move by ``radius``, (G, J).

        ``measured_most`` is the greatest amount of each measure in one pair, ``(K,)``.
        """
        moved: Floats = abs(self.plain) @ radius
        for table, most in zip(self.by_measure, measured_most, strict=True):
            moved = moved + most * (abs(table) @ radius)
        return moved.reshape(self.shape)

    def heaviest(self) -> Floats:
        """Return the most that one contact (or unit of a measure) uses of each limit, ``(L,)``."""
        most = np.zeros(len(self.bound))
        for table in (self.plain, *self.by_measure):
            if table.nnz:
                most = np.maximum(most, abs(table).max(axis=0).toarray().ravel())
        return most


def build_terms(
    limits: Sequence[Limit], n_groups: int, rules: ContactRules, measures: Sequence[str] = ()
) -> Terms:
    """Write limits as tables.

    Parameters
    ----------
    limits
        With a weight per candidate; ``members``, where given, has one entry per group.
    n_groups
        How many groups of customers there are.
    rules
        Of the candidates.
    measures
        Names that ``Limit.measure`` may have.
    """
    n_candidates = rules.n_candidates
    parts: dict[str, list[tuple[NDArray[np.int64], NDArray[np.int64], Floats]]] = {
        name: [] for name in ("", *measures)
    }
    for at, limit in enumerate(limits):
        groups = np.arange(n_groups) if limit.members is None else np.flatnonzero(limit.members)
        candidates = np.flatnonzero(limit.weight)
        row = (groups[:, None] * n_candidates + candidates[None, :]).ravel()
        weight = np.tile(limit.weight[candidates], len(groups))
        sign = -1.0 if limit.is_floor else 1.0
        parts[limit.measure].append((row, np.full(len(row), at), sign * weight))
    size = (n_groups * n_candidates, len(limits))
    tables = {name: _table(entries, size) for name, entries in parts.items()}
    is_floor = np.array([limit.is_floor for limit in limits], dtype=np.bool_)
    closed = np.zeros((n_groups, n_candidates))
    for limit in limits:
        if not limit.is_floor and not limit.measure:
            inside = np.ones(n_groups, np.bool_) if limit.members is None else limit.members
            too_heavy = limit.weight > limit.bound * (1 + ROUNDING)
            closed[inside[:, None] & too_heavy[None, :]] = np.inf
    bound = np.array([limit.bound for limit in limits], dtype=np.float64)
    penalty = [limit.penalty if limit.is_floor else np.inf for limit in limits]
    return Terms(
        shape=(n_groups, n_candidates),
        plain=tables[""],
        by_measure=tuple(tables[name] for name in measures),
        bound=np.where(is_floor, -bound, bound),
        ceiling=np.array(penalty, dtype=np.float64),
        rules=rules,
        closed=closed,
    )


def _table(
    entries: Sequence[tuple[NDArray[np.int64], NDArray[np.int64], Floats]], size: tuple[int, int]
) -> csr_array:
    if not entries:
        return csr_array(size, dtype=np.float64)
    row, column, weight = (np.concatenate(part) for part in zip(*entries, strict=True))
    return csr_array((weight, (row, column)), shape=size)
