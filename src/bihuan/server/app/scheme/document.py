"""The scheme as a campaign's document, the same that campaign files have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np

from bihuan.kernel import hash_id
from bihuan.offer import Offer
from bihuan.server.app.scheme.reading import Reading
from bihuan.server.app.scheme.terms import SchemeTerms
from bihuan.server.app.scheme.threshold import Line
from bihuan.server.app.service import Service
from bihuan.strategy.script import MissingTagError

PERIOD_OF_LISTS = 2
"""Days at the start in which lists and scripts go out."""


def campaign_document(
    service: Service,
    case: Reading,
    line: Line,
    terms: SchemeTerms,
    *,
    control: Mapping[str, Any],
    product: str,
) -> dict[str, Any]:
    """Return the campaign that carries the scheme out.

    Parameters
    ----------
    service
        Whose scripts and offers.
    case, line
        Customers and the line drawn.
    terms
        The order.
    control
        From ``control_design``.
    product
        What it is for; names the campaign.
    """
    used = Counter(int(c) for c in line.candidate if c >= 0)
    chosen = [case.candidates[column] for column in sorted(used)]
    offers = {offer.offer_id: offer for offer, _ in chosen}
    channels = sorted({channel for _, channel in chosen})
    scripts: dict[str, dict[str, str]] = {}
    mix = []
    for offer_id, offer in offers.items():
        sold = {}
        for other, channel in chosen:
            if other.offer_id == offer_id:
                name = f"{offer_id}_{channel}"
                scripts[name] = script_text(service, offer, channel)
                rate = _rate(case, line, offer_id, channel)
                sold[channel] = {"script": name, "acceptance": round(rate, 6)}
        mix.append({"offer": offer_id, "promotion": _promotion(offer), "channels": sold})
    title = next(iter(offers.values())).title
    risk = {"risk_tag": terms.score, "kept_share": terms.kept_share} if terms.kind == "risk" else {}
    budget = {} if terms.bounds.budget is None else {"budget": terms.bounds.budget}
    return {
        "campaign_id": _campaign_id(product, terms),
        "title": {"zh": f"{title['zh']}·精确营销方案", "en": f"{title['en']}: precision scheme"},
        "goal": _goal(case, line, terms, control),
        "audience": audience_text(terms, line.threshold),
        "control_share": control["share"],
        **budget,
        **risk,
        "channels": {
            name: {
                "unit_cost": terms.channels[name].unit_cost,
                **_capacity(terms.channels[name].capacity),
            }
            for name in channels
        },
        "scripts": scripts,
        "mix": mix,
        "preferred_ways": "off" if case.notes else "factor",
        "action_plan": _action_plan(terms.starts_on, terms.ends_on),
        "requirements": _requirements(int(control["customers"])),
    }


def audience_text(terms: SchemeTerms, threshold: float) -> str:
    """Return the audience: the score's line, within those who come into question."""
    line = f"{terms.score} >= {threshold:.15g}"
    return line if terms.within == "everyone" else f"{line} and ({terms.within})"


def script_text(service: Service, offer: Offer, channel: str) -> dict[str, str]:
    """Return what is said: the workspace's script for the pair that needs no customer, or ours."""
    ws = service.workspace
    if ws.scripts.files:
        book = ws.scripts.book
        for script in book.ranked(offer.offer_id, channel):
            if script.has_audience:
                continue
            try:
                return book.fill(script, script.arms[0], offer.offer_id, {})
            except MissingTagError:
                continue
    words = "专属" if offer.exclusive else ""
    return {
        "zh": f"您好，为您推荐{words}{offer.title['zh']}，每月 {offer.price:g} 元，"
        f"{offer.months} 个月，欢迎了解。",
        "en": f"Hello, may we offer you {offer.title['en']}: {offer.price:g} a month, "
        f"{offer.months} months.",
    }


def _rate(case: Reading, line: Line, offer_id: str, channel: str) -> float:
    """Return the mean chance of those who get the pair, before their preferred ways."""
    column = next(
        i for i, (o, c) in enumerate(case.candidates) if o.offer_id == offer_id and c == channel
    )
    rows = line.rows[line.candidate == column]
    return float(np.clip(case.plain[rows, column], 0.0, 1.0).mean())


def _campaign_id(product: str, terms: SchemeTerms) -> str:
    word = "".join(letter if letter.isalnum() else "-" for letter in product.lower())[:40]
    return f"{word}-{terms.starts_on:%Y%m%d}-{hash_id(product, repr(terms))[:6]}"


def _promotion(offer: Offer) -> dict[str, str]:
    return {
        "zh": f"{offer.title['zh']}，每月 {offer.price:g} 元",
        "en": f"{offer.title['en']}, {offer.price:g} a month",
    }


def _capacity(capacity: int | None) -> dict[str, int]:
    return {} if capacity is None else {"capacity": capacity}


def _goal(
    case: Reading, line: Line, terms: SchemeTerms, control: Mapping[str, Any]
) -> dict[str, Any]:
    customers, value = len(line.rows), line.value
    return {
        "metric": "retained" if terms.kind == "risk" else "ordered",
        "target": max(round(float(control["effect"]), 6), 1e-6),
        "reason": {
            "zh": f"按模型评分 {terms.score} ≥ {line.threshold:g} 取 {customers:,} 户，"
            f"预期收益最大（{value:,.0f}）",
            "en": f"With {terms.score} >= {line.threshold:g}, {customers:,} customers, the "
            f"expected value is greatest ({value:,.0f})",
        },
        "needs": {
            "zh": f"模型评分高者需求强；共比较 {len(case.ids):,} 户",
            "en": f"A high score goes with the need; {len(case.ids):,} customers were compared",
        },
        "starts_on": terms.starts_on.isoformat(),
        "ends_on": terms.ends_on.isoformat(),
    }


def _action_plan(first: date, last: date) -> list[dict[str, Any]]:
    lists = min(first + timedelta(days=PERIOD_OF_LISTS - 1), last)
    work = min(lists + timedelta(days=1), last)
    review = max(last - timedelta(days=2), work)
    steps = (
        ("下发清单与话术，班前培训", "Issue lists and scripts; brief the teams", "planner",
         first, lists),
        ("各渠道触达客户并回单", "Contact customers by every channel and give feedback",
         "channel_operator", work, review),
        ("评估效果，反馈问题，沉淀方案", "Measure the effect, tell what went wrong, file it",
         "analyst", review, last),
    )  # fmt: skip
    return [
        {"what": {"zh": zh, "en": en}, "post": post, "starts_on": start.isoformat(),
         "ends_on": end.isoformat()}
        for zh, en, post, start, end in steps
    ]  # fmt: skip


def _requirements(control: int) -> list[dict[str, Any]]:
    half = max(control // 2, 1)
    return [
        {
            "text": {"zh": f"对照组不少于 {half} 户", "en": f"At least {half} held out"},
            "check": "control_at_least",
            "value": half,
        },
        {
            "text": {"zh": "数据不超过 45 天", "en": "Data not older than 45 days"},
            "check": "data_age_at_most",
            "value": 45,
        },
    ]
