"""All that live campaigns may do with a customer, prepared once: gates, values, charges.

A :class:`StrategyBoard` has one column per strategy (campaign, offer, channel, step). Whether a
strategy is open to a customer hangs on *conditions*: rules over tags, opt-outs, products held,
earlier contacts. Each condition is asked once per customer, however many strategies share it, and
every gate of the funnel is a list that says which condition opens which column. So a table of
millions and one profile at the counter differ only in how the conditions are asked
(:meth:`StrategyBoard.flags` and :meth:`StrategyBoard.flag`); everything after is the same code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from bihuan.audience import Everyone, Node, Not, Profile, bind, matcher, tags_of
from bihuan.decision.eligibility import PHASES, Stage, exclusion_stage, opt_out_stage
from bihuan.decision.lever import LeverBook, lever_matrix
from bihuan.decision.recommendation.strategy import (
    BoardRules,
    Case,
    Cases,
    ContactCap,
    Strategy,
    count_contacts,
)
from bihuan.decision.recommendation.suit import CampaignWays, suitabilities
from bihuan.decision.value import Candidate, expected_value
from bihuan.offer import Catalogue, Offer
from bihuan.tag import TagField

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Gate:
    """One stage of the funnel over the columns of a board.

    Parameters
    ----------
    name, title, phase
        As of :class:`bihuan.decision.Stage`.
    column
        Which condition opens each strategy, shape ``(n_strategies,)``.
    """

    name: str
    title: Mapping[str, str]
    phase: str
    column: Indices


TITLES: Mapping[str, Mapping[str, str]] = {
    "outside_audience": {"zh": "不在目标客户群", "en": "Outside the campaign's audience"},
    "opted_out": {"zh": "客户已退订", "en": "Opted out"},
    "held_out": {"zh": "留作对照组", "en": "Held out as control"},
    "not_on_sale": {"zh": "商品未在售", "en": "Offer is not on sale"},
    "not_eligible": {"zh": "不符合商品资格", "en": "Not eligible for the offer"},
    "holds_excluded": {"zh": "已持有互斥产品", "en": "Holds an excluded product"},
    "other_plan": {"zh": "主套餐不在可办范围", "en": "Has none of the plans it is sold with"},
    "preferred_way": {"zh": "不是客户偏好的接触方式", "en": "Not a way that the customer prefers"},
    "not_matched": {"zh": "产品匹配度不足", "en": "Does not match the customer well enough"},
    "policy": {"zh": "组织政策不允许", "en": "Not allowed by the unit's policy"},
}
ALWAYS, NEVER, FIRST_RULE = 0, 1, 2
_Draft: TypeAlias = tuple[str, Mapping[str, str], str, list[Any]]


class StrategyBoard:
    """Strategies of one or more campaigns, with all that decides among them.

    Parameters
    ----------
    strategies
        Columns, in the order in which ties are broken.
    fields
        Tags that rules may name.
    catalogue
        Where the offers stand.
    day
        Day of the contact: offers must be on sale on it, contact windows end on it.
    rules
        Levers, fit rules, contact rules, matching principles, preferred ways.

    Raises
    ------
    AudienceError
        If a rule names a tag that there is not, or compares it with something else.
    BoardError
        If a campaign asks for matching principles or preferred ways that are not there.
    """

    def __init__(
        self,
        strategies: Sequence[Strategy],
        fields: Mapping[str, TagField],
        catalogue: Catalogue,
        *,
        day: date,
        rules: BoardRules | None = None,
    ) -> None:
        self.strategies = tuple(strategies)
        self.candidates = tuple(strategy.candidate for strategy in strategies)
        self.fields, self.day, self.settings = fields, day, rules or BoardRules()
        self._rule_of: dict[Node, int] = {}
        self._offers = list({s.offer.offer_id: s.offer for s in strategies}.values())
        self._channels = sorted({s.candidate.channel for s in strategies})
        self._campaigns = list(dict.fromkeys(s.campaign_id for s in strategies))
        self._plans = [_plan_products(offer, catalogue) for offer in self._offers]
        self.suits = suitabilities(self.strategies, self.settings.matchings, fields)
        self._ways = CampaignWays(self.strategies, self.settings.ways)
        drafts = list(self._draft_gates())
        self.rules = tuple(self._rule_of)
        self._tests = tuple(matcher(rule) for rule in self.rules)
        self.gates = tuple(self._number_conditions(drafts))
        self._terms = _Terms(self.strategies, self.settings.levers, catalogue)
        self._moment_factor = [
            np.array(
                [
                    moment.factor if moment.concerns(s.offer, s.candidate.channel) else 1.0
                    for s in self.strategies
                ]
            )
            for moment in self.settings.moments
        ]

    @property
    def number_tags(self) -> tuple[str, ...]:
        """Numeric tags that margins and risks read."""
        return self._terms.tags

    @property
    def tags(self) -> frozenset[str]:
        """All tags that the board reads of a profile."""
        named = {tag for rule in self.rules for tag in tags_of(rule)}
        suited = {tag for suit in self.suits.values() for tag in suit.tags}
        return frozenset(named | suited | set(self.number_tags))

    # the conditions of customers

    def flag(self, profile: Profile, case: Case) -> Mask:
        """Ask the conditions of one customer.

        Parameters
        ----------
        profile
            Tag values of exact types (see :func:`bihuan.audience.profile_of`).
        case
            What else is known.

        Returns
        -------
        numpy.ndarray
            Shape ``(1, n_conditions)``, as :meth:`flags` gives it for many.
        """
        row = [True, False]
        row += [test(profile) for test in self._tests]
        row += [case.held.isdisjoint(offer.excludes) for offer in self._offers]
        row += [not plans or not plans.isdisjoint(case.held) for plans in self._plans]
        shut = "all" in case.closed
        row += [not shut and channel not in case.closed for channel in self._channels]
        row += [
            (bool(rule.units) and (case.org_unit_id or "") not in rule.units)
            or rule.allows(case.contacts, self.day)
            for rule in self.settings.contacts
        ]
        row += [campaign not in case.held_out for campaign in self._campaigns]
        row += self._ways.liked_of(case.customer_id)
        for suit in self.suits.values():
            row += suit.of_profile(profile).tolist()
        return np.array([row], dtype=np.bool_)

    def flags(self, cases: Cases) -> Mask:
        """Ask the conditions of many customers; shape ``(n, n_conditions)``."""
        n, ids = len(cases.customer_id), cases.customer_id
        parts: list[Mask] = [np.ones((n, 1), np.bool_), np.zeros((n, 1), np.bool_), cases.rules]
        each = [Candidate(offer.offer_id, "") for offer in self._offers]
        held = cases.held
        if held is None:
            held = pa.table([pa.array([], pa.string())] * 2, ["customer_id", "product_id"])
        excludes = {offer.offer_id: offer.excludes for offer in self._offers}
        parts.append(exclusion_stage(each, ids, held, excludes).keep)
        plans = {o.offer_id: p for o, p in zip(self._offers, self._plans, strict=True)}
        without = ~exclusion_stage(each, ids, held, plans).keep
        parts.append(without | np.array([not p for p in self._plans], dtype=np.bool_))
        kinds = [Candidate("", channel) for channel in self._channels]
        if cases.opt_out is None:
            parts.append(np.ones((n, len(kinds)), np.bool_))
        else:
            parts.append(opt_out_stage(kinds, ids, cases.opt_out).keep)
        parts += [self._contact_flag(rule, cases)[:, None] for rule in self.settings.contacts]
        for campaign in self._campaigns:
            control = cases.held_out.get(campaign, pa.array([], pa.string()))
            inside = pc.is_in(ids, value_set=control.cast(ids.type))
            parts.append(~inside.to_numpy(zero_copy_only=False)[:, None])
        parts.append(self._ways.liked(ids))
        parts += [cases.suits[name] for name in self.suits]
        return np.concatenate(parts, axis=1)

    def _contact_flag(self, rule: ContactCap, cases: Cases) -> Mask:
        open_: Mask = np.ones(len(cases.customer_id), dtype=np.bool_)
        if rule.most == 0:
            open_[:] = False
        elif cases.contact is not None:
            open_ = count_contacts(cases, rule, self.day) < rule.most
        if rule.units:
            units = cases.org_unit_id
            here = pa.nulls(len(open_), pa.string()) if units is None else units
            named = pa.array(sorted(rule.units), pa.string())
            inside = pc.is_in(pc.fill_null(here, ""), value_set=named)
            open_ |= ~inside.to_numpy(zero_copy_only=False)
        return open_

    # the same for one and for millions

    def keep(
        self,
        flags: Mask,
        masks: Mapping[str, Mask] | None = None,
        *,
        phases: Collection[str] = PHASES,
    ) -> Mask:
        """Return which strategies pass the gates of some phases, shape ``(n, n_strategies)``.

        Parameters
        ----------
        flags
            From :meth:`flag` or :meth:`flags`.
        masks
            Further gates by name, each of shape ``(n, n_strategies)``, such as ``policy``.
        phases
            All unless given.
        """
        keep: Mask = np.ones((len(flags), len(self.strategies)), dtype=np.bool_)
        for gate in self.gates:
            if gate.phase in phases:
                keep &= flags[:, gate.column]
        for mask in (masks or {}).values():
            keep &= mask
        return keep

    def stages(
        self,
        flags: Mask,
        masks: Mapping[str, Mask] | None = None,
        *,
        leave_out: Collection[str] = (),
    ) -> tuple[Stage, ...]:
        """Return the gates as stages of a funnel, for counting and explaining.

        Parameters
        ----------
        flags, masks
            See :meth:`keep`; a mask of a name that has no title of its own shows its name.
        leave_out
            Names of gates that somebody else has charged already.
        """
        stages = [
            Stage(gate.name, gate.title, flags[:, gate.column], gate.phase)
            for gate in self.gates
            if gate.name not in leave_out
        ]
        for name, mask in (masks or {}).items():
            title = TITLES.get(name, {"zh": name, "en": name})
            stages.append(Stage(name, title, mask, "applicability"))
        return tuple(stages)

    def numbers(self, values: Mapping[str, Floats], n: int) -> Floats:
        """Return numeric tags as a matrix for :meth:`margin`; missing counts as 0."""
        matrix = np.zeros((n, len(self.number_tags) + 2))
        matrix[:, 1] = 1.0
        for i, tag in enumerate(self.number_tags):
            matrix[:, i + 2] = np.nan_to_num(values[tag])
        return matrix

    def number(self, profile: Profile) -> Floats:
        """Return the same of one profile, shape ``(1, n_tags + 2)``."""
        row = [0.0, 1.0]
        for tag in self.number_tags:
            value = profile.get(tag)
            row.append(0.0 if value is None or value != value else float(value))
        return np.array([row])

    @property
    def propensity(self) -> Floats:
        """Chance of a sale per strategy, shape ``(n_strategies,)``."""
        return self._terms.propensity

    @property
    def cost(self) -> Floats:
        """Cost of a contact per strategy, in the workspace's currency."""
        return self._terms.cost

    @property
    def lever(self) -> Floats:
        """Lever per strategy, >= 0."""
        return self._terms.lever

    def margin(self, numbers: Floats) -> Floats:
        """Return what a sale earns after gifts, in the workspace's currency; ``(n, m)``."""
        terms = self._terms
        earned = terms.fixed + terms.per_unit * numbers[:, terms.tag]
        earned *= terms.kept * numbers[:, terms.risk]
        return np.asarray(earned - terms.gift)

    def context(self, moments: Mask | None, ways: Floats | None = None) -> Floats | float:
        """Return the factor on the chance of a sale, shape ``(n, m)``; 1 where there is none.

        Parameters
        ----------
        moments
            At which of :attr:`moment_ids` each customer is, shape ``(n, n_moments)``. The
            strongest rise and the strongest fall are multiplied. None: at none.
        ways
            From :meth:`way_factors`.

        Returns
        -------
        numpy.ndarray or float
            At most what makes the chance certain.
        """
        if moments is None and ways is None:
            return 1.0
        factor: Any = 1.0 if moments is None else self._moments_factor(moments)
        if ways is not None:
            factor = factor * ways
        with np.errstate(divide="ignore"):
            return np.asarray(np.fmin(factor, 1.0 / self.propensity))

    def _moments_factor(self, moments: Mask) -> Floats:
        rise = np.ones((len(moments), len(self.strategies)))
        fall = np.ones_like(rise)
        for i, row in enumerate(self._moment_factor):
            factor = np.where(moments[:, i : i + 1], row, 1.0)
            np.maximum(rise, factor, out=rise)
            np.minimum(fall, factor, out=fall)
        return np.asarray(rise * fall)

    def way_factors(self, customer_id: pa.Array) -> Floats | None:
        """Return what preferred ways make of the chance, ``(n, m)``; None: no campaign asks."""
        return self._ways.factor(customer_id)

    def way_factor(self, customer_id: str) -> Floats | None:
        """Return the same of one customer, shape ``(1, m)``."""
        return self._ways.factor_of(customer_id)

    @property
    def moment_ids(self) -> tuple[str, ...]:
        """Key moments that the board knows, in order."""
        return tuple(moment.moment_id for moment in self.settings.moments)

    def moments(self, active: Collection[str]) -> Mask:
        """Return the moments of one customer for :meth:`context`, shape ``(1, n_moments)``."""
        return np.array([[moment in active for moment in self.moment_ids]], dtype=np.bool_)

    def value(self, numbers: Floats, context: ArrayLike = 1.0) -> Floats:
        """Return the expected value of every pair, in the workspace's currency, ``(n, m)``."""
        shape = (len(numbers), len(self.strategies))
        return expected_value(
            np.broadcast_to(self.propensity, shape),
            self.margin(numbers),
            self.cost,
            context=context,
            lever=self.lever,
            off=self.settings.off,
        )

    # preparation

    def _draft_gates(self) -> Iterable[_Draft]:
        """Name the conditions of every gate; they are numbered when all rules are known."""
        each, levers = self.strategies, self.settings.levers

        def gate(name: str, phase: str, column: list[Any], title: Any = None) -> _Draft:
            return name, title or TITLES.get(name, {"zh": name, "en": name}), phase, column

        yield gate("outside_audience", "eligibility", [self._rule(s.audience) for s in each])
        yield from self._suppressions()
        shut = [("channel", s.candidate.channel) for s in each]
        yield gate("opted_out", "eligibility", shut)
        yield gate("held_out", "eligibility", [("campaign", s.campaign_id) for s in each])
        sold = [ALWAYS if s.offer.is_on_sale(self.day) else NEVER for s in each]
        yield gate("not_on_sale", "applicability", sold)
        allowed = [self._rule(s.offer.eligibility) for s in each]
        yield gate("not_eligible", "applicability", allowed)
        for name, what in (("holds_excluded", "offer"), ("other_plan", "plan")):
            yield gate(name, "applicability", [(what, s.offer.offer_id) for s in each])
        for fit in levers.fits:
            fitting = [
                self._rule(fit.audience(s.offer)) if fit.scope.covers_offer(s.offer) else ALWAYS
                for s in each
            ]
            yield gate(fit.name, "suitability", fitting, fit.title)
        if self._ways.keys:
            liked = [("way", (s.campaign_id, s.candidate.channel)) if s.preferred_ways == "filter"
                     else ALWAYS for s in each]  # fmt: skip
            yield gate("preferred_way", "suitability", liked)
        if self.suits:
            suited = [("suit", (s.matching, s.offer.offer_id)) if s.matching else ALWAYS
                      for s in each]  # fmt: skip
            yield gate("not_matched", "suitability", suited)
        for rule in self.settings.contacts:
            governed = [
                ("contact", rule.name) if rule.governs(s.candidate) else ALWAYS for s in each
            ]
            yield gate(rule.name, "contact_policy", governed, rule.title)

    def _suppressions(self) -> Iterable[_Draft]:
        titles = {e.name: e.title for s in self.strategies for e in s.exclusions}
        for name, title in titles.items():
            column: list[Any] = []
            for strategy in self.strategies:
                who = [e.who for e in strategy.exclusions if e.name == name]
                column.append(self._rule(Not(who[0])) if who else ALWAYS)
            yield f"suppressed_{name}", title, "eligibility", column

    def _rule(self, node: Node) -> int:
        if isinstance(node, Everyone):
            return ALWAYS
        bound = bind(node, self.fields)
        return FIRST_RULE + self._rule_of.setdefault(bound, len(self._rule_of))

    def _number_conditions(self, drafts: Iterable[_Draft]) -> Iterable[Gate]:
        """Turn the names of conditions into columns of the flags, in the order of `flag`."""
        at = FIRST_RULE + len(self.rules)
        place: dict[Any, int] = {}
        kinds: Iterable[tuple[str, Iterable[Any]]] = (
            ("offer", [offer.offer_id for offer in self._offers]),
            ("plan", [offer.offer_id for offer in self._offers]),
            ("channel", self._channels),
            ("contact", [rule.name for rule in self.settings.contacts]),
            ("campaign", self._campaigns),
            ("way", self._ways.keys),
            ("suit", [(n, o.offer_id) for n, suit in self.suits.items() for o in suit.offers]),
        )
        for kind, names in kinds:
            for name in names:
                place[kind, name] = at
                at += 1
        for name, title, phase, column in drafts:
            places = [place.get(where, where) for where in column]
            yield Gate(name, title, phase, np.array(places, dtype=np.intp))


class _Terms:
    """The factors of the value per strategy, as arrays."""

    def __init__(
        self, strategies: Sequence[Strategy], levers: LeverBook, catalogue: Catalogue
    ) -> None:
        candidates = [s.candidate for s in strategies]
        margins = [s.offer.margin for s in strategies]
        named = [*(margin.tag for margin in margins), *(s.risk_tag for s in strategies)]
        self.tags = tuple(sorted({tag for tag in named if tag}))
        column = {tag: i + 2 for i, tag in enumerate(self.tags)}
        self.propensity = np.array([s.propensity for s in strategies], dtype=np.float64)
        self.cost = np.array([s.cost for s in strategies], dtype=np.float64)
        self.gift = np.array([s.offer.cost for s in strategies], dtype=np.float64)
        self.fixed = np.array([margin.fixed for margin in margins], dtype=np.float64)
        self.per_unit = np.array([m.per_unit if m.tag else 0.0 for m in margins])
        self.tag = np.array([column.get(m.tag or "", 0) for m in margins], dtype=np.intp)
        self.risk = np.array([column.get(s.risk_tag or "", 1) for s in strategies], dtype=np.intp)
        self.kept = np.array([s.kept_share if s.risk_tag else 1.0 for s in strategies])
        self.lever = lever_matrix(levers.levers, candidates, catalogue)


def _plan_products(offer: Offer, catalogue: Catalogue) -> frozenset[str]:
    """Return the products whose holders may buy the offer; empty = all."""
    found = set(offer.plans)
    for name in offer.plans:
        plan = catalogue.find(name)
        found |= set(plan.products) if plan is not None else set()
    return frozenset(found)
