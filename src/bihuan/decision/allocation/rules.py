"""What one customer may get together: how many contacts, how far apart, what only after what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bihuan.decision.allocation.limit import AllocationError

Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]
MOST_CONTACTS = 255


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """At most ``most`` contacts among some candidates.

    Parameters
    ----------
    members
        Which candidates count, shape ``(n_candidates,)``.
    most
        Contacts that one customer may get of them, >= 0.
    """

    members: Mask
    most: int


@dataclass(frozen=True, slots=True, eq=False)
class Lag:
    """After a contact of the first kind none of the second for some days.

    Parameters
    ----------
    first, second
        Which candidates are of either kind, shape ``(n_candidates,)``.
    days
        From one to the other, >= 0; 0 shuts out the same day only.
    """

    first: Mask
    second: Mask
    days: float


@dataclass(frozen=True, slots=True, eq=False)
class ContactRules:
    """Which sets of candidates one customer may get.

    Parameters
    ----------
    n_candidates
        J.
    most
        Contacts per customer over the whole period, 1 to 255.
    windows
        Further maxima over some of the candidates.
    conflicts
        Pairs of candidates that must not both be chosen, symmetric, shape ``(J, J)``; None: none.
    follows
        Candidate that must be chosen too, for each one, -1 where none; shape ``(J,)`` or None.

    Raises
    ------
    AllocationError
        If shapes do not fit, a number is out of range, a candidate conflicts with itself or with
        what it follows, or candidates follow each other in a circle; names the row.

    Examples
    --------
    Two contacts each, but not a call within 90 days of a call:

    >>> call = np.array([True, True, False])
    >>> rules = ContactRules.spaced([1, 20, 5], [Lag(call, call, 90)], most=2)
    >>> bool(rules.conflicts[0, 1]), bool(rules.conflicts[0, 2])
    (True, False)
    """

    n_candidates: int
    most: int = 1
    windows: tuple[Window, ...] = ()
    conflicts: Mask | None = None
    follows: Indices | None = None

    def __post_init__(self) -> None:
        n = self.n_candidates
        if not 1 <= self.most <= MOST_CONTACTS:
            raise AllocationError(
                f"{self.most} contacts per customer are not allowed.",
                remedy=f"Give 1 to {MOST_CONTACTS}.",
                zh=f"每位客户的接触次数 {self.most} 无效,应为 1 至 {MOST_CONTACTS}。",
            )
        for row, window in enumerate(self.windows):
            if window.members.shape != (n,) or window.most < 0:
                raise AllocationError(
                    f"Window {row}: {window.most} contacts over {window.members.size} candidates.",
                    remedy=f"Give a number >= 0 and one boolean for each of {n} candidates.",
                    zh=f"第 {row} 个接触窗口无效:次数 {window.most},候选数应为 {n}。",
                )
        if self.conflicts is not None:
            self._require_conflicts(self.conflicts)
        if self.follows is not None:
            self._require_follows(self.follows)

    @classmethod
    def spaced(
        cls,
        day: Sequence[float],
        lags: Sequence[Lag],
        *,
        most: int = 1,
        windows: Sequence[Window] = (),
        follows: Indices | None = None,
    ) -> Self:
        """Make rules from lags between contacts.

        Parameters
        ----------
        day
            On which each candidate takes place, shape ``(n_candidates,)``.
        lags
            What must be how far apart.
        most, windows, follows
            See the class.

        Raises
        ------
        AllocationError
            If a lag is negative or NaN or of another shape; names its row.
        """
        days = np.asarray(day, dtype=np.float64)
        n = len(days)
        conflicts = np.zeros((n, n), dtype=np.bool_)
        apart = days[None, :] - days[:, None]
        for row, lag in enumerate(lags):
            fits = lag.first.shape == (n,) and lag.second.shape == (n,)
            if not fits or math.isnan(lag.days) or lag.days < 0:
                raise AllocationError(
                    f"Lag {row}: {lag.days} days between {lag.first.size} and {lag.second.size} "
                    f"candidates of {n}.",
                    remedy="Give a lag >= 0 and one boolean per candidate on either side.",
                    zh=f"第 {row} 条间隔规则无效:{lag.days} 天,候选数应为 {n}。",
                )
            both = lag.first[:, None] & lag.second[None, :]
            conflicts |= both & (apart >= 0) & (apart <= lag.days)
        conflicts |= conflicts.T
        np.fill_diagonal(conflicts, False)
        return cls(n, most, tuple(windows), conflicts, follows)

    @property
    def is_single(self) -> bool:
        """Whether a customer gets one contact at most and nothing else is asked."""
        return self.most == 1 and not self.windows and self.follows is None

    def compiled(self) -> tuple[Mask, Mask, Indices, Indices, Mask, int]:
        """Return the rules as arrays for compiled loops.

        Conflicts, members of windows, their maxima, what follows what, what is followed by
        something, and the greatest number of contacts.
        """
        n = self.n_candidates
        conflicts = np.zeros((n, n), np.bool_) if self.conflicts is None else self.conflicts
        follows = np.full(n, -1) if self.follows is None else self.follows.astype(np.int64)
        is_needed = np.zeros(n, dtype=np.bool_)
        is_needed[follows[follows >= 0]] = True
        members = np.zeros((len(self.windows), n), dtype=np.bool_)
        for i, window in enumerate(self.windows):
            members[i] = window.members
        most_in = np.array([window.most for window in self.windows], dtype=np.int64)
        return conflicts, members, most_in, follows, is_needed, self.most

    def allows(self, candidates: Sequence[int]) -> bool:
        """Say whether one customer may get all of ``candidates`` together."""
        chosen = np.zeros(self.n_candidates, dtype=np.bool_)
        chosen[list(candidates)] = True
        if len(set(candidates)) != len(candidates) or len(candidates) > self.most:
            return False
        if any((chosen & window.members).sum() > window.most for window in self.windows):
            return False
        if self.conflicts is not None and self.conflicts[np.ix_(chosen, chosen)].any():
            return False
        if self.follows is None:
            return True
        return all(chosen[j] for j in self.follows[chosen] if j >= 0)

    def _require_conflicts(self, conflicts: Mask) -> None:
        n = self.n_candidates
        if conflicts.shape != (n, n) or conflicts.dtype != np.bool_:
            raise AllocationError(
                f"Conflicts are {conflicts.dtype} of shape {conflicts.shape}.",
                remedy=f"Give booleans of shape ({n}, {n}).",
                zh=f"冲突矩阵的形状 {conflicts.shape} 应为 ({n}, {n})。",
            )
        if conflicts.diagonal().any():
            row = int(np.argmax(conflicts.diagonal()))
            raise AllocationError(
                f"Candidate {row} conflicts with itself.",
                remedy="Take it out of the candidates instead.",
                zh=f"候选 {row} 与自身冲突,请直接删除该候选。",
            )
        if (conflicts != conflicts.T).any():
            row, column = (int(i) for i in np.argwhere(conflicts != conflicts.T)[0])
            raise AllocationError(
                f"Candidates {row} and {column} conflict one way only.",
                remedy="A conflict holds both ways: make the matrix symmetric.",
                zh=f"候选 {row} 与 {column} 的冲突只有单向,应为对称。",
            )

    def _require_follows(self, follows: Indices) -> None:
        n = self.n_candidates
        if follows.shape != (n,) or (follows < -1).any() or (follows >= n).any():
            raise AllocationError(
                f"'follows' has shape {follows.shape} or names an unknown candidate.",
                remedy=f"Give one candidate of 0..{n - 1}, or -1, for each of {n}.",
                zh=f"follows 应为 {n} 个候选编号或 -1。",
            )
        for row in range(n):
            at, seen = int(follows[row]), [row]
            while at >= 0:
                if at in seen:
                    raise AllocationError(
                        f"Candidate {row} follows itself in a circle: {[*seen, at]}.",
                        remedy="Let one of them follow nothing.",
                        zh=f"候选 {row} 的先后关系成环:{[*seen, at]}。",
                    )
                if self.conflicts is not None and self.conflicts[row, at]:
                    raise AllocationError(
                        f"Candidate {row} must come with {at}, but conflicts with it.",
                        remedy="Take out the conflict, or let it follow nothing.",
                        zh=f"候选 {row} 须与 {at} 同时选择,但两者冲突。",
                    )
                seen.append(at)
                at = int(follows[at])


def list_bundles(customer: Indices, candidate: Indices, rules: ContactRules) -> Indices:
    """Return all sets of pairs that one customer may get together.

    Parameters
    ----------
    customer, candidate
        Of each pair, sorted by customer, shape ``(p,)``.
    rules
        Of the same candidates.

    Returns
    -------
    numpy.ndarray
        Shape ``(n_bundles, largest)``, positions of pairs, -1 where the set is smaller; sorted by
        customer. Sets, not sequences: their number grows with the open pairs per customer.
    """
    conflict, members, most_in, follows, _, most = rules.compiled()
    end = np.searchsorted(customer, customer, side="right")
    level = np.arange(len(customer))[:, None]
    levels = []
    while len(level):
        chosen = candidate[level]
        fits = np.ones(len(level), dtype=np.bool_)
        for window, bound in zip(members, most_in, strict=True):
            fits &= window[chosen].sum(axis=1) <= bound
        level = level[fits]
        levels.append(level)
        if level.shape[1] >= most:
            break
        last = level[:, -1]
        more = end[last] - last - 1
        base = np.repeat(np.arange(len(level)), more)
        step = np.arange(len(base)) - np.repeat(np.cumsum(more) - more, more)
        added = last[base] + 1 + step
        rivals = conflict[candidate[level[base]], candidate[added][:, None]]
        level = np.column_stack([level[base], added])[~rivals.any(axis=1)]
    width = max((part.shape[1] for part in levels), default=1)
    padded = [
        np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=-1) for part in levels
    ]
    bundles = np.concatenate([np.empty((0, width), dtype=np.int64), *padded])
    bundles = bundles[_are_closed(bundles, candidate, follows)]
    order: Indices = bundles[np.argsort(customer[bundles[:, 0]], kind="stable")]
    return order


def _are_closed(bundles: Indices, candidate: Indices, follows: Indices) -> Mask:
    """Say of each set whether every member comes with what it follows."""
    closed = np.ones(len(bundles), dtype=np.bool_)
    if (follows < 0).all():
        return closed
    chosen = np.where(bundles >= 0, candidate[bundles], -1)
    for column in range(bundles.shape[1]):
        wanted = np.where(chosen[:, column] >= 0, follows[chosen[:, column]], -1)
        closed &= (wanted < 0) | (chosen == wanted[:, None]).any(axis=1)
    return closed
