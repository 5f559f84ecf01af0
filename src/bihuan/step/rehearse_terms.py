"""On what terms plans are rehearsed: sample, thresholds, daily capacities, groups to compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType

from bihuan.decision.rehearsal import (
    CRITERIA,
    Assumptions,
    Criterion,
    DailyCapacity,
    read_criteria,
)
from bihuan.kernel import UserError
from bihuan.kernel.document import Document

AGAINST = ("history", "twin")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_OPEN = DailyCapacity({}, {})


@dataclass(frozen=True, slots=True)
class Trait:
    """A tag whose groups are compared for fairness.

    Parameters
    ----------
    tag
        A tag with codes, a boolean, or a number with ``edges``.
    edges
        Ascending bounds of the bands of a number; the first band is below the first edge.
    """

    tag: str
    edges: tuple[float, ...] = ()


TRAITS = tuple(Trait(tag) for tag in ("gender", "age_band", "is_senior", "city", "city_code"))
"""Compared unless a workspace says otherwise, as far as they are derived."""


@dataclass(frozen=True, slots=True)
class RehearsalTerms:
    """How a plan is rehearsed.

    Parameters
    ----------
    sample
        Customers (int) or share of them (float) to rehearse; None: all.
    seed
        Of the sample, of ties, lots and draws; None: the workspace's.
    against
        ``history`` (what earlier contacts have brought), ``twin`` (what a twin's customers
        answer, where one is given), or both.
    confirmed
        Preconditions (English text) that a person has confirmed.
    windows
        By length in days: how many contacts of one customer are still bearable.
    traits
        Whom fairness compares; a tag that is not derived is passed over.
    capacity
        Contacts per day; a channel that is not named has its campaign's capacity, spread evenly
        over the days of contact.
    posts
        Posts whose steps of the action plan are days of contact; where the plan names none of
        them, the whole campaign is.
    rest_days
        Days of the week without contacts, Monday = 0.
    assumptions
        Spreads behind the intervals.
    criteria
        Thresholds of the four judgements.
    """

    sample: int | float | None = None
    seed: int | None = None
    against: tuple[str, ...] = AGAINST
    confirmed: frozenset[str] = frozenset()
    windows: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({30: 2, 90: 4}))
    traits: tuple[Trait, ...] = TRAITS
    capacity: DailyCapacity = _OPEN
    posts: tuple[str, ...] = ("channel_operator",)
    rest_days: frozenset[int] = frozenset()
    assumptions: Assumptions = field(default_factory=Assumptions)
    criteria: tuple[Criterion, ...] = CRITERIA

    def __post_init__(self) -> None:
        unknown = sorted(set(self.against) - set(AGAINST))
        if unknown:
            raise UserError(
                f"A plan cannot be rehearsed against '{unknown[0]}'.",
                remedy=f"Choose from: {', '.join(AGAINST)}.",
                zh=f"不能以 {unknown[0]} 为依据预演，可选：{'、'.join(AGAINST)}。",
            )


def load_terms(path: Path) -> RehearsalTerms:
    """Read the terms of a workspace from YAML; what is not named stays at its default.

    Parameters
    ----------
    path
        Fields ``windows`` (list of ``{days, most}``), ``traits`` (list of ``{tag, edges}``),
        ``daily_capacity`` (channel: ``{all, units}``), ``posts``, ``rest_days`` (mon ... sun),
        ``assumptions`` and ``criteria``.

    Raises
    ------
    DocumentError
        If a field is wrong; names file and field.
    """
    top = Document.read(path).allow(
        "windows", "traits", "daily_capacity", "posts", "rest_days", "assumptions", "criteria"
    )
    plain = RehearsalTerms()
    criteria = top.find_part("criteria")
    return RehearsalTerms(
        windows=_windows(top) if top.has("windows") else plain.windows,
        traits=_traits(top) if top.has("traits") else plain.traits,
        capacity=_capacity(top),
        posts=top.texts("posts") if top.has("posts") else plain.posts,
        rest_days=_rest_days(top),
        assumptions=_assumptions(top),
        criteria=plain.criteria if criteria is None else read_criteria(criteria),
    )


def _windows(top: Document) -> dict[int, int]:
    found = {}
    for part in top.parts("windows"):
        part.allow("days", "most")
        found[part.whole("days", low=1)] = part.whole("most")
    return found


def _traits(top: Document) -> tuple[Trait, ...]:
    found = []
    for part in top.parts("traits"):
        part.allow("tag", "edges")
        found.append(Trait(part.text("tag"), _edges(part)))
    return tuple(found)


def _edges(part: Document) -> tuple[float, ...]:
    try:
        edges = tuple(float(edge) for edge in part.texts("edges"))
    except ValueError as error:
        raise part.refuse("edges", "are not numbers", "Write for example [30, 60].") from error
    if edges != tuple(sorted(set(edges))):
        raise part.refuse("edges", "do not ascend", "Write for example [30, 60].")
    return edges


def _capacity(top: Document) -> DailyCapacity:
    channels = top.find_part("daily_capacity")
    if channels is None:
        return _OPEN
    by_channel: dict[str, float] = {}
    by_desk: dict[tuple[str, str | None], float] = {}
    for channel in channels.fields():
        part = channels.part(channel).allow("all", "units")
        if part.has("all"):
            by_channel[channel] = part.number("all", low=0)
        units = part.find_part("units") or Document({}, part.where)
        by_desk |= {(channel, unit): units.number(unit, low=0) for unit in units.fields()}
    return DailyCapacity(by_channel, by_desk)


def _rest_days(top: Document) -> frozenset[int]:
    days = top.texts("rest_days")
    for day in days:
        if day not in WEEKDAYS:
            raise top.refuse("rest_days", f"names '{day}'", f"Choose from {', '.join(WEEKDAYS)}.")
    return frozenset(WEEKDAYS.index(day) for day in days)


def _assumptions(top: Document) -> Assumptions:
    part, plain = top.find_part("assumptions"), Assumptions()
    if part is None:
        return plain
    names = [item.name for item in fields(Assumptions) if item.name != "draws"]
    part.allow(*names, "draws")
    values = {name: part.number(name, getattr(plain, name), low=0) for name in names}
    return Assumptions(**values, draws=part.whole("draws", plain.draws))
