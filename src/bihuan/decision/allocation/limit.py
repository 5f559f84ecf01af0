"""Limits: at most so much, or at least so much, over all chosen contacts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bihuan.kernel import UserError

Floats = NDArray[np.float64]

ROUNDING = 1e-9  # a usage may exceed its bound by this share: 3 * 0.1 fits into 0.3
_UNITS = {"capacity": "contact", "maximum": "contact", "budget": "currency", "sales": "sale",
          "minimum": "contact"}  # fmt: skip


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
        offer), ``sales`` (expected sales), or a word of one's own. ``minimum`` turns the limit
        round: at least ``bound`` is wanted, and every missing unit costs ``penalty``.
    weight
        What one contact uses, >= 0, shape ``(n_candidates,)``; or ``(n_customers, n_candidates)``
        where it differs between customers.
    bound
        Hard bound >= 0 in the unit of the weight; infinity means no limit.
    members
        To which customers it applies, boolean, shape ``(n_customers,)``; None: to all.
    unit
        Of the weight, singular (``call``, ``SMS``); empty takes the usual one of the kind.
    measure
        Name of a measure by which the weight is multiplied (``sales``: the probability of a
        sale); empty: every contact counts as 1. Only where customers come as
        :class:`~bihuan.decision.Pairs`.
    penalty
        Of one missing unit of a minimum, in the unit of the values, > 0; NaN: ten times the
        greatest value of a pair.

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
    measure: str = ""
    penalty: float = math.nan

    @property
    def is_floor(self) -> bool:
        """Whether at least the bound is wanted, not at most."""
        return self.kind == "minimum"

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
