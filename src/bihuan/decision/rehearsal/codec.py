"""Frozen dataclasses to JSON and back, by their annotations."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from bihuan.kernel import DefectError

_INFINITY = "infinity"


def to_plain(value: Any) -> Any:
    """Return ``value`` in the types that JSON knows.

    Parameters
    ----------
    value
        Dataclasses, mappings with text keys, tuples, texts, numbers, dates, None.

    Raises
    ------
    DefectError
        If something else is inside, or a number is not one.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    if isinstance(value, float):
        return _plain_float(value)
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if value is None or isinstance(value, (str, int)):
        return value
    raise DefectError(f"A rehearsal cannot file a {type(value).__name__}.")


def from_plain(kind: Any, value: Any) -> Any:
    """Return an object of ``kind`` from what :func:`to_plain` made of it.

    Parameters
    ----------
    kind
        A type or an annotation.
    value
        As read from JSON.

    Raises
    ------
    DefectError
        If ``value`` has not the form of ``kind``.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _object(kind, value)
    if origin in (types.UnionType, typing.Union):
        return _one_of(inner, value)
    if origin is tuple and isinstance(value, list):
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(from_plain(inner[0], item) for item in value)
        return tuple(from_plain(part, item) for part, item in zip(inner, value, strict=True))
    if origin is not None and isinstance(value, Mapping):
        return {key: from_plain(inner[1], item) for key, item in value.items()}
    return _scalar(kind, value)


def _plain_float(value: float) -> float | str:
    if math.isnan(value):
        raise DefectError("A rehearsal holds a number that is none.")
    if math.isinf(value):
        return _INFINITY if value > 0 else f"-{_INFINITY}"
    return value


def _object(kind: Any, value: Any) -> Any:
    names = {field.name for field in dataclasses.fields(kind)}
    if not isinstance(value, Mapping) or set(value) != names:
        raise DefectError(f"A filed {kind.__name__} has not the fields {sorted(names)}.")
    hints = typing.get_type_hints(kind)
    return kind(**{name: from_plain(hints[name], value[name]) for name in names})


def _one_of(kinds: tuple[Any, ...], value: Any) -> Any:
    for kind in kinds:
        try:
            return from_plain(kind, value)
        except DefectError:
            continue
    raise DefectError(f"A filed value is none of {kinds}: {value!r}.")


def _scalar(kind: Any, value: Any) -> Any:
    if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        if isinstance(value, str) and not value.endswith(_INFINITY):
            raise DefectError(f"A filed number is {value!r}.")
        return float(value)
    if kind in (date, datetime) and isinstance(value, str):
        try:
            return kind.fromisoformat(value)
        except ValueError as error:
            raise DefectError(f"A filed date is {value!r}.") from error
    if (kind is type(None) and value is None) or (isinstance(kind, type) and type(value) is kind):
        return value
    raise DefectError(f"A filed {kind} is {value!r}.")
