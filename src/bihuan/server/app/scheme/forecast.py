"""What a scheme is expected to bring and cost, in all and by city, and how many are held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bihuan.evaluation import control_share, power
from bihuan.kernel import NotEstimable
from bihuan.server.app.scheme.reading import Reading
from bihuan.server.app.scheme.terms import SchemeTerms
from bihuan.server.app.scheme.threshold import Line, split_whole


@dataclass(frozen=True, slots=True)
class UnitForecast:
    """What is expected of one unit.

    Parameters
    ----------
    unit_id
        A city; empty for customers whose unit stands in none.
    customers, contacts
        In the audience, and to be contacted (without the control group).
    by_channel
        Contacts by channel.
    sales, effect, cost, value
        Expected sales, change of the goal's metric, cost, and value less cost.
    """

    unit_id: str
    customers: int
    contacts: int
    by_channel: Mapping[str, int]
    sales: float
    effect: float
    cost: float
    value: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """The whole and its cities; every figure of the whole is the sum of the cities'.

    Parameters
    ----------
    units
        By unit id.
    """

    units: tuple[UnitForecast, ...]

    @property
    def customers(self) -> int:
        """Customers in the audience."""
        return sum(unit.customers for unit in self.units)

    @property
    def contacts(self) -> int:
        """Contacts to be made."""
        return sum(unit.contacts for unit in self.units)

    def to_json(self) -> dict[str, Any]:
        """Return the whole and the cities in plain JSON."""
        total = {
            name: round(sum(getattr(unit, name) for unit in self.units), 6)
            for name in ("customers", "contacts", "sales", "effect", "cost", "value")
        }
        return {
            **total,
            "units": [
                {
                    "unit_id": unit.unit_id, "customers": unit.customers,
                    "contacts": unit.contacts, "by_channel": dict(unit.by_channel),
                    "sales": round(unit.sales, 6), "effect": round(unit.effect, 6),
                    "cost": round(unit.cost, 6), "value": round(unit.value, 6),
                }
                for unit in self.units
            ],
        }  # fmt: skip


def forecast_by_unit(case: Reading, line: Line, held_out: float, tier: str = "city") -> Forecast:
    """Add up what the chosen contacts are expected to bring, by the units of a tier.

    Parameters
    ----------
    case, line
        Customers, and who of them is taken with what.
    held_out
        Share in control: neither contacted nor paid for.
    tier
        Of the units told apart.
    """
    places: dict[str | None, str] = {}
    for unit in set(case.units):
        places[unit] = case.tree.first_above(unit, tier) or ""
    of_row = np.array([places[case.units[row]] for row in line.rows], dtype=object)
    total = int((line.candidate >= 0).sum())
    treated = round(total * (1 - held_out))
    channels = sorted({channel for _, channel in case.candidates})
    names = sorted(set(of_row.tolist()))
    cells = [
        int(((of_row == name) & np.isin(line.candidate, _columns(case, channel))).sum())
        for name in names
        for channel in channels
    ]
    parts = iter(split_whole(treated, cells))
    found = []
    for name in names:
        here = (of_row == name) & (line.candidate >= 0)
        rows, column = line.rows[here], line.candidate[here]
        share = 1 - held_out
        by_channel = {channel: next(parts) for channel in channels}
        found.append(
            UnitForecast(
                unit_id=name,
                customers=int((of_row == name).sum()),
                contacts=sum(by_channel.values()),
                by_channel={c: n for c, n in by_channel.items() if n},
                sales=float(case.chance[rows, column].sum()) * share,
                effect=float(case.effect[rows, column].sum()) * share,
                cost=float(case.spent[rows, column].sum()) * share,
                value=float(case.value[rows, column].sum()) * share,
            )
        )
    return Forecast(tuple(found))


def control_design(case: Reading, line: Line, terms: SchemeTerms) -> dict[str, Any]:
    """Size the control group so that the expected effect is seen.

    Returns
    -------
    dict
        ``share``, ``customers``, ``effect`` (expected, per customer), ``base_rate``, ``power``
        reached, and ``enough``: where even the greatest share does not show the effect, that
        share is taken and it is said.
    """
    here = line.candidate >= 0
    rows, column = line.rows[here], line.candidate[here]
    n = len(rows)
    effect = float(np.mean(case.effect[rows, column]))
    base = terms.base_rate
    if terms.kind == "risk":
        base = float(1 - np.mean(case.score[rows]))
    base = min(max(base, 1e-6), 1 - 1e-6)
    effect = min(effect, 1 - base - 1e-9)
    found: float | NotEstimable = terms.most_control
    if n >= 2 and effect > 0:
        found = control_share(n, base, effect, wanted_power=terms.wanted_power)
    wanted = terms.most_control if isinstance(found, NotEstimable) else found
    share = min(max(wanted, 0.05), terms.most_control)
    held = max(round(n * share), 1)
    reached = power(max(n - held, 1), held, base, effect) if n >= 2 else 0.0
    return {
        "share": round(share, 4),
        "customers": held,
        "effect": effect,
        "base_rate": base,
        "power": reached,
        "enough": reached >= terms.wanted_power - 1e-9,
    }


def _columns(case: Reading, channel: str) -> list[int]:
    return [i for i, (_, name) in enumerate(case.candidates) if name == channel]
