"""Which offers a strategy or a moment is about, said by what they are and not only by name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from bihuan.kernel.document import Document
from bihuan.offer import KINDS, Catalogue, Offer


@dataclass(frozen=True, slots=True)
class OfferChoice:
    """A choice among the offers of a catalogue.

    Parameters
    ----------
    ids
        Offers by id.
    categories, kinds, traits
        Offers of one of these business categories, kinds, or with one of these traits.
    """

    ids: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    traits: frozenset[str] = frozenset()

    @property
    def is_open(self) -> bool:
        """Whether nothing is said, which means every offer."""
        return not (self.ids or self.categories or self.kinds or self.traits)

    def takes(self, offer: Offer) -> bool:
        """Whether an offer is meant: by id, or by all that is said of category, kind, traits."""
        if self.is_open or offer.offer_id in self.ids:
            return True
        if not (self.categories or self.kinds or self.traits):
            return False
        return (
            (not self.categories or offer.category in self.categories)
            and (not self.kinds or offer.kind in self.kinds)
            and (not self.traits or not self.traits.isdisjoint(offer.traits))
        )

    def of(self, catalogue: Catalogue, day: date) -> tuple[Offer, ...]:
        """Return the offers meant that are on sale on a day, in the catalogue's order."""
        return tuple(offer for offer in catalogue if offer.is_on_sale(day) and self.takes(offer))


def parse_choice(part: Document | None) -> OfferChoice:
    """Read a choice of offers; nothing said means every offer.

    Parameters
    ----------
    part
        With any of ``ids``, ``categories``, ``kinds``, ``traits``; None for nothing.

    Raises
    ------
    DocumentError
        If a kind of offer does not exist.
    """
    if part is None:
        return OfferChoice()
    part.allow("ids", "categories", "kinds", "traits")
    kinds = frozenset(part.texts("kinds"))
    if not kinds <= set(KINDS):
        wrong = sorted(kinds - set(KINDS))[0]
        raise part.refuse("kinds", f"names '{wrong}'", f"Choose from: {', '.join(KINDS)}.")
    return OfferChoice(
        ids=frozenset(part.texts("ids")),
        categories=frozenset(part.texts("categories")),
        kinds=kinds,
        traits=frozenset(part.texts("traits")),
    )
