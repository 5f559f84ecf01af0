"""What suits a customer: offers by the matching principles, channels by the preferred ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.audience import Profile, tags_of
from bihuan.decision.recommendation.strategy import BoardError, Strategy
from bihuan.offer import Facts, Matching, Offer, ProfileFacts, match_products
from bihuan.strategy import PreferredWays
from bihuan.tag import TagField

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Suitability:
    """The matching principles over some offers, prepared once.

    Parameters
    ----------
    matching
        Principles and floor.
    offers
        Columns.
    fields
        Tags that rules may name.

    Raises
    ------
    UnknownTagError
        If a rule names a tag that is not there.
    """

    def __init__(
        self, matching: Matching, offers: Sequence[Offer], fields: Mapping[str, TagField]
    ) -> None:
        self.matching, self.offers = matching, tuple(offers)
        self.needs = matching.needs(self.offers)
        bound = self.needs.bound(fields)
        named = {tag for node in bound.values() for tag in tags_of(node)}
        self.tags = frozenset(named | self.needs.numbers | self.needs.texts)
        self._reader = ProfileFacts(self.needs, fields)

    def of_profile(self, profile: Profile) -> Mask:
        """Return whether each offer suits one customer, shape ``(m,)``."""
        known = {name: profile[name] for name in self.tags if name in profile}
        return np.asarray(self.of_facts(self._reader.read(known))[0])

    def of_facts(self, facts: Facts) -> Mask:
        """Return whether each offer suits each customer, shape ``(n, m)``."""
        return match_products(self.offers, self.matching, facts).is_suited


def suitabilities(
    strategies: Sequence[Strategy],
    matchings: Mapping[str, Matching],
    fields: Mapping[str, TagField],
) -> dict[str, Suitability]:
    """Prepare the matching principles that campaigns ask for, by name.

    Parameters
    ----------
    strategies
        Of which those are taken whose campaign names principles.
    matchings
        The principles there are.
    fields
        Tags that rules may name.

    Raises
    ------
    BoardError
        If a campaign asks for principles that are not there.
    UnknownTagError
        If a rule names a tag that is not there.
    """
    offers: dict[str, dict[str, Offer]] = {}
    for strategy in strategies:
        name = strategy.matching
        if name and name not in matchings:
            raise BoardError(
                f"Campaign '{strategy.campaign_id}' asks for the matching principles '{name}', "
                "which are not at hand.",
                remedy=f"Have: {', '.join(sorted(matchings)) or 'none'}. Put them into matching/.",
                zh=f"方案 {strategy.campaign_id} 要求按匹配原则 {name} 筛选，但没有该原则。"
                f"现有：{'、'.join(sorted(matchings)) or '无'}。请在 matching/ 中补充。",
            )
        if name:
            offers.setdefault(name, {})[strategy.offer.offer_id] = strategy.offer
    return {
        name: Suitability(matchings[name], tuple(mine.values()), fields)
        for name, mine in offers.items()
    }


class CampaignWays:
    """What preferred ways of contact mean for the strategies of campaigns that ask for them.

    Parameters
    ----------
    strategies
        Columns.
    ways
        The customers' preferences; None: nobody asked for them.

    Raises
    ------
    BoardError
        If a campaign asks for them and there are none.
    """

    def __init__(self, strategies: Sequence[Strategy], ways: PreferredWays | None) -> None:
        asking = [s.campaign_id for s in strategies if s.preferred_ways != "off"]
        if asking and ways is None:
            raise BoardError(
                f"Campaign '{asking[0]}' asks for preferred ways of contact, which are not known.",
                remedy="Take the contact history in, or write  preferred_ways: off.",
                zh=f"方案 {asking[0]} 要求按偏好接触方式决策，但尚无偏好数据。"
                "请先导入接触历史，或设置 preferred_ways: off。",
            )
        self._ways = ways
        self._filtered: dict[str, list[str]] = {}
        for strategy in strategies:
            if strategy.preferred_ways == "filter":
                kinds = self._filtered.setdefault(strategy.campaign_id, [])
                if strategy.candidate.channel not in kinds:
                    kinds.append(strategy.candidate.channel)
        self._channels = [s.candidate.channel for s in strategies]
        self._is_factor = np.array([s.preferred_ways == "factor" for s in strategies], np.bool_)

    @property
    def keys(self) -> list[tuple[str, str]]:
        """Campaign and channel of each column of :meth:`liked`."""
        return [(name, kind) for name, kinds in self._filtered.items() for kind in kinds]

    def liked(self, customer_id: pa.Array) -> Mask:
        """Return which channels customers like well enough, shape ``(n, n_keys)``."""
        parts = [np.zeros((len(customer_id), 0), np.bool_)]
        if self._ways is not None:
            parts += [self._ways.liked(customer_id, k) for k in self._filtered.values()]
        return np.concatenate(parts, axis=1)

    def liked_of(self, customer_id: str) -> list[bool]:
        """Return the same of one customer."""
        if self._ways is None:
            return []
        rows = [self._ways.liked_of(customer_id, kinds)[0] for kinds in self._filtered.values()]
        return [bool(flag) for row in rows for flag in row]

    def factor(self, customer_id: pa.Array) -> Floats | None:
        """Return the factor on the chance of a sale, ``(n, m)``; None where nobody asks for it."""
        if self._ways is None or not self._is_factor.any():
            return None
        return np.where(self._is_factor, self._ways.factor(customer_id, self._channels), 1.0)

    def factor_of(self, customer_id: str) -> Floats | None:
        """Return the same of one customer, shape ``(1, m)``."""
        if self._ways is None or not self._is_factor.any():
            return None
        return np.where(self._is_factor, self._ways.factor_of(customer_id, self._channels), 1.0)
