"""The catalogue: offers by id, read strictly, and which of them are on sale on a day."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path

from bihuan.audience import Everyone, parse
from bihuan.kernel import UserError
from bihuan.kernel.document import Document
from bihuan.offer.business import CATEGORIES, Scope, load_scope
from bihuan.offer.offer import KINDS, OTHER, STATUSES, Margin, Offer

_FIELDS = (
    "offer_id", "title", "kind", "products", "price", "months", "margin", "cost", "eligibility",
    "excludes", "channels", "note", "category", "status", "valid_from", "valid_until", "family",
    "tier", "data_mb", "prices_by_plan", "plans", "traits", "exclusive",
)  # fmt: skip


class UnknownOfferError(UserError):
    """No offer has that id."""


class NotOnSaleError(UserError):
    """The offer may not be sold on that day."""


class RetiredOfferError(NotOnSaleError):
    """The offer is no longer sold."""


class Catalogue:
    """Offers by id.

    Parameters
    ----------
    offers
        Each id once.
    scopes
        Parts of the business that are taken up one after the other; each id once.

    Raises
    ------
    UserError
        If an id stands twice.
    """

    def __init__(self, offers: Iterable[Offer], scopes: Iterable[Scope] = ()) -> None:
        self._offers: dict[str, Offer] = {}
        for offer in offers:
            if offer.offer_id in self._offers:
                raise UserError(
                    f"The catalogue holds offer '{offer.offer_id}' twice.",
                    remedy="Give each offer an id of its own.",
                    zh=f"产品目录中套餐 {offer.offer_id} 重复。请为每个套餐使用不同的编号。",
                )
            self._offers[offer.offer_id] = offer
        self._scopes: dict[str, Scope] = {}
        for scope in scopes:
            if scope.scope_id in self._scopes:
                raise UserError(
                    f"The catalogue holds scope '{scope.scope_id}' twice.",
                    remedy="Give each scope an id of its own.",
                    zh=f"产品目录中业务范围 {scope.scope_id} 重复。请使用不同的编号。",
                )
            self._scopes[scope.scope_id] = scope

    @classmethod
    def load(cls, *paths: Path) -> Catalogue:
        """Read catalogue files: YAML with lists under ``offers:`` and, if any, ``scopes:``.

        Raises
        ------
        DocumentError
            If a field is missing or of the wrong form; the message names file and field.
        """
        tops = [Document.read(path) for path in paths]
        return cls(
            (_parse_offer(part) for top in tops for part in top.parts("offers")),
            (load_scope(part) for top in tops for part in top.parts("scopes")),
        )

    def __iter__(self) -> Iterator[Offer]:
        return iter(self._offers.values())

    def __len__(self) -> int:
        return len(self._offers)

    def __contains__(self, offer_id: object) -> bool:
        return offer_id in self._offers

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Parts of the business, in the order in which they are taken up."""
        return tuple(sorted(self._scopes.values(), key=lambda scope: scope.phase))

    def find(self, offer_id: str) -> Offer | None:
        """Return the offer, or None."""
        return self._offers.get(offer_id)

    def get(self, offer_id: str) -> Offer:
        """Return the offer, whether or not it is on sale.

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

    def on_sale(self, day: date) -> Catalogue:
        """Return the part of the catalogue that may be sold on a day."""
        return Catalogue((o for o in self if o.is_on_sale(day)), self._scopes.values())

    def get_on_sale(self, offer_id: str, day: date) -> Offer:
        """Return the offer if it may be sold on a day.

        Raises
        ------
        UnknownOfferError
            If there is none of that id.
        RetiredOfferError
            If it is no longer sold.
        NotOnSaleError
            If it is a draft, or its first day has not come.
        """
        offer = self.get(offer_id)
        if offer.is_retired(day):
            ended = f" since {offer.valid_until}" if offer.valid_until else ""
            raise RetiredOfferError(
                f"Offer '{offer_id}' is retired{ended}; it cannot be sold on {day}.",
                remedy="Take it out of the plan, or put an offer on sale in its place.",
                zh=f"套餐 {offer_id} 已下架，{day} 不能销售。请从方案中移除，或换成在售套餐。",
            )
        if not offer.is_on_sale(day):
            why, zh = "is a draft", "尚为草稿"
            if offer.status == "on_sale":
                why = f"is on sale only from {offer.valid_from}"
                zh = f"自 {offer.valid_from} 起才销售"
            raise NotOnSaleError(
                f"Offer '{offer_id}' {why}; it cannot be sold on {day}.",
                remedy="Put it on sale first, or choose a day on which it is.",
                zh=f"套餐 {offer_id} {zh}，{day} 不能销售。请先上架，或选择在售日期。",
            )
        return offer

    def require_on_sale(self, offer_ids: Iterable[str], day: date) -> tuple[Offer, ...]:
        """Return the offers if all may be sold on a day; see :meth:`get_on_sale` for errors."""
        return tuple(self.get_on_sale(offer_id, day) for offer_id in offer_ids)

    def of_category(self, *categories: str) -> Catalogue:
        """Return the part of the catalogue in the given business categories."""
        return Catalogue((o for o in self if o.category in categories), self._scopes.values())

    def of_scope(self, scope_id: str) -> Catalogue:
        """Return the part of the catalogue that a scope takes in.

        Raises
        ------
        UserError
            If no scope has that id.
        """
        scope = self._scopes.get(scope_id)
        if scope is None:
            known = ", ".join(sorted(self._scopes)) or "none"
            raise UserError(
                f"The catalogue has no scope '{scope_id}' (there are: {known}).",
                remedy="Choose one of these, or add it under scopes: in an offers file.",
                zh=f"产品目录中没有业务范围 {scope_id}（现有：{known}）。请选择其一或新增。",
            )
        return Catalogue((o for o in self if scope.takes(o)), self._scopes.values())

    def launched(self, since: date, until: date) -> Catalogue:
        """Return the offers whose first day of sale lies in a period, both days included."""
        new = (o for o in self if o.valid_from is not None and since <= o.valid_from <= until)
        return Catalogue(new, self._scopes.values())

    def plan_of(self, name: str) -> Offer | None:
        """Return the plan with that offer id, or the one that holds that product; else None."""
        offer = self._offers.get(name)
        if offer is not None and offer.kind == "plan":
            return offer
        return next((o for o in self if o.kind == "plan" and name in o.products), None)

    def family(self, name: str) -> tuple[Offer, ...]:
        """Return the plans of a family, lowest tier first; empty if there is no such family."""
        members = (o for o in self if o.family == name and o.tier is not None)
        return tuple(sorted(members, key=lambda offer: (offer.tier or 0, offer.offer_id)))


def _parse_offer(part: Document) -> Offer:
    part.allow(*_FIELDS)
    text = part.text("eligibility", "")
    offer = Offer(
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
        category=part.choice("category", (*CATEGORIES, OTHER), OTHER),
        status=part.choice("status", STATUSES, "on_sale"),
        valid_from=part.day("valid_from") if part.has("valid_from") else None,
        valid_until=part.day("valid_until") if part.has("valid_until") else None,
        family=part.text("family") if part.has("family") else None,
        tier=part.whole("tier", low=1) if part.has("tier") else None,
        data_mb=part.number("data_mb", low=0, high=1e12) if part.has("data_mb") else None,
        prices_by_plan=_parse_prices(part),
        plans=frozenset(part.texts("plans")),
        traits=frozenset(part.texts("traits")),
        exclusive=part.flag("exclusive", False),
    )
    if offer.valid_from and offer.valid_until and offer.valid_until < offer.valid_from:
        raise part.refuse("valid_until", "is before valid_from", "Give the last day of sale.")
    if (offer.tier is None) != (offer.family is None):
        raise part.refuse("tier", "and family go together", "Give both, or neither.")
    return offer


def _parse_prices(part: Document) -> Mapping[str, float]:
    prices = part.find_part("prices_by_plan")
    return {} if prices is None else {plan: prices.number(plan, low=0) for plan in prices.fields()}


def _parse_margin(part: Document) -> Margin:
    if not isinstance(part.raw("margin"), Mapping):
        return Margin(part.number("margin"))
    margin = part.part("margin").allow("fixed", "per_unit", "of")
    return Margin(margin.number("fixed", 0.0), margin.number("per_unit"), margin.text("of"))
