"""Money as whole minor units, so that sums are exact.

Columns and arrays of money are plain numbers whose unit the contract or the docstring states
(the workspace's currency); :class:`Money` is for single amounts that are shown, added and stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from bihuan.kernel.errors import UserError

_SYMBOLS = {"CNY": "¥", "USD": "$", "EUR": "€"}


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """An exact amount of one currency.

    Parameters
    ----------
    minor
        Whole minor units (fen, cents); may be negative.
    currency
        ISO 4217 code; every supported currency has two decimals.

    Examples
    --------
    >>> Money.of("58.37") + Money.of(1) == Money(5937, "CNY")
    True
    >>> str(Money.of("-1234567.5"))
    '-¥1,234,567.50'
    """

    minor: int
    currency: str = "CNY"

    @classmethod
    def of(cls, amount: str | int | float | Decimal, currency: str = "CNY") -> Money:
        """Make money from an amount in major units; half a minor unit rounds to even."""
        cents = (Decimal(str(amount)) * 100).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
        return cls(int(cents), currency)

    @property
    def amount(self) -> Decimal:
        """The amount in major units, exact."""
        return Decimal(self.minor) / 100

    def __add__(self, other: Money) -> Money:
        self._require_same_currency(other)
        return Money(self.minor + other.minor, self.currency)

    def __sub__(self, other: Money) -> Money:
        self._require_same_currency(other)
        return Money(self.minor - other.minor, self.currency)

    def __neg__(self) -> Money:
        return Money(-self.minor, self.currency)

    def __mul__(self, times: int) -> Money:
        return Money(self.minor * times, self.currency)

    def __str__(self) -> str:
        sign = "-" if self.minor < 0 else ""
        symbol = _SYMBOLS.get(self.currency, f"{self.currency} ")
        return f"{sign}{symbol}{abs(self.amount):,.2f}"

    def _require_same_currency(self, other: Money) -> None:
        if self.currency != other.currency:
            raise UserError(
                f"Cannot add {other.currency} to {self.currency}.",
                remedy="Convert one of the amounts first.",
            )
