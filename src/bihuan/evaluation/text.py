"""Words and figures in Chinese and English, and the refusal to give a figure."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal, TypeAlias

from bihuan.kernel import DefectError, NotEstimable

Language: TypeAlias = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")

MISSING = "—"
_SYMBOLS = {"CNY": "¥", "USD": "$", "EUR": "€"}


@dataclass(frozen=True, slots=True)
class Text:
    """One sentence or name in both languages.

    Parameters
    ----------
    zh, en
        Never blank: a report in which one language has a hole cannot be built.

    Raises
    ------
    DefectError
        If a language is blank.

    Examples
    --------
    >>> Text(**{"zh": "响应率", "en": "Response rate"}).get("zh")
    '响应率'
    """

    zh: str
    en: str

    def __post_init__(self) -> None:
        if not (self.zh.strip() and self.en.strip()):
            raise DefectError(f"A text needs both languages, got zh={self.zh!r}, en={self.en!r}.")

    def get(self, language: Language) -> str:
        """Return the text in ``language``."""
        return self.zh if language == "zh" else self.en

    def fill(self, **values: object) -> Text:
        """Return the text with ``{name}`` replaced in both languages.

        A value that is itself a :class:`Text` enters each language in its own words.

        Examples
        --------
        >>> Text("共 {n} 户", "{n} customers").fill(n=3).en
        '3 customers'
        """
        filled = {
            language: self.get(language).format(
                **{k: v.get(language) if isinstance(v, Text) else v for k, v in values.items()}
            )
            for language in LANGUAGES
        }
        return Text(filled["zh"], filled["en"])


def not_estimable(reason: Text) -> NotEstimable:
    """Refuse a figure for a reason."""
    return NotEstimable({"zh": reason.zh, "en": reason.en})


def reason_of(refused: NotEstimable) -> Text:
    """Return why a figure is refused."""
    return Text(refused.reason["zh"], refused.reason["en"])


class Kind(enum.StrEnum):
    """What a figure is, hence how it is written.

    ``SHARE`` is 0..1 shown as a percentage, ``POINTS`` a difference of two shares shown in
    percentage points, ``RATIO`` a relative change shown as a signed percentage, ``MONEY`` whole
    units and ``PRICE`` two decimals of the report's currency.
    """

    TEXT = "text"
    COUNT = "count"
    NUMBER = "number"
    SHARE = "share"
    POINTS = "points"
    RATIO = "ratio"
    MONEY = "money"
    PRICE = "price"

    @property
    def difference(self) -> Kind:
        """The kind of a difference of two such figures."""
        return Kind.POINTS if self is Kind.SHARE else self


Value: TypeAlias = Text | str | int | float | date | None


def show(value: Value, kind: Kind, language: Language, *, currency: str = "CNY") -> str:
    """Write one figure for a reader.

    Parameters
    ----------
    value
        The figure; None and NaN are shown as a dash, infinity as "no bound".
    kind
        What the figure is.
    language
        ``zh`` or ``en``.
    currency
        ISO 4217 code of the workspace's currency.

    Examples
    --------
    >>> show(0.0312, Kind.SHARE, "en"), show(0.0312, Kind.POINTS, "zh")
    ('3.12%', '+3.12 个百分点')
    >>> show(-1234567.8, Kind.MONEY, "zh"), show(None, Kind.COUNT, "en")
    ('−¥1,234,568', '—')
    """
    if isinstance(value, Text):
        return value.get(language)
    if value is None:
        return MISSING
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        return value
    return _figure(float(value), kind, language, currency)


def _figure(value: float, kind: Kind, language: Language, currency: str) -> str:
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "无界" if language == "zh" else "unbounded"
    symbol = _SYMBOLS.get(currency, f"{currency} ")
    size = abs(value)
    body, signed = {
        Kind.COUNT: (f"{size:,.0f}", False),
        Kind.SHARE: (f"{size * 100:.{_decimals(size)}f}%", False),
        Kind.POINTS: (f"{size * 100:.2f}{' 个百分点' if language == 'zh' else ' pp'}", True),
        Kind.RATIO: (f"{size * 100:,.1f}%", True),
        Kind.MONEY: (f"{symbol}{size:,.0f}", False),
        Kind.PRICE: (f"{symbol}{size:,.2f}", False),
    }.get(kind, (_plain(size), False))
    if not any(digit in body for digit in "123456789"):
        return body  # a figure that rounds to nought has no sign
    if value < 0:
        return f"−{body}"
    return f"+{body}" if signed else body


def _decimals(share: float) -> int:
    """Decimals of a percentage: two below 10 %, so that small rates keep three digits."""
    return 2 if 0 < share < 0.1 else 1


def _plain(size: float) -> str:
    if size >= 1000:
        return f"{size:,.0f}"
    return f"{size:.4g}"


def show_interval(
    low: float, high: float, kind: Kind, language: Language, *, currency: str = "CNY"
) -> str:
    """Write an interval; ``to`` rather than a dash, because bounds may be negative.

    Examples
    --------
    >>> show_interval(-0.001, 0.02, Kind.POINTS, "en")
    '−0.10 to +2.00 pp'
    """
    first, last = (show(bound, kind, language, currency=currency) for bound in (low, high))
    suffix = " 个百分点" if language == "zh" else " pp"
    if kind is Kind.POINTS and math.isfinite(high):
        first = first.removesuffix(suffix)
    return f"{first} {'至' if language == 'zh' else 'to'} {last}"


def both(kind: Kind, value: Value, *, currency: str = "CNY", high: float | None = None) -> Text:
    """Write a figure, or an interval if ``high`` is given, in both languages."""
    if high is None:
        zh, en = (show(value, kind, language, currency=currency) for language in LANGUAGES)
        return Text(zh, en)
    if not isinstance(value, (int, float)):
        raise DefectError(f"An interval needs two numbers, got {value!r}.")
    zh, en = (
        show_interval(value, high, kind, language, currency=currency) for language in LANGUAGES
    )
    return Text(zh, en)


CHANNELS: Mapping[str, Text] = {
    "outbound": Text("外呼", "Outbound call"),
    "sms": Text("短信", "SMS"),
    "app": Text("手机营业厅", "App"),
    "hall": Text("营业厅", "Hall"),
    "account_manager": Text("客户经理", "Account manager"),
    "wechat": Text("微信", "WeChat"),
    "web": Text("网上营业厅", "Web"),
    "terminal": Text("自助终端", "Terminal"),
    "email": Text("邮件", "E-mail"),
    "mail": Text("信函", "Mail"),
}
"""Names of the channel kinds of the data contracts."""


def name_of(code: str, names: Mapping[str, Text]) -> Text:
    """Return the name of a code, or the code itself where it has none."""
    return names.get(code) or Text(code or MISSING, code or MISSING)
