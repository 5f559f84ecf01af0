"""A campaign rehearsed (方案预演): decided on real data, played through, judged, not carried out.

Nothing is logged and nothing is sent; what is read is what the decision itself would read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.decision import Plan, decide
from bihuan.decision.rehearsal import (
    Certificate,
    ChannelLoad,
    Contacts,
    ControlDesign,
    DailyCapacity,
    Fairness,
    Findings,
    LimitFact,
    PastContacts,
    Readiness,
    Rehearsal,
    Sample,
    Simulation,
    draw_sample,
    forecast,
    judge_findings,
    measure_fairness,
    measure_fatigue,
    measure_overlap,
    reach_steps,
    rehearsal_id,
    scale_limits,
    spread_load,
    working_days,
)
from bihuan.evaluation import minimum_detectable_effect, power, power_of_means
from bihuan.kernel import NotEstimable, ProgressTask, UserError, random_stream
from bihuan.offer import check_price_fairness, require_fair_prices
from bihuan.step.board import Acceptance, DecisionRules
from bihuan.step.choose import Target, choose_audience
from bihuan.step.decide import prepare_decision
from bihuan.step.facts import read_numbers
from bihuan.step.rehearse_lake import (
    Live,
    live_load,
    read_groups,
    read_history,
    read_live,
    read_past_contacts,
    read_response,
)
from bihuan.step.rehearse_terms import RehearsalTerms
from bihuan.step.rehearse_twin import play_contacts
from bihuan.step.rooms import Rooms
from bihuan.strategy import Campaign, CampaignFacts, unmet_requirements
from bihuan.strategy.policy import PolicyBook
from bihuan.twin import Truth

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STEPS = 6
FEW_ACCEPTED = 20  # acceptances below which their share that ends in an order is not known
_NO_ORDERS = NotEstimable(
    {
        "zh": "历史尚不能说明同意后有多少会下单。",
        "en": "History does not yet show how many acceptances become orders.",
    }
)
Z_POWER = 1.959964 + 0.841621  # normal quantiles of 97.5 % and 80 %


class RehearsalRefusedError(UserError):
    """A plan that may not be rehearsed, or an audience without anybody."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside the lake and the plan.

    Parameters
    ----------
    rules
        Levers, contact rules, overrides of the workspace; None: none.
    policies
        Frames of the org units; None where there are none.
    truth
        The hidden response of a twin's customers; None in the real world.
    acceptance
        What earlier turns have taught; None takes the planner's experience values.
    """

    rules: DecisionRules | None = None
    policies: PolicyBook | None = None
    truth: Truth | None = None
    acceptance: Acceptance | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """Everything that the parts of a rehearsal look at."""

    rooms: Rooms
    campaign: Campaign
    terms: RehearsalTerms
    known: Known
    target: Target
    sample: Sample
    plan: Plan
    seed: int

    @property
    def rows(self) -> Ints:
        """Rows of the customers who are contacted."""
        return np.flatnonzero(self.plan.contacts >= 0)

    def arm(self, name: str) -> pa.Array:
        """Return the ids of one arm."""
        rows = self.plan.decisions
        return rows.filter(pc.equal(rows["arm"], name))["customer_id"].combine_chunks()


def rehearse(
    rooms: Rooms,
    campaign: Campaign,
    as_of: date,
    *,
    terms: RehearsalTerms | None = None,
    known: Known | None = None,
) -> Rehearsal:
    """Play a plan through on the data of a date, and judge it.

    Parameters
    ----------
    rooms
        The operator.
    campaign
        The plan; a draft as well as a filed one.
    as_of
        Date of the data.
    terms
        Sample, thresholds, daily capacities; None: the defaults.
    known
        Rules, policies, a twin.

    Returns
    -------
    Rehearsal
        Facts and four judgements. The same data, plan, terms and seed give the same one.

    Raises
    ------
    RehearsalRefusedError
        If the audience is empty, or a policy forbids the plan or is not approved; says which.
    RetiredOfferError, NotOnSaleError
        If an offer of the plan cannot be sold in its period.
    UnfairPriceError
        If a pack of the plan costs more on a higher tier.

    Notes
    -----
    The audience is frozen in the lake as every audience is (content-addressed); the decision log
    is not touched.
    """
    begun = time.perf_counter()
    terms, known = terms or RehearsalTerms(), known or Known()
    notes = require_allowed(rooms, campaign, known.policies)
    with rooms.progress.task("rehearse", total=STEPS, unit="steps") as task:
        stage = _set_up(rooms, campaign, as_of, terms, known, task)
        findings = _find(stage, notes, task)
        judgements = judge_findings(findings, stage.sample, terms.criteria)
    return Rehearsal(
        rehearsal_id=rehearsal_id(campaign.content_id, as_of, stage.seed, findings, judgements),
        campaign_id=campaign.campaign_id,
        content_id=campaign.content_id,
        title=dict(campaign.title),
        as_of=as_of,
        rehearsed_at=rooms.clock.now(),
        sample=stage.sample,
        seed=stage.seed,
        currency=rooms.currency,
        findings=findings,
        judgements=judgements,
        seconds=time.perf_counter() - begun,
    )


def require_allowed(
    rooms: Rooms, campaign: Campaign, policies: PolicyBook | None
) -> tuple[dict[str, str], ...]:
    """Refuse a plan that may not run at all; return what policies take out of it otherwise.

    Parameters
    ----------
    rooms
        The operator.
    campaign
        The plan.
    policies
        Frames of the org units; None where there are none.

    Raises
    ------
    RehearsalRefusedError, RetiredOfferError, NotOnSaleError, UnfairPriceError
        See :func:`rehearse`.
    """
    offer_ids = [item.offer_id for item in campaign.mix]
    for day in (campaign.goal.starts_on, campaign.goal.ends_on):
        rooms.catalogue.require_on_sale(offer_ids, day)
    prices = check_price_fairness(rooms.catalogue)
    unfair = {pack for v in prices.violations for pack in (v.low_pack, v.high_pack)}
    if unfair & set(offer_ids):
        require_fair_prices(rooms.catalogue)
    found = () if policies is None else policies.check_campaign(campaign, rooms.catalogue)
    refused = [v for v in found if v.is_blocking or v.kind == "unapproved"]
    if refused:
        raise RehearsalRefusedError(
            f"Campaign '{campaign.campaign_id}' may not be rehearsed: "
            + "; ".join(dict.fromkeys(v.message["en"] for v in refused)),
            remedy="Change the plan, or have the policy approved.",
            zh=f"方案 {campaign.campaign_id} 不能预演："
            + "；".join(dict.fromkeys(v.message["zh"] for v in refused))
            + "。请修改方案或先完成政策审批。",
        )
    return tuple({"zh": v.message["zh"], "en": v.message["en"]} for v in found)


def _set_up(
    rooms: Rooms,
    campaign: Campaign,
    as_of: date,
    terms: RehearsalTerms,
    known: Known,
    task: ProgressTask,
) -> _Stage:
    target = choose_audience(rooms, campaign, as_of)
    kept = target.suppression.kept
    if not kept.num_rows:
        raise RehearsalRefusedError(
            f"Nobody is left of the audience of '{campaign.campaign_id}' "
            f"({target.suppression.size} before suppression).",
            remedy="Widen the audience, or look at the suppression counts.",
            zh=f"方案 {campaign.campaign_id} 的目标客户在剔除后为空"
            f"（剔除前 {target.suppression.size} 户），请放宽条件或查看剔除明细。",
        )
    task.advance()
    seed = rooms.seed if terms.seed is None else terms.seed
    ids = kept[target.tags.id_column].combine_chunks()
    at, sample = draw_sample(ids, terms.sample, seed=seed)
    part = replace(target, suppression=replace(target.suppression, kept=kept.take(pa.array(at))))
    inputs = prepare_decision(rooms, campaign, part, acceptance=known.acceptance, rules=known.rules)
    inputs = replace(inputs, limits=scale_limits(inputs.limits, sample))
    task.advance()
    plan = decide(inputs, seed=seed, clock=rooms.clock, progress=rooms.progress)
    task.advance()
    return _Stage(rooms, campaign, terms, known, target, sample, plan, seed)


def _find(stage: _Stage, notes: tuple[dict[str, str], ...], task: ProgressTask) -> Findings:
    campaign, plan, terms = stage.campaign, stage.plan, stage.terms
    history: Sequence[PastContacts] = ()
    if "history" in terms.against:
        history = read_history(stage.rooms, campaign.goal.starts_on)
    live = read_live(stage.rooms, campaign, stage.target.tags.as_of)
    task.advance()
    contacts = _contacts(stage, history)
    expected = forecast(
        plan.inputs.candidates,
        contacts,
        history,
        target=campaign.goal.target,
        assumptions=terms.assumptions,
        rng=random_stream(stage.seed, "rehearsal", campaign.content_id),
    )
    task.advance()
    longest = max(terms.windows, default=0)
    past = read_past_contacts(stage.rooms, live, campaign.goal.starts_on, longest)
    contacted = stage.arm("treatment")
    findings = Findings(
        reach=reach_steps(plan, stage.target.suppression, stage.sample),
        load=_load(stage, live),
        forecast=expected,
        fatigue=measure_fatigue(contacted, past, campaign.goal.starts_on, terms.windows),
        overlap=measure_overlap(contacted, stage.arm("control"), live.rows),
        fairness=_fairness(stage),
        design=_design(stage),
        certificate=_certificate(plan),
        readiness=_readiness(stage, notes),
        simulation=_simulate(stage),
    )
    task.advance()
    return findings


def _contacts(stage: _Stage, history: Sequence[PastContacts]) -> Contacts:
    """Return the contacts of the plan with what each would cost and bring."""
    inputs, rows = stage.plan.inputs, stage.rows
    candidate = stage.plan.contacts[rows].astype(np.int64)
    shape = stage.plan.value.shape

    def of_contact(factor: object) -> Floats:
        matrix = np.broadcast_to(np.asarray(factor, dtype=np.float64), shape)
        return np.asarray(matrix[rows, candidate])

    chance = of_contact(inputs.propensity) * of_contact(inputs.context)
    gift = np.array([stage.rooms.catalogue.get(c.offer_id).cost for c in inputs.candidates])
    return Contacts(
        candidate=candidate,
        propensity=np.clip(np.nan_to_num(chance), 0.0, 1.0),  # one forced by hand has no score
        margin=of_contact(inputs.margin),
        gift=gift[candidate],
        cost=of_contact(inputs.cost),
        metric=_metric(stage, candidate, history),
        scale=stage.sample.scale,
        scale_error=stage.sample.error(len(rows)) / max(len(rows) * stage.sample.scale, 1.0),
    )


def _metric(
    stage: _Stage, candidate: Ints, history: Sequence[PastContacts]
) -> Floats | NotEstimable:
    """Return what one acceptance adds to the goal's metric of its customer."""
    campaign, rows = stage.campaign, stage.rows
    metric = campaign.goal.metric
    if metric == "accepted":
        return np.ones(len(rows))
    if metric == "revenue":
        offers = [stage.rooms.catalogue.get(c.offer_id) for c in stage.plan.inputs.candidates]
        return np.array([offer.price for offer in offers])[candidate]
    if metric == "ordered":
        known = [row for row in history if row.offer_id]
        accepted, ordered = sum(r.accepted for r in known), sum(r.ordered for r in known)
        if accepted < FEW_ACCEPTED:
            return _NO_ORDERS
        return np.full(len(rows), ordered / accepted)
    if campaign.risk_tag is None:
        reason = {"zh": "方案没有风险标签，无法推算挽留效果。",
                  "en": "Without a risk tag nobody knows who would have left."}  # fmt: skip
        return NotEstimable(reason)
    ids = stage.plan.inputs.customer_id.take(pa.array(rows))
    risk = read_numbers(stage.rooms, stage.target.tags, [campaign.risk_tag], ids)
    return campaign.kept_share * np.nan_to_num(risk[campaign.risk_tag])


def _load(stage: _Stage, live: Live) -> ChannelLoad:
    campaign, terms, scale = stage.campaign, stage.terms, stage.sample.scale
    steps = [s for s in campaign.action_plan if s.post in terms.posts]
    periods = [(s.starts_on, s.ends_on) for s in steps]
    whole = (campaign.goal.starts_on, campaign.goal.ends_on)
    days = working_days(periods or [whole], rest_days=terms.rest_days)
    rows = stage.plan.decisions
    rows = rows.filter(pc.equal(rows["arm"], "treatment"))
    desks = rows.group_by(["channel", "org_unit_id"]).aggregate([([], "count_all")]).to_pylist()
    planned = {(r["channel"], r["org_unit_id"]): scale * r["count_all"] for r in desks}
    return spread_load(planned, live_load(live, days), days, _capacity(stage, len(days)))


def _capacity(stage: _Stage, n_days: int) -> DailyCapacity:
    """Return the terms' daily capacities, else the campaign's own, spread over its days."""
    plans, given = stage.campaign.channels, stage.terms.capacity
    share = 1 / max(n_days, 1)
    by_channel = {k: p.capacity * share for k, p in plans.items() if p.capacity is not None}
    by_desk: dict[tuple[str, str | None], float] = {
        (kind, unit): bound * share
        for kind, plan in plans.items()
        for unit, bound in plan.capacity_by_unit.items()
    }
    return DailyCapacity({**by_channel, **given.by_channel}, {**by_desk, **given.by_desk})


def _fairness(stage: _Stage) -> tuple[Fairness, ...]:
    inputs, contacts = stage.plan.inputs, stage.plan.contacts
    tags = stage.target.tags
    groups = read_groups(stage.rooms, tags, stage.terms.traits, inputs.customer_id)
    price = np.array([stage.rooms.catalogue.get(c.offer_id).price for c in inputs.candidates])
    asked = np.where(contacts >= 0, price[contacts], 0.0)
    return tuple(
        measure_fairness(name, tags.fields[name].title, values, contacts >= 0, asked)
        for name, values in groups.items()
    )


def _design(stage: _Stage) -> ControlDesign:
    goal, scale = stage.campaign.goal, stage.sample.scale
    treated = round(len(stage.arm("treatment")) * scale)
    control = round(len(stage.arm("control")) * scale)
    mean, deviation = _base(stage)
    chance: float | NotEstimable
    smallest: float | NotEstimable
    if isinstance(mean, NotEstimable):
        chance = smallest = mean
    elif min(treated, control) < 1:
        reason = {"zh": "没有对照组，看不出效果。", "en": "Without control nothing can be seen."}
        chance, smallest = 0.0, NotEstimable(reason)
    elif deviation is not None:
        chance = power_of_means(treated, control, deviation, goal.target)
        smallest = Z_POWER * deviation * float(np.sqrt(1 / treated + 1 / control))
    elif mean + goal.target > 1:
        reason = {"zh": "目标超出可能的范围。", "en": "The target lies beyond what is possible."}
        chance = smallest = NotEstimable(reason)
    else:
        chance = power(treated, control, mean, goal.target)
        smallest = minimum_detectable_effect(treated, control, mean)
    return ControlDesign(goal.metric, goal.target, treated, control, mean, chance, smallest)


def _base(stage: _Stage) -> tuple[float | NotEstimable, float | None]:
    """Return the metric's mean without contact, and its deviation where it is an amount."""
    metric, risk = stage.campaign.goal.metric, stage.campaign.risk_tag
    if metric in ("ordered", "accepted"):
        return 0.0, None  # by construction: without a contact nobody can accept it
    planned = np.flatnonzero(stage.plan.allocation.choice >= 0)
    ids = stage.plan.inputs.customer_id.take(pa.array(planned))
    if metric == "retained" and risk is not None:
        values: Floats | None = 1 - read_numbers(stage.rooms, stage.target.tags, [risk], ids)[risk]
    else:
        values = read_response(stage.rooms, metric, ids, stage.target.tags.as_of)
    values = None if values is None else values[~np.isnan(values)]
    if values is None or not len(values):
        reason = {"zh": "没有数据说明不接触时的水平。",
                  "en": "No data show the level without contact."}  # fmt: skip
        return NotEstimable(reason), None
    return float(values.mean()), float(values.std()) if metric == "revenue" else None


def _certificate(plan: Plan) -> Certificate:
    used, bounds = plan.real_usage(), {limit.name: limit.bound for limit in plan.inputs.limits}
    missing = plan.real_shortfall()
    limits = tuple(
        LimitFact(
            use.name, use.kind, use.unit, bounds[use.name], used[use.name], use.price,
            missing.get(use.name, 0.0),
        )
        for use in plan.allocation.limits
    )  # fmt: skip
    return Certificate(plan.allocation.value, plan.allocation.bound, plan.allocation.gap, limits)


def _readiness(stage: _Stage, notes: tuple[dict[str, str], ...]) -> Readiness:
    campaign, remaining = stage.campaign, stage.target.suppression.remaining
    age = (stage.rooms.clock.now().date() - stage.target.tags.as_of).days
    facts = CampaignFacts(
        audience_size=remaining,
        control_size=int(remaining * campaign.control_share),
        data_age_days=age,
        confirmed=stage.terms.confirmed,
    )
    unmet = tuple(dict(need.text) for need in unmet_requirements(campaign, facts))
    return Readiness(unmet, age, campaign.budget, notes)


def _simulate(stage: _Stage) -> Simulation | None:
    truth = stage.known.truth
    if truth is None or "twin" not in stage.terms.against:
        return None
    rows = stage.plan.decisions
    contacts = rows.filter(pc.equal(rows["arm"], "treatment"))
    day = stage.campaign.goal.starts_on
    return play_contacts(truth, contacts, day, seed=stage.seed, clock=stage.rooms.clock)
