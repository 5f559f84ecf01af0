"""Limits that a policy may set, and what "tighter" means for each of them.

Every limit is a set of allowed things: channels, prices, moments of the day, sequences of
contacts. Two limits together allow what both allow (:func:`meet`); a limit is within another if
it allows nothing that the other forbids (:func:`is_within`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from bihuan.kernel import DefectError

ANY = "any"
"""Stands for all channels in caps and hours."""
FIELDS = (
    "channels", "price", "max_discount", "caps", "hours", "offers", "scripts", "budget",
)  # fmt: skip
CONTACT_FIELDS = frozenset({"channels", "caps", "hours"})
"""How customers may be contacted; every unit may tighten these for its customers."""
FRAME_FIELDS = frozenset({"price", "max_discount"})
"""Bounds that a framing level may set without deciding on the strategy itself."""

MINUTES = 24 * 60
_RANGE = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)\s*-\s*([01]?\d|2[0-4]):([0-5]\d)")


@dataclass(frozen=True, slots=True, order=True)
class Cap:
    """At most so many contacts of one customer within any so many days.

    Parameters
    ----------
    days
        Length of the window in days, >= 1.
    most
        Contacts allowed in every window of that length, >= 0.

    Examples
    --------
    >>> Cap(30, 1).implies(Cap(7, 1)), Cap(7, 1).implies(Cap(30, 4))
    (True, False)
    """

    days: int
    most: int

    def implies(self, other: Cap) -> bool:
        """Whether whoever keeps this cap also keeps ``other``.

        A window of ``other`` holds ``ceil(other.days / days)`` windows of this cap at the most,
        and so many can really be filled, so the answer is exact.
        """
        return -(-other.days // self.days) * self.most <= other.most

    def __str__(self) -> str:
        return f"{self.most} / {self.days} d"


@dataclass(frozen=True, slots=True)
class Hours:
    """Moments of the day at which customers may be contacted, in local time.

    Parameters
    ----------
    ranges
        Begin and end in minutes since midnight, end excluded; ordered and apart.

    Examples
    --------
    >>> day = Hours.parse(["09:00-12:00", "14:00-20:00"])
    >>> str(day.meet(Hours.parse(["10:00-15:00"])))
    '10:00-12:00, 14:00-15:00'
    """

    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, texts: list[str] | tuple[str, ...]) -> Hours:
        """Read ranges written as ``09:00-12:00``.

        Raises
        ------
        ValueError
            If a text is no such range, ends before it begins, or passes midnight.
        """
        found = []
        for text in texts:
            parts = _RANGE.fullmatch(str(text).strip())
            if parts is None:
                raise ValueError(f"'{text}' is not a range like 09:00-12:00")
            h1, m1, h2, m2 = map(int, parts.groups())
            begin, end = h1 * 60 + m1, h2 * 60 + m2
            if not begin < end <= MINUTES:
                raise ValueError(f"'{text}' does not end after it begins, on the same day")
            found.append((begin, end))
        return cls(_merge(found))

    def meet(self, other: Hours) -> Hours:
        """Return the moments that both allow."""
        both = [
            (max(a, c), min(b, d))
            for a, b in self.ranges
            for c, d in other.ranges
            if max(a, c) < min(b, d)
        ]
        return Hours(_merge(both))

    def is_within(self, other: Hours) -> bool:
        """Whether every moment is allowed by ``other`` too."""
        return self.meet(other) == self

    def contain(self, minute: int) -> bool:
        """Whether a minute of the day is allowed."""
        return any(begin <= minute < end for begin, end in self.ranges)

    def __str__(self) -> str:
        return ", ".join(
            f"{a // 60:02d}:{a % 60:02d}-{b // 60:02d}:{b % 60:02d}" for a, b in self.ranges
        )


Value: TypeAlias = frozenset[str] | float | tuple[Cap, ...] | Hours
"""A limit: ids or channel kinds; a number; caps that all hold; hours."""
Limits: TypeAlias = Mapping[str, Value]
"""By facet: ``channels``, ``price.low``, ``price.high``, ``max_discount``, ``caps.<channel>``,
``hours.<channel>``, ``offers``, ``scripts``, ``budget``."""


def field_of(facet: str) -> str:
    """Return the field of a policy file that a facet belongs to."""
    return facet.partition(".")[0]


def over(facet: str) -> tuple[str, ...]:
    """Return the facets that bound this one from above: itself, and that of all channels."""
    field, _, part = facet.partition(".")
    return (facet, f"{field}.{ANY}") if field in ("caps", "hours") and part != ANY else (facet,)


def meet(facet: str, one: Value, other: Value) -> Value:
    """Return the limit that allows what both allow.

    Parameters
    ----------
    facet
        Which limit, see :data:`Limits`.
    one, other
        Two values of it.
    """
    field = field_of(facet)
    first: Any = one
    second: Any = other
    result: Any
    if field == "caps":
        result = _tightest(first + second)
    elif field == "hours":
        result = first.meet(second)
    elif isinstance(first, frozenset):
        result = first & second
    else:
        result = max(first, second) if facet == "price.low" else min(first, second)
    return result  # type: ignore[no-any-return]


def is_within(facet: str, one: Value, other: Value) -> bool:
    """Whether ``one`` allows nothing that ``other`` forbids; see :func:`meet`."""
    return meet(facet, one, other) == one


def is_looser(facet: str, child: Value, above: Value) -> bool:
    """Whether a child's statement would allow more than what stands above it.

    A cap over another window neither allows more nor less; then both hold. So a cap is looser
    only where it says nothing that the cap above does not say already.
    """
    if field_of(facet) == "caps":
        lower: Any = child
        upper: Any = above
        return any(high.implies(cap) and not cap.implies(high) for cap in lower for high in upper)
    return not is_within(facet, child, above)


def is_empty(facet: str, value: Value) -> bool:
    """Whether nothing is left; an empty list of offers is a decision and no accident."""
    if facet == "offers":
        return False
    return value == frozenset() or value == Hours(())


def holds(facet: str, value: Value, what: str | float) -> bool:
    """Whether a limit allows one thing: an id, a channel kind, a price, a share."""
    if isinstance(value, frozenset):
        return what in value
    if not isinstance(value, float) or isinstance(what, str):
        raise DefectError(f"holds() was asked for {facet} = {value!r} and {what!r}")
    return what >= value if facet == "price.low" else what <= value


def text_of(value: Value) -> str:
    """Write a limit for a message."""
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "none"
    if isinstance(value, tuple):
        return " and ".join(str(cap) for cap in value)
    return str(value) if isinstance(value, Hours) else f"{value:.12g}"


def _tightest(caps: tuple[Cap, ...]) -> tuple[Cap, ...]:
    """Leave out the caps that another one implies."""
    kept: list[Cap] = []
    for cap in sorted(set(caps)):
        if any(other.implies(cap) for other in kept):
            continue
        kept = [other for other in kept if not cap.implies(other)] + [cap]
    return tuple(sorted(kept))


def _merge(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(ranges):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return tuple(merged)
