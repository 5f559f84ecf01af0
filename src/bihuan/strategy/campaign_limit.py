"""Limits of a campaign: at most or at least so much of an offer, on a channel, in a unit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bihuan.kernel.document import Document

KINDS = ("maximum", "minimum", "sales_at_most", "sales_at_least", "budget")
FLOORS = frozenset({"minimum", "sales_at_least"})
GREATEST = 1e15  # a bound beyond it is a slip of the keyboard


@dataclass(frozen=True, slots=True)
class CampaignLimit:
    """One line of a campaign's ``limits``.

    Parameters
    ----------
    kind
        ``maximum`` and ``minimum`` count contacts, ``sales_at_most`` and ``sales_at_least``
        expected sales, ``budget`` money for contacts and accepted offers.
    bound
        In contacts, sales or the workspace's currency, >= 0. Maxima and budgets are hard.
        Minima are soft: what is missing is named, and a minimum is filled only with contacts that
        are worth more than they cost.
    offers, channels
        Offer ids and channel kinds that count, sorted; empty = all.
    unit
        Org unit whose customers count, with all units under it; empty = everybody.
    penalty
        What one missing unit of a minimum costs, in the workspace's currency, > 0; None: ten
        times the most valuable contact, so that a minimum comes before all value.

    Examples
    --------
    >>> CampaignLimit("minimum", 200.0, channels=("outbound",), unit="city-1301").name
    'minimum outbound in city-1301'
    >>> CampaignLimit("budget", 5000.0, offers=("keep_12", "keep_24")).name
    'budget keep_12 + keep_24'
    """

    kind: str
    bound: float
    offers: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    unit: str = ""
    penalty: float | None = None

    @property
    def is_floor(self) -> bool:
        """Whether at least the bound is wanted."""
        return self.kind in FLOORS

    @property
    def name(self) -> str:
        """What it is called in certificates: kind, offers, channels, unit."""
        what = " · ".join(" + ".join(part) for part in (self.offers, self.channels) if part)
        if not what and not self.unit:
            return "budget" if self.kind == "budget" else f"{self.kind.replace('_', ' ')} overall"
        parts = [self.kind.replace("_", " "), what, f"in {self.unit}" if self.unit else ""]
        return " ".join(part for part in parts if part)

    @property
    def content(self) -> list[Any]:
        """What it does, for a hash."""
        return [
            self.kind, self.bound, list(self.offers), list(self.channels), self.unit, self.penalty
        ]  # fmt: skip

    def covers(self, offer_id: str, channel: str) -> bool:
        """Whether a contact with an offer through a channel counts."""
        return (not self.offers or offer_id in self.offers) and (
            not self.channels or channel in self.channels
        )

    def text(self, language: str) -> str:
        """Return the line of the plan document in ``zh`` or ``en``."""
        words = _WORDS[language]
        scope = [words["and"].join(part) for part in (self.offers, self.channels) if part]
        if self.unit:
            scope.append(words["unit"].format(unit=self.unit))
        where = words["comma"].join(scope) or words["all"]
        soft = ""
        if self.is_floor:
            cost = words["first"] if self.penalty is None else words["penalty"]
            soft = words["soft"].format(cost=cost.format(penalty=self.penalty))
        return words[self.kind].format(where=where, bound=self.bound, soft=soft)


def parse_limits(
    top: Document,
    sold: Mapping[str, Collection[str]],
    channels: Collection[str],
    *,
    has_budget: bool = False,
) -> tuple[CampaignLimit, ...]:
    """Read the list ``limits`` of a campaign.

    Parameters
    ----------
    top
        The campaign.
    sold
        Channel kinds by offer id of the campaign's mix.
    channels
        Channel kinds of the campaign.
    has_budget
        Whether the campaign has a ``budget`` for everything already.

    Raises
    ------
    DocumentError
        If an offer or a channel is not the campaign's, no contact of it would count, a number is
        out of range, or two limits say how much of the same; names file and field.
    """
    found: list[CampaignLimit] = []
    names: dict[str, str] = {"budget": "budget"} if has_budget else {}
    for index, part in enumerate(top.parts("limits")):
        limit = _parse_limit(part, sold, channels)
        if limit.name in names:
            first = names[limit.name]
            raise top.refuse(
                f"limits[{index}]", f"says how much of the same as {first}", "Keep one of the two."
            )
        names[limit.name] = f"limits[{index}]"
        found.append(limit)
    return tuple(found)


def _parse_limit(
    part: Document, sold: Mapping[str, Collection[str]], channels: Collection[str]
) -> CampaignLimit:
    part.allow("kind", "offer", "channel", "unit", "bound", "penalty")
    kind = part.choice("kind", KINDS)
    offers = _names(part, "offer", sold, "an offer of the campaign's mix")
    kinds = _names(part, "channel", channels, "a channel of the campaign")
    limit = CampaignLimit(
        kind=kind,
        bound=part.number("bound", low=0, high=GREATEST),
        offers=offers,
        channels=kinds,
        unit=part.text("unit", ""),
        penalty=part.number("penalty", low=1e-9, high=GREATEST) if part.has("penalty") else None,
    )
    if limit.penalty is not None and not limit.is_floor:
        raise part.refuse(
            "penalty", f"has no meaning for a {kind}, which is kept exactly", "Remove it."
        )
    if not any(limit.covers(offer, channel) for offer, ways in sold.items() for channel in ways):
        raise part.refuse(
            "channel", "is none through which the offer is sold", "Name one of the offer's."
        )
    return limit


def _names(part: Document, field: str, known: Collection[str], what: str) -> tuple[str, ...]:
    """Read one name or a list of them, each once."""
    if not part.has(field):
        return ()
    names = part.texts(field) if isinstance(part.raw(field), list) else (part.text(field),)
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise part.refuse(
            field, f"names '{unknown[0]}', not {what}", f"Choose from: {', '.join(sorted(known))}."
        )
    if not names or len(set(names)) < len(names):
        problem = "names one twice" if names else "is an empty list"
        raise part.refuse(field, problem, "Name each once, or leave the field out for all.")
    return tuple(sorted(names))


def limit_lines(limits: Sequence[CampaignLimit], language: str) -> list[str]:
    """Return the limits as list items of a plan document in ``zh`` or ``en``."""
    return [f"- {limit.text(language)}" for limit in limits]


_WORDS: Mapping[str, Mapping[str, str]] = {
    "zh": {
        "maximum": "{where}：最多 {bound:g} 次接触",
        "minimum": "{where}：至少 {bound:g} 次接触{soft}",
        "sales_at_most": "{where}：预期成交最多 {bound:g} 笔",
        "sales_at_least": "{where}：预期成交至少 {bound:g} 笔{soft}",
        "budget": "{where}：支出不超过 {bound:g}",
        "soft": "（软约束，{cost}）",
        "penalty": "每缺一个单位计 {penalty:g}",
        "first": "先于收益满足",
        "unit": "{unit} 及其下级单位",
        "all": "全部接触",
        "and": "、",
        "comma": "，",
    },
    "en": {
        "maximum": "{where}: at most {bound:g} contacts",
        "minimum": "{where}: at least {bound:g} contacts{soft}",
        "sales_at_most": "{where}: at most {bound:g} expected sales",
        "sales_at_least": "{where}: at least {bound:g} expected sales{soft}",
        "budget": "{where}: spend at most {bound:g}",
        "soft": " (soft; {cost})",
        "penalty": "{penalty:g} per missing unit",
        "first": "it comes before value",
        "unit": "{unit} with all units under it",
        "all": "All contacts",
        "and": ", ",
        "comma": "; ",
    },
}
