"""Why this offer through this channel, or why nothing: for one customer, in two languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow.compute as pc

from bihuan.decision.allocation.limit import Limit
from bihuan.decision.plan import Plan
from bihuan.decision.value import Candidate
from bihuan.kernel import UserError


class UnknownCustomerError(UserError):
    """The plan did not consider that customer."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One candidate seen by one customer.

    Parameters
    ----------
    candidate
        What could be done.
    value
        Expected value in the workspace's currency; NaN where it fell in the funnel.
    charge
        What the limits it uses are worth to others, in the workspace's currency.
    net
        value - charge; the plan prefers the greatest, and nothing where none is above 0.
    fell_at
        Stage of the funnel at which it fell; empty where it passed.
    """

    candidate: Candidate
    value: float
    charge: float
    net: float
    fell_at: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was decided for a customer and against what.

    Parameters
    ----------
    customer_id
        The customer.
    arm, reason
        As in the decision table.
    chosen
        The planned candidate, or None.
    alternatives
        All candidates, best net value first, those that fell in the funnel last.
    text
        The same in words.
    """

    customer_id: str
    arm: str
    reason: str
    chosen: Alternative | None
    alternatives: tuple[Alternative, ...]
    text: str


def explain(plan: Plan, customer_id: str, language: str = "zh") -> Explanation:
    """Say why a customer gets what the plan gives, or nothing.

    Parameters
    ----------
    plan
        As decided.
    customer_id
        A customer that the plan considered.
    language
        ``zh`` or ``en``.

    Raises
    ------
    UnknownCustomerError
        If the plan did not consider the customer.
    """
    if language not in _WORDS:
        raise UserError(
            f"No explanation in '{language}'.",
            remedy="Choose zh or en.",
            zh=f"没有“{language}”语言的解释,请选择 zh 或 en。",
        )
    row = pc.index(plan.inputs.customer_id, customer_id).as_py()
    if row < 0:
        raise UnknownCustomerError(
            f"Campaign '{plan.inputs.campaign_id}' did not consider customer '{customer_id}'.",
            remedy="Look the customer up in the audience of the campaign.",
            zh=f"活动“{plan.inputs.campaign_id}”没有考虑过客户“{customer_id}”,请核对目标客户群。",
        )
    choice = int(plan.allocation.choice[row])
    seen = [_alternative(plan, row, j) for j in range(len(plan.inputs.candidates))]
    chosen = seen[choice] if choice >= 0 else None
    ranked = sorted(seen, key=lambda a: (bool(a.fell_at), 0.0 if a.fell_at else -a.net))
    decision = plan.decisions.slice(row, 1).to_pylist()[0]
    reason = decision["reason"] or ""
    text = _tell(plan, row, chosen, tuple(ranked), language)
    return Explanation(customer_id, decision["arm"], reason, chosen, tuple(ranked), text)


def _alternative(plan: Plan, row: int, candidate: int) -> Alternative:
    value = float(plan.value[row, candidate])
    charge = sum(
        plan.allocation.prices[limit.name]
        * _weight(limit, row, candidate)
        * (-1 if limit.kind == "minimum" else 1)
        for limit in plan.inputs.limits
    )
    stage = int(plan.funnel.fell_at[row, candidate])
    fell_at = plan.funnel.counts[stage].name if stage >= 0 else ""
    return Alternative(plan.inputs.candidates[candidate], value, charge, value - charge, fell_at)


_WORDS = {
    "en": {
        "chosen": "Planned: {name}. Expected value {value:.2f}, {price} leaves {net:.2f}.",
        "second": "Next best: {name}, value {value:.2f}, {price} leaves {net:.2f}.",
        "charge": "less {charge:.2f} for the limits it uses,",
        "bonus": "with {bonus:.2f} for the minimums it helps to meet,",
        "no_second": "No other candidate passed the funnel.",
        "better_full": "{name} would leave more ({net:.2f}), but had no room left.",
        "binding": "Scarce: {prices}.",
        "wanted": "Helps a minimum that would be missed: {prices}.",
        "price": "{name} at {price:.4g} {unit}",
        "control": "Held out by lot in stratum '{stratum}' (probability of contact {chance:.3f}), "
        "so there is no contact.",
        "treatment": "Contacted (probability {chance:.3f} in stratum '{stratum}').",
        "fell": "Nothing: the last candidate fell at '{stage}'.",
        "priced": "Nothing: the best candidate, {name}, is worth {value:.2f}; the limits it would "
        "use are worth {charge:.2f} with other customers.",
        "full": "Nothing: the best candidate, {name}, is worth {value:.2f}, but its limits had no "
        "room left.",
    },
    "zh": {
        "chosen": "计划:{name}。价值 {value:.2f},{price},净值 {net:.2f}。",
        "second": "次优:{name},价值 {value:.2f},{price},净值 {net:.2f}。",
        "charge": "名额价格 {charge:.2f}",
        "bonus": "满足最低要求加分 {bonus:.2f}",
        "no_second": "没有其他候选通过漏斗。",
        "better_full": "{name} 的净值更高({net:.2f}),但已无名额。",
        "binding": "紧缺:{prices}。",
        "wanted": "有助于满足最低要求:{prices}。",
        "price": "{name},{price:.4g}({unit})",
        "control": "在“{stratum}”层抽签留作对照(接触概率 {chance:.3f}),因此不接触。",
        "treatment": "将接触(“{stratum}”层,概率 {chance:.3f})。",
        "fell": "没有推荐:最后的候选在“{stage}”环节被剔除。",
        "priced": "没有推荐:最优候选 {name} 价值 {value:.2f},"
        "而它要占用的名额给其他客户值 {charge:.2f}。",
        "full": "没有推荐:最优候选 {name} 价值 {value:.2f},但已无名额。",
    },
}


def _tell(
    plan: Plan, row: int, chosen: Alternative | None, ranked: tuple[Alternative, ...], language: str
) -> str:
    words = _WORDS[language]
    passed = [alternative for alternative in ranked if not alternative.fell_at]
    if chosen is None:
        if passed:
            key = "priced" if passed[0].net <= 0 else "full"
            return words[key].format(**_figures(passed[0], words))
        stage = plan.funnel.counts[int(plan.funnel.reason()[row])]
        return words["fell"].format(stage=stage.title.get(language, stage.name))
    others = [alternative for alternative in passed if alternative is not chosen]
    sentences = [words["chosen"].format(**_figures(chosen, words))]
    if others and others[0].net > chosen.net:
        sentences.append(words["better_full"].format(**_figures(others[0], words)))
    elif others:
        sentences.append(words["second"].format(**_figures(others[0], words)))
    else:
        sentences.append(words["no_second"])
    for key, is_floor in (("binding", False), ("wanted", True)):
        prices = [
            words["price"].format(name=use.name, price=use.price, unit=use.price_unit)
            for use, limit in zip(plan.allocation.limits, plan.inputs.limits, strict=True)
            if limit.is_floor == is_floor
            and use.is_binding
            and _weight(limit, row, plan.inputs.candidates.index(chosen.candidate))
        ]
        if prices:
            sentences.append(words[key].format(prices="; ".join(prices)))
    decision = plan.decisions.slice(row, 1).to_pylist()[0]
    sentences.append(
        words[decision["arm"]].format(
            stratum=decision["stratum"], chance=decision["treatment_probability"]
        )
    )
    return " ".join(sentences) if language == "en" else "".join(sentences)


def _figures(alternative: Alternative, words: Mapping[str, str]) -> dict[str, object]:
    price = words["bonus" if alternative.charge < 0 else "charge"]
    return {
        "price": price.format(charge=alternative.charge, bonus=-alternative.charge),
        "name": alternative.candidate.name,
        "value": alternative.value,
        "charge": alternative.charge,
        "net": alternative.net,
    }


def _weight(limit: Limit, row: int, candidate: int) -> float:
    if limit.members is not None and not limit.members[row]:
        return 0.0
    weight = limit.weight[candidate] if limit.weight.ndim == 1 else limit.weight[row, candidate]
    return float(weight)
