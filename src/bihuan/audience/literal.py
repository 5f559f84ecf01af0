"""What a tag may be compared with."""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal
from typing import TypeAlias

from bihuan.kernel import UserError

Value: TypeAlias = bool | int | Decimal | float | str | date
"""A literal; ``float`` only where the tag is known to be a number tag (see :func:`bind`)."""

MAX_DIGITS = 38  # the widest decimal that DuckDB and Spark compare exactly
_MAX_EXPONENT, _MIN_EXPONENT = 308, -324  # the range of a double


class AudienceError(UserError):
    """An audience cannot be built, read or bound."""


class LiteralError(AudienceError):
    """A value cannot be a literal of an audience."""


def literal(value: object) -> Value:
    """Return ``value`` as a literal in its one form, or refuse it.

    Whole decimals become integers, trailing zeros and the sign of zero go.

    Raises
    ------
    LiteralError
        For NaN, infinities, numbers of more than 38 digits or outside the range of a double,
        strings that are not valid Unicode or hold a NUL, and other types.

    Examples
    --------
    >>> literal(Decimal("58.370")), literal(Decimal("80.00")), literal(-0.0)
    (Decimal('58.37'), 80, 0.0)
    """
    if isinstance(value, bool) or (isinstance(value, date) and not isinstance(value, datetime)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _refused(f"is {value}, which is not a number", f"不是数字({value})")
        return float(value) + 0.0  # -0.0 becomes 0.0; a numpy float becomes a plain one
    if isinstance(value, (int, Decimal)):
        return _exact_literal(Decimal(value))
    if isinstance(value, str):
        require_clean(value)
        return str(value)
    raise _refused(f"is a {type(value).__name__}", f"类型为 {type(value).__name__}")


def literal_kind(value: Value) -> str:
    """Return the family within which literals can be compared.

    Returns
    -------
    str
        ``boolean``, ``number`` (exact), ``double``, ``string`` or ``date``.
    """
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, Decimal)):
        return "number"
    return {float: "double", str: "string"}.get(type(value), "date")


def literal_key(value: Value) -> tuple[str, int | Decimal | str | date]:
    """Return what identifies a literal: its family and its exact value, ordered within it."""
    if isinstance(value, float):
        return "number", Decimal(repr(value))
    return literal_kind(value), value


def day_of(text: str) -> date:
    """Read a day written as 2026-01-31; raise ValueError for every other form."""
    day = date.fromisoformat(text)
    if day.isoformat() != text:
        raise ValueError(f"'{text}' is not written as 2026-01-31")
    return day


def require_clean(value: str) -> None:
    """Refuse a text that no table can hold: a NUL or half a surrogate pair."""
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise _refused("holds characters that no table can hold", "含有无法存储的字符")


def require_one_kind(values: tuple[Value, ...]) -> None:
    """Refuse literals of different families in one condition."""
    kinds = {literal_key(value)[0] for value in values}
    if len(kinds) > 1:
        raise LiteralError(
            f"The values of one condition must be of one kind, not {' and '.join(sorted(kinds))}.",
            remedy="Write all of them as numbers, all as strings or all as dates.",
            zh="同一条件中的取值类型必须一致（同为数字、字符串或日期）。",
        )


def _exact_literal(value: Decimal) -> int | Decimal:
    if not value.is_finite():
        raise _refused(f"is {value}, which is not a number", f"不是数字({value})")
    plain = _stripped(value)
    if not plain:
        return 0
    if not _MIN_EXPONENT <= plain.adjusted() <= _MAX_EXPONENT:
        raise _refused("is outside the range of numbers", "超出数字范围")
    if len(plain.as_tuple().digits) > MAX_DIGITS:
        raise _refused(f"has more than {MAX_DIGITS} digits", f"超过 {MAX_DIGITS} 位数字")
    is_whole = plain == plain.to_integral_value() and plain.adjusted() < MAX_DIGITS
    return int(plain) if is_whole else plain


def _stripped(value: Decimal) -> Decimal:
    """Drop trailing zeros without rounding (``normalize`` would round to the context)."""
    sign, digits, exponent = value.as_tuple()
    kept = len(digits)
    while kept > 1 and digits[kept - 1] == 0:
        kept -= 1
    return Decimal((sign, digits[:kept], int(exponent) + len(digits) - kept))


def _refused(problem: str, zh: str) -> LiteralError:
    return LiteralError(
        f"A value {problem}, so no tag can be compared with it.",
        remedy="Give a finite number, a text, a date, or true or false.",
        zh=f"取值{zh}，无法比较，请填写有限的数字、文字、日期或是/否。",
    )
