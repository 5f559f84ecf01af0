"""The in-memory reader: whether one customer's profile belongs to an audience.

For triggers and inbound decisions, where one profile arrives and thousands of audiences wait.
:func:`matcher` turns a tree once into nested closures; calling the result is all that is paid per
profile.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

from bihuan.audience.algebra import (
    And,
    Between,
    Compare,
    Everyone,
    Flag,
    In,
    Member,
    Missing,
    Nobody,
    Node,
    Not,
    Or,
)
from bihuan.audience.literal import AudienceError, Value, day_of
from bihuan.data import ColumnType
from bihuan.kernel import DefectError
from bihuan.tag import TagField

Profile: TypeAlias = Mapping[str, Any]
"""Tag name to value: bool, int, Decimal, float, str, date, or None; an absent key is missing too.

A float is compared as a double, whatever the tag's type; all other numbers exactly.
"""

Test: TypeAlias = Callable[[Profile], bool]


class ProfileError(AudienceError):
    """A profile holds a value that does not fit its tag's type."""


def match(node: Node, profile: Profile) -> bool:
    """Say whether ``profile`` belongs to the audience ``node``.

    Parameters
    ----------
    node
        A tree without ``Member`` (binding resolves them).
    profile
        The customer's tag values.

    Returns
    -------
    bool
        With the meaning given in :mod:`bihuan.audience.algebra`.

    Raises
    ------
    DefectError
        If the tree holds a ``Member``.

    Examples
    --------
    >>> from bihuan.audience.text import parse
    >>> audience = parse("arpu >= 58.37 and not (city = 'x')")
    >>> match(audience, {"arpu": Decimal("58.37")}), match(audience, {"arpu": None})
    (True, False)
    """
    return matcher(node)(profile)


def matcher(node: Node) -> Test:
    """Compile a tree into a function of a profile; see :func:`match`.

    Returns
    -------
    Callable[[Mapping[str, Any]], bool]
        Safe to share between threads.
    """
    match node:
        case And(parts=parts):
            return _all(tuple(matcher(part) for part in parts))
        case Or(parts=parts):
            return _any(tuple(matcher(part) for part in parts))
        case Not(part=part):
            return _not(matcher(part))
        case Everyone():
            return lambda _: True
        case Nobody():
            return lambda _: False
    return _atom(node)


def profile_of(raw: Mapping[str, Any], fields: Mapping[str, TagField]) -> dict[str, Any]:
    """Convert values as they arrive (JSON, CSV, a form) into a profile of exact types.

    Parameters
    ----------
    raw
        Tag name to value; names that are no tags are left out.
    fields
        The tags and their types. A money value of 58.37 given as a float or text becomes the
        decimal 58.37; a date may be text; NaN and the empty text of a number or date are missing.

    Returns
    -------
    dict[str, Any]
        What :func:`match` reads.

    Raises
    ------
    ProfileError
        If a value does not fit its tag's type; the message names the tag.

    Examples
    --------
    >>> arpu = TagField("arpu", ColumnType.MONEY, None, {"zh": "月均收入", "en": "ARPU"})
    >>> profile_of({"arpu": 58.37, "nonsense": 1}, {"arpu": arpu})
    {'arpu': Decimal('58.37')}
    """
    profile: dict[str, Any] = {}
    for name, value in raw.items():
        field = fields.get(name)
        if field is None:
            continue
        try:
            profile[name] = None if value is None else _CONVERT[field.type](value)
        except (ValueError, TypeError, ArithmeticError, InvalidOperation) as error:
            raise ProfileError(
                f"The profile's value {value!r} does not fit the tag '{name}'"
                f" ({field.type.value}).",
                remedy="Send a value of the tag's type, or leave it out.",
                zh=f"标签 {name}({field.type.value})的取值 {value!r} 类型不符，请更正或不传该值。",
            ) from error
    return profile


# ------------------------------------------------------------------------------------ compilation


def _all(tests: tuple[Test, ...]) -> Test:
    if len(tests) == 2:
        first, second = tests
        return lambda profile: first(profile) and second(profile)

    def every(profile: Profile) -> bool:
        for test in tests:  # noqa: SIM110 - a generator would double the time
            if not test(profile):
                return False
        return True

    return every


def _any(tests: tuple[Test, ...]) -> Test:
    if len(tests) == 2:
        first, second = tests
        return lambda profile: first(profile) or second(profile)

    def some(profile: Profile) -> bool:
        for test in tests:  # noqa: SIM110 - a generator would double the time
            if test(profile):
                return True
        return False

    return some


def _not(test: Test) -> Test:
    return lambda profile: not test(profile)


def _atom(node: Node) -> Test:
    match node:
        case Compare(tag=tag, op=op, value=value):
            return _compare(tag, op, value)
        case In(tag=tag, values=values):
            return _in(tag, values)
        case Between(tag=tag, low=low, high=high):
            return _all((_compare(tag, ">=", low), _compare(tag, "<=", high)))
        case Flag(tag=tag):
            return lambda profile: profile.get(tag) is True
        case Missing(tag=tag):
            return _missing(tag)
        case Member(audience_id=audience_id):
            raise DefectError(f"Audience '{audience_id}' was not resolved before reading; bind it.")
    raise DefectError(f"No reading of a {type(node).__name__} in memory.")


def _missing(tag: str) -> Test:
    def test(profile: Profile) -> bool:
        value = profile.get(tag)
        return value is None or bool(value != value)

    return test


_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _compare(tag: str, op: str, value: Value) -> Test:
    holds = _COMPARE[op]
    if isinstance(value, (bool, str, date)):

        def plain(profile: Profile) -> bool:
            seen = profile.get(tag)
            return seen is not None and holds(seen, value)

        return plain
    return _compare_number(tag, holds, value)


def _compare_number(
    tag: str, holds: Callable[[Any, Any], bool], value: int | Decimal | float
) -> Test:
    exact, double = value, float(value)

    def number(profile: Profile) -> bool:
        seen = profile.get(tag)
        if seen is None:
            return False
        if type(seen) is float:
            return seen == seen and holds(seen, double)
        return holds(seen, exact)

    def against_double(profile: Profile) -> bool:
        seen = profile.get(tag)
        if seen is None:
            return False
        seen = float(seen)
        return seen == seen and holds(seen, double)

    return against_double if isinstance(value, float) else number


def _in(tag: str, values: tuple[Value, ...]) -> Test:
    exact = frozenset(values)
    if not values or isinstance(values[0], (bool, str, date)):
        return lambda profile: profile.get(tag) in exact
    double = frozenset(float(value) for value in values if not isinstance(value, (str, date)))
    always_double = any(isinstance(value, float) for value in values)

    def number(profile: Profile) -> bool:
        seen = profile.get(tag)
        if seen is None:
            return False
        if always_double or type(seen) is float:
            return float(seen) in double
        return seen in exact

    return number


# ------------------------------------------------------------------------------------- conversion


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _number(value: Any) -> Decimal | None:
    """Read a number exactly as written; None for NaN and the empty text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)):
        raise TypeError(value)
    if isinstance(value, str) and not value.strip():
        return None
    number = Decimal(str(value))
    if number.is_nan():
        return None
    return number


def _integer(value: Any) -> int | None:
    number = _number(value)
    if number is None:
        return None
    if number != number.to_integral_value():
        raise ValueError(value)
    return int(number)


def _money(value: Any) -> Decimal | None:
    number = _number(value)
    if number is not None and number != round(number, 2):
        raise ValueError(value)
    return number


def _double(value: Any) -> float | None:
    number = _number(value)
    return None if number is None else float(number)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _date(value: Any) -> date | None:
    if isinstance(value, str):
        return day_of(value) if value else None
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise TypeError(value)


def _timestamp(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(_text(value))


_CONVERT: Mapping[ColumnType, Callable[[Any], Any]] = {
    ColumnType.STRING: _text,
    ColumnType.INTEGER: _integer,
    ColumnType.MONEY: _money,
    ColumnType.NUMBER: _double,
    ColumnType.BOOLEAN: _boolean,
    ColumnType.DATE: _date,
    ColumnType.TIMESTAMP: _timestamp,
}
