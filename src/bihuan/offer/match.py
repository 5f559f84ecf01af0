"""Offers matched to customers by the principles, and schemes for need groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.offer.facts import Facts
from bihuan.offer.matching import Matching, NeedGroup, OfferFilter
from bihuan.offer.offer import Offer

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
HALF = 0.5


@dataclass(frozen=True, slots=True)
class ProductMatch:
    """How well offers suit customers: ``n`` customers, ``m`` offers, ``p`` principles.

    Parameters
    ----------
    matching
        By which principles.
    offers
        The offers, in the order of the columns.
    ids
        Customer ids, in the order of the rows.
    scores
        Score by principle, 0..1, shape ``(p, n, m)``; NaN = silent, because it is not known.
    total
        Weighted mean of the principles that speak, 0..1, shape ``(n, m)``; NaN if none does.
    is_eligible
        Whether the offer's own eligibility admits the customer, shape ``(n, m)``.
    is_suited
        Eligible, no principle under its bar, total at or above the floor; shape ``(n, m)``.
    """

    matching: Matching
    offers: tuple[Offer, ...]
    ids: pa.Array
    scores: NDArray[np.float32]
    total: Floats
    is_eligible: Flags
    is_suited: Flags

    def table(self, *, top: int | None = None, suited_only: bool = True) -> pa.Table:
        """Return one row per customer and offer, best offer first.

        Parameters
        ----------
        top
            At most this many offers per customer; None: all.
        suited_only
            Leave out offers that do not suit.

        Returns
        -------
        pyarrow.Table
            ``customer_id, rank, offer_id, total, is_suited``, one column per principle
            (``score_<principle>``, null = silent), ``reason_zh, reason_en``; ordered by customer,
            then rank.
        """
        order = self._order()
        most = order.shape[1] if top is None else min(top, order.shape[1])
        row, rank = np.nonzero(self._kept(order[:, :most], suited_only))
        column = order[row, rank]
        reasons = self._reasons(row, column)
        names = pa.array([offer.offer_id for offer in self.offers], pa.string())
        per_principle = {
            f"score_{principle.principle_id}": pa.array(
                scores[row, column].astype(np.float64), from_pandas=True
            )
            for principle, scores in zip(self.matching.principles, self.scores, strict=True)
        }
        return pa.table(
            {
                "customer_id": self.ids.take(pa.array(row)),
                "rank": pa.array(rank + 1),
                "offer_id": names.take(pa.array(column)),
                "total": pa.array(self.total[row, column], from_pandas=True),
                "is_suited": pa.array(self.is_suited[row, column]),
                **per_principle,
                "reason_zh": reasons["zh"],
                "reason_en": reasons["en"],
            }
        )

    def _order(self) -> NDArray[np.int64]:
        worth = np.nan_to_num(self.total, nan=-1.0) + 2.0 * self.is_suited
        return np.argsort(-worth, axis=1, kind="stable")

    def _kept(self, order: NDArray[np.int64], suited_only: bool) -> Flags:
        if not suited_only:
            return np.ones(order.shape, dtype=bool)
        return np.take_along_axis(self.is_suited, order, axis=1)

    def _reasons(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> Mapping[str, pa.Array]:
        """Tell per pair what speaks for and against; each pattern of answers is worded once."""
        code = np.where(self.is_eligible[row, column], 0, 1).astype(np.int64)
        for scores in self.scores:
            score = scores[row, column]
            answer = np.where(np.isnan(score), 2, np.where(score >= HALF, 1, 0))
            code = code * 3 + answer
        patterns, at = np.unique(code, return_inverse=True)
        worded = [self._word(int(pattern)) for pattern in patterns]
        return {
            language: pa.array([text[language] for text in worded], pa.string()).take(pa.array(at))
            for language in ("zh", "en")
        }

    def _word(self, pattern: int) -> Mapping[str, str]:
        answers = []
        for _ in self.matching.principles:
            pattern, answer = divmod(pattern, 3)
            answers.append(answer)
        told = list(zip(self.matching.principles, reversed(answers), strict=True))
        good = [p.speaks_for for p, answer in told if answer == 1]
        bad = [p.speaks_against for p, answer in told if answer == 0]
        barred = [{"zh": "不具备办理资格", "en": "not eligible"}] if pattern else []
        yes = [*barred, *good]
        return {
            "zh": "；".join([*(w["zh"] for w in yes), *(f"但{w['zh']}" for w in bad)])
            or "暂无可判断的信息",
            "en": "; ".join([*(w["en"] for w in yes), *(f"but {w['en']}" for w in bad)])
            or "nothing is known that tells",
        }


def match_products(offers: Iterable[Offer], matching: Matching, facts: Facts) -> ProductMatch:
    """Score each offer for each customer by the matching principles.

    Parameters
    ----------
    offers
        Offers, e.g. those on sale on a day.
    matching
        The principles.
    facts
        What :meth:`Matching.needs` asks for, of ``n`` customers or of one.

    Returns
    -------
    ProductMatch
        The same for one profile as in a batch.
    """
    chosen = tuple(offers)
    shape = (len(facts), len(chosen))
    scores = np.empty((len(matching.principles), *shape), dtype=np.float32)
    weighted, weight = np.zeros(shape), np.zeros(shape)
    passed = np.ones(shape, dtype=bool)
    for k, principle in enumerate(matching.principles):
        score = principle.score(chosen, facts)
        scores[k] = score
        is_known = ~np.isnan(score)
        weighted += principle.weight * np.where(is_known, score, 0.0)
        weight += principle.weight * is_known
        passed &= np.where(is_known, score >= principle.least, not principle.is_required)
    with np.errstate(invalid="ignore"):
        total = weighted / np.where(weight > 0, weight, np.nan)
    eligible = np.stack([facts.flags[o.eligibility] for o in chosen], axis=1) if chosen else (
        np.zeros(shape, dtype=bool)
    )  # fmt: skip
    with np.errstate(invalid="ignore"):
        suited = eligible & passed & (total >= matching.floor)
    return ProductMatch(matching, chosen, facts.ids, scores, total, eligible, suited)


@dataclass(frozen=True, slots=True)
class SchemeOffer:
    """One offer of a scheme.

    Parameters
    ----------
    offer_id, title
        The offer.
    suited
        Members whom it suits.
    share
        Of the group, 0..1.
    total
        Mean total over the members whom it suits, 0..1.
    channels
        Channel kinds through which it is sold, sorted.
    """

    offer_id: str
    title: Mapping[str, str]
    suited: int
    share: float
    total: float
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scheme:
    """The scheme of one need group (专属营销方案).

    Parameters
    ----------
    group
        For whom, and what it promises.
    members
        Customers of the group who are in no group before it.
    offers
        Best first: by the mean total over all members, those whom an offer does not suit
        counting 0.
    """

    group: NeedGroup
    members: int
    offers: tuple[SchemeOffer, ...]

    def text(self, language: str) -> str:
        """Return the scheme as Markdown in ``zh`` or ``en``."""
        zh = language == "zh"
        head = f"{self.members} 户" if zh else f"{self.members} customers"
        lines = [
            f"## {self.group.title[language]}（{head}）" if zh else
            f"## {self.group.title[language]} ({head})",
            self.group.promise[language],
        ]  # fmt: skip
        if not self.offers:
            lines.append("（没有适合的产品）" if zh else "(no offer suits them)")
        for place, offer in enumerate(self.offers, start=1):
            suited = f"适合 {offer.suited} 户" if zh else f"suits {offer.suited}"
            lines.append(
                f"{place}. {offer.title[language]} — {suited} ({offer.share:.0%}), "
                f"{'匹配分' if zh else 'score'} {offer.total:.2f} — {', '.join(offer.channels)}"
            )
        return "\n".join(lines) + "\n"


def group_of(groups: Sequence[NeedGroup], facts: Facts) -> NDArray[np.int64]:
    """Return the position of each customer's group, shape ``(n,)``; -1 = none, the first wins."""
    found = np.full(len(facts), -1, dtype=np.int64)
    for k in reversed(range(len(groups))):
        found[facts.flags[groups[k].audience]] = k
    return found


def design_schemes(match: ProductMatch, facts: Facts, *, top: int = 3) -> tuple[Scheme, ...]:
    """Design for each need group a scheme of its own from the offers that suit its members.

    Parameters
    ----------
    match
        From :func:`match_products`.
    facts
        The same customers.
    top
        At most this many offers per scheme; an offer that suits nobody is left out.

    Returns
    -------
    tuple of Scheme
        In the order of the groups; a group without members has an empty scheme.
    """
    groups = match.matching.groups
    group = group_of(groups, facts)
    return tuple(_scheme(match, groups[k], group == k, top) for k in range(len(groups)))


def rank_offers(
    match: ProductMatch,
    inside: Flags,
    *,
    top: int | None = None,
    only: OfferFilter | None = None,
) -> list[SchemeOffer]:
    """Return the offers that suit a group of customers, best first.

    Parameters
    ----------
    match
        From :func:`match_products`.
    inside
        Who is in the group, shape ``(n,)``.
    top
        At most this many.
    only
        Which offers are looked at; None: all.
    """
    size = int(inside.sum())
    suited = match.is_suited[inside]
    totals = np.where(suited, np.nan_to_num(match.total[inside]), 0.0).sum(axis=0)
    counts = suited.sum(axis=0)
    takes = OfferFilter().takes if only is None else only.takes
    order = [j for j in np.argsort(-totals, kind="stable") if counts[j] and takes(match.offers[j])]
    return [
        SchemeOffer(
            offer_id=match.offers[j].offer_id,
            title=match.offers[j].title,
            suited=int(counts[j]),
            share=float(counts[j] / size),
            total=float(totals[j] / counts[j]),
            channels=tuple(sorted(match.offers[j].channels)),
        )
        for j in order[:top]
    ]


def _scheme(match: ProductMatch, group: NeedGroup, inside: Flags, top: int) -> Scheme:
    ranked = rank_offers(match, inside, top=top, only=group.offers)
    return Scheme(group, int(inside.sum()), tuple(ranked))
