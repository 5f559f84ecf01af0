"""What a plan says: a JSON document, its hash, its checks, and how two of them differ.

::

    campaign        the campaign as a campaign file has it (goal, audience, mix, channels, ...)
    analysis        {analysis_id, content_hash} of the market analysis it rests on
    audience        {rule, as_of, customers}: the customers as counted
    decision        "automatic" (unless said otherwise) or "by_hand": people choose the customers
    terms           numbers that a frame may bound: discount, contacts_per_customer
    stages          [{stage, what, post, starts_on, ends_on}]
    schedule        {cron, time_zone, valid_until} of a regular campaign
    units           org units in which it is carried out; none: the owner's whole subtree
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bihuan.kernel import UserError, canonical_json
from bihuan.offer import Catalogue
from bihuan.server.app.errors import RefusedError
from bihuan.strategy import Campaign, load_campaign

FIELDS = (
    "campaign", "analysis", "audience", "decision", "terms", "stages", "schedule", "units",
)  # fmt: skip
CAMPAIGN_FIELDS = (
    "campaign_id", "title", "goal", "audience", "mix", "scripts", "channels", "control_share",
    "budget", "risk_tag", "kept_share", "keep_lists", "action_plan", "requirements", "limits",
    "preferred_ways", "suitability", "matching",
)  # fmt: skip
NEEDED = ("campaign_id", "title", "goal", "audience", "mix", "scripts", "channels", "control_share")
STAGES = ("select_customers", "product_design", "execution", "evaluation")
"""The stages of the region's template: select customers, product design, execution, evaluation."""
DEPTH, LENGTH = 20, 1_000_000
WHOLE = 2**53


class ContentError(RefusedError):
    """A plan's content does not have the form of one; the message names the field."""


def _bad(place: str, en: str, zh: str) -> ContentError:
    return ContentError(
        f"{place or 'The content'} {en}.",
        remedy="Correct the field; docs/guide/plans.md has the form.",
        zh=f"方案内容 {place} {zh}，请更正。",
    )


def normalised(value: Any, place: str = "", depth: int = 0) -> Any:
    """Return ``value`` as every database gives it back, so that its hash stays.

    Whole floats become integers; what JSON or a database cannot keep is refused.

    Raises
    ------
    ContentError
        If it is nested too deeply or holds something else than plain JSON.
    """
    if depth > DEPTH:
        raise _bad(place, "is nested too deeply", "嵌套过深")
    if isinstance(value, Mapping):
        return {
            _plain_text(key, f"{place}.{key}"): normalised(item, f"{place}.{key}", depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [normalised(item, f"{place}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, str):
        return _plain_text(value, place)
    if isinstance(value, (date, Decimal)):
        return str(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return _plain_number(value, place)
    raise _bad(place, f"holds a {type(value).__name__}", "含有不支持的类型")


def _plain_text(value: Any, place: str) -> str:
    if not isinstance(value, str) or "\x00" in value:
        raise _bad(place, "is not a plain text", "不是普通文本")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _bad(place, "is not a plain text", "不是普通文本") from error
    return value


def _plain_number(value: float, place: str) -> float:
    if not math.isfinite(value) or abs(value) > WHOLE or 0 < abs(value) < 1e-9:
        raise _bad(place, f"is {value}", "超出数值范围")
    return int(value) if value == int(value) else value


def content_hash(content: Mapping[str, Any]) -> str:
    """Return SHA-256 over the canonical JSON of ``content``, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def checked_content(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``content`` normalised, if it has the form of a plan; parts may be missing.

    Raises
    ------
    ContentError
        If a field is unknown or of the wrong form; names it.
    """
    found: dict[str, Any] = normalised(content)
    extra = sorted(set(found) - set(FIELDS))
    if extra:
        raise _bad(extra[0], f"is not a field of a plan ({', '.join(FIELDS)})", "不是方案字段")
    for field in ("campaign", "analysis", "audience", "terms", "schedule"):
        if field in found and not isinstance(found[field], dict):
            raise _bad(field, "must hold named fields", "应为对象")
    for field in ("stages", "units"):
        if field in found and not isinstance(found[field], list):
            raise _bad(field, "must be a list", "应为列表")
    if found.get("decision", "automatic") not in ("automatic", "by_hand"):
        raise _bad("decision", "must be automatic or by_hand", "应为 automatic 或 by_hand")
    campaign = found.get("campaign", {})
    extra = sorted(set(campaign) - set(CAMPAIGN_FIELDS))
    if extra:
        raise _bad(f"campaign.{extra[0]}", "is not a field of a campaign", "不是营销活动字段")
    if len(canonical_json(found)) > LENGTH:
        raise _bad("", f"is longer than {LENGTH} characters", "过长")
    return found


def is_complete(content: Mapping[str, Any]) -> bool:
    """Whether the content has every part that a campaign needs."""
    campaign: Mapping[str, Any] = content.get("campaign", {})
    return all(campaign.get(field) not in (None, "", [], {}) for field in NEEDED)


def decides_on_persons(content: Mapping[str, Any]) -> bool:
    """Whether customers are chosen by an automated decision (PIPL articles 24 and 55)."""
    return bool(content.get("decision", "automatic") == "automatic")


def parsed_campaign(content: Mapping[str, Any], catalogue: Catalogue) -> Campaign:
    """Return the campaign that the content defines, held against the offers.

    Raises
    ------
    UserError
        If a field is missing, of the wrong form, or names an unknown offer; names the field.
    """
    with TemporaryDirectory(prefix="bihuan-plan-") as folder:
        path = Path(folder) / "campaign.yaml"  # JSON is YAML
        path.write_text(canonical_json(content.get("campaign", {})), encoding="utf-8")
        try:
            return load_campaign(path, catalogue)
        except UserError as error:
            raise ContentError(error.message, remedy=error.remedy, zh=error.zh) from error


@dataclass(frozen=True, slots=True)
class Head:
    """What lists and searches need of a content.

    Parameters
    ----------
    starts_on, ends_on
        The campaign's period; None where it is not set yet.
    budget
        In the workspace's currency; None where open.
    channels
        Channel kinds.
    words
        Everything that a search looks into, case-folded.
    """

    starts_on: date | None
    ends_on: date | None
    budget: Decimal | None
    channels: tuple[str, ...]
    words: str


def head_of(content: Mapping[str, Any], *titles: str) -> Head:
    """Return the head of a content; what has the wrong form is left out."""
    campaign = content.get("campaign", {})
    goal = _mapping(campaign.get("goal"))
    budget = campaign.get("budget")
    texts: list[str] = list(titles)
    for part in (campaign.get("title"), goal.get("reason"), goal.get("needs")):
        texts += [str(text) for text in _mapping(part).values()]
    texts += [str(goal.get("metric", "")), str(campaign.get("audience", ""))]
    texts += [str(text) for text in _mapping(content.get("audience")).values()]
    for item in campaign.get("mix") or ():
        texts += [str(_mapping(item).get("offer", ""))]
        texts += [str(text) for text in _mapping(_mapping(item).get("promotion")).values()]
    return Head(
        starts_on=_day(goal.get("starts_on")),
        ends_on=_day(goal.get("ends_on")),
        budget=Decimal(str(budget)) if isinstance(budget, (int, float)) else None,
        channels=tuple(sorted(_mapping(campaign.get("channels")))),
        words="\n".join(texts).casefold(),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _day(value: Any) -> date | None:
    try:
        return date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Change:
    """One field in which two contents differ.

    Parameters
    ----------
    path
        ``campaign.mix[fee_basic_12].promotion.zh``.
    kind
        ``added``, ``removed`` or ``changed``.
    old, new
        Plain JSON; None where there was or is nothing.
    """

    path: str
    kind: str
    old: Any
    new: Any

    def __str__(self) -> str:
        old, new = (canonical_json(v) if v is not None else "–" for v in (self.old, self.new))
        return f"{self.path}: {old} → {new}"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return every field in which two contents differ, in order of path.

    Items of a list are matched by what names them (offer, stage, text) and else by position.
    """
    before, after = dict(_leaves(old, "")), dict(_leaves(new, ""))
    found = []
    for path in sorted({*before, *after}):
        if path not in before:
            found.append(Change(path, "added", None, after[path]))
        elif path not in after:
            found.append(Change(path, "removed", before[path], None))
        elif before[path] != after[path]:
            found.append(Change(path, "changed", before[path], after[path]))
    return tuple(found)


def _leaves(value: Any, place: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        return [
            leaf
            for key, item in value.items()
            for leaf in _leaves(item, f"{place}.{key}" if place else str(key))
        ]
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        names = _names(value)
        return [
            leaf
            for name, item in zip(names, value, strict=True)
            for leaf in _leaves(item, f"{place}[{name}]")
        ]
    return [(place, value)]


def _names(items: list[Any]) -> list[str]:
    """Return what names each item of a list: a naming field if it tells all apart."""
    for field in ("offer", "stage", "unit", "policy_id"):
        names = [str(item[field]) for item in items if isinstance(item, Mapping) and field in item]
        if len(names) == len(items) == len(set(names)):
            return names
    return [str(index) for index in range(len(items))]
