"""What the limits of a batch are worth, kept so that the next single customer is judged alike.

The allocation of a batch finds a price for every limit: what one more seat, message or yuan would
bring. Charged to each strategy that uses it, the prices make a choice for one customer agree with
the choice for all. They are valid for the batch that found them; the next batch finds new ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.decision.allocation.allocate import Allocation
from bihuan.decision.allocation.limit import Limit
from bihuan.decision.value import Candidate
from bihuan.kernel import UserError, canonical_json

Floats = NDArray[np.float64]


class PriceBookError(UserError):
    """A price book that cannot be read."""


@dataclass(frozen=True, slots=True)
class PricedLimit:
    """One limit, its price, and what uses it.

    Parameters
    ----------
    name, kind, unit, price_unit
        Of the limit.
    price
        Value of one more unit, in the workspace's currency; below 0 for a minimum that lacks
        contacts, so that it is a bonus.
    uses
        Units that one contact uses, by candidate; candidates not named use none.
    units
        The org units whose customers it binds; empty where it binds all.
    """

    name: str
    kind: str
    unit: str
    price_unit: str
    price: float
    uses: Mapping[Candidate, float]
    units: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PriceBook:
    """The prices of all limits of one campaign's batch.

    Parameters
    ----------
    campaign_id, as_of
        Whose batch, on the data of which date; empty and None for a book of no batch.
    limits
        In the order of the batch.
    left_out
        Limits whose price nobody could charge to a later customer, by name, with the reason by
        language.

    Examples
    --------
    >>> call = Candidate("contract", "outbound")
    >>> seats = PricedLimit("seats", "capacity", "call", "CNY per call", 4.5, {call: 1.0},
    ...                     frozenset({"G1"}))
    >>> book = PriceBook("c1", date(2026, 10, 31), (seats,))
    >>> book.charges([call, Candidate("contract", "sms")], ["G1", "G2"]).tolist()
    [[4.5, 0.0], [0.0, 0.0]]
    >>> PriceBook.from_json(book.to_json()) == book
    True
    """

    campaign_id: str = ""
    as_of: date | None = None
    limits: tuple[PricedLimit, ...] = field(default=())
    left_out: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def bonuses(self) -> PriceBook:
        """The minimums alone, whose price is a bonus."""
        few = tuple(limit for limit in self.limits if limit.price < 0)
        return PriceBook(self.campaign_id, self.as_of, few)

    def charges(
        self, candidates: Sequence[Candidate], org_unit_id: Sequence[str | None] | pa.Array
    ) -> Floats:
        """Return what each pair is charged, in the workspace's currency; a bonus is below 0.

        Parameters
        ----------
        candidates
            Columns.
        org_unit_id
            Unit of each customer, shape ``(n,)``; None = none of those that have limits.

        Returns
        -------
        numpy.ndarray
            Shape ``(n, n_candidates)``.
        """
        units = org_unit_id if isinstance(org_unit_id, pa.Array) else pa.array(org_unit_id)
        named = sorted({unit for limit in self.limits for unit in limit.units})
        # a row per unit that has limits of its own, then one for everybody else
        table = np.zeros((len(named) + 1, len(candidates)))
        for limit in self.limits:
            cost = np.array([limit.price * limit.uses.get(c, 0.0) for c in candidates])
            rows = [i for i, unit in enumerate(named) if unit in limit.units]
            table[rows if limit.units else slice(None)] += cost
        at = pc.index_in(units.cast(pa.string()), value_set=pa.array(named, pa.string()))
        return np.asarray(table[at.fill_null(len(named)).to_numpy()])

    def of(self, candidate: Candidate, org_unit_id: str | None) -> dict[str, float]:
        """Return what one contact is charged per limit, by name; only what is not 0."""
        return {
            limit.name: limit.price * limit.uses[candidate]
            for limit in self.limits
            if candidate in limit.uses
            and (not limit.units or org_unit_id in limit.units)
            and limit.price * limit.uses[candidate] != 0
        }

    def to_json(self) -> dict[str, Any]:
        """Return the book as what JSON can hold."""
        return {
            "campaign_id": self.campaign_id,
            "as_of": self.as_of.isoformat() if self.as_of else None,
            "limits": [
                {
                    "name": limit.name,
                    "kind": limit.kind,
                    "unit": limit.unit,
                    "price_unit": limit.price_unit,
                    "price": limit.price,
                    "units": sorted(limit.units),
                    "uses": [
                        [c.offer_id, c.channel, c.step, weight]
                        for c, weight in limit.uses.items()
                    ],
                }
                for limit in self.limits
            ],
            "left_out": {name: dict(reason) for name, reason in self.left_out.items()},
        }  # fmt: skip

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> PriceBook:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        PriceBookError
            If something is missing.
        """
        try:
            limits = tuple(_limit_of(limit) for limit in written["limits"])
            as_of = date.fromisoformat(written["as_of"]) if written["as_of"] else None
            left_out = {n: dict(why) for n, why in written.get("left_out", {}).items()}
            return cls(written["campaign_id"], as_of, limits, left_out)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise PriceBookError(
                f"The price book {canonical_json(written)[:80]} is not whole: {error!r}.",
                remedy="Decide the campaign again.",
                zh=f"价格表不完整({error!r}),请重新决策该方案。",
            ) from error

    def text(self) -> str:
        """Return the JSON text."""
        return json.dumps(self.to_json(), ensure_ascii=False)


def price_book(  # noqa: PLR0913 - who asks names the batch, and how its limits are told
    allocation: Allocation,
    limits: Sequence[Limit],
    candidates: Sequence[Candidate],
    *,
    campaign_id: str,
    as_of: date,
    org_unit_id: pa.Array | None = None,
    units: Mapping[str, frozenset[str]] | None = None,
) -> PriceBook:
    """Keep the prices of a batch for later customers.

    Parameters
    ----------
    allocation, limits, candidates
        Of the batch; limits in the order in which they were given to it.
    campaign_id, as_of
        Whose batch, on the data of which date.
    org_unit_id
        Unit of each customer of the batch, shape ``(n,)``, by which the members of limits are
        told that ``units`` does not name.
    units
        Org units whose customers a limit is for, by its name (a unit with all under it).

    Returns
    -------
    PriceBook
        With every limit that has a price. Left out, with the reason, is a limit for customers who
        are not just those of some units, or whose weight differs between customers: nobody could
        say what a later customer uses of it.
    """
    priced: list[PricedLimit] = []
    left_out: dict[str, Mapping[str, str]] = {}
    for limit, use in zip(limits, allocation.limits, strict=True):
        if use.price == 0:
            continue
        members = (units or {}).get(limit.name)
        if members is None:
            members = _units_of(limit, org_unit_id)
        weight = _common_weight(limit)
        if members is None or weight is None:
            left_out[limit.name] = _NOT_OF_UNITS if members is None else _UNEVEN
            continue
        uses = {c: float(w) for c, w in zip(candidates, weight, strict=True) if w > 0}
        price = -use.price if limit.is_floor else use.price
        priced.append(
            PricedLimit(use.name, use.kind, use.unit, use.price_unit, price, uses, members)
        )
    return PriceBook(campaign_id, as_of, tuple(priced), left_out)


_NOT_OF_UNITS: Mapping[str, str] = {
    "en": "it binds customers who are not those of certain org units",
    "zh": "其客户范围与组织单元不一致",
}
_UNEVEN: Mapping[str, str] = {
    "en": "it weighs contacts differently from customer to customer",
    "zh": "其占用量因客户而异",
}


def _units_of(limit: Limit, org_unit_id: pa.Array | None) -> frozenset[str] | None:
    """Return the units whose customers are the members; empty where all are, None if no units."""
    if limit.members is None or limit.members.all():
        return frozenset()
    if org_unit_id is not None:
        inside = org_unit_id.filter(pa.array(limit.members))
        units = pc.unique(inside)
        same = pc.is_in(org_unit_id, value_set=units).to_numpy(zero_copy_only=False)
        if len(inside) and not inside.null_count and np.array_equal(same, limit.members):
            return frozenset(units.to_pylist())
    return None


def _common_weight(limit: Limit) -> Floats | None:
    """Return the weight of each candidate, None where it differs between customers."""
    weight = np.asarray(limit.weight)
    if weight.ndim == 1:
        return weight
    return np.asarray(weight[0]) if len(weight) and (weight == weight[:1]).all() else None


def _limit_of(written: Mapping[str, Any]) -> PricedLimit:
    return PricedLimit(
        name=written["name"],
        kind=written["kind"],
        unit=written["unit"],
        price_unit=written["price_unit"],
        price=float(written["price"]),
        uses={Candidate(o, c, step): float(w) for o, c, step, w in written["uses"]},
        units=frozenset(written["units"]),
    )
