"""How a tag's values are written as codes: whole numbers from 0 in the values' own order.

The order is kept exactly, so a comparison of values is a comparison of codes. Every type comes
down to a *position*, a whole number that rises with the value: cents for money, days for dates,
the rank of a text among the texts that occur, hundredths (or what it takes) for numbers that are
short decimals, and the ordered bits of the IEEE double for those that are not. A code is
``(position - low) / step``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bihuan.data import ColumnType

MissingAs: TypeAlias = Literal["none", "zero", "plane"]
"""Nobody lacks a value; code 0 stands for missing; or a plane of its own says who has one."""

_EPOCH = date(1970, 1, 1)
_EPOCH_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)
_DOUBLE = -1  # in place of a number of decimals: the ordered bits of the double


@dataclass(frozen=True, slots=True)
class Encoding:
    """One tag's values as codes.

    Parameters
    ----------
    type
        Type of the values.
    low, step
        Position of the first known code, and the distance between two, >= 1.
    count
        Known codes are ``first .. first + count - 1``, of which not all must occur; 0 if no value
        is known.
    missing
        How subjects without a value are written; their code is always 0.
    least
        How many of the codes from ``first`` on come before the lowest that occurs.
    decimals
        Decimals kept of a number, 0..9; -1 where its double is kept bit by bit.
    texts
        The values of a text tag in ascending order of code points.
    """

    type: ColumnType
    low: int
    step: int
    count: int
    missing: MissingAs
    least: int = 0
    decimals: int = 0
    texts: tuple[str, ...] = ()

    @property
    def first(self) -> int:
        """Lowest code of a known value: 1 where 0 stands for missing."""
        return 1 if self.missing == "zero" else 0

    @property
    def bits(self) -> int:
        """Planes that the codes need, >= 0."""
        return max(self.first + self.count - 1, 0).bit_length()

    @property
    def planes(self) -> int:
        """Planes in all: the one that says who has a value, if there is one, then the bits."""
        return self.bits + (self.missing == "plane")

    @property
    def is_linear(self) -> bool:
        """Whether a sum of codes tells the sum of the values."""
        return self.decimals != _DOUBLE and self.type in (
            ColumnType.INTEGER,
            ColumnType.MONEY,
            ColumnType.NUMBER,
            ColumnType.BOOLEAN,
        )

    @property
    def scale(self) -> int:
        """Positions per unit of the value: 100 for money, ``10**decimals`` for a number."""
        return 100 if self.type is ColumnType.MONEY else 10 ** max(self.decimals, 0)

    def find(self, value: Any) -> int | None:
        """Return the code of ``value``, or None if no subject can have it."""
        code = self.first_at_least(value)
        if code == self.first + self.count or self.value(code) != _plain(value, self.type):
            return None
        return code

    def first_at_least(self, value: Any) -> int:
        """Return the lowest code whose value is not below ``value``; one past the last if none."""
        position = self._position_at_least(value)
        steps = -((self.low - position) // self.step)  # rounded up
        return self.first + min(max(steps, 0), self.count)

    def value(self, code: int) -> Any:
        """Return the value of a known code, in the tag's own type."""
        return self._of_position(self.low + (code - self.first) * self.step)

    def values(self, codes: NDArray[np.uint64]) -> list[Any]:
        """Return the values of known codes, each decoded once."""
        distinct, back = np.unique(codes, return_inverse=True)
        decoded = [self.value(int(code)) for code in distinct]
        return [decoded[i] for i in back]

    def floats(self, codes: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Return numbers of known codes of a number, money, integer or boolean tag."""
        if self.decimals != _DOUBLE:
            steps = codes.astype(np.float64) - self.first
            return (self.low + steps * self.step) / self.scale
        positions = codes - np.uint64(self.first)
        positions = positions * np.uint64(self.step) + np.uint64(self.low % 2**64)
        return _doubles_of(positions.astype(np.int64))

    @property
    def lowest(self) -> Any:
        """The lowest value that occurs; None if none is known."""
        return self.value(self.first + self.least) if self.count else None

    @property
    def highest(self) -> Any:
        """The highest value that occurs; None if none is known."""
        return self.value(self.first + self.count - 1) if self.count else None

    def _position_at_least(self, value: Any) -> int:
        if self.type is ColumnType.STRING:
            return bisect_left(self.texts, value)
        if self.type is ColumnType.NUMBER:
            return self._number_at_least(float(value))
        if self.type is ColumnType.DATE:
            return int((value - _EPOCH).days)
        if self.type is ColumnType.TIMESTAMP:
            return _microseconds(value)
        return math.ceil(Fraction(value) * self.scale)

    def _number_at_least(self, value: float) -> int:
        if self.decimals == _DOUBLE:
            return int(positions_of_doubles(np.array([value]))[0])
        if math.isinf(value):
            end = self.low + self.count * self.step
            return end if value > 0 else self.low
        position = math.ceil(Fraction(value) * self.scale)
        # the double of a short decimal may lie below the decimal itself
        return position - 1 if float(Fraction(position - 1, self.scale)) >= value else position

    def _of_position(self, position: int) -> Any:
        return _VALUE[self.type](self, position)

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` reads."""
        return {
            "type": self.type.value,
            "low": self.low,
            "step": self.step,
            "count": self.count,
            "missing": self.missing,
            "least": self.least,
            "decimals": self.decimals,
            "texts": list(self.texts),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Encoding:
        """Read what :meth:`to_json` wrote."""
        return cls(
            type=ColumnType(stored["type"]),
            low=stored["low"],
            step=stored["step"],
            count=stored["count"],
            missing=stored["missing"],
            least=stored["least"],
            decimals=stored["decimals"],
            texts=tuple(stored["texts"]),
        )


def plan_encoding(  # noqa: PLR0913 - what the column turned out to hold
    kind: ColumnType,
    low: int,
    high: int,
    *,
    step: int,
    known: int,
    rows: int,
    decimals: int = 0,
    texts: Sequence[str] = (),
) -> Encoding:
    """Choose how a column's positions are written in the fewest planes.

    Parameters
    ----------
    kind
        Type of the values.
    low, high
        Lowest and highest position that occurs.
    step
        A divisor of every distance between positions.
    known, rows
        Subjects with a value, and all.
    decimals, texts
        As in :class:`Encoding`.
    """
    start = 0 if _starts_at_zero(low, high, step) else low
    count = (high - start) // step + 1 if known else 0
    missing: MissingAs = "none"
    if known < rows:
        # where the bits suffice for one code more, code 0 says it without a plane
        is_free = count.bit_length() == (count - 1).bit_length() if count else False
        missing = "zero" if is_free and kind is not ColumnType.BOOLEAN else "plane"
    least = (low - start) // step
    return Encoding(kind, start, step, count, missing, least, decimals, tuple(texts))


def _starts_at_zero(low: int, high: int, step: int) -> bool:
    """Whether codes may count from value 0 without a further plane.

    A round threshold is then a code that ends in zeros, and its lowest planes need not be read.
    """
    if low < 0 or low % step:
        return False
    return (high // step).bit_length() == ((high - low) // step).bit_length()


def positions_of_doubles(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return whole numbers that stand in the order of the doubles; -0.0 is 0.0.

    Examples
    --------
    >>> p = positions_of_doubles(np.array([-np.inf, -1.5, -0.0, 0.0, 1e-300, 2.0]))
    >>> bool((np.diff(p) >= 0).all()), int(p[2]) == int(p[3])
    (True, True)
    """
    bits = (values + 0.0).view(np.int64)
    flipped: NDArray[np.int64] = np.where(bits < 0, np.int64(-(2**63)) - bits, bits)
    return flipped


def _doubles_of(positions: NDArray[np.int64]) -> NDArray[np.float64]:
    bits = np.where(positions < 0, np.int64(-(2**63)) - positions, positions)
    return bits.view(np.float64)


def _plain(value: Any, kind: ColumnType) -> Any:
    """Return a literal as its tag would hold it, for a test of equality."""
    if kind is ColumnType.NUMBER:
        return float(value)
    return value


def _microseconds(moment: datetime) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH_MOMENT) // timedelta(microseconds=1)


def _number(encoding: Encoding, position: int) -> float:
    if encoding.decimals == _DOUBLE:
        return float(_doubles_of(np.array([position], np.int64))[0])
    return position / encoding.scale


_VALUE: Mapping[ColumnType, Callable[[Encoding, int], Any]] = {
    ColumnType.BOOLEAN: lambda _, position: bool(position),
    ColumnType.STRING: lambda encoding, position: encoding.texts[position],
    ColumnType.DATE: lambda _, position: _EPOCH + timedelta(days=position),
    ColumnType.TIMESTAMP: lambda _, position: _EPOCH_MOMENT + timedelta(microseconds=position),
    ColumnType.MONEY: lambda _, position: Decimal(position).scaleb(-2),
    ColumnType.INTEGER: lambda _, position: position,
    ColumnType.NUMBER: _number,
}
