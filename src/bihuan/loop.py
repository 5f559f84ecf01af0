"""One turn of the loop. Start reading here.

data → tag → audience → model → offer → strategy → decision → delivery → feedback → evaluation,
and what the evaluation leaves in the lake is the next turn's data. Each line below is one step;
each step is a call into the rooms of the same name, in :mod:`bihuan.step`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from bihuan.decision import Plan
from bihuan.delivery import Channel
from bihuan.model import BuiltModel, Metrics
from bihuan.step import (
    Carried,
    DecisionRules,
    Judgement,
    Rooms,
    ScoreOrder,
    Target,
    carry_out,
    choose_audience,
    decide_campaign,
    deploy_decisions,
    judge_campaign,
    read_decisions,
    refresh_tags,
    score_customers,
)
from bihuan.strategy import Campaign


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of the loop did and found.

    Parameters
    ----------
    model, metrics
        What was learnt about the customers, and how good it is on customers not seen.
    target
        Whom the campaign was for.
    plan
        Who was to get what, with certificate, prices and reasons.
    carried
        What was sent and what came back.
    judgement
        Funnel, effect and return.
    """

    model: BuiltModel
    metrics: Metrics
    target: Target
    plan: Plan
    carried: Carried
    judgement: Judgement


def turn(  # noqa: PLR0913 - the operator, the plan, and how the world answers
    rooms: Rooms,
    campaign: Campaign,
    order: ScoreOrder,
    as_of: date,
    *,
    channel: Channel,
    wait: Callable[[Carried], date],
    rules: DecisionRules | None = None,
) -> Turn:
    """Turn the loop once.

    Parameters
    ----------
    rooms
        The operator: lake, tags, offers, clock.
    campaign
        What is wanted and by what means.
    order
        The model whose score the campaign needs.
    as_of
        Date of the data that is decided on; it must have been ingested.
    channel
        Carries the contacts and answers with outcomes.
    wait
        Lets the campaign's period pass and the new data arrive; returns the new data's date.
    rules
        Levers, policies, overrides of the operator; None: none.

    Returns
    -------
    Turn
        All of it stands in the lake as well.
    """
    refresh_tags(rooms, as_of)  # data → tag
    model, metrics = score_customers(rooms, order, as_of)  # tag → model → tag
    target = choose_audience(rooms, campaign, as_of)  # tag → audience
    plan = decide_campaign(rooms, campaign, target, rules=rules)  # offer, strategy → decision
    deployment = deploy_decisions(rooms, campaign, plan.decisions)  # decision → delivery
    carried = carry_out(rooms, deployment, channel)  # delivery → feedback
    judged_at = wait(carried)  # life goes on, and becomes data
    record = read_decisions(rooms, campaign.campaign_id, as_of)
    judgement = judge_campaign(rooms, campaign, deployment, record, judged_at)  # → evaluation
    return Turn(model, metrics, target, plan, carried, judgement)  # and the next may begin
