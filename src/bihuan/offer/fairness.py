"""Price fairness: for the same data, the price must not rise with the customer's plan tier."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import combinations, groupby

from bihuan.kernel import UserError
from bihuan.offer.catalogue import Catalogue
from bihuan.offer.offer import Offer
from bihuan.offer.possible import may_hold

PLAN_TAGS = ("main_product",)
_CENT = 0.005
"""Prices closer than half a cent are the same price."""


class UnfairPriceError(UserError):
    """An add-on pack costs more on a higher plan tier, or its plans cannot be placed."""


@dataclass(frozen=True, slots=True)
class PriceViolation:
    """Holders of the higher plan pay more for the same data.

    Parameters
    ----------
    data_mb, months
        Size of the pack in MB per month, and its term.
    low_plan, high_plan
        Offer ids of two plans of one family, the second of the higher tier.
    low_tier, high_tier
        Their tiers.
    low_pack, high_pack
        Offer ids of the packs that their holders buy; the same id, or two packs of one size.
    low_price, high_price
        Per month, in the workspace's currency; the second is the larger.
    """

    data_mb: float
    months: int
    low_plan: str
    high_plan: str
    low_tier: int
    high_tier: int
    low_pack: str
    high_pack: str
    low_price: float
    high_price: float

    def text(self, language: str) -> str:
        """Say it in ``zh`` or ``en``: the pack, both tiers, both prices, and what to change."""
        packs = {self.low_pack, self.high_pack}
        if language == "zh":
            names = "与".join(sorted(packs))
            return (
                f"加装包 {names}（{self.data_mb:g} MB）：第 {self.high_tier} 档套餐"
                f" {self.high_plan} 为 {self.high_price:g}，高于第 {self.low_tier} 档套餐"
                f" {self.low_plan} 的 {self.low_price:g}；"
                f"请将 {self.high_plan} 的价格降至不高于 {self.low_price:g}"
            )
        names = " and ".join(sorted(packs))
        return (
            f"pack {names} ({self.data_mb:g} MB): tier {self.high_tier} ({self.high_plan}) pays "
            f"{self.high_price:g}, tier {self.low_tier} ({self.low_plan}) pays "
            f"{self.low_price:g}; lower the price for {self.high_plan} to at most "
            f"{self.low_price:g}"
        )


@dataclass(frozen=True, slots=True)
class FairnessReport:
    """What the check of prices found.

    Parameters
    ----------
    packs
        Offer ids of the add-on packs that were looked at.
    compared
        Pairs of plans times sizes that were compared.
    violations
        Where the price rises with the tier; empty if nowhere.
    unplaced
        ``(pack, plan)`` where a pack names a plan that the catalogue does not hold with a tier,
        so that nothing can be said of its price.
    """

    packs: tuple[str, ...]
    compared: int
    violations: tuple[PriceViolation, ...]
    unplaced: tuple[tuple[str, str], ...]

    @property
    def is_fair(self) -> bool:
        """Whether every price could be compared and none rises with the tier."""
        return not self.violations and not self.unplaced


def check_price_fairness(
    catalogue: Catalogue, *, plan_tags: Collection[str] = PLAN_TAGS
) -> FairnessReport:
    """Look for data packs that cost more on a higher plan tier than on a lower one.

    Packs are add-ons with a data size that are not retired; drafts are looked at too, since they
    are to be sold. For each size and term, and each two plans of one family, holders of the
    higher plan must not pay more (*a*) for the same pack, nor (*b*) for the cheapest pack of that
    size that they may buy than holders of the lower plan for theirs, so that unfairness does not
    hide in two packs with different names. Plans that are retired count: customers still hold
    them.

    Parameters
    ----------
    catalogue
        Plans with ``family`` and ``tier``; packs with ``data_mb`` and ``prices_by_plan`` or
        ``plans``.
    plan_tags
        Names of the tag that holds a customer's plan as a product id; a pack whose eligibility
        shuts out the holders of a plan is not sold to them.

    Returns
    -------
    FairnessReport
        Violations ordered by size, then by plan tiers.
    """
    packs = [
        offer
        for offer in catalogue
        if offer.kind == "addon" and offer.data_mb is not None and offer.status != "retired"
    ]
    pairs = list(_tier_pairs(catalogue))
    compared = 0
    found: list[PriceViolation] = []
    for same in _by_size(packs):
        for low, high in pairs:
            compared += 1
            found += _compare(same, low, high, plan_tags)
    return FairnessReport(
        packs=tuple(pack.offer_id for pack in packs),
        compared=compared,
        violations=tuple(found),
        unplaced=tuple(_unplaced(catalogue, packs)),
    )


def require_fair_prices(
    catalogue: Catalogue, *, plan_tags: Collection[str] = PLAN_TAGS
) -> FairnessReport:
    """Return the report of :func:`check_price_fairness` if there is nothing to object to.

    Parameters
    ----------
    catalogue, plan_tags
        As there.

    Raises
    ------
    UnfairPriceError
        If a price rises with the tier, or a pack names a plan without a tier; the message names
        the pack, both tiers, both prices, and what to change.
    """
    report = check_price_fairness(catalogue, plan_tags=plan_tags)
    if report.violations:
        told = "; ".join(violation.text("en") for violation in report.violations)
        raise UnfairPriceError(
            f"Data packs cost more on higher plan tiers: {told}.",
            remedy="Change the prices in the offers file.",
            zh="同一流量加装包不得套餐档次越高越贵："
            + "；".join(violation.text("zh") for violation in report.violations)
            + "。",
        )
    if report.unplaced:
        told = "; ".join(f"{pack} names {plan}" for pack, plan in report.unplaced)
        raise UnfairPriceError(
            f"Prices cannot be compared, because plans have no tier: {told}.",
            remedy="Add the plan with family and tier (status: retired if it is no longer sold).",
            zh="加装包所列套餐没有档次，价格无法比较："
            + "；".join(f"{pack} 中的 {plan}" for pack, plan in report.unplaced)
            + "。请补充该套餐的 family 与 tier（已停售的写 status: retired）。",
        )
    return report


def _tier_pairs(catalogue: Catalogue) -> Iterator[tuple[Offer, Offer]]:
    families = sorted({o.family for o in catalogue if o.kind == "plan" and o.family is not None})
    for family in families:
        plans = [plan for plan in catalogue.family(family) if plan.kind == "plan"]
        yield from ((a, b) for a, b in combinations(plans, 2) if (a.tier or 0) < (b.tier or 0))


def _by_size(packs: list[Offer]) -> Iterator[list[Offer]]:
    def size(pack: Offer) -> tuple[float, int]:
        return (pack.data_mb or 0.0, pack.months)

    for _, same in groupby(sorted(packs, key=size), key=size):
        yield list(same)


def _compare(
    same: list[Offer], low: Offer, high: Offer, plan_tags: Collection[str]
) -> Iterator[PriceViolation]:
    """Compare the packs of one size on two plans: pack by pack, then the cheapest of each."""
    to_low = [pack for pack in same if _reaches(pack, low, plan_tags)]
    to_high = [pack for pack in same if _reaches(pack, high, plan_tags)]
    unfair = [
        _violation(pack, pack, low, high)
        for pack in to_low
        if pack in to_high and pack.price_for(high) > pack.price_for(low) + _CENT
    ]
    yield from unfair
    if to_low and to_high and not unfair:
        cheap_low = min(to_low, key=lambda pack: pack.price_for(low))
        cheap_high = min(to_high, key=lambda pack: pack.price_for(high))
        if cheap_high.price_for(high) > cheap_low.price_for(low) + _CENT:
            yield _violation(cheap_low, cheap_high, low, high)


def _reaches(pack: Offer, plan: Offer, plan_tags: Collection[str]) -> bool:
    """Whether holders of a plan may buy a pack, as far as the plan alone decides that."""
    if not pack.is_sold_to(plan):
        return False
    names = plan.products or (plan.offer_id,)
    return any(may_hold(pack.eligibility, dict.fromkeys(plan_tags, name)) for name in names)


def _violation(low_pack: Offer, high_pack: Offer, low: Offer, high: Offer) -> PriceViolation:
    return PriceViolation(
        data_mb=low_pack.data_mb or 0.0,
        months=low_pack.months,
        low_plan=low.offer_id,
        high_plan=high.offer_id,
        low_tier=low.tier or 0,
        high_tier=high.tier or 0,
        low_pack=low_pack.offer_id,
        high_pack=high_pack.offer_id,
        low_price=low_pack.price_for(low),
        high_price=high_pack.price_for(high),
    )


def _unplaced(catalogue: Catalogue, packs: list[Offer]) -> Iterator[tuple[str, str]]:
    for pack in packs:
        for name in sorted({*pack.prices_by_plan, *pack.plans}):
            plan = catalogue.plan_of(name)
            if plan is None or plan.tier is None:
                yield pack.offer_id, name
