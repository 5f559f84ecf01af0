"""Why this is recommended, in words that a clerk can read aloud.

A reason quotes what the rules asked of the customer and what the tags say: "网龄26个月、月均消费
86.50元". The pieces are made by one function per value, so the text of a table of customers
(made once per distinct value) and of one profile are the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bihuan.audience import And, Between, Compare, Flag, In, Node, Not, Profile
from bihuan.decision.recommendation.strategy import Strategy
from bihuan.tag import TagField

MOST_FACTS = 3
_ABBREVIATION = re.compile(r"\s*[(（][A-Za-z0-9/ ]+[)）]$")
LANGUAGES = ("zh", "en")
_UNITS = {
    "month": ("个月", " months"),
    "day": ("天", " days"),
    "year": ("年", " years"),
    "MB": ("MB", " MB"),
    "GB": ("GB", " GB"),
    "minute": ("分钟", " minutes"),
    "hour": ("小时", " hours"),
    "visit": ("次", " visits"),
    "order": ("单", " orders"),
    "click": ("次", " clicks"),
    "person": ("人", " persons"),
    "user": ("户", " users"),
    "line": ("个", " lines"),
    "message": ("条", " messages"),
    "fault": ("次", " faults"),
    "attack": ("次", " attacks"),
    "km": ("公里", " km"),
    "m": ("米", " m"),
    "kW": ("千瓦", " kW"),
    "kWh": ("度", " kWh"),
}


@dataclass(frozen=True, slots=True)
class Wording:
    """How tags are named and counted for people.

    Parameters
    ----------
    fields
        Tags, with titles.
    units
        Unit by tag, as the dictionary has it; ``currency`` for amounts.
    codes
        Title of each code by tag, by language.
    currency
        ISO 4217 code of the amounts.
    """

    fields: Mapping[str, TagField]
    units: Mapping[str, str]
    codes: Mapping[str, Mapping[str, Mapping[str, str]]]
    currency: str = "CNY"

    def value(self, tag: str, value: Any, language: str) -> str:
        """Return a value as it is read aloud, with its unit.

        Examples
        --------
        >>> words = Wording({}, {"tenure": "month", "arpu": "currency"}, {})
        >>> words.value("tenure", 26, "zh"), words.value("arpu", Decimal("86.5"), "en")
        ('26个月', '86.50 CNY')
        >>> Wording({}, {"numbers": "line"}, {}).value("numbers", 1, "en")
        '1 line'
        """
        place = LANGUAGES.index(language)
        unit = self.units.get(tag, "")
        if value is None or value != value:
            return ("未知", "unknown")[place]
        if isinstance(value, str):
            return self.codes.get(tag, {}).get(value, {}).get(language, value)
        if isinstance(value, bool):
            return (("否", "no"), ("是", "yes"))[value][place]
        if isinstance(value, date):
            return str(value)
        if unit == "currency":
            return self.money(value, language)
        if unit == "MB" and value >= 1024:
            value, unit = float(value) / 1024, "GB"
        ending = _UNITS.get(unit, (unit, f" {unit}" if unit else ""))[place]
        number = _number(value)
        if number == "1" and ending.startswith(" "):
            ending = ending.removesuffix("s")
        return number + ending

    def money(self, amount: Any, language: str) -> str:
        """Return an amount of the workspace's currency."""
        text = str(Decimal(str(amount)).quantize(Decimal("0.01"), rounding=ROUND_HALF_UP))
        if language == "zh" and self.currency == "CNY":
            return f"{text}元"
        return f"{text} {self.currency}"

    def title(self, tag: str, language: str) -> str:
        """Return the tag's title without the abbreviation behind it; its name where it has none.

        Examples
        --------
        >>> from bihuan.data import ColumnType
        >>> arpu = TagField("arpu", ColumnType.MONEY, None, {"zh": "月均消费(ARPU)", "en": "ARPU"})
        >>> Wording({"arpu": arpu}, {}, {}).title("arpu", "zh")
        '月均消费'
        """
        field = self.fields.get(tag)
        title = tag if field is None else field.title.get(language, tag)
        return _ABBREVIATION.sub("", title)


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a rule asked of the customer.

    Parameters
    ----------
    tag
        Whose value is quoted; empty where the words say all.
    before
        Words before the value, by language.
    """

    tag: str
    before: Mapping[str, str]


def facts_of(strategy: Strategy, words: Wording) -> tuple[Fact, ...]:
    """Return what a strategy's rules ask of everybody who gets it, at most three, by language.

    Alternatives (``or``) are left out: which of them held is not the same for all.
    """
    found: dict[str, Fact] = {}
    for node in (strategy.offer.eligibility, strategy.audience):
        for part in _conjuncts(node):
            fact = _fact(part, words)
            if fact is not None:
                found.setdefault(fact[0], fact[1])
    return tuple(found.values())[:MOST_FACTS]


def opening(strategy: Strategy, words: Wording, language: str) -> str:
    """Return the first words: what is suggested, and what it costs."""
    offer = strategy.offer
    title = offer.title.get(language, offer.offer_id)
    price = words.money(offer.price, language)
    if language == "zh":
        if offer.price <= 0:
            return f"推荐“{title}”，不另收月费"
        return f"推荐“{title}”，每月{price}" + (
            f"，共{offer.months}个月" if offer.months > 1 else ""
        )
    if offer.price <= 0:
        return f"We suggest {title}, without a monthly charge"
    return f"We suggest {title} at {price} a month" + (
        f" for {offer.months} months" if offer.months > 1 else ""
    )


def closing(strategy: Strategy, language: str) -> str:
    """Return the last words: of which campaign it is part."""
    title = strategy.campaign_title.get(language, strategy.campaign_id)
    return f"。这是“{title}”活动为您准备的。" if language == "zh" else f". It is part of {title}."


def between(language: str) -> tuple[str, str]:
    """Return what stands before the facts and between two of them."""
    return ("。您的情况：", "、") if language == "zh" else (". What speaks for it: ", "; ")


def say(
    strategy: Strategy,
    facts: Sequence[Fact],
    words: Wording,
    profile: Profile,
    language: str,
    moments: Sequence[str] = (),
) -> str:
    """Return the reason for one customer.

    Parameters
    ----------
    strategy
        What is recommended.
    facts
        From :func:`facts_of`.
    words
        How values are read.
    profile
        The customer's tag values.
    language
        ``zh`` or ``en``.
    moments
        Titles of the moments that speak for it now.
    """
    start, mark = between(language)
    pieces = [*moments]
    for fact in facts:
        text = fact.before[language]
        pieces.append(text + words.value(fact.tag, profile.get(fact.tag), language)
                      if fact.tag else text)  # fmt: skip
    middle = start + mark.join(pieces) if pieces else ""
    return opening(strategy, words, language) + middle + closing(strategy, language)


def say_many(
    strategy: Strategy,
    facts: Sequence[Fact],
    words: Wording,
    rows: pa.Table,
    language: str,
    moments: Sequence[str] = (),
) -> pa.Array:
    """Return what :func:`say` says to each of many customers in the same moments.

    Parameters
    ----------
    strategy, facts, words, language, moments
        As for :func:`say`.
    rows
        A column per tag of ``facts``, a row per customer; a tag that is no column is missing.
    """
    start, mark = between(language)
    pieces: list[Any] = [opening(strategy, words, language)]
    told = [Fact("", {language: title}) for title in moments]
    for i, fact in enumerate((*told, *facts)):
        pieces += [start if i == 0 else mark, fact.before[language]]
        if fact.tag:
            pieces.append(_values(rows, fact.tag, words, language))
    pieces.append(closing(strategy, language))
    columns = [
        pa.repeat(piece, rows.num_rows) if isinstance(piece, str) else piece for piece in pieces
    ]
    return pc.binary_join_element_wise(*columns, "")


def _values(rows: pa.Table, tag: str, words: Wording, language: str) -> pa.Array:
    """Return a tag's values as text; each distinct value is put into words once."""
    if tag not in rows.column_names:
        return pa.repeat(words.value(tag, None, language), rows.num_rows)
    coded = rows[tag].combine_chunks().dictionary_encode(null_encoding="encode")
    texts = [words.value(tag, value, language) for value in coded.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(coded.indices)


def _conjuncts(node: Node) -> list[Node]:
    if isinstance(node, And):
        return [inner for part in node.parts for inner in _conjuncts(part)]
    return [node]


def _fact(node: Node, words: Wording) -> tuple[str, Fact] | None:
    match node:
        case Compare(tag=tag) | Between(tag=tag) | In(tag=tag):
            zh, en = words.title(tag, "zh"), words.title(tag, "en")
            return tag, Fact(tag, {"zh": zh, "en": f"{en[:1].lower()}{en[1:]} "})
        case Flag(tag=tag):
            return tag, Fact("", {"zh": words.title(tag, "zh"), "en": words.title(tag, "en")})
        case Not(part=Flag(tag=tag)):
            before = {lang: _without(words.title(tag, lang), lang) for lang in LANGUAGES}
            return (tag, Fact("", before)) if all(before.values()) else None
    return None


def _without(title: str, language: str) -> str:
    """Say that somebody does not have what a yes-or-no title names; empty for other titles.

    Examples
    --------
    >>> _without("有合约", "zh"), _without("Has a contract", "en"), _without("拆机", "zh")
    ('没有合约', 'no contract', '')
    """
    if language == "zh":
        return f"没{title}" if title.startswith("有") else ""
    found = re.match(r"Has (?:an? |the )?(.*)", title)
    return f"no {found[1]}" if found else ""


def _number(value: Any) -> str:
    """Return a number with at most two decimals and no zeros behind them; none from 100 on."""
    place = Decimal("1") if abs(value) >= 100 else Decimal("0.01")
    exact = Decimal(str(value)).quantize(place, rounding=ROUND_HALF_UP)
    text = f"{exact:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
