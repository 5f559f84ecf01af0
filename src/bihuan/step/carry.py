"""decision → delivery → feedback: freeze the plan, send it, and take in what comes back."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from bihuan.delivery import (
    Channel,
    Deployment,
    Dispatch,
    FinalGate,
    GatePolicy,
    deploy,
    dispatch,
    load_opt_outs,
)
from bihuan.feedback import OutcomeLedger, Reconciliation, publish_contacts, reconcile
from bihuan.step.rooms import Rooms
from bihuan.strategy import Campaign


@dataclass(frozen=True, slots=True)
class Carried:
    """What became of a deployment so far.

    Parameters
    ----------
    deployment
        The frozen assignments.
    dispatch
        The round of sending.
    states
        Present state of every assignment.
    reconciliation
        Their sum, which is the plan.
    """

    deployment: Deployment
    dispatch: Dispatch
    states: pa.Table
    reconciliation: Reconciliation


def deploy_decisions(rooms: Rooms, campaign: Campaign, decisions: pa.Table) -> Deployment:
    """Freeze what is to be sent; the same decisions twice are one deployment."""
    scripts = {(item.offer_id, kind): item.scripts[kind] for item, kind in campaign.candidates()}
    return deploy(
        decisions,
        campaign_id=campaign.campaign_id,
        lake=rooms.lake,
        clock=rooms.clock,
        period=(campaign.goal.starts_on, campaign.goal.ends_on),
        scripts=scripts,
        engine=rooms.engine,
        progress=rooms.progress,
    )


def carry_out(
    rooms: Rooms, deployment: Deployment, channel: Channel, *, policy: GatePolicy | None = None
) -> Carried:
    """Send what may be sent now and record every outcome; sending twice sends nobody twice."""
    ledger = OutcomeLedger(
        rooms.lake, deployment, rooms.quarantine, rooms.clock, engine=rooms.engine
    )
    sent = dispatch(
        deployment.assignments(rooms.lake.view()).read(),
        channel,
        gate=FinalGate(policy or GatePolicy(), load_opt_outs(rooms.lake.view()), rooms.engine),
        states=ledger.states(),
        record=ledger.record,
        clock=rooms.clock,
        engine=rooms.engine,
    )
    publish_contacts(rooms.lake, deployment, clock=rooms.clock, engine=rooms.engine)
    states = ledger.states()
    return Carried(deployment, sent, states, reconcile(states, planned=deployment.planned))
