"""Product matching principles: how well each offer suits each customer, and why.

An ordered list of principles (need fit, affordability, ...) stands in ``matching/*.yaml``; each has
a weight and rules. A rule scores an offer from 0 to 1: by an audience, by the ratio of the offer's
price or data to a tag, or by whether it is sold through a channel that a tag names. What is not
known of a customer makes a principle silent for him, not bad.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bihuan.audience import Node
from bihuan.offer.facts import Facts, Needs
from bihuan.offer.offer import Offer

Floats: TypeAlias = NDArray[np.float64]
MEASURES = ("price", "data_mb", "months", "commitment")


@dataclass(frozen=True, slots=True)
class OfferFilter:
    """Which offers a rule speaks of; what is empty does not restrict.

    Parameters
    ----------
    ids, kinds, categories, families
        Allowed values of the offer.
    traits
        The offer has at least one of them.
    """

    ids: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    families: frozenset[str] = frozenset()
    traits: frozenset[str] = frozenset()

    def takes(self, offer: Offer) -> bool:
        """Whether the rule speaks of an offer."""
        return (
            (not self.ids or offer.offer_id in self.ids)
            and (not self.kinds or offer.kind in self.kinds)
            and (not self.categories or offer.category in self.categories)
            and (not self.families or offer.family in self.families)
            and (not self.traits or not self.traits.isdisjoint(offer.traits))
        )


@dataclass(frozen=True, slots=True)
class AudienceRule:
    """Scores by membership.

    Parameters
    ----------
    offers
        Of which offers it speaks.
    audience
        As written.
    inside, outside
        Score of its members, and of all others, 0..1.
    """

    offers: OfferFilter
    audience: Node
    inside: float = 1.0
    outside: float = 0.0

    @property
    def needs(self) -> Needs:
        """What it reads."""
        return Needs(nodes=frozenset({self.audience}))

    def score(self, offers: Sequence[Offer], facts: Facts) -> Floats:
        """Return scores of shape ``(n, m)``."""
        one = np.where(facts.flags[self.audience], self.inside, self.outside)
        return np.broadcast_to(one[:, None], (len(facts), len(offers)))


@dataclass(frozen=True, slots=True)
class RatioRule:
    """Scores by how an offer's measure stands to a tag.

    Parameters
    ----------
    offers
        Of which offers it speaks.
    measure
        ``price`` (per month), ``data_mb``, ``months``, or ``commitment`` (price times months).
    of
        Numeric tag in the same unit.
    ratios, scores
        Corners of a piecewise linear curve from ``measure / tag`` to the score; constant beyond
        its ends. Ratios rise, scores are 0..1.
    """

    offers: OfferFilter
    measure: str
    of: str
    ratios: tuple[float, ...]
    scores: tuple[float, ...]

    @property
    def needs(self) -> Needs:
        """What it reads."""
        return Needs(numbers=frozenset({self.of}))

    def score(self, offers: Sequence[Offer], facts: Facts) -> Floats:
        """Return scores of shape ``(n, m)``; NaN where the tag or the measure is missing."""
        have = np.array([_measure(offer, self.measure) for offer in offers])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = have[None, :] / facts.numbers[self.of][:, None]
        found = np.interp(ratio, self.ratios, self.scores)
        return np.where(np.isnan(ratio) | (ratio < 0), np.nan, found)


@dataclass(frozen=True, slots=True)
class ChannelRule:
    """Scores 1 if the offer is sold through the channel that a tag names, else 0.

    Parameters
    ----------
    offers
        Of which offers it speaks.
    tag
        Text tag that holds a channel kind.
    """

    offers: OfferFilter
    tag: str

    @property
    def needs(self) -> Needs:
        """What it reads."""
        return Needs(texts=frozenset({self.tag}))

    def score(self, offers: Sequence[Offer], facts: Facts) -> Floats:
        """Return scores of shape ``(n, m)``; NaN where the tag is missing."""
        named = facts.texts[self.tag].dictionary_encode()
        kinds = named.dictionary.to_pylist()
        sold = np.array([[float(kind in o.channels) for o in offers] for kind in kinds])
        known = np.vstack([sold.reshape(len(kinds), len(offers)), np.full(len(offers), np.nan)])
        codes = named.indices.fill_null(len(kinds)).to_numpy(zero_copy_only=False)
        return np.asarray(known[codes])


Rule: TypeAlias = AudienceRule | RatioRule | ChannelRule


@dataclass(frozen=True, slots=True)
class Principle:
    """One principle of matching.

    Parameters
    ----------
    principle_id, title
        Stable id, and title by language.
    weight
        Weight in the total, > 0.
    least
        An offer that scores less is no match, whatever its total; 0 = no bar.
    is_required
        Whether not knowing is no match either.
    speaks_for, speaks_against
        Words for the reason, by language: score at or above one half, and below.
    rules
        For each offer the first rule that speaks of it counts.
    """

    principle_id: str
    title: Mapping[str, str]
    weight: float
    least: float
    is_required: bool
    speaks_for: Mapping[str, str]
    speaks_against: Mapping[str, str]
    rules: tuple[Rule, ...]

    def score(self, offers: Sequence[Offer], facts: Facts) -> Floats:
        """Return scores of shape ``(n, m)``, 0..1; NaN = silent."""
        scores = np.full((len(facts), len(offers)), np.nan)
        left = list(range(len(offers)))
        for rule in self.rules:
            mine = [j for j in left if rule.offers.takes(offers[j])]
            if mine:
                scores[:, mine] = rule.score([offers[j] for j in mine], facts)
            left = [j for j in left if j not in mine]
        return scores


@dataclass(frozen=True, slots=True)
class NeedGroup:
    """Customers with one need, for whom a scheme of their own is designed.

    Parameters
    ----------
    group_id, title
        Stable id, and title by language.
    audience
        As written. A customer in several groups belongs to the first of them.
    promise
        What the scheme promises them, by language.
    offers
        Of which offers the scheme is made.
    """

    group_id: str
    title: Mapping[str, str]
    audience: Node
    promise: Mapping[str, str]
    offers: OfferFilter = OfferFilter()


@dataclass(frozen=True, slots=True)
class Matching:
    """A configured way to match offers to customers.

    Parameters
    ----------
    matching_id, title
        Stable id, and title by language.
    floor
        Least total of a match, 0..1.
    principles
        In the order in which reasons are told.
    groups
        Need groups, most specific first.
    """

    matching_id: str
    title: Mapping[str, str]
    floor: float
    principles: tuple[Principle, ...]
    groups: tuple[NeedGroup, ...] = ()

    def needs(self, offers: Sequence[Offer]) -> Needs:
        """Return what matching these offers reads of customers."""
        found = Needs(
            nodes=frozenset(offer.eligibility for offer in offers)
            | frozenset(group.audience for group in self.groups)
        )
        for principle in self.principles:
            for rule in principle.rules:
                found |= rule.needs
        return found


def _measure(offer: Offer, measure: str) -> float:
    if measure == "commitment":
        return offer.price * offer.months
    if measure == "data_mb":
        return float("nan") if offer.data_mb is None else offer.data_mb
    return offer.price if measure == "price" else float(offer.months)
