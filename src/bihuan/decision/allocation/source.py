"""Where customers come from, and where what was found on the way is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bihuan.decision.allocation.pairs import Pairs, typical_worth

SOME = 20_000  # customers who tell what is typical
Arrays = dict[str, NDArray[Any]]


class Source(Protocol):
    """Customers in blocks, the same at every reading."""

    @property
    def n_customers(self) -> int:
        """How many there are in all."""

    def greatest(self) -> float:
        """Return the greatest value of a pair, 0 if there is none above."""

    def typical(self) -> float:
        """Return about what the best pair of a customer is worth; the same at every call."""

    def blocks(self) -> Iterator[Pairs]:
        """Yield all customers, in order."""


class Checkpoint(Protocol):
    """Where what was found on the way is kept, so that a stopped run can go on."""

    def load(self, name: str) -> Arrays | None:
        """Return the arrays kept under a name, or None."""

    def save(self, name: str, **arrays: NDArray[Any]) -> None:
        """Keep arrays under a name."""


class Forgetful:
    """Keeps nothing."""

    def load(self, name: str) -> Arrays | None:
        """Return None."""

    def save(self, name: str, **arrays: NDArray[Any]) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class InMemory:
    """Customers who are all in memory.

    Parameters
    ----------
    pairs
        Of everybody.
    """

    pairs: Pairs

    @property
    def n_customers(self) -> int:
        """How many there are."""
        return self.pairs.n_customers

    def greatest(self) -> float:
        """Return the greatest value of a pair."""
        return float(self.pairs.value.max(initial=0.0))

    def typical(self) -> float:
        """Return about what the best pair of a customer is worth."""
        n = self.pairs.n_customers
        return typical_worth(self.pairs.take(np.arange(0, n, max(n // SOME, 1))))

    def blocks(self) -> Iterator[Pairs]:
        """Yield everybody at once."""
        yield self.pairs
