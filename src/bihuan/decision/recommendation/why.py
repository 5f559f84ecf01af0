"""Why, and why not: the whole path of one customer through one campaign.

Every stage of the funnel with the rules that stand behind it and the customer's values, down to
the single condition; then what each candidate is worth, what the limits charge, what rivals for
it, and the lot. What is told is asked of the same gates as the batch, and held against the log:
``agrees`` says whether the path leads where the log says it led.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bihuan.audience import And, Node, Not, Or, Profile, match, tags_of, to_text
from bihuan.decision.eligibility import Stage, run_funnel
from bihuan.decision.override import OverrideMasks
from bihuan.decision.override_plan import stages_by_hand
from bihuan.decision.plan import value_stages
from bihuan.decision.recommendation.board import FIRST_RULE, StrategyBoard
from bihuan.decision.recommendation.pricebook import PriceBook
from bihuan.decision.recommendation.reason import Wording
from bihuan.decision.recommendation.recommender import Match
from bihuan.decision.recommendation.strategy import Case, Mask
from bihuan.decision.value import Candidate


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a rule, with the customer's value.

    Parameters
    ----------
    text
        As written.
    holds
        For this customer.
    seen
        Per tag that it reads: title by language, and the value as read aloud by language.
    parts
        Conditions inside it; empty for a single one.
    """

    text: str
    holds: bool
    seen: tuple[tuple[Mapping[str, str], Mapping[str, str]], ...] = ()
    parts: tuple[Condition, ...] = ()

    def decisive(self) -> tuple[Condition, ...]:
        """Return the single conditions that made it what it is."""
        if not self.parts:
            return (self,)
        # an `and` that fails fails by those that fail, an `or` that holds by those that hold;
        # within a `not` it is the other way round, which `holds` of the parts says already
        same = [part for part in self.parts if part.holds == self.holds]
        return tuple(c for part in same or self.parts for c in part.decisive())


@dataclass(frozen=True, slots=True)
class Passage:
    """One stage of the funnel, as the customer met it.

    Parameters
    ----------
    name, title, phase
        Of the stage.
    came
        Candidates that came to it.
    left
        Candidates that were left after it, of those that came to it.
    conditions
        The rules behind it, evaluated; empty where it hangs on other facts.
    """

    name: str
    title: Mapping[str, str]
    phase: str
    came: int
    left: int
    conditions: tuple[Condition, ...] = ()

    @property
    def is_passed(self) -> bool:
        """Whether any candidate was left."""
        return self.left > 0


@dataclass(frozen=True, slots=True)
class Weighed:
    """One candidate, weighed for the customer.

    Parameters
    ----------
    candidate, title
        What, and the offer's title by language.
    fell_at
        Stage at which it fell; empty where it passed.
    propensity, margin, context, lever, cost
        The factors; value = propensity x margin x context x lever - cost.
    value, charge, net
        In the workspace's currency; net = value - charge.
    charges
        What each limit charges, by name.
    """

    candidate: Candidate
    title: Mapping[str, str]
    fell_at: str
    propensity: float
    margin: float
    context: float
    lever: float
    cost: float
    value: float
    charge: float
    net: float
    charges: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Why:
    """Why a customer gets what a campaign gives, or nothing.

    Parameters
    ----------
    campaign_id, customer_id
        Whom and what it is about.
    logged
        The customer's row of the decision log; None where the campaign did not consider him.
    path
        The stages in order.
    weighed
        All candidates, those left first, by net value.
    rivals
        How the other live campaigns fit the customer.
    fell_at
        Stage that took the last candidate; empty where some were left.
    agrees
        Whether the path leads where the log says; False after rules or data have changed.
    text
        All in words, by language.
    """

    campaign_id: str
    customer_id: str
    logged: Mapping[str, Any] | None
    path: tuple[Passage, ...]
    weighed: tuple[Weighed, ...]
    rivals: tuple[Match, ...]
    fell_at: str
    agrees: bool
    text: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Inquiry:
    """What is asked about.

    Parameters
    ----------
    profile, case
        The customer as he was when it was decided.
    logged
        His row of the log; None if there is none.
    policy
        What his unit may do, shape ``(1, m)``; None: everything.
    by_hand
        What people left open and what they forced, each ``(1, m)``; None: nothing.
    moments
        At which moments he was, ``(1, n_moments)``; None: at none.
    rivals
        The other live campaigns.
    """

    profile: Profile
    case: Case
    logged: Mapping[str, Any] | None = None
    policy: Mask | None = None
    by_hand: tuple[Mask, Mask] | None = None
    moments: Mask | None = None
    rivals: tuple[Match, ...] = ()


def trace(node: Node, profile: Profile, words: Wording) -> Condition:
    """Evaluate a rule condition by condition for one customer.

    Examples
    --------
    >>> from bihuan.audience import parse
    >>> words, profile = Wording({}, {}, {}), {"age": 17, "vip": False}
    >>> found = trace(parse("age >= 18 and not vip"), profile, words)
    >>> found.holds, [(part.text, part.holds) for part in found.parts]
    (False, [('age >= 18', False), ('not vip', True)])
    >>> found.decisive()[0].seen[0][1]["en"]
    '17'
    """
    parts: tuple[Condition, ...] = ()
    if isinstance(node, (And, Or)):
        parts = tuple(trace(part, profile, words) for part in node.parts)
    elif isinstance(node, Not) and isinstance(node.part, (And, Or)):
        # not (a and b) is told as its opposite parts
        parts = tuple(trace(Not(part), profile, words) for part in node.part.parts)
    seen = tuple(
        (
            {language: words.title(tag, language) for language in ("zh", "en")},
            {lang: words.value(tag, profile.get(tag), lang) for lang in ("zh", "en")},
        )
        for tag in tags_of(node)
        if not parts
    )
    return Condition(to_text(node), match(node, profile), seen, parts)


def why(
    board: StrategyBoard, prices: PriceBook, words: Wording, inquiry: Inquiry, *, campaign_id: str
) -> Why:
    """Tell the whole path of one customer through one campaign.

    Parameters
    ----------
    board
        The campaign's strategies, with audience and suppression, as of the decision.
    prices
        Of the batch.
    words
        How tags are named for people.
    inquiry
        The customer.
    campaign_id
        The campaign.
    """
    flags = board.flag(inquiry.profile, inquiry.case)
    value, margin, factor = _values(board, inquiry)
    masks = {} if inquiry.policy is None else {"policy": inquiry.policy}
    gates = [s for s in board.stages(flags, masks) if s.name != "held_out"]
    stages = _with_people([*gates, *value_stages(value)], inquiry.by_hand)
    funnel = run_funnel(value.shape, stages)
    came = len(board.candidates)
    path = []
    for count in funnel.counts:
        conditions = _conditions(board, count.name, inquiry.profile, words, came)
        path.append(
            Passage(count.name, count.title, count.phase, came, count.pairs_left, conditions)
        )
        came = count.pairs_left
    weighed = []
    for j, strategy in enumerate(board.strategies):
        stage = int(funnel.fell_at[0, j])
        charges = prices.of(strategy.candidate, inquiry.case.org_unit_id)
        charge = sum(charges.values())
        worth = float(value[0, j])
        weighed.append(
            Weighed(
                candidate=strategy.candidate,
                title=strategy.offer.title,
                fell_at=funnel.counts[stage].name if stage >= 0 else "",
                propensity=float(board.propensity[j]),
                margin=float(margin[0, j]),
                context=float(np.broadcast_to(factor, value.shape)[0, j]),
                lever=float(board.lever[j]),
                cost=float(board.cost[j]),
                value=worth,
                charge=charge,
                net=worth - charge,
                charges=charges,
            )
        )
    ranked = tuple(sorted(weighed, key=lambda w: (bool(w.fell_at), -w.net)))
    fell = int(funnel.reason()[0])
    fell_at = funnel.counts[fell].name if fell >= 0 else ""
    agrees = _agrees(inquiry.logged, fell_at)
    text = {
        language: _tell(tuple(path), ranked, inquiry, fell_at, language)
        for language in ("zh", "en")
    }
    return Why(
        campaign_id, inquiry.case.customer_id, inquiry.logged, tuple(path), ranked, inquiry.rivals,
        fell_at, agrees, text,
    )  # fmt: skip


def _values(board: StrategyBoard, inquiry: Inquiry) -> tuple[Any, Any, Any]:
    number = board.number(inquiry.profile)
    factor = board.context(inquiry.moments, board.way_factor(inquiry.case.customer_id))
    return board.value(number, factor), board.margin(number), factor


def _with_people(stages: Sequence[Stage], by_hand: tuple[Mask, Mask] | None) -> list[Stage]:
    if by_hand is None:
        return list(stages)
    left_open, forced = by_hand
    return stages_by_hand(stages, OverrideMasks(left_open, np.asarray(forced.any(axis=1))))


def _conditions(
    board: StrategyBoard, name: str, profile: Profile, words: Wording, came: int
) -> tuple[Condition, ...]:
    """Evaluate the rules behind a gate, each once."""
    gate = next((gate for gate in board.gates if gate.name == name), None)
    if gate is None or not came:
        return ()
    places = dict.fromkeys(int(i) - FIRST_RULE for i in gate.column)
    rules = [board.rules[i] for i in places if 0 <= i < len(board.rules)]
    return tuple(trace(rule, profile, words) for rule in rules)


def _agrees(logged: Mapping[str, Any] | None, fell_at: str) -> bool:
    if logged is None:
        return bool(fell_at)
    if fell_at:
        return bool(logged["arm"] == "none" and logged["reason"] == fell_at)
    return bool(logged["arm"] != "none" or logged["reason"] == "over_limit")


_WORDS = {
    "zh": {
        "fell": "没有推荐:在“{stage}”环节被剔除{why}。",
        "because": ",因为{reasons}",
        "value": "{rank}. {offer}({channel}):成交概率 {propensity:.1%} × 单笔收益 {margin:.2f}"
        " × 情境 {context:g} × 杠杆 {lever:g} − 成本 {cost:.2f} = 价值 {value:.2f};"
        "{price},净值 {net:.2f}{fell}。",
        "charge": "名额价格 {charge:.2f}",
        "bonus": "满足最低要求加分 {bonus:.2f}",
        "out": ",在“{stage}”环节被剔除",
        "treatment": "已列入计划并将接触(抽签概率 {treatment_probability:.3f},层“{stratum}”)。",
        "control": "已列入计划,抽签留作对照,不接触(接触概率 {treatment_probability:.3f},"
        "层“{stratum}”)。",
        "none": "通过全部环节,但名额给了净值更高的客户。",
        "unlogged": "该客户未进入本方案的决策名单。",
        "rival": "其他方案中最合适的是“{title}”,净值 {net:.2f}。",
        "mark": "、",
    },
    "en": {
        "fell": "Nothing: the customer fell at '{stage}'{why}.",
        "because": ", because {reasons}",
        "value": "{rank}. {offer} ({channel}): chance {propensity:.1%} x margin {margin:.2f} x "
        "context {context:g} x lever {lever:g} - cost {cost:.2f} = value {value:.2f}; {price} "
        "{net:.2f}{fell}.",
        "charge": "the limits it uses are worth {charge:.2f}, which leaves",
        "bonus": "the minimums it helps to meet add {bonus:.2f}, which makes",
        "out": "; fell at '{stage}'",
        "treatment": "Planned, to be contacted (chance {treatment_probability:.3f} by lot, stratum "
        "'{stratum}').",
        "control": "Planned, held out by lot, so there is no contact (chance of contact "
        "{treatment_probability:.3f}, stratum '{stratum}').",
        "none": "Passed every stage, but the room went to customers with a higher net value.",
        "unlogged": "The campaign did not consider this customer.",
        "rival": "Of the other campaigns '{title}' fits best, net {net:.2f}.",
        "mark": " and ",
    },
}


def _tell(
    path: tuple[Passage, ...],
    ranked: tuple[Weighed, ...],
    inquiry: Inquiry,
    fell_at: str,
    language: str,
) -> str:
    words, sentences = _WORDS[language], []
    titles = {passage.name: passage.title.get(language, passage.name) for passage in path}
    if fell_at:
        passage = next(p for p in path if p.name == fell_at)
        failed = [c for cond in passage.conditions if not cond.holds for c in cond.decisive()]
        said = list(dict.fromkeys(_seen(c, language) for c in failed if c.seen))
        why_ = words["because"].format(reasons=words["mark"].join(said)) if said else ""
        sentences.append(words["fell"].format(stage=titles[fell_at], why=why_))
    elif inquiry.logged is None:
        sentences.append(words["unlogged"])
    else:
        sentences.append(words[inquiry.logged["arm"]].format(**inquiry.logged))
    for rank, item in enumerate(ranked, 1):
        fell = words["out"].format(stage=titles[item.fell_at]) if item.fell_at else ""
        price = words["bonus" if item.charge < 0 else "charge"]
        sentences.append(
            words["value"].format(
                price=price.format(charge=item.charge, bonus=-item.charge), rank=rank,
                offer=item.title.get(language, item.candidate.offer_id),
                channel=item.candidate.channel, propensity=item.propensity, margin=item.margin,
                context=item.context, lever=item.lever, cost=item.cost, value=item.value,
                net=item.net, fell=fell,
            )
        )  # fmt: skip
    rival = next((match for match in inquiry.rivals if not match.fell_at), None)
    if rival is not None:
        title = rival.title.get(language, rival.campaign_id)
        sentences.append(words["rival"].format(title=title, net=rival.net))
    return "\n".join(sentences)


def _seen(condition: Condition, language: str) -> str:
    """Say a condition with the customer's value: 网龄 3个月(要求 tenure_months >= 12)."""
    values = [f"{title[language]} {value[language]}" for title, value in condition.seen]
    asked = {"zh": "要求", "en": "asked:"}[language]
    return f"{', '.join(values)} ({asked} {condition.text})"
