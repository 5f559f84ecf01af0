"""audience × offer × strategy → decision: who gets what, within all limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.audience import bind, read_flags
from bihuan.decision import (
    Candidate,
    DecisionInputs,
    Limit,
    Plan,
    Stage,
    decide,
    exclusion_stage,
    log_decisions,
    offer_stage,
    opt_out_stage,
)
from bihuan.delivery import list_deployments
from bihuan.kernel import UserError
from bihuan.offer import Offer
from bihuan.step.choose import Target
from bihuan.step.rooms import Rooms
from bihuan.strategy import Campaign, CampaignFacts, unmet_requirements
from bihuan.tag import TagTable

Acceptance = Mapping[tuple[str, str], float]
"""Expected share of contacted customers who accept, by (offer id, channel kind), 0 to 1."""


class DecisionRefusedError(UserError):
    """A precondition of the campaign does not hold, or there is nobody to decide on."""


def decide_campaign(
    rooms: Rooms,
    campaign: Campaign,
    target: Target,
    *,
    acceptance: Acceptance | None = None,
    confirmed: frozenset[str] = frozenset(),
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

    Raises
    ------
    DecisionRefusedError
        If the audience is empty or a precondition does not hold; the message names it.
    """
    ids = target.suppression.kept[target.tags.id_column].combine_chunks()
    _require_ready(rooms, campaign, target, confirmed)
    candidates = tuple(Candidate(item.offer_id, kind) for item, kind in campaign.candidates())
    offers = [rooms.catalogue.get(candidate.offer_id) for candidate in candidates]
    names = [campaign.risk_tag, *(offer.margin.tag for offer in offers)]
    values = read_numbers(rooms, target.tags, names, ids)
    chances = acceptance or _experience(campaign)
    propensity = np.array([chances[c.offer_id, c.channel] for c in candidates])
    earned = np.stack([offer.margin.of(values, len(ids)) for offer in offers], axis=1)
    if campaign.risk_tag:  # only who would leave can be kept, but the gift is paid to all who sign
        earned *= campaign.kept_share * np.nan_to_num(values[campaign.risk_tag])[:, None]
    gifts = np.array([offer.cost for offer in offers])
    units = _units(rooms, ids, target.tags.as_of)
    inputs = DecisionInputs(
        campaign_id=campaign.campaign_id,
        as_of=target.tags.as_of,
        customer_id=ids,
        candidates=candidates,
        propensity=np.broadcast_to(propensity, earned.shape),
        margin=earned - gifts,
        cost=np.array([campaign.channels[c.channel].unit_cost for c in candidates]),
        org_unit_id=units,
        stages=_stages(rooms, candidates, offers, target),
        limits=_limits(campaign, candidates, offers, propensity, units),
        control_share=campaign.control_share,
        policy_version=campaign.content_id,
    )
    plan = decide(inputs, seed=rooms.seed, clock=rooms.clock, progress=rooms.progress)
    log_decisions(
        rooms.lake,
        plan.decisions,
        inputs.as_of,
        clock=rooms.clock,
        lineage=_certificate(plan)
        | {"campaign": campaign.content_id, "audience": target.snapshot.id},
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
        Per limit ``name, unit, bound, usage, price``: the real limit, what the real contacts use
        of it, and what one more unit would be worth.
    stages
        Per stage of the funnel ``name, title, customers_dropped``.
    """

    campaign_id: str
    as_of: date
    decisions: pa.Table
    value: float
    bound: float
    gap: float
    limits: tuple[Mapping[str, Any], ...]
    stages: tuple[Mapping[str, Any], ...]


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
    )


def _certificate(plan: Plan) -> dict[str, Any]:
    allocation, used = plan.allocation, plan.real_usage()
    bounds = {limit.name: limit.bound for limit in plan.inputs.limits}
    return {
        "value": allocation.value,
        "bound": allocation.bound,
        "gap": allocation.gap,
        "limits": [
            {
                "name": limit.name,
                "unit": limit.unit,
                "bound": bounds[limit.name],
                "usage": used[limit.name],
                "price": limit.price,
            }
            for limit in allocation.limits
        ],
        "stages": [
            {
                "name": count.name,
                "title": dict(count.title),
                "customers_dropped": count.customers_dropped,
            }
            for count in plan.funnel.counts
        ],
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


def _experience(campaign: Campaign) -> Acceptance:
    return {(item.offer_id, kind): item.acceptance[kind] for item, kind in campaign.candidates()}


def read_numbers(
    rooms: Rooms, tags: TagTable, names: Iterable[str | None], ids: pa.Array | pa.ChunkedArray
) -> dict[str, NDArray[np.float64]]:
    """Return numeric tags of the given subjects by name, NaN = missing, in the order of ``ids``."""
    wanted = sorted({name for name in names if name})
    rows = tags.read(rooms.engine, wanted)
    at = pc.index_in(ids, value_set=rows[tags.id_column])
    return {
        name: rows[name].take(at).cast(pa.float64()).to_numpy().astype(np.float64)
        for name in wanted
    }


def _units(rooms: Rooms, ids: pa.Array, as_of: date) -> pa.Array:
    customers = rooms.lake.view().get("customer", as_of).read(["customer_id", "org_unit_id"])
    at = pc.index_in(ids, value_set=customers["customer_id"])
    return customers["org_unit_id"].take(at).combine_chunks()


def _stages(
    rooms: Rooms, candidates: tuple[Candidate, ...], offers: list[Offer], target: Target
) -> tuple[Stage, ...]:
    kept = target.suppression.kept[target.tags.id_column].combine_chunks()
    by_id = {offer.offer_id: offer for offer in offers}
    stages = [offer_stage(candidates, _eligible(rooms, by_id, target, kept))]
    view, as_of = rooms.lake.view(), target.tags.as_of
    holding, opt_out = view.find("holding", as_of), view.find("opt_out", as_of)
    if holding is not None:
        excludes = {offer_id: offer.excludes for offer_id, offer in by_id.items()}
        stages.append(exclusion_stage(candidates, kept, holding.read(), excludes))
    if opt_out is not None:
        stages.append(opt_out_stage(candidates, kept, opt_out.read()))
    return tuple(stages)


def _eligible(
    rooms: Rooms, offers: Mapping[str, Offer], target: Target, kept: pa.Array
) -> dict[str, NDArray[np.bool_]]:
    rules = [bind(offer.eligibility, target.tags.fields) for offer in offers.values()]
    ids, flags = read_flags(rules, target.tags, engine=rooms.engine)
    at = pc.index_in(kept, value_set=ids).to_numpy()
    return {offer_id: flags[at, i] for i, offer_id in enumerate(offers)}


def _limits(
    campaign: Campaign,
    candidates: tuple[Candidate, ...],
    offers: list[Offer],
    acceptance: NDArray[np.float64],
    units: pa.Array,
) -> tuple[Limit, ...]:
    channels = np.array([candidate.channel for candidate in candidates])
    limits = []
    for kind, plan in campaign.channels.items():
        uses = (channels == kind).astype(np.float64)
        if plan.capacity is not None:
            limits.append(Limit(kind, "capacity", uses, plan.capacity))
        for unit, bound in plan.capacity_by_unit.items():
            here = pc.equal(units, unit).fill_null(False).to_numpy(zero_copy_only=False)
            limits.append(Limit(f"{kind} @ {unit}", "capacity", uses, bound, here))
    for item in campaign.mix:
        if item.maximum is not None:
            uses = np.array([c.offer_id == item.offer_id for c in candidates], dtype=np.float64)
            limits.append(Limit(item.offer_id, "maximum", uses, item.maximum))
    if campaign.budget is not None:
        contact = np.array([campaign.channels[c.channel].unit_cost for c in candidates])
        gift = np.array([offer.cost for offer in offers])
        limits.append(Limit("budget", "budget", contact + acceptance * gift, campaign.budget))
    return tuple(limits)
