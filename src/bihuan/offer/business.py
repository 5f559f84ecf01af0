"""Business categories, and the scopes in which an operator takes them up one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from bihuan.kernel.document import Document
from bihuan.offer.offer import OTHER, Offer

CATEGORIES: Mapping[str, Mapping[str, str]] = {
    "broadband": {"zh": "宽带", "en": "Broadband"},
    "plan": {"zh": "套餐", "en": "Plans"},
    "data": {"zh": "流量", "en": "Data"},
    "top_up": {"zh": "充值", "en": "Top-up"},
    "number_card": {"zh": "号卡", "en": "Number cards"},
    "terminal": {"zh": "终端", "en": "Terminals"},
}
"""The six business categories, by code."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A part of the business, e.g. the one to begin with.

    Parameters
    ----------
    scope_id
        Stable id.
    title
        By language.
    phase
        1 for what is taken up first.
    categories
        Categories it takes in; empty = all.
    traits
        Traits of which an offer has at least one; empty = any.
    """

    scope_id: str
    title: Mapping[str, str]
    phase: int
    categories: frozenset[str]
    traits: frozenset[str]

    def takes(self, offer: Offer) -> bool:
        """Whether an offer lies in the scope."""
        category = not self.categories or offer.category in self.categories
        return category and (not self.traits or not self.traits.isdisjoint(offer.traits))


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which business categories can be sold on a day.

    Parameters
    ----------
    day
        The day.
    offers
        Offer ids on sale by category; every category stands here, ``other`` only if it has any.
    channels
        Channel kinds through which a category is sold.
    """

    day: date
    offers: Mapping[str, tuple[str, ...]]
    channels: Mapping[str, frozenset[str]]

    @property
    def empty(self) -> tuple[str, ...]:
        """Categories in which nothing is on sale."""
        return tuple(name for name in CATEGORIES if not self.offers[name])

    @property
    def is_complete(self) -> bool:
        """Whether each of the six has something on sale."""
        return not self.empty


def business_coverage(offers: Iterable[Offer], day: date) -> Coverage:
    """Say which business categories can be sold on a day, with what and through which channels.

    Parameters
    ----------
    offers
        A catalogue, or some of its offers.
    day
        The day.
    """
    sold = [offer for offer in offers if offer.is_on_sale(day)]
    names = [*CATEGORIES, *([OTHER] if any(o.category == OTHER for o in sold) else [])]
    return Coverage(
        day=day,
        offers={c: tuple(o.offer_id for o in sold if o.category == c) for c in names},
        channels={
            c: frozenset().union(*(o.channels for o in sold if o.category == c)) for c in names
        },
    )


def load_scope(part: Document) -> Scope:
    """Read one scope of a catalogue file; a wrong field is named."""
    part.allow("scope_id", "title", "phase", "categories", "traits", "note")
    categories = part.texts("categories")
    for category in categories:
        if category not in CATEGORIES:
            raise part.refuse(
                "categories", f"names '{category}'", f"Choose from: {', '.join(CATEGORIES)}."
            )
    return Scope(
        scope_id=part.text("scope_id"),
        title=part.titles("title"),
        phase=part.whole("phase", 1, low=1),
        categories=frozenset(categories),
        traits=frozenset(part.texts("traits")),
    )
