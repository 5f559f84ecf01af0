"""audience × offer × strategy → decision: who gets what, within all limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.decision import (
    Cases,
    DecisionInputs,
    OverrideMasks,
    Plan,
    PriceBook,
    StrategyBoard,
    decide,
    log_decisions,
    override_masks,
    price_book,
)
from bihuan.delivery import list_deployments
from bihuan.kernel import UserError
from bihuan.step.board import (
    Acceptance,
    DecisionRules,
    active_moments,
    make_board,
    policy_masks,
    read_ways,
    strategies_of,
)
from bihuan.step.choose import Target
from bihuan.step.facts import gather_cases
from bihuan.step.limits import campaign_limits
from bihuan.step.rooms import Rooms
from bihuan.strategy import Campaign, CampaignFacts, unmet_requirements

_DONE = ("outside_audience", "held_out")
"""Gates that the choice of the audience has charged already, or that come with the lot."""


class DecisionRefusedError(UserError):
    """A precondition of the campaign does not hold, or there is nobody to decide on."""


def prepare_decision(
    rooms: Rooms,
    campaign: Campaign,
    target: Target,
    *,
    acceptance: Acceptance | None = None,
    rules: DecisionRules | None = None,
) -> DecisionInputs:
    """Read all that a campaign is decided on; nothing is decided and nothing is written.

    Parameters
    ----------
    rooms
        The operator.
    campaign
        Mix, limits, control share.
    target
        From :func:`choose_audience`.
    acceptance
        What earlier turns have taught; None takes the planner's experience values.
    rules
        Levers, policies, contact rules, overrides of the workspace; None: none.

    Returns
    -------
    DecisionInputs
        For :func:`bihuan.decision.decide`.

    Raises
    ------
    LimitUnitError
        If the campaign names an org unit that is not there; names file and field.
    """
    rules = rules or DecisionRules()
    ids = target.suppression.kept[target.tags.id_column].combine_chunks()
    strategies = strategies_of(campaign, rooms.catalogue, acceptance, is_chosen=True)
    board = make_board(
        strategies,
        target.tags.fields,
        rooms.catalogue,
        day=max(campaign.goal.starts_on, rooms.clock.now().date()),
        rules=rules,
        ways=read_ways(rooms, target.tags, strategies),
    )
    cases = gather_cases(rooms, board, target.tags, ids)
    masks = policy_masks(board, rules, cases.org_unit_id)
    margin = board.margin(board.numbers(cases.numbers, len(ids)))
    context = _context(board, rules, cases)
    limits = campaign_limits(
        rooms, campaign, board, cases.org_unit_id, target.tags.as_of, context=context
    )
    return DecisionInputs(
        campaign_id=campaign.campaign_id,
        as_of=target.tags.as_of,
        customer_id=ids,
        candidates=board.candidates,
        propensity=np.broadcast_to(board.propensity, margin.shape),
        margin=margin,
        cost=board.cost,
        context=context,
        lever=board.lever,
        off=rules.off,
        org_unit_id=cases.org_unit_id,
        stages=board.stages(board.flags(cases), masks, leave_out=_DONE),
        limits=limits.limits,
        control_share=campaign.control_share,
        policy_version=campaign.content_id,
        overrides=_overrides(campaign, board, rules, ids),
        limit_units=limits.units,
        currency=rooms.currency,
    )


def decide_campaign(
    rooms: Rooms,
    campaign: Campaign,
    target: Target,
    *,
    acceptance: Acceptance | None = None,
    confirmed: frozenset[str] = frozenset(),
    rules: DecisionRules | None = None,
) -> Plan:
    """Decide a campaign and log the decisions before anything is delivered.

    Parameters
    ----------
    rooms
        The operator.
    campaign
        Mix, limits, control share.
    target
        From :func:`choose_audience`.
    acceptance
        What earlier turns have taught; None takes the planner's experience values.
    confirmed
        Preconditions (English text) that a person has confirmed.
    rules
        Levers, policies, contact rules, overrides of the workspace; None: none.

    Raises
    ------
    DecisionRefusedError
        If the audience is empty or a precondition does not hold; the message names it.
    LimitUnitError
        If the campaign names an org unit that is not there; names file and field.
    """
    _require_ready(rooms, campaign, target, confirmed)
    rules = rules or DecisionRules()
    inputs = prepare_decision(rooms, campaign, target, acceptance=acceptance, rules=rules)
    plan = decide(inputs, seed=rooms.seed, clock=rooms.clock, progress=rooms.progress)
    log_decisions(
        rooms.lake,
        plan.decisions,
        inputs.as_of,
        clock=rooms.clock,
        lineage=_certificate(plan)
        | {
            "campaign": campaign.content_id,
            "audience": target.snapshot.id,
            "levers": rules.levers.content_id,
            "off": list(rules.off),
        },
        replace=not list_deployments(rooms.lake.view(), campaign.campaign_id),
    )
    return plan


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """What was decided for a campaign, as it stands in the log.

    Parameters
    ----------
    campaign_id, as_of
        Of the decisions.
    decisions
        Rows of the ``decision`` contract, all arms.
    value, bound, gap
        Expected value of the plan, the most that any plan could reach, and the distance.
    limits
        Per limit ``name, kind, unit, bound, usage, price, shortfall``: the real limit, what the
        real contacts use of it, what one more unit (of a minimum one less) would be worth, and
        what is missing of a minimum, 0 where nothing is.
    stages
        Per stage of the funnel ``name, title, phase, customers_dropped``.
    prices
        What the limits were worth, to judge a later single customer alike.
    """

    campaign_id: str
    as_of: date
    decisions: pa.Table
    value: float
    bound: float
    gap: float
    limits: tuple[Mapping[str, Any], ...]
    stages: tuple[Mapping[str, Any], ...]
    prices: PriceBook

    @property
    def shortfall(self) -> dict[str, float]:
        """What the real contacts lack of each minimum that is missed, by name, in its unit."""
        return {row["name"]: row["shortfall"] for row in self.limits if row.get("shortfall")}


def read_decisions(rooms: Rooms, campaign_id: str, as_of: date) -> DecisionRecord:
    """Read what was decided for a campaign on the data of ``as_of``.

    Raises
    ------
    DecisionRefusedError
        If nothing was.
    """
    snapshot = rooms.lake.view().find("decision", as_of)
    logged = {} if snapshot is None else snapshot.lineage["campaigns"].get(campaign_id, {})
    if snapshot is None or not logged:
        raise DecisionRefusedError(
            f"Campaign '{campaign_id}' has not been decided on the data of {as_of}.",
            remedy=f"Run  bihuan campaign decide {campaign_id} --as-of {as_of}  first.",
            zh=f"方案 {campaign_id} 尚未基于 {as_of} 的数据决策，请先运行 bihuan campaign decide。",
        )
    rows = snapshot.read()
    return DecisionRecord(
        campaign_id=campaign_id,
        as_of=as_of,
        decisions=rows.filter(pc.equal(rows["campaign_id"], campaign_id)),
        value=logged["value"],
        bound=logged["bound"],
        gap=logged["gap"],
        limits=tuple(logged["limits"]),
        stages=tuple(logged["stages"]),
        prices=PriceBook.from_json(logged["prices"]) if "prices" in logged else PriceBook(),
    )


def _certificate(plan: Plan) -> dict[str, Any]:
    allocation, used, missing = plan.allocation, plan.real_usage(), plan.real_shortfall()
    bounds = {limit.name: limit.bound for limit in plan.inputs.limits}
    return {
        "value": allocation.value,
        "bound": allocation.bound,
        "gap": allocation.gap,
        "limits": [
            {
                "name": limit.name,
                "kind": limit.kind,
                "unit": limit.unit,
                "bound": bounds[limit.name],
                "usage": used[limit.name],
                "price": limit.price,
                "shortfall": missing.get(limit.name, 0.0),
            }
            for limit in allocation.limits
        ],
        "stages": [
            {
                "name": count.name,
                "title": dict(count.title),
                "phase": count.phase,
                "customers_dropped": count.customers_dropped,
            }
            for count in plan.funnel.counts
        ],
        "prices": price_book(
            allocation,
            plan.inputs.limits,
            plan.inputs.candidates,
            campaign_id=plan.inputs.campaign_id,
            as_of=plan.inputs.as_of,
            org_unit_id=plan.inputs.org_unit_id,
            units=plan.inputs.limit_units,
        ).to_json(),
    }


def _require_ready(
    rooms: Rooms, campaign: Campaign, target: Target, confirmed: frozenset[str]
) -> None:
    remaining = target.suppression.remaining
    if remaining == 0:
        raise DecisionRefusedError(
            f"Nobody is left of the audience of '{campaign.campaign_id}' "
            f"({target.suppression.size} before suppression).",
            remedy="Widen the audience, or look at the suppression counts.",
            zh=f"方案 {campaign.campaign_id} 的目标客户在剔除后为空"
            f"（剔除前 {target.suppression.size} 户），请放宽条件或查看剔除明细。",
        )
    facts = CampaignFacts(
        audience_size=remaining,
        control_size=int(remaining * campaign.control_share),
        data_age_days=(rooms.clock.now().date() - target.tags.as_of).days,
        confirmed=confirmed,
    )
    unmet = unmet_requirements(campaign, facts)
    if unmet:
        raise DecisionRefusedError(
            f"Preconditions of '{campaign.campaign_id}' do not hold: "
            + "; ".join(need.text["en"] for need in unmet)
            + f" (now: {facts.audience_size} customers, {facts.control_size} in control at most, "
            f"data {facts.data_age_days} days old).",
            remedy="Meet them, or change the campaign's requirements.",
            zh=f"方案 {campaign.campaign_id} 的前提条件未满足："
            + "；".join(need.text["zh"] for need in unmet)
            + "。请先满足条件或修改方案。",
        )


def _overrides(
    campaign: Campaign, board: StrategyBoard, rules: DecisionRules, ids: pa.Array
) -> OverrideMasks | None:
    mine = [o for o in rules.overrides if o.campaign_id == campaign.campaign_id]
    return override_masks(mine, campaign.campaign_id, ids, board.candidates) if mine else None


def _context(
    board: StrategyBoard, rules: DecisionRules, cases: Cases
) -> NDArray[np.float64] | float:
    """Return the factor on the chance of a sale, 1 where nothing speaks for another."""
    moments = active_moments(board, rules.detected, cases.customer_id)
    return board.context(moments if moments.any() else None, board.way_factors(cases.customer_id))
