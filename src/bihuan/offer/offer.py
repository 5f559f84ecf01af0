"""What an offer is: what is sold, at what price, on which terms, to whom, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray

from bihuan.audience import Node

KINDS = ("plan", "addon", "contract", "vas", "device", "service", "leased_line")
STATUSES = ("draft", "on_sale", "retired")
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Margin:
    """What one sale earns over its whole term, before the offer's own cost and that of contact.

    ``fixed + per_unit * value of the tag``: a fixed margin, or one that grows with what the
    customer pays (keeping a customer is worth a share of the coming bills).

    Parameters
    ----------
    fixed
        In the workspace's currency.
    per_unit
        In the workspace's currency per unit of ``tag``.
    tag
        Numeric customer tag, or None for a fixed margin. A missing value counts as 0.
    """

    fixed: float
    per_unit: float = 0.0
    tag: str | None = None

    def of(self, values: Mapping[str, NDArray[np.float64]], n: int) -> NDArray[np.float64]:
        """Return the margin of each customer.

        Parameters
        ----------
        values
            Tag values by tag name, shape ``(n,)``; NaN = missing.
        n
            Number of customers.

        Returns
        -------
        numpy.ndarray
            Shape ``(n,)``, in the workspace's currency per sale.
        """
        if self.tag is None:
            return np.full(n, self.fixed)
        return self.fixed + self.per_unit * np.nan_to_num(values[self.tag])


@dataclass(frozen=True, slots=True)
class Offer:
    """Something that can be offered to a customer.

    Parameters
    ----------
    offer_id
        Stable id.
    title
        By language.
    kind
        One of :data:`KINDS`; who may decide on an offer follows from it.
    products
        Product ids that the customer gets.
    price
        What the customer pays per month, in the workspace's currency, >= 0.
    months
        Term of the offer in months, >= 1.
    margin
        What one sale (or one customer kept) earns, before ``cost``.
    cost
        What one accepted offer costs us beside the contact (gift, subsidy), in the workspace's
        currency, >= 0.
    eligibility
        Audience that may be offered it.
    excludes
        Ids of products whose holders must not be offered it (互斥套餐).
    channels
        Channel kinds through which it may be sold.
    category
        Business category: ``broadband``, ``plan``, ``data``, ``top_up``, ``number_card``,
        ``terminal``, or ``other``.
    status
        ``draft`` (not sold yet), ``on_sale``, or ``retired`` (never sold again).
    valid_from, valid_until
        First and last day on which it is sold; None where open.
    family, tier
        Family of plans it belongs to, and its rank in there (1 = the lowest); None if it is no
        member of a family.
    data_mb
        Data volume per month, MB; None if it carries none, ``inf`` is refused.
    prices_by_plan
        For an add-on pack whose price hangs on the customer's plan: price per month by offer id
        or product id of the plan. Holders of other plans pay ``price``.
    plans
        Offer ids or product ids of the plans whose holders may buy it; empty = all.
    traits
        What channels prefer it for: ``light``, ``finance``, ``terminal``, ``home_internet``,
        ``preference``, ``scene``, ...
    exclusive
        Whether it is made for chosen customers alone; scripts then say so.
    """

    offer_id: str
    title: Mapping[str, str]
    kind: str
    products: tuple[str, ...]
    price: float
    months: int
    margin: Margin
    cost: float
    eligibility: Node
    excludes: frozenset[str]
    channels: frozenset[str]
    category: str = OTHER
    status: str = "on_sale"
    valid_from: date | None = None
    valid_until: date | None = None
    family: str | None = None
    tier: int | None = None
    data_mb: float | None = None
    prices_by_plan: Mapping[str, float] = field(default_factory=dict)
    plans: frozenset[str] = frozenset()
    traits: frozenset[str] = frozenset()
    exclusive: bool = False

    def is_on_sale(self, day: date) -> bool:
        """Whether it may be sold on a day: its status says so and the day is in its period."""
        begun = self.valid_from is None or self.valid_from <= day
        return self.status == "on_sale" and begun and not self._is_over(day)

    def is_retired(self, day: date) -> bool:
        """Whether it is no longer sold: retired by status, or its last day has passed."""
        return self.status == "retired" or self._is_over(day)

    def price_for(self, plan: Offer) -> float:
        """Return the price per month for holders of ``plan``, in the workspace's currency."""
        for name in (plan.offer_id, *plan.products):
            if name in self.prices_by_plan:
                return self.prices_by_plan[name]
        return self.price

    def is_sold_to(self, plan: Offer) -> bool:
        """Whether holders of ``plan`` may buy it."""
        return not self.plans or not self.plans.isdisjoint((plan.offer_id, *plan.products))

    def _is_over(self, day: date) -> bool:
        return self.valid_until is not None and self.valid_until < day
