"""Whether a campaign keeps the policies of the units in which it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bihuan.offer import Catalogue
from bihuan.strategy.campaign import Campaign, MixItem
from bihuan.strategy.policy.limit import Hours, text_of
from bihuan.strategy.policy.resolved import ResolvedPolicy
from bihuan.strategy.policy.statement import PolicyStatement
from bihuan.strategy.policy.tree import TIERS

if TYPE_CHECKING:  # the book offers these checks as its methods
    from bihuan.strategy.policy.book import PolicyBook


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which a campaign breaks a policy.

    Parameters
    ----------
    kind
        ``offer`` (the unit may not offer it), ``channel``, ``price``, ``discount``, ``hours``,
        ``script``, ``budget``, ``unapproved`` (a draft would change what holds), ``undecided``
        (there is a frame and no strategy), ``unit`` (the campaign names an unknown unit).
    unit_id
        Where it is broken: there and below.
    offer_id, channel
        By what; empty where it is the campaign as a whole.
    is_blocking
        Whether the campaign cannot run at all as planned. Otherwise only a part of its customers
        falls away: those of the unit.
    said_by
        Policy that is broken, with its place; empty where there is none.
    message
        What is wrong and what to do, by language.
    """

    kind: str
    unit_id: str
    offer_id: str
    channel: str
    is_blocking: bool
    said_by: str
    message: Mapping[str, str]


def check_campaign(
    book: PolicyBook,
    campaign: Campaign,
    catalogue: Catalogue | None = None,
    *,
    contact_hours: Mapping[str, Hours] | None = None,
) -> tuple[Violation, ...]:
    """Hold a campaign against the policies of the units in which it runs.

    These are the units that its channels give a capacity to; all units where none is named.

    Parameters
    ----------
    book
        The policies.
    campaign
        What is planned.
    catalogue
        Offers with their prices; None: those of the book.
    contact_hours
        Local hours in which a channel will be worked, by channel kind; a channel not named is
        taken to keep the hours of the policy.

    Returns
    -------
    tuple of Violation
        Blocking ones first.
    """
    check = _Check(book, campaign, catalogue or book.catalogue, contact_hours or {})
    found: dict[tuple[str, str, str, str, str], Violation] = {}
    for violation in check.all():
        key = (
            violation.kind, violation.unit_id, violation.offer_id, violation.channel,
            violation.said_by,
        )  # fmt: skip
        found.setdefault(key, violation)
    return tuple(sorted(found.values(), key=lambda v: not v.is_blocking))


@dataclass(frozen=True, slots=True)
class _Check:
    book: PolicyBook
    campaign: Campaign
    catalogue: Catalogue
    contact_hours: Mapping[str, Hours]

    def all(self) -> Iterator[Violation]:
        """Yield every violation: at the campaign's units first, then where it begins below."""
        for plan in self.campaign.channels.values():
            for unit in plan.capacity_by_unit:
                if unit not in self.book.tree:
                    yield _say("unit", unit, "", plan.kind, None, unit=unit)
        for item, channel in self.campaign.candidates():
            for base in self.units(channel):
                yield from self._below(base, item, channel)

    def units(self, channel: str) -> tuple[str, ...]:
        """Return the topmost units in which a channel works."""
        tree = self.book.tree
        named = [u for u in self.campaign.channels[channel].capacity_by_unit if u in tree]
        return tuple(
            unit
            for unit in (named or tree.roots)
            if not any(other != unit and tree.covers(other, unit) for other in named)
        )

    def _below(self, base: str, item: MixItem, channel: str) -> Iterator[Violation]:
        told: list[Violation] = list(self._at(base, item, channel))
        yield from told
        yield from self._undecided(base, item)
        for unit in self.book.spoken_units(base, item.offer_id):
            if unit == base:
                continue
            for violation in self._at(unit, item, channel):
                known = any(
                    v.kind == violation.kind and self.book.tree.covers(v.unit_id, unit)
                    and v.said_by == violation.said_by
                    for v in told
                )  # fmt: skip
                if not known:
                    told.append(replace(violation, is_blocking=False))
                    yield told[-1]

    def _at(self, unit: str, item: MixItem, channel: str) -> Iterator[Violation]:
        """Hold one candidate against what holds for one unit."""
        policy = self.book.resolve(unit, item.offer_id)
        about = (unit, item.offer_id, channel)
        if not policy.is_offered:
            yield _say("offer", *about, _who(policy, "offers"), offer=item.offer_id)
            return
        yield from self._drafts(policy, channel)
        if not policy.allows(channel):
            yield _say(
                "channel", *about, _who(policy, "channels"),
                limit=text_of(policy.channels or frozenset()),
            )  # fmt: skip
        script = item.scripts[channel]
        if policy.scripts is not None and script not in policy.scripts:
            yield _say(
                "script", *about, _who(policy, "scripts"), script=script,
                limit=text_of(policy.scripts),
            )  # fmt: skip
        hours, planned = policy.hours(channel), self.contact_hours.get(channel)
        if hours is not None and planned is not None and not planned.is_within(hours):
            who = _who(policy, f"hours.{channel}") or _who(policy, "hours.any")
            yield _say("hours", *about, who, planned=str(planned), limit=str(hours))
        yield from self._money(policy, channel)

    def _money(self, policy: ResolvedPolicy, channel: str) -> Iterator[Violation]:
        about = (policy.unit_id, policy.offer_id)
        low, high = policy.price_band
        for price in price_range(self.catalogue, policy.offer_id):
            if not low <= price <= high:
                who = _who(policy, "price.low" if price < low else "price.high")
                yield _say(
                    "price", *about, channel, who, price=text_of(price),
                    limit=f"{text_of(low)}–{text_of(high)}",
                )  # fmt: skip
        most = policy.max_discount
        discount = gift_share(self.catalogue, policy.offer_id)
        if most is not None and discount > most:
            yield _say(
                "discount", *about, channel, _who(policy, "max_discount"), limit=f"{most:.0%}",
                discount="∞" if discount == float("inf") else f"{discount:.0%}",
            )  # fmt: skip
        budget = policy.budget
        if budget is not None and (self.campaign.budget is None or self.campaign.budget > budget):
            planned = "∞" if self.campaign.budget is None else text_of(self.campaign.budget)
            yield _say(
                "budget", *about, "", _who(policy, "budget"), planned=planned, limit=text_of(budget)
            )

    def _drafts(self, policy: ResolvedPolicy, channel: str) -> Iterator[Violation]:
        """Name the drafts that would change what holds here once they are approved."""
        would = self.book.limits(policy.unit_id, policy.offer_id, drafts=True)
        drafts = {
            step.statement.policy_id: step.statement
            for limit in would.values()
            for step in limit.trail
            if not step.statement.is_approved
        }
        for statement in drafts.values():
            yield _say("unapproved", policy.unit_id, policy.offer_id, channel, statement)

    def _undecided(self, base: str, item: MixItem) -> Iterator[Violation]:
        """Look whether those who have to fill in a frame have done so."""
        policy = self.book.resolve(base, item.offer_id)
        if policy.is_decided:
            return
        detail = self.book.authority.of(policy.kind).detail
        tree = self.book.tree
        bottom = max(detail, key=TIERS.index)
        lowest = [u for u in tree.subtree(base) if tree.get(u).tier == bottom] or [base]
        open_ = [u for u in lowest if not self.book.resolve(u, item.offer_id).is_decided]
        if open_:
            violation = _say(
                "undecided", base, item.offer_id, "", None, who=" / ".join(detail),
                units=", ".join(open_[:3]), count=str(len(open_)), all=str(len(lowest)),
            )  # fmt: skip
            yield replace(violation, is_blocking=len(open_) == len(lowest))


def price_range(catalogue: Catalogue, offer_id: str) -> tuple[float, float]:
    """Return the lowest and the highest monthly price of an offer over all plans.

    Parameters
    ----------
    catalogue
        Where the offer stands.
    offer_id
        Its id.

    Returns
    -------
    (float, float)
        In the workspace's currency; equal where the price does not hang on the plan.
    """
    offer = catalogue.get(offer_id)
    prices = [offer.price, *offer.prices_by_plan.values()]
    return min(prices), max(prices)


def gift_share(catalogue: Catalogue, offer_id: str) -> float:
    """Return what an offer gives away as a share of what the customer pays over its term.

    Parameters
    ----------
    catalogue
        Where the offer stands.
    offer_id
        Its id.

    Returns
    -------
    float
        ``cost / (price * months)``, >= 0; inf where something is given and nothing is paid.
    """
    offer = catalogue.get(offer_id)
    paid = min(price_range(catalogue, offer_id)) * offer.months
    if offer.cost == 0:
        return 0.0
    return offer.cost / paid if paid > 0 else float("inf")


def _who(policy: ResolvedPolicy, facet: str) -> PolicyStatement | None:
    step = policy.set_by(facet)
    return None if step is None else step.statement


_TEXTS: Mapping[str, Mapping[str, str]] = {
    "offer": {
        "en": "'{unit}' may not offer '{offer}' ({said}). Take it out of the mix.",
        "zh": "{unit} 不得推荐 {offer}({said})。请从营销组合中去掉。",
    },
    "channel": {
        "en": "'{unit}' may not offer '{offer}' through {channel}; allowed: {limit} ({said}).",
        "zh": "{unit} 不得通过 {channel} 推荐 {offer}；允许的渠道：{limit}({said})。",
    },
    "script": {
        "en": "Script '{script}' for '{offer}' through {channel} is not allowed in '{unit}';"
        " allowed: {limit} ({said}).",
        "zh": "{unit} 不得在 {channel} 为 {offer} 使用话术 {script}；允许：{limit}({said})。",
    },
    "hours": {
        "en": "{channel} is planned for {planned} in '{unit}'; allowed: {limit} ({said}).",
        "zh": "{unit} 的 {channel} 计划时段为 {planned}；允许时段：{limit}({said})。",
    },
    "price": {
        "en": "'{offer}' costs {price} a month; '{unit}' allows {limit} ({said}).",
        "zh": "{offer} 月价 {price};{unit} 允许的价格带为 {limit}({said})。",
    },
    "discount": {
        "en": "'{offer}' gives away {discount} of what is paid; '{unit}' allows {limit} ({said}).",
        "zh": "{offer} 让利占实付的 {discount};{unit} 上限为 {limit}({said})。",
    },
    "budget": {
        "en": "The campaign's budget is {planned}; '{unit}' allows {limit} for '{offer}' ({said}).",
        "zh": "方案预算为 {planned};{unit} 对 {offer} 的上限为 {limit}({said})。",
    },
    "unapproved": {
        "en": "The policy of '{unit}' for '{offer}' is not settled: {said} is a draft. Approve or"
        " withdraw it first.",
        "zh": "{unit} 对 {offer} 的政策尚未确定：{said} 仍是草稿。请先批准或撤回。",
    },
    "undecided": {
        "en": "Under '{unit}' {count} of {all} units ({units}, ...) have a frame for '{offer}' and"
        " no strategy; {who} has to decide.",
        "zh": "{unit} 下属 {all} 个单元中有 {count} 个({units} 等)对 {offer} 只有框架而无具体策略；"
        "须由 {who} 制定。",
    },
    "unit": {
        "en": "The campaign gives {channel} a capacity in '{unit}', which is no org unit.",
        "zh": "方案在 {unit} 配置了 {channel} 容量，但没有该组织单元。",
    },
}


def _say(
    kind: str,
    unit_id: str,
    offer_id: str,
    channel: str,
    statement: PolicyStatement | None,
    **words: str,
) -> Violation:
    said = "" if statement is None else statement.place
    known = {"unit": unit_id, "offer": offer_id, "channel": channel, "said": said} | words
    return Violation(
        kind=kind,
        unit_id=unit_id,
        offer_id=offer_id,
        channel=channel,
        is_blocking=True,
        said_by=said,
        message={language: form.format(**known) for language, form in _TEXTS[kind].items()},
    )


def campaign_units(book: PolicyBook, campaign: Campaign) -> Sequence[str]:
    """Return the topmost units in which a campaign runs, over all its channels."""
    check = _Check(book, campaign, book.catalogue, {})
    return tuple(dict.fromkeys(u for kind in campaign.channels for u in check.units(kind)))
