"""The campaign (方案): goal, audience, marketing mix, constraints, action plan, preconditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from bihuan.audience import Node, audience_id, parse, to_text
from bihuan.kernel import hash_id
from bihuan.kernel.document import Document
from bihuan.offer import Catalogue
from bihuan.strategy.campaign_limit import CampaignLimit, limit_lines, parse_limits

METRICS = ("retained", "ordered", "accepted", "revenue")
WAYS = ("off", "factor", "filter")
SUITABILITY = ("off", "match")


@dataclass(frozen=True, slots=True)
class Goal:
    """What the campaign is for.

    Parameters
    ----------
    metric
        What is measured per customer: ``retained`` (still here at the end, 0 or 1), ``ordered``,
        ``accepted`` (0 or 1) or ``revenue`` (workspace's currency).
    target
        Wanted incremental effect on the metric, per planned customer, > 0.
    reason
        Why this goal, by language.
    needs
        What the audience needs and what drives it, by language.
    starts_on, ends_on
        Period in which the goal holds, both days included.
    """

    metric: str
    target: float
    reason: Mapping[str, str]
    needs: Mapping[str, str]
    starts_on: date
    ends_on: date


@dataclass(frozen=True, slots=True)
class MixItem:
    """One offer in the marketing mix: what, by which promotion, through which channels.

    Parameters
    ----------
    offer_id
        An offer of the catalogue.
    promotion
        The promotion told to the customer, by language.
    scripts
        Id of the script that the channel uses, by channel kind.
    acceptance
        Expected share of contacted customers who accept, by channel kind, 0 to 1. An experience
        value of the planner; replaced by a learnt model as soon as there are outcomes.
    maximum
        At most this many contacts with the offer; None where open.
    """

    offer_id: str
    promotion: Mapping[str, str]
    scripts: Mapping[str, str]
    acceptance: Mapping[str, float]
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class ChannelPlan:
    """What a channel can take and what it costs.

    Parameters
    ----------
    kind
        Channel kind (``outbound``, ``sms``, ...).
    capacity
        Contacts over the whole campaign; None where open.
    capacity_by_unit
        Contacts by org unit id, each with all units under it; customers of other units are bound
        by ``capacity`` alone.
    unit_cost
        Cost of one contact, in the workspace's currency, >= 0.
    """

    kind: str
    capacity: int | None
    capacity_by_unit: Mapping[str, int]
    unit_cost: float


@dataclass(frozen=True, slots=True)
class ActionStep:
    """One step of the action plan.

    Parameters
    ----------
    what
        By language.
    post
        The post that does it.
    starts_on, ends_on
        Both days included; within the campaign's period.
    """

    what: Mapping[str, str]
    post: str
    starts_on: date
    ends_on: date


@dataclass(frozen=True, slots=True)
class Requirement:
    """A precondition of effective execution, checked by the system where it can be.

    Parameters
    ----------
    text
        By language.
    check
        ``audience_at_least`` (customers), ``data_age_at_most`` (days), ``control_at_least``
        (customers), or ``by_hand`` where only a person can tell.
    value
        The number that the check needs; 0 for ``by_hand``.
    """

    text: Mapping[str, str]
    check: str
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as planned; immutable, so that its id names exactly what was approved.

    Parameters
    ----------
    campaign_id
        Stable id given by the planner.
    title
        By language.
    goal
        Metric, target, reason, period.
    audience
        Whom it is for, before suppression.
    mix
        Offers with promotion, scripts and channels.
    scripts
        What is said, by script id, then by language.
    channels
        Capacity and cost by channel kind.
    control_share
        Share of the planned customers held out as control, 0 <= share < 1.
    budget
        For contacts and accepted offers together, in the workspace's currency; None where open.
    risk_tag
        Customer tag (0 to 1) by which the margin is multiplied, e.g. the churn score of a
        retention campaign, because only who would leave can be kept; None to leave it out.
    kept_share
        Of those who would leave and accept, the share expected to stay, 0 to 1; an experience
        value of the planner. Only with ``risk_tag``.
    keep_lists
        Suppression exclusions that are switched off for this campaign.
    action_plan, requirements
        Who does what when, and what must hold before.
    limits
        How much at most or at least of an offer, on a channel, in a unit.
    preferred_ways
        What the customers' preferred ways of contact mean: ``factor`` on the chance of a sale,
        ``filter`` to the two that a customer likes best of the campaign's channels, or ``off``.
    matching
        Name of the matching principles of whose floor an offer must not fall short; empty: none.
    file
        Name of the file it was read from, for messages; empty where there is none.
    """

    campaign_id: str
    title: Mapping[str, str]
    goal: Goal
    audience: Node
    mix: tuple[MixItem, ...]
    scripts: Mapping[str, Mapping[str, str]]
    channels: Mapping[str, ChannelPlan]
    control_share: float
    budget: float | None = None
    risk_tag: str | None = None
    kept_share: float = 1.0
    keep_lists: frozenset[str] = frozenset()
    action_plan: tuple[ActionStep, ...] = ()
    requirements: tuple[Requirement, ...] = field(default=())
    limits: tuple[CampaignLimit, ...] = ()
    preferred_ways: str = "off"
    matching: str = ""
    file: str = field(default="", compare=False)

    @property
    def content_id(self) -> str:
        """Hash of what the campaign would do; any edit changes it."""
        return hash_id(
            self.campaign_id,
            audience_id(self.audience),
            [[item.offer_id, dict(item.acceptance), item.maximum] for item in self.mix],
            [[item.offer_id, dict(item.scripts)] for item in self.mix],
            {script: dict(words) for script, words in self.scripts.items()},
            [
                [plan.kind, plan.capacity, dict(plan.capacity_by_unit), plan.unit_cost]
                for plan in self.channels.values()
            ],
            [self.control_share, self.budget, self.risk_tag, self.kept_share],
            sorted(self.keep_lists),
            [self.goal.metric, self.goal.target, self.goal.starts_on, self.goal.ends_on],
            *self._more(),
        )

    def _more(self) -> list[Any]:
        """Return the fields that a campaign may leave out, so that one without keeps its id."""
        found: list[Any] = []
        if self.limits:
            found.append(["limits", sorted((limit.content for limit in self.limits), key=str)])
        if self.preferred_ways != "off" or self.matching:
            found.append(["suitability", self.preferred_ways, self.matching])
        return found

    def candidates(self) -> tuple[tuple[MixItem, str], ...]:
        """Return every (mix item, channel kind) that may be chosen, in the order written."""
        return tuple((item, channel) for item in self.mix for channel in item.scripts)


def load_campaign(path: Path, catalogue: Catalogue) -> Campaign:
    """Read a campaign file and hold it against the catalogue.

    Parameters
    ----------
    path
        YAML file.
    catalogue
        Where its offers must stand.

    Raises
    ------
    DocumentError
        If a field is missing, of the wrong form, or does not fit another; names file and field.
    UnknownOfferError
        If an offer is not in the catalogue.
    """
    top = Document.read(path).allow(
        "campaign_id", "title", "goal", "audience", "mix", "scripts", "channels", "control_share",
        "budget", "risk_tag", "kept_share", "keep_lists", "action_plan", "requirements", "limits",
        "preferred_ways", "suitability", "matching",
    )  # fmt: skip
    channel_part, script_part = top.part("channels"), top.part("scripts")
    channels = {kind: _parse_channel(channel_part, kind) for kind in channel_part.fields()}
    scripts = {script: script_part.titles(script) for script in script_part.fields()}
    goal = _parse_goal(top.part("goal"))
    mix = tuple(_parse_mix(part, catalogue, channels, scripts) for part in top.parts("mix"))
    if not mix:
        raise top.refuse("mix", "is empty", "Name at least one offer.")
    sold: dict[str, set[str]] = {}
    for item in mix:
        sold.setdefault(item.offer_id, set()).update(item.scripts)
    return Campaign(
        campaign_id=top.text("campaign_id"),
        title=top.titles("title"),
        goal=goal,
        audience=parse(top.text("audience")),
        mix=mix,
        scripts=scripts,
        channels=channels,
        control_share=top.number("control_share", low=0, high=0.9),
        budget=top.number("budget", low=0) if top.has("budget") else None,
        risk_tag=top.text("risk_tag") if top.has("risk_tag") else None,
        kept_share=top.number("kept_share", 1.0, low=0, high=1),
        keep_lists=frozenset(top.texts("keep_lists")),
        action_plan=tuple(_parse_step(part, goal) for part in top.parts("action_plan")),
        requirements=tuple(_parse_requirement(part) for part in top.parts("requirements")),
        limits=parse_limits(top, sold, channels, has_budget=top.has("budget")),
        preferred_ways=_switch(top, "preferred_ways", WAYS),
        matching=_parse_matching(top),
        file=path.name,
    )


def plan_text(campaign: Campaign, catalogue: Catalogue, language: str) -> str:
    """Write the campaign as a plan document in Markdown, for reading and filing.

    Parameters
    ----------
    campaign, catalogue
        What is planned.
    language
        ``zh`` or ``en``.
    """
    words = _WORDS[language]
    goal = campaign.goal
    lines = [
        f"# {campaign.title[language]}",
        f"## {words['goal']}",
        f"- {words['metric']}: {goal.metric} (+{goal.target:g})",
        f"- {words['period']}: {goal.starts_on} – {goal.ends_on}",
        f"- {words['reason']}: {goal.reason[language]}",
        f"## {words['audience']}",
        f"`{to_text(campaign.audience)}`",
        f"- {words['needs']}: {goal.needs[language]}",
        f"## {words['mix']}",
    ]
    for item in campaign.mix:
        offer = catalogue.get(item.offer_id)
        lines.append(
            f"- {offer.title[language]} ({offer.price:g} × {offer.months}): "
            f"{item.promotion[language]} — {', '.join(item.scripts)}"
        )
    if campaign.preferred_ways != "off":
        lines.append(f"- {words[campaign.preferred_ways]}")
    if campaign.matching:
        lines.append(f"- {words['matching'].format(name=campaign.matching)}")
    if campaign.limits:
        lines += [f"## {words['limits']}", *limit_lines(campaign.limits, language)]
    lines.append(f"## {words['plan']}")
    lines += [
        f"- {step.starts_on} – {step.ends_on} · {step.post}: {step.what[language]}"
        for step in campaign.action_plan
    ]
    lines.append(f"## {words['requirements']}")
    lines += [f"- {requirement.text[language]}" for requirement in campaign.requirements]
    return "\n".join(lines) + "\n"


_WORDS = {
    "zh": {"goal": "目标", "metric": "指标", "period": "有效期间", "reason": "原因",
           "audience": "目标客户群", "needs": "需求与驱动因素", "mix": "营销组合",
           "factor": "客户偏好的接触方式计入成交概率", "filter": "只用客户最偏好的两种接触方式",
           "matching": "产品须达到匹配原则 {name} 的下限",
           "limits": "限额", "plan": "行动计划", "requirements": "前提条件"},
    "en": {"goal": "Goal", "metric": "Metric", "period": "Period", "reason": "Reason",
           "audience": "Audience", "needs": "Needs and drivers", "mix": "Marketing mix",
           "factor": "The customer's preferred ways of contact count in the chance of a sale",
           "filter": "Only the two ways of contact that a customer likes best are used",
           "matching": "Offers must reach the floor of the matching principles '{name}'",
           "limits": "Limits", "plan": "Action plan", "requirements": "Preconditions"},
}  # fmt: skip


def _switch(top: Document, name: str, allowed: tuple[str, ...]) -> str:
    """Read a word where YAML takes a bare ``off`` for false."""
    if top.has(name) and top.raw(name) is False:
        return "off"
    return top.choice(name, allowed, "off")


def _parse_matching(top: Document) -> str:
    """Return the name of the principles by which offers must suit; empty: none."""
    if _switch(top, "suitability", SUITABILITY) == "match":
        return top.text("matching", "standard")
    if top.has("matching"):
        raise top.refuse("matching", "has no effect", "Write  suitability: match  too.")
    return ""


def _parse_goal(part: Document) -> Goal:
    part.allow("metric", "target", "reason", "needs", "starts_on", "ends_on")
    goal = Goal(
        metric=part.choice("metric", METRICS),
        target=part.number("target", low=1e-9),
        reason=part.titles("reason"),
        needs=part.titles("needs"),
        starts_on=part.day("starts_on"),
        ends_on=part.day("ends_on"),
    )
    if goal.ends_on < goal.starts_on:
        raise part.refuse("ends_on", "is before starts_on", "Give the last day of the period.")
    return goal


def _parse_mix(
    part: Document,
    catalogue: Catalogue,
    plans: Mapping[str, ChannelPlan],
    scripts: Mapping[str, Mapping[str, str]],
) -> MixItem:
    part.allow("offer", "promotion", "channels", "maximum")
    offer = catalogue.get(part.text("offer"))
    channels = part.part("channels")
    chosen: dict[str, str] = {}
    acceptance: dict[str, float] = {}
    for kind in channels.fields():
        if kind not in plans:
            raise channels.refuse(kind, "has no capacity and cost", "Add it under channels.")
        if kind not in offer.channels:
            raise channels.refuse(
                kind,
                f"is not a channel of offer '{offer.offer_id}'",
                f"Choose from: {', '.join(sorted(offer.channels))}.",
            )
        plan = channels.part(kind).allow("script", "acceptance")
        chosen[kind] = plan.choice("script", scripts.keys())
        acceptance[kind] = plan.number("acceptance", low=0, high=1)
    return MixItem(
        offer_id=offer.offer_id,
        promotion=part.titles("promotion"),
        scripts=chosen,
        acceptance=acceptance,
        maximum=part.whole("maximum") if part.has("maximum") else None,
    )


def _parse_channel(part: Document, kind: str) -> ChannelPlan:
    plan = part.part(kind).allow("capacity", "capacity_by_unit", "unit_cost")
    by_unit = plan.find_part("capacity_by_unit")
    return ChannelPlan(
        kind=kind,
        capacity=plan.whole("capacity") if plan.has("capacity") else None,
        capacity_by_unit={} if by_unit is None else {u: by_unit.whole(u) for u in by_unit.fields()},
        unit_cost=plan.number("unit_cost", 0.0, low=0),
    )


def _parse_step(part: Document, goal: Goal) -> ActionStep:
    part.allow("what", "post", "starts_on", "ends_on")
    step = ActionStep(
        part.titles("what"), part.text("post"), part.day("starts_on"), part.day("ends_on")
    )
    if not goal.starts_on <= step.starts_on <= step.ends_on <= goal.ends_on:
        raise part.refuse(
            "starts_on", "is outside the campaign's period or after ends_on", "Correct the days."
        )
    return step


CHECKS = ("audience_at_least", "data_age_at_most", "control_at_least", "by_hand")


def _parse_requirement(part: Document) -> Requirement:
    part.allow("text", "check", "value")
    check = part.choice("check", CHECKS, "by_hand")
    value = 0.0 if check == "by_hand" else part.number("value", low=0)
    return Requirement(part.titles("text"), check, value)
