"""The next best offer of everybody, from one prepared board and the prices of the last batches.

Prepared once, asked millions of times: :meth:`Recommender.for_profile` answers for one customer
at the counter in under a millisecond, :meth:`Recommender.for_customers` for a table. Both ask the
same gates, add up the same value and charge the same prices, so they agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.audience import Profile
from bihuan.decision.eligibility import Funnel, run_funnel
from bihuan.decision.override import Override, override_masks
from bihuan.decision.recommendation.board import StrategyBoard
from bihuan.decision.recommendation.pricebook import PriceBook
from bihuan.decision.recommendation.ranking import Ranking, recommend
from bihuan.decision.recommendation.reason import LANGUAGES, Fact, Wording, facts_of, say
from bihuan.decision.recommendation.strategy import NOTHING_KNOWN, Case, Floats, Mask, PairPolicy

FIRST = 1e12  # ranks what a person forced before all else; never shown
BINDING = ("eligibility", "applicability", "contact_policy")
"""Phases that bind people too."""


@dataclass(frozen=True, slots=True)
class Recommended:
    """One thing to do with a customer now.

    Parameters
    ----------
    rank
        1 = the best.
    campaign_id, offer_id, channel, step
        What.
    net
        What it leaves: value less charge, in the workspace's currency.
    value, charge
        What it is expected to bring, and what the limits it uses are worth to others.
    propensity
        Chance of a sale, before moments and levers.
    by_hand
        Whether a person forced it.
    reason
        For the customer's ears, by language.
    """

    rank: int
    campaign_id: str
    offer_id: str
    channel: str
    step: int
    net: float
    value: float
    charge: float
    propensity: float
    by_hand: bool
    reason: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Match:
    """How one campaign fits one customer.

    Parameters
    ----------
    campaign_id, title
        The campaign, and its title by language.
    net, offer_id, channel
        Of its best strategy; NaN and empty where none is left.
    fell_at, fell_title
        Stage of the funnel that took the last strategy, and its title by language; empty where
        some are left.
    """

    campaign_id: str
    title: Mapping[str, str]
    net: float
    offer_id: str
    channel: str
    fell_at: str
    fell_title: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Situation:
    """What a recommender needs beside its board.

    Parameters
    ----------
    prices
        Price book by campaign id; campaigns without one are charged nothing.
    overrides
        In force.
    policies
        Frames of the org units; None where there are none.
    """

    prices: Mapping[str, PriceBook] = field(default_factory=dict)
    overrides: tuple[Override, ...] = ()
    policies: PairPolicy | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One customer or many, as arrays of n rows; what :meth:`Recommender.assess` judges.

    Parameters
    ----------
    flags, numbers
        From the board, shapes ``(n, n_conditions)`` and ``(n, n_tags + 2)``.
    moments
        At which moments each is, ``(n, n_moments)``; None: at none.
    policy
        What the units may do, ``(n, m)``; None: everything.
    charge
        What the limits used are worth, ``(n, m)``, less the bonus of minimums it helps to meet;
        for what is planned already the bonus alone, because its room is taken.
    by_hand
        What people left open, and what they forced, each ``(n, m)``; None: nobody stepped in.
    channel
        Only through this channel; None for all.
    ways
        What preferred ways of contact make of the chance, ``(n, m)``; None: no campaign asks.
    """

    flags: Mask
    numbers: Floats
    moments: Mask | None
    policy: Mask | None
    charge: Floats
    by_hand: tuple[Mask, Mask] | None
    channel: str | None = None
    ways: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Assessed:
    """The answer: what is open, what it is worth, what it takes, and what is forced; ``(n, m)``."""

    keep: Mask
    value: Floats
    charge: Floats
    forced: Mask | None

    def rank(self, *, top: int, group: NDArray[np.integer]) -> Ranking:
        """Rank it; what a person forced comes first.

        No bonus of a minimum makes up for a contact that loses money, as in the batch.
        """
        with np.errstate(invalid="ignore"):
            score = np.where(self.keep & (self.value > 0), self.value, np.nan)
        if self.forced is not None:
            raised = self.charge + FIRST + np.nan_to_num(self.value)
            score = np.where(self.forced & self.keep, raised, score)
        return recommend(score, self.charge, top=top, group=group)


class Recommender:
    """Answers what to do with a customer; safe to share between threads.

    Parameters
    ----------
    board
        All live strategies.
    words
        How tags are named for people.
    situation
        Prices, overrides and policies as they are now.
    """

    def __init__(
        self, board: StrategyBoard, words: Wording, situation: Situation | None = None
    ) -> None:
        self.board, self.words = board, words
        self.situation = situation or Situation()
        self.facts: tuple[tuple[Fact, ...], ...] = tuple(
            facts_of(strategy, words) for strategy in board.strategies
        )
        campaigns = [s.campaign_id for s in board.strategies]
        self.columns = {
            name: np.flatnonzero([name == other for other in campaigns])
            for name in dict.fromkeys(campaigns)
        }
        self.groups = {
            "offer": _codes([c.offer_id for c in board.candidates]),
            "campaign": _codes(campaigns),
            "strategy": np.arange(len(board.candidates)),
        }
        self.column_of = {(s.campaign_id, s.candidate): i for i, s in enumerate(board.strategies)}
        self._channel = np.array([c.channel for c in board.candidates], dtype=np.str_)
        self._of_unit: dict[str | None, tuple[Mask | None, Floats, Floats]] = {}
        self._bonuses = {
            name: bonus
            for name, book in self.situation.prices.items()
            if (bonus := book.bonuses).limits
        }
        mine = [o for o in self.situation.overrides if o.campaign_id in self.columns]
        self._by_hand = {o.customer_id: [p for p in mine if p.customer_id == o.customer_id]
                         for o in mine}  # fmt: skip

    # one customer

    def for_profile(
        self,
        profile: Profile,
        *,
        case: Case = NOTHING_KNOWN,
        channel: str | None = None,
        context: Collection[str] = (),
        top: int = 3,
        among: Mask | None = None,
    ) -> tuple[Recommended, ...]:
        """Return the best things to do with one customer now, best first.

        Parameters
        ----------
        profile
            Tag values of exact types (see :func:`bihuan.audience.profile_of`).
        case
            Products, opt-outs, contacts, unit, and the id for overrides.
        channel
            Only through this channel; None for all.
        context
            Further moments at which the customer is now.
        top
            How many offers at most; of each the best channel.
        among
            Only these strategies, shape ``(m,)``; None for all.
        """
        active = case.moments.union(context)
        question = self._one(profile, case, active, channel)
        assessed = self.assess(question)
        if among is not None:
            assessed.keep[0] &= among
        ranking = assessed.rank(top=top, group=self.groups["offer"])
        found = []
        for rank, column in enumerate(ranking.candidate[0].tolist()):
            if column < 0:
                break
            strategy = self.board.strategies[column]
            value, charge = float(assessed.value[0, column]), float(assessed.charge[0, column])
            found.append(
                Recommended(
                    rank=rank + 1,
                    campaign_id=strategy.campaign_id,
                    offer_id=strategy.candidate.offer_id,
                    channel=strategy.candidate.channel,
                    step=strategy.candidate.step,
                    net=value - charge,
                    value=value,
                    charge=charge,
                    propensity=strategy.propensity,
                    by_hand=assessed.forced is not None and bool(assessed.forced[0, column]),
                    reason=self._reason(column, profile, active),
                )
            )
        return tuple(found)

    def match_campaigns(
        self,
        profile: Profile,
        *,
        case: Case = NOTHING_KNOWN,
        context: Collection[str] = (),
    ) -> tuple[Match, ...]:
        """Say how every live campaign fits one customer, the best first, and why others do not.

        Parameters
        ----------
        profile, case, context
            As for :meth:`for_profile`.
        """
        question = self._one(profile, case, case.moments.union(context), None)
        assessed = self.assess(question)
        best = assessed.rank(top=len(self.columns), group=self.groups["campaign"])
        chosen = [column for column in best.candidate[0].tolist() if column >= 0]
        found = []
        for column in chosen:
            strategy = self.board.strategies[column]
            net = float(assessed.value[0, column] - assessed.charge[0, column])
            pair = strategy.candidate
            found.append(
                Match(
                    strategy.campaign_id, strategy.campaign_title, net, pair.offer_id,
                    pair.channel, "", {},
                )
            )  # fmt: skip
        masks = {} if question.policy is None else {"policy": question.policy}
        funnel = run_funnel(assessed.keep.shape, self.board.stages(question.flags, masks))
        matched = {match.campaign_id for match in found}
        for campaign, columns in self.columns.items():
            if campaign not in matched:
                title = self.board.strategies[columns[0]].campaign_title
                fall = _fall(funnel, assessed, columns)
                found.append(Match(campaign, title, float("nan"), "", "", *fall))
        return tuple(found)

    # one and many alike

    def assess(self, question: Question) -> Assessed:
        """Judge every pair of a question."""
        board = self.board
        masks = {} if question.policy is None else {"policy": question.policy}
        keep, forced = board.keep(question.flags, masks), None
        if question.by_hand is not None:
            left_open, wanted = question.by_hand
            forced = wanted & board.keep(question.flags, masks, phases=BINDING)
            keep = (keep & left_open) | forced
        if question.channel is not None:
            keep &= self._channel == question.channel
        context = board.context(question.moments, question.ways)
        return Assessed(keep, board.value(question.numbers, context), question.charge, forced)

    def of_units(self, units: pa.Array) -> tuple[Mask | None, Floats, Floats]:
        """Return what units may do (None: everything), what it is charged, and its bonus alone.

        Each of shape ``(n, m)``; a bonus is a charge below 0.
        """
        charge = self._charges(self.situation.prices, units)
        bonus = self._charges(self._bonuses, units)
        if self.situation.policies is None:
            return None, charge, bonus
        pairs_of_policy = [(c.offer_id, c.channel) for c in self.board.candidates]
        return self.situation.policies.allowed(units, pairs_of_policy), charge, bonus

    def _charges(self, books: Mapping[str, PriceBook], units: pa.Array) -> Floats:
        charge = np.zeros((len(units), len(self.board.candidates)))
        for campaign, columns in self.columns.items():
            book = books.get(campaign)
            if book is not None and book.limits:
                pairs = [self.board.candidates[i] for i in columns]
                charge[:, columns] = book.charges(pairs, units)
        return charge

    def by_hand(self, customer_id: pa.Array) -> tuple[Mask, Mask] | None:
        """Return what people left open and what they forced, each ``(n, m)``; None: nothing."""
        if not self._by_hand:
            return None
        shape = (len(customer_id), len(self.board.candidates))
        left_open, forced = np.ones(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
        everything = [override for mine in self._by_hand.values() for override in mine]
        for campaign, columns in self.columns.items():
            pairs = [self.board.candidates[i] for i in columns]
            masks = override_masks(everything, campaign, customer_id, pairs)
            left_open[:, columns] = masks.keep
            forced[:, columns] = masks.keep & masks.forced[:, None]
        return left_open, forced

    def moments_told(self, column: int, context: Collection[str]) -> tuple[Mapping[str, str], ...]:
        """Return the titles of the moments that speak for a strategy."""
        strategy = self.board.strategies[column]
        return tuple(
            moment.title
            for moment in self.board.settings.moments
            if moment.moment_id in context
            and moment.factor > 1
            and moment.concerns(strategy.offer, strategy.candidate.channel)
        )

    def _one(
        self,
        profile: Profile,
        case: Case,
        context: Collection[str],
        channel: str | None,
    ) -> Question:
        found = self._of_unit.get(case.org_unit_id)
        if found is None:
            found = self.of_units(pa.array([case.org_unit_id], pa.string()))
            self._of_unit[case.org_unit_id] = found
        stepped_in = case.customer_id in self._by_hand
        charge = found[1]
        taken = [self.column_of[pair] for pair in case.planned if pair in self.column_of]
        if taken:
            charge = charge.copy()
            charge[0, taken] = found[2][0, taken]
        return Question(
            flags=self.board.flag(profile, case),
            numbers=self.board.number(profile),
            moments=self.board.moments(context) if context else None,
            policy=found[0],
            charge=charge,
            by_hand=self.by_hand(pa.array([case.customer_id])) if stepped_in else None,
            channel=channel,
            ways=self.board.way_factor(case.customer_id),
        )

    def _reason(self, column: int, profile: Profile, context: Collection[str]) -> Mapping[str, str]:
        strategy, facts = self.board.strategies[column], self.facts[column]
        told = self.moments_told(column, context) if context else ()
        return {
            language: say(
                strategy, facts, self.words, profile, language, [t[language] for t in told]
            )
            for language in LANGUAGES
        }


def _fall(
    funnel: Funnel, assessed: Assessed, columns: NDArray[np.intp]
) -> tuple[str, Mapping[str, str]]:
    """Return the stage that took the last strategy of a campaign, and its title."""
    if assessed.keep[0, columns].any():
        return "no_value", {"zh": "价值抵不上占用的名额", "en": "Worth less than the room it takes"}
    if funnel.keep[0, columns].any():
        return "by_hand", {"zh": "人工干预", "en": "Laid down by hand"}
    count = funnel.counts[int(funnel.fell_at[0, columns].max())]
    return count.name, count.title


def _codes(names: list[str]) -> NDArray[np.intp]:
    place = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([place[name] for name in names], dtype=np.intp)
