"""The models that cross the wire."""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

DEEPEST = 32
"""Levels of lists and objects in a body; the deepest form that we ask for has nine."""
LARGEST = 2**63 - 1
"""Whole numbers that both databases can hold."""


class Body(BaseModel):
    """What a caller sends: unknown fields are refused, texts lose outer blanks.

    What neither database stores alike is refused in every text, number and free document.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unstorable(cls, given: Any) -> Any:
        refuse_unstorable(given)
        return given


class View(BaseModel):
    """What a caller gets."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class Criteria(BaseModel):
    """Query parameters of a list, beside those of its pages; the gate refuses unknown ones."""

    model_config = ConfigDict(str_strip_whitespace=True, frozen=True)


def refuse_unstorable(given: Any) -> None:
    """Refuse what a control database cannot hold, anywhere in plain JSON values.

    Parameters
    ----------
    given
        Dicts, lists, texts, numbers, booleans, None, as parsed.

    Raises
    ------
    ValueError
        For NUL, lone surrogates, numbers that are not finite or whole ones beyond 64 bits, and
        more than 32 levels.

    Examples
    --------
    >>> refuse_unstorable({"a": ["text", 1, 2.5, None]})
    >>> refuse_unstorable({"a": ["b", chr(0)]})
    Traceback (most recent call last):
    ValueError: a text has the character NUL
    """
    level, depth = [given], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            msg = f"more than {DEEPEST} levels of lists and objects"
            raise ValueError(msg)
        deeper: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                deeper += value
                deeper += value.values()
            elif isinstance(value, list):
                deeper += value
            else:
                _refuse_plain(value)
        level = deeper


def _refuse_plain(value: Any) -> None:
    if isinstance(value, str):
        if is_unstorable(value):
            msg = "a text has the character NUL" if "\0" in value else "a text has half a character"
            raise ValueError(msg)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a number is not finite")
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError("a whole number has more than 64 bits")


def is_unstorable(text: str) -> bool:
    """Tell whether a text has NUL or half of a surrogate pair, which PostgreSQL does not keep."""
    if "\0" in text:
        return True
    return not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)
