"""The counts that a cube holds: customers who are alike, and planned contacts added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why customers get nothing.

    Parameters
    ----------
    code
        As in the decision log, or one of ``outside_audience`` (in no campaign's audience),
        ``suppressed``, ``unknown``.
    title
        By language.
    """

    code: str
    title: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Customers, counted by all that the cube knows of them; each stands in one row.

    Parameters
    ----------
    axes
        Per axis the band's position, -1 = none; for a shared axis the bits of all bands;
        shape ``(g,)`` each.
    can
        Bits of the channels through which some offer of a business may be made; shape
        ``(g, n_businesses)``.
    planned, sent
        Bits of the channels planned (control included), and really used; same shape.
    fell
        Position of the reason of those for whom nothing is planned, else -1; shape ``(g,)``.
    size
        Customers, shape ``(g,)``.
    """

    axes: Mapping[str, Ints]
    can: Ints
    planned: Ints
    sent: Ints
    fell: Ints
    size: Ints

    def take(self, rows: NDArray[np.bool_]) -> Groups:
        """Return some of the rows."""
        return Groups(
            axes={name: values[rows] for name, values in self.axes.items()},
            can=self.can[rows],
            planned=self.planned[rows],
            sent=self.sent[rows],
            fell=self.fell[rows],
            size=self.size[rows],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Contacts:
    """Planned contacts, added up; shape ``(c,)`` each.

    Parameters
    ----------
    axes
        As in :class:`Groups`.
    campaign
        Campaign id.
    business, channel
        Positions; -1 if the offer's business or the channel is not known.
    planned, sent
        Contacts planned, and those of them not held out.
    value
        Sum of the expected value, in the workspace's currency.
    reached
        Contacts that reached their customer.
    expected, variance
        Over the reached: sum of the propensity p, and of p (1 - p).
    converted
        Those of the reached that ended in a sale.
    """

    axes: Mapping[str, Ints]
    campaign: NDArray[np.str_]
    business: Ints
    channel: Ints
    planned: Ints
    sent: Ints
    value: Floats
    reached: Ints
    expected: Floats
    variance: Floats
    converted: Ints

    @classmethod
    def empty(cls, axes: Sequence[str]) -> Contacts:
        """Return no contacts."""
        none, real = np.zeros(0, dtype=np.int64), np.zeros(0)
        names = np.zeros(0, dtype=np.str_)
        return cls(dict.fromkeys(axes, none), names, none, none, none, none, real, none, real,
                   real, none)  # fmt: skip

    def take(self, rows: NDArray[np.bool_]) -> Contacts:
        """Return some of the rows."""
        return Contacts(
            {name: values[rows] for name, values in self.axes.items()},
            *(getattr(self, name)[rows] for name in self.__slots__ if name != "axes"),
        )
