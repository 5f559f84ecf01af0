"""Uniform assessment rules (考核规则): weights, targets and bands that turn values into points.

The same rule version holds for every line and city; each point can be explained from the value,
the target and the band that it fell in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from bihuan.evaluation.indicator.errors import IndicatorError
from bihuan.kernel import hash_id
from bihuan.kernel.document import Document

SUBJECTS = ("unit", "staff")
FULL = 100.0
"""Points of an item in full; a rule's weights sum to 1, so a rule's full points are 100 too."""


@dataclass(frozen=True, slots=True)
class Band:
    """Points for a stretch of achievement.

    Parameters
    ----------
    least
        Achievement from which it holds, as a share of the target (1 = the target is met).
    points
        Of 100, before the weight.
    """

    least: float
    points: float


@dataclass(frozen=True, slots=True)
class RuleItem:
    """One indicator of a rule.

    Parameters
    ----------
    indicator
        Its name in the dictionary.
    weight
        Share of the whole, > 0; all weights sum to 1.
    target
        Value to be reached, > 0, in the indicator's unit; its direction says from which side.
    bands
        By rising ``least``; below the first there are no points. Empty: points in proportion to
        the achievement, at most ``cap`` in full.
    cap
        Greatest achievement that counts where there are no bands.
    """

    indicator: str
    weight: float
    target: float
    bands: tuple[Band, ...] = ()
    cap: float = 1.2


@dataclass(frozen=True, slots=True)
class AssessmentRule:
    """One version of a rule.

    Parameters
    ----------
    name, title
        Its name, and its title by language.
    subject
        ``unit`` or ``staff``: who gets points.
    items
        Indicators with weight and target.
    version, effective_from
        As for indicators.
    """

    name: str
    title: Mapping[str, str]
    subject: str
    items: tuple[RuleItem, ...]
    version: int
    effective_from: date

    def __post_init__(self) -> None:
        names = [item.indicator for item in self.items]
        problem = ""
        if not self.items or len(set(names)) < len(names):
            problem = "it needs items, each indicator once"
        elif abs(sum(item.weight for item in self.items) - 1) > 1e-9:
            problem = f"its weights sum to {sum(i.weight for i in self.items):g}, not to 1"
        elif any(item.weight <= 0 or item.target <= 0 for item in self.items):
            problem = "weights and targets must be greater than 0"
        elif any(
            [b.least for b in i.bands] != sorted({b.least for b in i.bands}) for i in self.items
        ):
            problem = "bands must rise"
        elif self.effective_from.day != 1 or self.version < 1:
            problem = "it takes effect on the first day of a month, and versions start at 1"
        if problem:
            raise IndicatorError(
                f"Assessment rule '{self.name}': {problem}.",
                remedy="Mend the rule.",
                zh=f"考核规则 {self.name} 有误：{problem}。",
            )

    @property
    def content_id(self) -> str:
        """Hash of all that decides on points."""
        return hash_id(self.name, rule_document(self)["items"], self.subject)


@dataclass(frozen=True, slots=True)
class Points:
    """What one indicator gave, and why.

    Parameters
    ----------
    indicator, version
        Definition used.
    value, target
        In the indicator's unit; value None: missing.
    achievement
        Value by target (target by value where lower is better); None where missing.
    band
        ``least`` of the band it fell in; None without bands or below the first.
    weight, points
        Weight, and points with the weight in them.
    why
        By language.
    """

    indicator: str
    version: int
    value: float | None
    target: float
    achievement: float | None
    band: float | None
    weight: float
    points: float
    why: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Scorecard:
    """Points of one subject under a rule.

    Parameters
    ----------
    subject_id
        Unit or staff.
    total
        Sum of the points.
    rank
        1 = most points; equals share a rank and the next ranks are left out.
    items
        Every point, in the order of the rule.
    """

    subject_id: str
    total: float
    rank: int
    items: tuple[Points, ...]


def assess(
    rule: AssessmentRule,
    values: Mapping[str, Mapping[str, float | None]],
    *,
    versions: Mapping[str, int],
    directions: Mapping[str, str],
) -> tuple[Scorecard, ...]:
    """Give points to every subject.

    Parameters
    ----------
    rule
        Weights, targets, bands.
    values
        By subject, then by indicator; None or absent: missing, no points, and it is said.
    versions, directions
        Of the indicators, by name.

    Returns
    -------
    tuple[Scorecard, ...]
        By rank, then by subject id.
    """
    cards = []
    for subject, held in values.items():
        items = tuple(
            _points(item, held.get(item.indicator), versions[item.indicator],
                    directions[item.indicator])
            for item in rule.items
        )  # fmt: skip
        cards.append((subject, round(sum(one.points for one in items), 2), items))
    cards.sort(key=lambda card: (-card[1], card[0]))
    found: list[Scorecard] = []
    for place, (subject, total, items) in enumerate(cards, start=1):
        is_tied = bool(found) and found[-1].total == total
        found.append(Scorecard(subject, total, found[-1].rank if is_tied else place, items))
    return tuple(found)


def parse_rule(part: Document) -> AssessmentRule:
    """Read a rule from a document; raise DocumentError or IndicatorError naming what is wrong."""
    part.allow("name", "title", "subject", "items", "version", "effective_from")
    return AssessmentRule(
        name=part.text("name"),
        title=part.titles("title"),
        subject=part.choice("subject", SUBJECTS),
        items=tuple(_item(item) for item in part.parts("items")),
        version=part.whole("version", 1, low=1),
        effective_from=part.day("effective_from"),
    )


def rule_document(rule: AssessmentRule) -> dict[str, Any]:
    """Return a rule in the form that :func:`parse_rule` reads."""
    return {
        "name": rule.name,
        "title": dict(rule.title),
        "subject": rule.subject,
        "version": rule.version,
        "effective_from": rule.effective_from.isoformat(),
        "items": [
            {
                "indicator": item.indicator,
                "weight": item.weight,
                "target": item.target,
                "bands": [[band.least, band.points] for band in item.bands],
                "cap": item.cap,
            }
            for item in rule.items
        ],
    }


def _item(part: Document) -> RuleItem:
    part.allow("indicator", "weight", "target", "bands", "cap")
    bands = part.raw("bands") if part.has("bands") else []
    if not isinstance(bands, list) or not all(
        isinstance(band, (list, tuple)) and len(band) == 2 for band in bands
    ):
        raise part.refuse("bands", "is no list of pairs", "Write  [[0.8, 60], [1, 100]].")
    return RuleItem(
        indicator=part.text("indicator"),
        weight=part.number("weight", low=0, high=1),
        target=part.number("target"),
        bands=tuple(Band(float(least), float(points)) for least, points in bands),
        cap=part.number("cap", 1.2, low=0, high=10),
    )


def _points(item: RuleItem, value: float | None, version: int, direction: str) -> Points:
    achievement = _achievement(value, item.target, direction)
    if achievement is None:
        why = {
            "zh": f"{item.indicator} 本月没有值，不得分",
            "en": f"{item.indicator} has no value this month: no points",
        }
        return Points(item.indicator, version, value, item.target, None, None, item.weight, 0, why)
    band = _band(item.bands, achievement)
    if item.bands:
        full = band.points if band else 0.0
        how_zh = f"落在 ≥{band.least:.0%} 档，得 {full:g} 分" if band else "低于最低档，得 0 分"
        how_en = (
            f"band from {band.least:.0%}: {full:g} points" if band else "below every band: 0 points"
        )
    else:
        counted = min(max(achievement, 0.0), item.cap)
        full = FULL * counted
        how_zh = f"按完成率计 {full:.1f} 分（封顶 {item.cap:.0%}）"
        how_en = f"in proportion: {full:.1f} points (at most {item.cap:.0%})"
    points = round(full * item.weight, 4)
    why = {
        "zh": f"实际 {value:g}，目标 {item.target:g}，完成率 {achievement:.1%}；{how_zh}；"
        f"权重 {item.weight:.0%}，计 {points:.2f} 分",
        "en": f"value {value:g}, target {item.target:g}, achievement {achievement:.1%}; {how_en}; "
        f"weight {item.weight:.0%}, counts {points:.2f}",
    }
    return Points(
        item.indicator, version, value, item.target, achievement, band.least if band else None,
        item.weight, points, why,
    )  # fmt: skip


def _achievement(value: float | None, target: float, direction: str) -> float | None:
    if value is None:
        return None
    if direction != "lower":
        return value / target
    return 10.0 if value <= 0 else min(target / value, 10.0)  # nought where less is better


def _band(bands: Sequence[Band], achievement: float) -> Band | None:
    held = [band for band in bands if achievement >= band.least - 1e-12]
    return held[-1] if held else None
