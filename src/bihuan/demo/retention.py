"""The whole loop on real customers, whose reaction the twin simulates and therefore knows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bihuan.loop import Turn, turn
from bihuan.pack import TELCO_FILE
from bihuan.step import Carried, load_score_order
from bihuan.twin import (
    SimulatedChannels,
    Truth,
    draw_reaction,
    next_month,
    next_month_end,
    publish_next_month,
    surround_customers,
)
from bihuan.workspace import Workspace

AS_OF = date(2026, 10, 31)
CAMPAIGN = "retention-2026-11"
MODEL = "churn"


@dataclass(frozen=True, slots=True)
class Retention:
    """The turn and what only the twin knows.

    Parameters
    ----------
    turn
        Everything found.
    true_effect
        Mean true effect of contact on staying, over the planned customers of both arms.
    responses_as_of
        Date of the data in which the responses show.
    """

    turn: Turn
    true_effect: float
    responses_as_of: date


def turn_retention(workspace: Workspace, *, seed: int) -> Retention:
    """Ingest the real customers, surround them, and turn the loop once.

    Parameters
    ----------
    workspace
        With the ``retention`` pack installed.
    seed
        Of the twin.
    """
    workspace.ingest(TELCO_FILE, "telco_customer_churn", AS_OF)
    surround_customers(workspace.lake, AS_OF, workspace.contracts, seed=seed, clock=workspace.clock)
    offers = tuple(offer.offer_id for offer in workspace.catalogue)
    truth = draw_reaction(workspace.lake, AS_OF, offers, engine=workspace.engine, seed=seed)
    campaign = workspace.campaign(CAMPAIGN)
    channels = SimulatedChannels(
        truth=truth,
        unit_costs={kind: plan.unit_cost for kind, plan in campaign.channels.items()},
        prices={offer.offer_id: offer.price for offer in workspace.catalogue},
        seed=seed,
        clock=workspace.clock,
    )
    done = turn(
        workspace.rooms,
        campaign,
        load_score_order(workspace.layout.find_definition("models", MODEL)),
        AS_OF,
        channel=channels,
        wait=lambda carried: let_a_month_pass(workspace, truth, carried, seed=seed),
    )
    return Retention(done, true_effect(truth, done), done.judgement.as_of)


def let_a_month_pass(workspace: Workspace, truth: Truth, carried: Carried, *, seed: int) -> date:
    """Let customers stay or leave, and bring next month's subscriptions into the lake."""
    outcomes = carried.dispatch.receipts
    view = workspace.view
    assignments = carried.deployment.assignments(view).read()
    sent = pc.is_in(assignments["assignment_id"], value_set=outcomes["assignment_id"])
    left = next_month(truth, outcomes, assignments.filter(sent), seed=seed)
    after = next_month_end(AS_OF)
    publish_next_month(workspace.lake, left, AS_OF, after, clock=workspace.clock)
    return after


def true_effect(truth: Truth, done: Turn) -> float:
    """Return the mean true effect of contact over all planned customers."""
    rows = done.plan.decisions
    planned = rows.filter(pc.is_in(rows["arm"], value_set=pa.array(["treatment", "control"])))
    effects = truth.effect_on_retention(
        planned["customer_id"].to_pylist(),
        planned["offer_id"].to_pylist(),
        planned["channel"].to_pylist(),
    )
    return float(np.mean(effects))
