"""Reading ``matching/*.yaml``."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from bihuan.audience import parse
from bihuan.kernel.document import Document
from bihuan.offer.business import CATEGORIES
from bihuan.offer.matching import (
    MEASURES,
    AudienceRule,
    ChannelRule,
    Matching,
    NeedGroup,
    OfferFilter,
    Principle,
    RatioRule,
    Rule,
)
from bihuan.offer.offer import KINDS, OTHER


def load_matching(path: Path) -> Matching:
    """Read a matching file.

    Raises
    ------
    DocumentError
        If a field is missing or of the wrong form; the message names file and field.
    """
    top = Document.read(path).allow("matching", "title", "floor", "principles", "groups", "note")
    principles = tuple(_parse_principle(part) for part in top.parts("principles"))
    if not principles:
        raise top.refuse("principles", "is empty", "Name at least one principle.")
    names = [principle.principle_id for principle in principles]
    if len(set(names)) < len(names):
        raise top.refuse("principles", "names one twice", "Give each an id of its own.")
    return Matching(
        matching_id=top.text("matching", path.stem),
        title=top.titles("title"),
        floor=top.number("floor", 0.5, low=0, high=1),
        principles=principles,
        groups=tuple(_parse_group(part) for part in top.parts("groups")),
    )


def _parse_principle(part: Document) -> Principle:
    part.allow("principle", "title", "weight", "least", "required", "for", "against", "rules")
    rules = tuple(_parse_rule(rule) for rule in part.parts("rules"))
    if not rules:
        raise part.refuse("rules", "is empty", "Name at least one rule.")
    return Principle(
        principle_id=part.text("principle"),
        title=part.titles("title"),
        weight=part.number("weight", 1.0, low=1e-9),
        least=part.number("least", 0.0, low=0, high=1),
        is_required=part.flag("required", False),
        speaks_for=part.titles("for"),
        speaks_against=part.titles("against"),
        rules=rules,
    )


def _parse_rule(part: Document) -> Rule:
    part.allow("offers", "audience", "inside", "outside", "measure", "of", "points", "channel_tag")
    given = [name for name in ("audience", "measure", "channel_tag") if part.has(name)]
    if len(given) != 1:
        raise part.refuse(
            "", "must have one of audience, measure, channel_tag", "Give exactly one of the three."
        )
    offers = _parse_filter(part.find_part("offers"))
    if given == ["audience"]:
        return AudienceRule(
            offers,
            parse(part.text("audience")),
            part.number("inside", 1.0, low=0, high=1),
            part.number("outside", 0.0, low=0, high=1),
        )
    if given == ["channel_tag"]:
        return ChannelRule(offers, part.text("channel_tag"))
    ratios, scores = _parse_points(part)
    return RatioRule(offers, part.choice("measure", MEASURES), part.text("of"), ratios, scores)


def _parse_points(part: Document) -> tuple[tuple[float, ...], tuple[float, ...]]:
    raw = part.raw("points")
    try:
        pairs = [(float(ratio), float(score)) for ratio, score in raw]
    except (TypeError, ValueError):
        pairs = []
    rising = all(a[0] < b[0] for a, b in pairwise(pairs))
    if not pairs or not rising or not all(0 <= score <= 1 for _, score in pairs):
        raise part.refuse(
            "points",
            f"is {raw!r}",
            "Write [[ratio, score], ...] with rising ratios, scores 0 to 1.",
        )
    return tuple(ratio for ratio, _ in pairs), tuple(score for _, score in pairs)


def _parse_filter(part: Document | None) -> OfferFilter:
    if part is None:
        return OfferFilter()
    part.allow("ids", "kinds", "categories", "families", "traits")
    for name, known in (("kinds", KINDS), ("categories", (*CATEGORIES, OTHER))):
        for value in part.texts(name):
            if value not in known:
                raise part.refuse(name, f"names '{value}'", f"Choose from: {', '.join(known)}.")
    return OfferFilter(
        ids=frozenset(part.texts("ids")),
        kinds=frozenset(part.texts("kinds")),
        categories=frozenset(part.texts("categories")),
        families=frozenset(part.texts("families")),
        traits=frozenset(part.texts("traits")),
    )


def _parse_group(part: Document) -> NeedGroup:
    part.allow("group", "title", "audience", "promise", "offers")
    return NeedGroup(
        group_id=part.text("group"),
        title=part.titles("title"),
        audience=parse(part.text("audience")),
        promise=part.titles("promise"),
        offers=_parse_filter(part.find_part("offers")),
    )
