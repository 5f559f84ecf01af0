"""feedback → evaluation: what the campaign did, from the log, the outcomes and the new data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import parse_one
from sqlglot.expressions import Query

from bihuan.delivery import Deployment
from bihuan.evaluation import (
    Effect,
    Funnel,
    NotEstimable,
    Prices,
    Roi,
    estimate_effect,
    funnel,
    roi,
)
from bihuan.feedback import read_outcomes, response_by_customer
from bihuan.kernel import DefectError
from bihuan.step.decide import DecisionRecord
from bihuan.step.facts import read_numbers
from bihuan.step.rooms import Rooms
from bihuan.strategy import Campaign
from bihuan.tag import read_tags

_ARMS = ["treatment", "control"]
_RETAINED = """
select customer_id, max(case when coalesce(left_in_month, false) then 0.0 else 1.0 end) as response
from subscription group by customer_id
"""
_BILLED = "select customer_id, cast(sum(amount) as double) as response from bill group by 1"
_WORTH = """
select worth.customer_id, response.response * worth.worth as response
from worth join response on worth.customer_id = response.customer_id
"""
_SALE_VALUES = "select offer_id, avg(worth) as worth from worth group by offer_id"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a campaign did.

    Parameters
    ----------
    as_of
        Date of the data that shows the responses.
    response
        ``customer_id`` and ``response`` in the goal's metric.
    funnel
        Per touchpoint, from planned to ordered.
    effect
        Per planned customer, in the goal's metric.
    worth
        The same in the workspace's currency.
    roi
        Response, revenue, cost and return.
    """

    as_of: date
    response: pa.Table
    funnel: Funnel
    effect: Effect | NotEstimable
    worth: Effect | NotEstimable
    roi: Roi


def judge_campaign(
    rooms: Rooms, campaign: Campaign, deployment: Deployment, record: DecisionRecord, as_of: date
) -> Judgement:
    """Hold treatment against control and account for the campaign.

    Parameters
    ----------
    rooms, campaign, deployment
        What was done.
    record
        The logged decisions, both arms.
    as_of
        Date of the data in which the responses show, after the campaign.
    """
    view = rooms.lake.view()
    decisions = record.decisions
    assignments = deployment.assignments(view).read()
    outcomes = read_outcomes(view, deployment.deployment_id)
    response = _response(rooms, campaign.goal.metric, decisions, outcomes, as_of)
    absent = 0.0 if campaign.goal.metric != "retained" else None
    worths = _worths(rooms, record)
    before = decisions.select(["customer_id", "expected_value"])
    effect = estimate_effect(
        decisions, response, covariates=before, when_absent=absent, engine=rooms.engine
    )
    valued = rooms.engine.query(_query(_WORTH), {"worth": worths, "response": response})
    worth = estimate_effect(
        decisions, valued, covariates=before, when_absent=absent, engine=rooms.engine
    )
    sales = rooms.engine.query(_query(_SALE_VALUES), {"worth": worths})
    prices = Prices(
        contact_cost={kind: plan.unit_cost for kind, plan in campaign.channels.items()},
        sale_value=dict(
            zip(sales["offer_id"].to_pylist(), sales["worth"].to_pylist(), strict=True)
        ),
        offer_cost={offer.offer_id: offer.cost for offer in rooms.catalogue},
    )
    return Judgement(
        as_of=as_of,
        response=response,
        funnel=funnel(assignments, outcomes, engine=rooms.engine),
        effect=effect,
        worth=worth,
        roi=roi(assignments, outcomes, effect, prices, revenue_effect=worth, engine=rooms.engine),
    )


def _worths(rooms: Rooms, record: DecisionRecord) -> pa.Table:
    """Return what a response of each planned customer earns with the offer planned for him.

    Before the gift: that is a cost of every order, also of those that would have come anyway.
    """
    planned = record.decisions.filter(pc.is_in(record.decisions["arm"], value_set=pa.array(_ARMS)))
    ids, offer_ids = planned["customer_id"], np.array(planned["offer_id"].to_pylist())
    tags = read_tags(rooms.lake.view(), rooms.dictionary, "customer", record.as_of)
    offers = [rooms.catalogue.get(offer_id) for offer_id in np.unique(offer_ids)]
    values = read_numbers(rooms, tags, [offer.margin.tag for offer in offers], ids)
    worth = np.zeros(len(ids))
    for offer in offers:
        at = offer_ids == offer.offer_id
        worth[at] = offer.margin.of(values, len(ids))[at]
    return pa.table({"customer_id": ids, "offer_id": offer_ids.tolist(), "worth": worth})


def _response(
    rooms: Rooms, metric: str, decisions: pa.Table, outcomes: pa.Table, as_of: date
) -> pa.Table:
    view = rooms.lake.view()
    if metric == "retained":
        return rooms.engine.query(
            _query(_RETAINED), {"subscription": view.get("subscription", as_of)}
        )
    if metric == "revenue":
        return rooms.engine.query(_query(_BILLED), {"bill": view.get("bill", as_of)})
    stages = ("ordered",) if metric == "ordered" else ("accepted", "ordered")
    return response_by_customer(decisions, outcomes, stages=stages, engine=rooms.engine)


def _query(text: str) -> Query:
    tree = parse_one(text, dialect="duckdb")
    if not isinstance(tree, Query):
        raise DefectError("A statement of the judgement is no query.")
    return tree
