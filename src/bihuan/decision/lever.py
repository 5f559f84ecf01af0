"""What the business wants to push where: levers per channel and kind of offer; whom it suits.

A lever raises (or lowers) the value of offers of some traits on some channels, so that seats and
screens with room for few go to what they are best at. It ranks and never forbids: "first", not
"only". A fit rule says for whom an offer is suitable at all. Both are written by planners in
``levers/*.yaml``; the factors there are experience values until outcomes teach better ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bihuan.audience import Compare, Everyone, Missing, Node, Or, parse, to_text
from bihuan.decision.value import Candidate
from bihuan.kernel import UserError, hash_id
from bihuan.kernel.document import Document
from bihuan.offer import Catalogue, Offer

MOST = 100.0
"""No factor may be greater; a slip of the keyboard is more likely."""


class LeverError(UserError):
    """Levers that do not go together."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which candidates something is about: all that match every list which is not empty.

    Parameters
    ----------
    channels
        Channel kinds.
    traits
        Of the offer; one in common is enough.
    offers
        Offer ids.
    kinds, categories
        Of the offer.
    """

    channels: frozenset[str] = frozenset()
    traits: frozenset[str] = frozenset()
    offers: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()

    def covers(self, offer: Offer, channel: str) -> bool:
        """Whether an offer through a channel is meant."""
        return (not self.channels or channel in self.channels) and self.covers_offer(offer)

    def covers_offer(self, offer: Offer) -> bool:
        """Whether an offer is meant, through whatever channel."""
        return (
            (not self.traits or not self.traits.isdisjoint(offer.traits))
            and (not self.offers or offer.offer_id in self.offers)
            and (not self.kinds or offer.kind in self.kinds)
            and (not self.categories or offer.category in self.categories)
        )


@dataclass(frozen=True, slots=True)
class Lever:
    """A factor on the value of some offers on some channels.

    Parameters
    ----------
    name, title
        Id, and title by language.
    scope
        Where it acts.
    factor
        0 to 100; above 1 pushes, below 1 holds back, 0 leaves no value.
    """

    name: str
    title: Mapping[str, str]
    scope: Scope
    factor: float


@dataclass(frozen=True, slots=True)
class FitRule:
    """For whom an offer is suitable: what the customer must need, or can afford.

    Parameters
    ----------
    name, title
        Code of the stage of the funnel, and title by language.
    scope
        Offers that the rule is about; the channel plays no part.
    needs
        Audience that needs the offer; None where the rule is about the price.
    share_of, most
        The offer's monthly price must not exceed this share of this tag (for example 0.5 of
        ``arpu``). A missing value is no reason against.
    """

    name: str
    title: Mapping[str, str]
    scope: Scope
    needs: Node | None = None
    share_of: str = ""
    most: float = 0.0

    def audience(self, offer: Offer) -> Node:
        """Return the customers whom the offer suits, as an audience.

        Examples
        --------
        >>> from bihuan.offer import Margin
        >>> rule = FitRule("affordable", {}, Scope(), share_of="arpu", most=0.5)
        >>> offer = Offer("pack", {}, "addon", (), 29.9, 6, Margin(40.0), 5.0, Everyone(),
        ...               frozenset(), frozenset())
        >>> to_text(rule.audience(offer))
        'arpu >= 59.8 or arpu is missing'
        """
        if self.needs is not None:
            return self.needs
        if offer.price <= 0:
            return Everyone()
        least = Decimal(str(offer.price)) / Decimal(str(self.most))
        least = least.quantize(Decimal("0.01"), rounding=ROUND_CEILING).normalize()
        return Or((Compare(self.share_of, ">=", Decimal(f"{least:f}")), Missing(self.share_of)))


@dataclass(frozen=True, slots=True)
class LeverBook:
    """All levers and fit rules of a workspace.

    Parameters
    ----------
    levers, fits
        In the order of the files. Where several levers act on one candidate, their factors are
        multiplied.
    """

    levers: tuple[Lever, ...] = ()
    fits: tuple[FitRule, ...] = ()

    @classmethod
    def load(cls, *paths: Path) -> LeverBook:
        """Read lever files: YAML with lists ``levers`` and ``fits``.

        Raises
        ------
        DocumentError
            If a field is missing or of the wrong form; the message names file and field.
        LeverError
            If two levers or two fit rules share a name.
        """
        tops = [Document.read(path).allow("levers", "fits", "note") for path in paths]
        levers = tuple(_lever(part) for top in tops for part in top.parts("levers"))
        fits = tuple(_fit(part) for top in tops for part in top.parts("fits"))
        _require_names("lever", [lever.name for lever in levers])
        _require_names("fit rule", [fit.name for fit in fits])
        return cls(levers, fits)

    @property
    def content_id(self) -> str:
        """Hash of what the book does; any edit that matters changes it."""
        levers = [[_scope_key(lever.scope), lever.factor] for lever in self.levers]
        fits = [
            [fit.name, _scope_key(fit.scope), fit.needs and to_text(fit.needs), fit.share_of,
             fit.most]
            for fit in self.fits
        ]  # fmt: skip
        return hash_id("levers", levers, fits)


NO_LEVERS = LeverBook()
"""Every factor 1, and every offer suits everybody."""


def lever_matrix(
    levers: Iterable[Lever], candidates: Sequence[Candidate], catalogue: Catalogue
) -> NDArray[np.float64]:
    """Return the factor of each candidate, the product of all levers that act on it.

    Parameters
    ----------
    levers
        Of a :class:`LeverBook`.
    candidates
        Columns.
    catalogue
        Where their offers stand, with traits.

    Returns
    -------
    numpy.ndarray
        Shape ``(n_candidates,)``; 1 where no lever acts. What
        :func:`bihuan.decision.expected_value` takes as ``lever``.
    """
    levers = tuple(levers)
    factors = np.ones(len(candidates))
    for i, candidate in enumerate(candidates):
        offer = catalogue.get(candidate.offer_id)
        for lever in levers:
            if lever.scope.covers(offer, candidate.channel):
                factors[i] *= lever.factor
    return factors


def _scope_key(scope: Scope) -> list[list[str]]:
    lists = (scope.channels, scope.traits, scope.offers, scope.kinds, scope.categories)
    return [sorted(names) for names in lists]


def _scope(part: Document) -> Scope:
    return Scope(
        channels=frozenset(part.texts("channels")),
        traits=frozenset(part.texts("traits")),
        offers=frozenset(part.texts("offers")),
        kinds=frozenset(part.texts("kinds")),
        categories=frozenset(part.texts("categories")),
    )


_SCOPE = ("channels", "traits", "offers", "kinds", "categories")


def _lever(part: Document) -> Lever:
    part.allow("lever", "title", "factor", "note", *_SCOPE)
    factor = part.number("factor", low=0, high=MOST)
    return Lever(part.text("lever"), part.titles("title"), _scope(part), factor)


def _fit(part: Document) -> FitRule:
    part.allow("fit", "title", "needs", "price_share", "note", *_SCOPE[1:])
    if part.has("needs") == part.has("price_share"):
        raise part.refuse("needs", "or price_share must be given, one of them", "Write just one.")
    needs = parse(part.text("needs")) if part.has("needs") else None
    price = part.find_part("price_share")
    return FitRule(
        name=part.text("fit"),
        title=part.titles("title"),
        scope=_scope(part),
        needs=needs,
        share_of="" if price is None else price.allow("of", "most").text("of"),
        most=0.0 if price is None else price.number("most", low=1e-6, high=MOST),
    )


def _require_names(noun: str, names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise LeverError(
            f"There are two {noun}s called '{twice}'.",
            remedy="Give each a name of its own.",
            zh=f"规则“{twice}”重名,请使用不同的名称。",
        )
