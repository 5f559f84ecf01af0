"""Ids that are hashes of what they name, so the same thing always has the same id."""

from __future__ import annotations

import hashlib
import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any


def canonical_json(value: Any) -> str:
    """Write ``value`` as JSON that is the same for equal values on every machine.

    Parameters
    ----------
    value
        Nested dicts, lists, tuples, strings, numbers, booleans, None, dates and decimals.

    Returns
    -------
    str
        Keys sorted, no blanks, dates in ISO form, decimals as strings; UTF-8 text unescaped.

    Raises
    ------
    TypeError
        If a value of another type is inside.

    Examples
    --------
    >>> canonical_json({"b": 1, "a": [date(2026, 10, 31)]})
    '{"a":["2026-10-31"],"b":1}'
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain
    )


def _plain(value: Any) -> Any:
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    msg = f"canonical_json cannot write a {type(value).__name__}"
    raise TypeError(msg)


def hash_id(*parts: Any, length: int = 20) -> str:
    """Return a deterministic id for ``parts``.

    Parameters
    ----------
    *parts
        What the id stands for; anything that :func:`canonical_json` can write. Parts are kept
        apart, so ``("ab", "c")`` and ``("a", "bc")`` differ.
    length
        Hexadecimal digits, 8 to 64. Twenty digits (80 bits) keep the chance of one collision
        among 18 million ids near 1e-10.

    Returns
    -------
    str
        Lower-case hexadecimal, SHA-256 cut to ``length`` digits.

    Examples
    --------
    >>> hash_id("deployment", 7) == hash_id("deployment", 7)
    True
    >>> hash_id("ab", "c") == hash_id("a", "bc")
    False
    """
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:length]
