"""One plan for one customer (一户一案): offers in order, reasons, and who stepped in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bihuan.decision import Match, Override, Recommended, Recommender
from bihuan.kernel import UserError, write_atomically

if TYPE_CHECKING:
    from bihuan.workspace.recommender import Recommendation

LANGUAGES = ("zh", "en")
_WORDS: Mapping[str, Mapping[str, str]] = {
    "zh": {
        "head": "# 客户 {customer} 营销方案（一户一案）",
        "data": "数据日期 {as_of}，接触日期 {day}",
        "known": "## 客户概况",
        "offers": "## 推荐顺序",
        "nothing": "目前没有适合的推荐。",
        "item": "{rank}. **{offer}**（{channel}；方案 {campaign}）{hand}",
        "money": "   - 预期价值 {value}，名额价格 {charge}，净值 {net}",
        "hand": "（人工指定）",
        "other": "## 未采用的方案",
        "left": "- {title}：{why}",
        "laid": "## 人工干预",
        "override": "- {at} {by}：{action} {offer}（{reason}）",
    },
    "en": {
        "head": "# Plan for customer {customer}",
        "data": "Data of {as_of}, contact on {day}",
        "known": "## What is known",
        "offers": "## What to offer, in this order",
        "nothing": "Nothing suits the customer at present.",
        "item": "{rank}. **{offer}** ({channel}; campaign {campaign}){hand}",
        "money": "   - expected value {value}, price of room {charge}, net {net}",
        "hand": " (laid down by hand)",
        "other": "## Campaigns not used",
        "left": "- {title}: {why}",
        "laid": "## Laid down by hand",
        "override": "- {at} {by}: {action} {offer} ({reason})",
    },
}
_PLAIN = str.maketrans({c: "\\" + c for c in "\\`*_{}[]<>#|!"})
"""Characters that a Markdown reader takes for more than text."""


@dataclass(frozen=True, slots=True)
class CustomerPlan:
    """What to do with one customer, in order.

    Parameters
    ----------
    customer_id
        The customer.
    items
        Offers, best first, with reasons.
    left_out
        Live campaigns that have nothing for the customer, with the stage that says why.
    overrides
        What people laid down.
    text
        The document in Markdown, by language.
    """

    customer_id: str
    items: tuple[Recommended, ...]
    left_out: tuple[Match, ...]
    overrides: tuple[Override, ...]
    text: Mapping[str, str]

    def write(self, folder: Path) -> list[Path]:
        """Write the document in both languages; return the paths.

        Raises
        ------
        UserError
            If the customer's id cannot be part of a file's name.
        """
        name = self.customer_id
        if Path(name).name != name or name in ("", ".", ".."):
            raise UserError(
                f"Customer id '{name}' cannot name a file.",
                remedy="Read the plan with plan_for and save it yourself.",
                zh=f"客户编号“{name}”不能用作文件名，请用 plan_for 读取后自行保存。",
            )
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for language in LANGUAGES:
            path = folder / f"{name}.{language}.md"
            write_atomically(path, self.text[language].encode())
            paths.append(path)
        return paths


def plan_of(
    found: Recommendation,
    matches: tuple[Match, ...],
    overrides: tuple[Override, ...],
    profile: Mapping[str, Any],
    recommender: Recommender,
) -> CustomerPlan:
    """Put a recommendation into a document for the people who serve the customer.

    Parameters
    ----------
    found
        What is recommended.
    matches
        How the live campaigns fit the customer.
    overrides
        What people laid down for him.
    profile
        His tag values.
    recommender
        Knows the words for tags and amounts.
    """
    left = tuple(match for match in matches if match.fell_at)
    text = {
        language: "\n".join(_lines(found, left, overrides, (profile, recommender), language)) + "\n"
        for language in LANGUAGES
    }
    return CustomerPlan(found.customer_id, found.items, left, overrides, text)


def _lines(
    found: Recommendation,
    left: tuple[Match, ...],
    overrides: tuple[Override, ...],
    known: tuple[Mapping[str, Any], Recommender],
    language: str,
) -> list[str]:
    words, (profile, recommender) = _WORDS[language], known
    say = recommender.words
    lines = [
        words["head"].format(customer=_plain(found.customer_id)),
        words["data"].format(as_of=found.as_of, day=found.day),
        words["known"],
    ]
    quoted = dict.fromkeys(fact.tag for facts in recommender.facts for fact in facts if fact.tag)
    lines += [
        f"- {_plain(say.title(tag, language))}: {_plain(say.value(tag, profile[tag], language))}"
        for tag in quoted
        if profile.get(tag) is not None
    ]
    lines.append(words["offers"])
    titles = {s.candidate.offer_id: s.offer.title for s in recommender.board.strategies}
    for item in found.items:
        lines.append(
            words["item"].format(
                rank=item.rank,
                offer=_plain(titles[item.offer_id].get(language, item.offer_id)),
                channel=item.channel,
                campaign=_plain(item.campaign_id),
                hand=words["hand"] if item.by_hand else "",
            )
        )
        lines.append(f"   - {_plain(item.reason[language])}")
        lines.append(
            words["money"].format(
                value=say.money(item.value, language),
                charge=say.money(item.charge, language),
                net=say.money(item.net, language),
            )
        )
    if not found.items:
        lines.append(words["nothing"])
    if left:
        lines.append(words["other"])
        lines += [
            words["left"].format(title=_plain(m.title[language]), why=m.fell_title[language])
            for m in left
        ]
    if overrides:
        lines.append(words["laid"])
        lines += [
            words["override"].format(
                at=f"{o.at:%Y-%m-%d}", by=_plain(o.by), action=o.action,
                offer=_plain(" · ".join(x for x in (o.offer_id, o.channel) if x)),
                reason=_plain(o.reason),
            )
            for o in overrides
        ]  # fmt: skip
    return lines


def _plain(text: str) -> str:
    return text.translate(_PLAIN).replace("\n", " ")
