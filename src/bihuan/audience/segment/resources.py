"""What a campaign has to work with, and how many customers that is enough for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from bihuan.audience.literal import AudienceError


class ResourceError(AudienceError):
    """Resources are not stated so that a number of customers follows."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What limits a campaign; None is no limit.

    Parameters
    ----------
    seats, days, contacts_per_seat_day
        Outbound seats (台席), working days, and calls that one seat makes in a day; all three or
        none.
    contacts_per_customer
        Attempts that one customer takes on average, at least 1.
    messages
        Messages that may be sent, one per customer.
    budget, cost_per_contact
        In the workspace's currency; both or none.
    coupons
        Vouchers or gifts in stock.
    coupons_per_customer
        Part of the customers contacted who take one, above 0 up to 1.
    """

    seats: int | None = None
    days: int | None = None
    contacts_per_seat_day: int | None = None
    contacts_per_customer: float = 1.0
    messages: int | None = None
    budget: float | None = None
    cost_per_contact: float | None = None
    coupons: int | None = None
    coupons_per_customer: float = 1.0

    def __post_init__(self) -> None:
        calls = (self.seats, self.days, self.contacts_per_seat_day)
        money = (self.budget, self.cost_per_contact)
        stated = [n for n in (*calls, *money, self.messages, self.coupons) if n is not None]
        problem = ""
        if None in calls and any(n is not None for n in calls):
            problem = "seats, days and contacts_per_seat_day belong together"
        elif None in money and any(n is not None for n in money):
            problem = "budget and cost_per_contact belong together"
        elif not stated:
            problem = "no resource is limited"
        elif not all(math.isfinite(n) and n >= 0 for n in stated) or self.cost_per_contact == 0:
            problem = "a resource is negative, not a number, or costs nothing"
        elif not (
            1 <= self.contacts_per_customer < math.inf and 0 < self.coupons_per_customer <= 1
        ):
            problem = "contacts_per_customer is below 1 or coupons_per_customer not within 0 to 1"
        if problem:
            raise ResourceError(
                f"The resources do not fit: {problem}.",
                remedy="State seats with days and contacts per day, budget with cost per contact.",
                zh=f"资源填写有误({problem})，台席需配天数与日均外呼量，预算需配单次成本。",
            )

    def capacity(self) -> Capacity:
        """Return for how many customers each resource is enough, and which one binds.

        Examples
        --------
        >>> Resources(seats=10, days=20, contacts_per_seat_day=100, coupons=8000).capacity()
        Capacity(customers=8000, limits={'seats': 20000, 'coupons': 8000}, binding=('coupons',))
        """
        limits = {name: math.floor(limit) for name, limit in self._limits().items()}
        least = min(limits.values())
        return Capacity(least, limits, tuple(n for n, limit in limits.items() if limit == least))

    def use(self, customers: int) -> Mapping[str, float]:
        """Return which part of each resource so many customers take; above 1 is too much."""
        return {
            name: float(customers / limit) if limit else math.inf if customers else 0.0
            for name, limit in self._limits().items()
        }

    def cost(self, customers: int) -> float | None:
        """Return what contacting so many customers costs; None if costs are not stated."""
        if self.cost_per_contact is None:
            return None
        each = _exact(self.cost_per_contact) * _exact(self.contacts_per_customer)
        return float(customers * each)

    def _limits(self) -> dict[str, Fraction]:
        """Return customers per resource, as exact fractions: 0.3 pays three calls of 0.1."""
        attempts = _exact(self.contacts_per_customer)
        limits: dict[str, Fraction] = {}
        if self.seats is not None and self.days is not None:
            calls = self.seats * self.days * (self.contacts_per_seat_day or 0)
            limits["seats"] = Fraction(calls) / attempts
        if self.messages is not None:
            limits["messages"] = Fraction(self.messages)
        if self.budget is not None and self.cost_per_contact is not None:
            limits["budget"] = _exact(self.budget) / (_exact(self.cost_per_contact) * attempts)
        if self.coupons is not None:
            limits["coupons"] = Fraction(self.coupons) / _exact(self.coupons_per_customer)
        return limits


@dataclass(frozen=True, slots=True)
class Capacity:
    """For how many customers resources are enough.

    Parameters
    ----------
    customers
        As many as the scarcest resource allows.
    limits
        Customers by resource.
    binding
        The scarcest ones.
    """

    customers: int
    limits: Mapping[str, int]
    binding: tuple[str, ...]


def _exact(amount: float) -> Fraction:
    return Fraction(repr(amount))
