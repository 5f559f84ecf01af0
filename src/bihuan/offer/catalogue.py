"""Offers and the catalogue that holds them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bihuan.audience import Everyone, Node, parse
from bihuan.kernel import UserError
from bihuan.kernel.document import Document

KINDS = ("plan", "addon", "contract", "vas", "device", "service")


class UnknownOfferError(UserError):
    """No offer has that id."""


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
        One of ``plan``, ``addon``, ``contract``, ``vas``, ``device``, ``service``.
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


class Catalogue:
    """Offers by id.

    Parameters
    ----------
    offers
        Each id once.

    Raises
    ------
    UserError
        If an id stands twice.
    """

    def __init__(self, offers: Iterable[Offer]) -> None:
        self._offers: dict[str, Offer] = {}
        for offer in offers:
            if offer.offer_id in self._offers:
                raise UserError(
                    f"The catalogue holds offer '{offer.offer_id}' twice.",
                    remedy="Give each offer an id of its own.",
                    zh=f"产品目录中套餐 {offer.offer_id} 重复。请为每个套餐使用不同的编号。",
                )
            self._offers[offer.offer_id] = offer

    @classmethod
    def load(cls, *paths: Path) -> Catalogue:
        """Read catalogue files: YAML with a list under ``offers:``.

        Raises
        ------
        DocumentError
            If a field is missing or of the wrong form; the message names file and field.
        """
        return cls(
            offer
            for path in paths
            for part in Document.read(path).parts("offers")
            for offer in (_parse_offer(part),)
        )

    def __iter__(self) -> Iterator[Offer]:
        return iter(self._offers.values())

    def __len__(self) -> int:
        return len(self._offers)

    def find(self, offer_id: str) -> Offer | None:
        """Return the offer, or None."""
        return self._offers.get(offer_id)

    def get(self, offer_id: str) -> Offer:
        """Return the offer.

        Raises
        ------
        UnknownOfferError
            If there is none; the message names the nearest ids.
        """
        offer = self._offers.get(offer_id)
        if offer is None:
            near = (
                difflib.get_close_matches(offer_id, self._offers, n=3) or sorted(self._offers)[:3]
            )
            raise UnknownOfferError(
                f"No offer has the id '{offer_id}'.",
                remedy=f"Did you mean: {', '.join(near)}?",
                zh=f"没有编号为 {offer_id} 的套餐。您是否要找：{'、'.join(near)}?",
            )
        return offer


def _parse_offer(part: Document) -> Offer:
    part.allow(
        "offer_id", "title", "kind", "products", "price", "months", "margin", "cost",
        "eligibility", "excludes", "channels", "note",
    )  # fmt: skip
    text = part.text("eligibility", "")
    return Offer(
        offer_id=part.text("offer_id"),
        title=part.titles("title"),
        kind=part.choice("kind", KINDS),
        products=part.texts("products"),
        price=part.number("price", 0.0, low=0),
        months=part.whole("months", 1, low=1),
        margin=_parse_margin(part),
        cost=part.number("cost", 0.0, low=0),
        eligibility=parse(text) if text else Everyone(),
        excludes=frozenset(part.texts("excludes")),
        channels=frozenset(part.texts("channels")),
    )


def _parse_margin(part: Document) -> Margin:
    if not isinstance(part.raw("margin"), Mapping):
        return Margin(part.number("margin"))
    margin = part.part("margin").allow("fixed", "per_unit", "of")
    return Margin(margin.number("fixed", 0.0), margin.number("per_unit"), margin.text("of"))
