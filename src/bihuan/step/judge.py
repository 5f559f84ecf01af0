"""feedback → evaluation: what the campaign did, from the log, the outcomes and the new data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import pyarrow as pa
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
from bihuan.step.rooms import Rooms
from bihuan.strategy import Campaign

_RETAINED = """
select customer_id, max(case when coalesce(left_in_month, false) then 0.0 else 1.0 end) as response
from subscription group by customer_id
"""
_BILLED = "select customer_id, cast(sum(amount) as double) as response from bill group by 1"
# what a response is worth: the margin of the planned offer with its gift added back, because
# the gift is a cost of every order, also of those that would have stayed anyway
_WORTH = """
select decision.customer_id,
       response.response * (decision.margin + coalesce(offer.cost, 0)) as response
from decision join response on decision.customer_id = response.customer_id
left join offer on decision.offer_id = offer.offer_id
where decision.arm in ('treatment', 'control')
"""
_SALE_VALUES = """
select decision.offer_id, avg(decision.margin + coalesce(offer.cost, 0)) as worth
from decision left join offer on decision.offer_id = offer.offer_id
where decision.arm = 'treatment' group by decision.offer_id
"""


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
    rooms: Rooms, campaign: Campaign, deployment: Deployment, decisions: pa.Table, as_of: date
) -> Judgement:
    """Hold treatment against control and account for the campaign.

    Parameters
    ----------
    rooms, campaign, deployment
        What was done.
    decisions
        The logged decisions, both arms.
    as_of
        Date of the data in which the responses show, after the campaign.
    """
    view = rooms.lake.view()
    assignments = deployment.assignments(view).read()
    outcomes = read_outcomes(view, deployment.deployment_id)
    response = _response(rooms, campaign.goal.metric, decisions, outcomes, as_of)
    absent = 0.0 if campaign.goal.metric != "retained" else None
    before = decisions.select(["customer_id", "propensity"])
    effect = estimate_effect(
        decisions, response, covariates=before, when_absent=absent, engine=rooms.engine
    )
    offers = pa.table(
        {
            "offer_id": [offer.offer_id for offer in rooms.catalogue],
            "cost": [offer.cost for offer in rooms.catalogue],
        }
    )
    tables = {"decision": decisions, "response": response, "offer": offers}
    worth = estimate_effect(
        decisions, rooms.engine.query(_query(_WORTH), tables), covariates=before,
        when_absent=absent, engine=rooms.engine,
    )  # fmt: skip
    sales = rooms.engine.query(_query(_SALE_VALUES), {"decision": decisions, "offer": offers})
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
