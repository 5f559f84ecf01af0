"""Which plan tier a customer can upgrade to: the default that one-click handling recommends.

Of the plans above the present one that are on sale, open to the customer, and within reach (so
many tiers, such a rise of the price), the cheapest whose data covers what the customer needs in
most of the past months.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from bihuan.offer.offer import Offer
from bihuan.offer.upgrade_choice import TierChoices, UpgradeError, UpgradeState

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class UpgradeRule:
    """How far an upgrade may go.

    Parameters
    ----------
    quantile
        Share of the known months that the new plan should cover, 0 < quantile <= 1.
    headroom
        Added to that need as a share of it, >= 0.
    most_tiers
        At most so many tiers up, >= 1.
    most_increase
        Price at most so much above what is paid now, as a share of it, >= 0.
    least_months
        Fewer known months than this, and nothing is recommended; >= 1.
    with_partial
        Whether a plan that covers more than the present one, though not the need, may be
        recommended where none within reach covers it.
    """

    quantile: float = 0.75
    headroom: float = 0.0
    most_tiers: int = 2
    most_increase: float = 1.5
    least_months: int = 1
    with_partial: bool = True

    def __post_init__(self) -> None:
        whole = self.most_tiers >= 1 and self.least_months >= 1
        if not (
            0 < self.quantile <= 1 and self.headroom >= 0 and self.most_increase >= 0 and whole
        ):
            raise UpgradeError(
                f"The upgrade rule cannot be followed: {self}.",
                remedy="Give 0 < quantile <= 1, headroom and most_increase >= 0, the others >= 1.",
                zh=f"升档规则取值不合理：{self}。请检查各参数的范围。",
            )


def recommend_tier(  # noqa: PLR0913 - each is one fact about the lines
    plans: Sequence[Offer],
    usage: ArrayLike,
    current: ArrayLike,
    *,
    day: date,
    paid: ArrayLike | None = None,
    is_eligible: NDArray[np.bool_] | None = None,
    ids: pa.Array | None = None,
    rule: UpgradeRule | None = None,
    currency: Mapping[str, str] | None = None,
) -> TierChoices:
    """Judge which tier each line can upgrade to; the same for one line as for millions.

    Parameters
    ----------
    plans
        One family with tiers and data sizes, lowest tier first (:meth:`Catalogue.family`).
        Retired plans may be present plans, never recommended ones.
    usage
        MB used per month, shape ``(n, k)`` for ``k`` past months; NaN = not known.
    current
        Position of each line's plan in ``plans``, shape ``(n,)``; -1 = not in the family.
    day
        Day on which the plan would be sold.
    paid
        What the line pays per month now, in the workspace's currency, shape ``(n,)``; NaN, or None
        for all: the present plan's price.
    is_eligible
        Whether each plan is open to each line, shape ``(n, m)``; None: all are.
    ids
        Line ids; by default 0, 1, 2, ...
    rule
        How far an upgrade may go; None: the default rule.
    currency
        Words put after an amount, by language.

    Returns
    -------
    TierChoices
        In the order of the lines. A price or tier out of reach is never recommended.

    Raises
    ------
    UpgradeError
        If the plans are no family with rising tiers and data sizes, or shapes do not fit.
    """
    rule = rule or UpgradeRule()
    family = _family(plans)
    used, at = np.atleast_2d(np.asarray(usage, float)), np.atleast_1d(np.asarray(current, np.int64))
    eligible = np.ones((len(at), len(family)), dtype=bool) if is_eligible is None else is_eligible
    _check_shapes(used, at, eligible, len(family))
    data = np.array([plan.data_mb for plan in family], dtype=np.float64)
    price = np.array([plan.price for plan in family])
    tier = np.array([plan.tier for plan in family])
    known = (~np.isnan(used)).sum(axis=1)
    need = _need(used, known, rule)
    is_known = (at >= 0) & (known >= rule.least_months)
    here = np.maximum(at, 0)
    pays = price[here] if paid is None else np.where(np.isnan(paid), price[here], paid)
    reach = (
        eligible
        & np.array([plan.is_on_sale(day) for plan in family])
        & (tier > tier[here][:, None])
        & (tier <= tier[here][:, None] + rule.most_tiers)
        & (price <= (pays * (1 + rule.most_increase))[:, None] + 1e-9)
        & (data > data[here][:, None])
    )
    fits = data[here] >= need
    cover = reach & (data >= need[:, None])
    cheapest = np.where(cover, price, np.inf).argmin(axis=1)
    largest = np.where(reach, data, -np.inf).argmax(axis=1)
    state = np.select(
        [~is_known, fits, cover.any(axis=1), reach.any(axis=1) & rule.with_partial],
        [UpgradeState.UNKNOWN, UpgradeState.FITS, UpgradeState.UPGRADE, UpgradeState.PARTIAL],
        UpgradeState.NONE,
    )
    choice = np.select(
        [state == UpgradeState.UPGRADE, state == UpgradeState.PARTIAL], [cheapest, largest], -1
    )
    plan = np.where(choice >= 0, choice, here)
    with np.errstate(invalid="ignore", divide="ignore"):
        covers = (used <= data[plan][:, None]).sum(axis=1) / known
    return TierChoices(
        plans=family,
        ids=pa.array([str(i) for i in range(len(at))]) if ids is None else ids,
        state=state.astype(np.int64),
        choice=choice.astype(np.int64),
        current=at,
        need_mb=np.where(known >= rule.least_months, need, np.nan),
        difference=np.where(choice >= 0, price[plan] - pays, np.nan),
        covers=np.where(is_known, covers, np.nan),
        currency=currency or {},
    )


def _family(plans: Sequence[Offer]) -> tuple[Offer, ...]:
    family = tuple(plans)
    tiers = [plan.tier for plan in family if plan.tier is not None]
    if not family or len(tiers) < len(family) or sorted(set(tiers)) != tiers:
        raise UpgradeError(
            "The plans are no family: each needs a tier of its own, lowest first.",
            remedy="Give family and tier to the plans in the offers file.",
            zh="这些套餐不构成档次体系：每个套餐须有各不相同的 tier，并从低到高排列。",
        )
    without = [plan.offer_id for plan in family if plan.data_mb is None]
    if without:
        raise UpgradeError(
            f"Plans without a data size cannot be compared: {', '.join(without)}.",
            remedy="Give data_mb to these plans in the offers file.",
            zh=f"套餐缺少流量（data_mb），无法比较：{'、'.join(without)}。请补充。",
        )
    return family


def _check_shapes(used: Floats, at: Ints, eligible: Flags, m: int) -> None:
    n = len(at)
    if used.shape[0] != n or eligible.shape != (n, m) or not ((at >= -1) & (at < m)).all():
        raise UpgradeError(
            f"Figures do not fit: use {used.shape}, plans of {n} lines, eligibility "
            f"{eligible.shape}, {m} plans.",
            remedy="Give one row of use, one plan and one row of eligibility per line.",
            zh=f"数据行数不一致：用量 {used.shape}、用户 {n} 行、资格 {eligible.shape}、{m} 档。",
        )
    if (used < 0).any():
        raise UpgradeError(
            "Use must be 0 or more MB.",
            remedy="Correct the figures, or give NaN where it is not known.",
            zh="流量用量不能为负，请更正；未知请留空。",
        )


def _need(used: Floats, known: Ints, rule: UpgradeRule) -> Floats:
    """Return the least use that at least the wanted share of known months does not exceed."""
    ordered = np.sort(used, axis=1)  # NaN last
    place = np.ceil(rule.quantile * known - 1e-9).astype(np.int64) - 1
    need = ordered[np.arange(len(used)), np.maximum(place, 0)]
    return np.asarray(need * (1 + rule.headroom))
