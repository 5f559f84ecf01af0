"""Why a row was not stored: one code per reason, told in Chinese and English."""

from __future__ import annotations

import enum


class Reason(enum.StrEnum):
    """The reason for which a row is in quarantine.

    Examples
    --------
    >>> Reason.NOT_A_DATE.text("2026-02-30", "joined_on")["en"]
    "'2026-02-30' is not a date or moment of the calendar (joined_on)."
    """

    MISSING_REQUIRED = "MISSING_REQUIRED"
    NOT_A_NUMBER = "NOT_A_NUMBER"
    NOT_WHOLE = "NOT_WHOLE"
    NOT_A_DATE = "NOT_A_DATE"
    UNKNOWN_CODE = "UNKNOWN_CODE"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    DUPLICATE_KEY = "DUPLICATE_KEY"
    RAGGED_ROW = "RAGGED_ROW"
    UNCLOSED_QUOTE = "UNCLOSED_QUOTE"
    BAD_BYTES = "BAD_BYTES"

    @property
    def number(self) -> int:
        """A small whole number that stands for the reason inside a query, from 0."""
        return _ORDER.index(self)

    @classmethod
    def of(cls, number: int) -> Reason:
        """Return the reason that ``number`` stands for."""
        return _ORDER[number]

    def text(self, value: str, column: str, detail: str = "") -> dict[str, str]:
        """Tell the reason.

        Parameters
        ----------
        value
            The cell as it was read; empty where there was none.
        column
            Target column.
        detail
            What only this case knows, without words: the range, the numbers of fields, the place
            of the row that came first.

        Returns
        -------
        dict[str, str]
            The sentence by language (``zh``, ``en``).
        """
        shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
        words = {"value": shown, "column": column, "detail": detail}
        return {language: text.format(**words) for language, text in _TEXTS[self].items()}


_SHOWN = 80  # characters of a cell that a sentence repeats; the raw row beside it has them all
_ORDER: tuple[Reason, ...] = tuple(Reason)
_TEXTS: dict[Reason, dict[str, str]] = {
    Reason.MISSING_REQUIRED: {
        "zh": "必填列 {column} 没有值。",
        "en": "'{column}' is required and has no value.",
    },
    Reason.NOT_A_NUMBER: {
        "zh": "“{value}”不是数字({column})。",
        "en": "'{value}' is not a number ({column}).",
    },
    Reason.NOT_WHOLE: {
        "zh": "“{value}”不是整数({column})。",
        "en": "'{value}' is not a whole number ({column}).",
    },
    Reason.NOT_A_DATE: {
        "zh": "“{value}”不是日历上的日期或时刻({column})。",
        "en": "'{value}' is not a date or moment of the calendar ({column}).",
    },
    Reason.UNKNOWN_CODE: {
        "zh": "“{value}”不是 {column} 的已知代码。",
        "en": "'{value}' is not a known code of {column}.",
    },
    Reason.OUT_OF_RANGE: {
        "zh": "“{value}”超出 {column} 的允许范围{detail}。",
        "en": "'{value}' is outside the range of {column}{detail}.",
    },
    Reason.DUPLICATE_KEY: {
        "zh": "主键 {column} = {value} 已有记录:{detail}。",
        "en": "The key {column} = {value} is already taken: {detail}.",
    },
    Reason.RAGGED_ROW: {
        "zh": "该行的列数与表头不符:{detail}。",
        "en": "The row has another number of fields than the header: {detail}.",
    },
    Reason.UNCLOSED_QUOTE: {
        "zh": "该行的引号没有闭合:{value}",
        "en": "A quote of the row is never closed: {value}",
    },
    Reason.BAD_BYTES: {
        "zh": "该行含有无法解码的字节:{value}",
        "en": "The row has bytes that are no text: {value}",
    },
}
