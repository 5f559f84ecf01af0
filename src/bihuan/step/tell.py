"""evaluation → people: the turn as the report that they read."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow.compute as pc

from bihuan.audience import to_text
from bihuan.evaluation import CHANNELS, Effect, Estimate, Kind, NotEstimable, Text
from bihuan.evaluation.report import (
    AllocationSummary,
    AudienceSummary,
    CampaignReport,
    DecisionSummary,
    Goal,
    LimitSummary,
    ModelSummary,
    OfferSummary,
    Section,
)
from bihuan.model import Metrics, ModelCard
from bihuan.step.choose import Target
from bihuan.step.decide import DecisionRecord
from bihuan.step.judge import Judgement
from bihuan.step.rooms import Rooms
from bihuan.strategy import Campaign

_METRICS = {
    "retained": Text("保有率", "retention"),
    "ordered": Text("订购率", "the order rate"),
    "accepted": Text("接受率", "the acceptance rate"),
    "revenue": Text("户均收入", "revenue per customer"),
}
_GAINED = {
    "retained": Text("多保有的客户", "Customers kept beyond control"),
    "ordered": Text("增量订购", "Incremental orders"),
    "accepted": Text("增量接受", "Incremental acceptances"),
    "revenue": Text("增量响应", "Incremental responses"),
}
"""What one unit of the effect is, by the campaign's metric."""
_UNITS = {
    "contact": Text("次接触", "contact"),
    "currency": Text("元预算", "unit of budget"),
    "sale": Text("笔销售", "sale"),
}
_REASONS = {
    "no_positive_value": Text("期望价值不为正", "no positive expected value"),
    "over_limit": Text("资源已满", "limits used up"),
    "held_out": Text("随机对照", "held out at random"),
}


def campaign_report(  # noqa: PLR0913 - a report needs the whole turn
    rooms: Rooms,
    campaign: Campaign,
    *,
    target: Target,
    record: DecisionRecord,
    judgement: Judgement,
    learnt: tuple[ModelCard, Metrics] | None = None,
    true_effect: float | None = None,
    notes: Iterable[Text] = (),
    extra: Iterable[Section] = (),
) -> CampaignReport:
    """Collect what a turn found, ready to be printed.

    Parameters
    ----------
    rooms, campaign, target, record, judgement
        The turn.
    learnt
        Card and held-out metrics of the model behind the campaign.
    true_effect
        Mean true effect per planned customer, where a twin knows it.
    notes, extra
        On the data, for the report's last section; further chapters.
    """
    is_share = campaign.goal.metric != "revenue"
    return CampaignReport(
        title=Text(**campaign.title),
        as_of=target.tags.as_of,
        currency=rooms.currency,
        response=_METRICS[campaign.goal.metric],
        gained=_GAINED[campaign.goal.metric],
        response_kind=Kind.SHARE if is_share else Kind.MONEY,
        goal=_goal(campaign, judgement),
        audience=_audience(campaign, target),
        model=None if learnt is None else _model(*learnt, target),
        offers=_offers(rooms, record),
        allocation=_allocation(record),
        decision=_decision(record),
        funnel=judgement.funnel,
        effect=judgement.effect,
        true_effect=true_effect,
        roi=judgement.roi,
        notes=tuple(notes),
        extra=tuple(extra),
        names={name: Text(**titles) for name, titles in campaign.scripts.items()}
        | _stratum_names(judgement.effect),
    )


def _goal(campaign: Campaign, judgement: Judgement) -> Goal:
    effect = judgement.effect
    return Goal(
        metric=_METRICS[campaign.goal.metric],
        target=campaign.goal.target,
        kind=Kind.POINTS if campaign.goal.metric != "revenue" else Kind.MONEY,
        reason=Text(**campaign.goal.reason),
        starts_on=campaign.goal.starts_on,
        ends_on=campaign.goal.ends_on,
        reached=effect if isinstance(effect, NotEstimable) else _interval(effect),
    )


def _interval(effect: Effect) -> Estimate:
    return Estimate(effect.estimate, effect.low, effect.high)


def _audience(campaign: Campaign, target: Target) -> AudienceSummary:
    return AudienceSummary(
        rule=to_text(campaign.audience),
        considered=target.tags.rows,
        matched=target.suppression.size,
        suppressed=tuple(
            (Text(**count.title), count.removed) for count in target.suppression.counts
        ),
    )


def _model(card: ModelCard, metrics: Metrics, target: Target) -> ModelSummary:
    return ModelSummary(
        title=Text(**card.title),
        learner=card.learner,
        trained_as_of=target.tags.as_of,
        n_customers=metrics.n,
        base_rate=metrics.rate,
        n_features=len(card.used),
        auc=metrics.auc.value,
        auc_low=metrics.auc.low,
        auc_high=metrics.auc.high,
        gains=((0.0, 0.0), *(((i + 1) / 10, share) for i, share in enumerate(metrics.gains))),
        calibration=tuple((b.predicted, b.observed) for b in metrics.calibration),
    )


def _offers(rooms: Rooms, record: DecisionRecord) -> tuple[OfferSummary, ...]:
    rows = record.decisions.filter(pc.equal(record.decisions["arm"], "treatment"))
    counted = rows.group_by("offer_id").aggregate([("margin", "mean"), ("margin", "count")])
    summaries = [
        OfferSummary(
            offer_id=row["offer_id"],
            title=Text(**rooms.catalogue.get(row["offer_id"]).title),
            price=rooms.catalogue.get(row["offer_id"]).price,
            margin=row["margin_mean"],
            assigned=row["margin_count"],
        )
        for row in counted.to_pylist()
    ]
    return tuple(sorted(summaries, key=lambda offer: (-offer.assigned, offer.offer_id)))


def _allocation(record: DecisionRecord) -> AllocationSummary:
    return AllocationSummary(
        value=record.value,
        bound=record.bound,
        limits=tuple(
            LimitSummary(
                title=_limit_title(limit["name"]),
                unit=_UNITS.get(limit["unit"], Text(limit["unit"], limit["unit"])),
                used=limit["usage"],
                bound=limit["bound"],
                price=limit["price"],
            )
            for limit in record.limits
        ),
    )


def _limit_title(name: str) -> Text:
    """Name a limit as the decision step named it: a channel, a channel at a unit, an offer."""
    channel, _, unit = name.partition(" @ ")
    title = CHANNELS.get(channel, Text("预算", "budget") if name == "budget" else Text(name, name))
    return title if not unit else Text(f"{title.zh} {unit}", f"{title.en} {unit}")


def _stratum_names(effect: Effect | NotEstimable) -> dict[str, Text]:
    """Name the strata for readers: the channel, and the unit's limit that set them apart."""
    if isinstance(effect, NotEstimable):
        return {}
    names = {}
    for stratum in (part.stratum for part in effect.strata):
        channel, *limits = stratum.split(" · ")
        own = [limit.partition("=")[0] for limit in limits if not limit.endswith("=0")]
        if limits:
            other = _limit_title(channel)
            rest = Text(f"{other.zh} 其他", f"{other.en}, other")
            names[stratum] = _limit_title(own[0]) if own else rest
    return names


def _decision(record: DecisionRecord) -> DecisionSummary:
    arms = {
        row["values"]: row["counts"] for row in pc.value_counts(record.decisions["arm"]).to_pylist()
    }
    idle = record.decisions.filter(pc.equal(record.decisions["arm"], "none"))
    titles = {stage["name"]: Text(**stage["title"]) for stage in record.stages} | _REASONS
    reasons = pc.value_counts(idle["reason"]).to_pylist()
    return DecisionSummary(
        considered=record.decisions.num_rows,
        no_contact=tuple(
            (titles.get(row["values"], Text(row["values"], row["values"])), row["counts"])
            for row in sorted(reasons, key=lambda row: -row["counts"])
        ),
        control=arms.get("control", 0),
        treatment=arms.get("treatment", 0),
    )
