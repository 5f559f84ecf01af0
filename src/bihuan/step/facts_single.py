"""The same facts, ready for one customer at a time: sorted once, found in microseconds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bihuan.data import LakeView
from bihuan.decision import Candidate, Case
from bihuan.step.facts import Lots, held_products, opt_outs


class ByCustomer:
    """Rows of a table, found by customer.

    Parameters
    ----------
    rows
        With a column ``customer_id``; None = no rows.
    columns
        What to give back of a row.

    Examples
    --------
    >>> held = pa.table({"customer_id": ["b", "a", "b"], "product_id": ["p", "q", "r"]})
    >>> found = ByCustomer(held, ("product_id",))
    >>> sorted(found("b")), found("c")
    ([('p',), ('r',)], [])
    """

    def __init__(self, rows: pa.Table | None, columns: tuple[str, ...]) -> None:
        if rows is None:
            rows = pa.table({name: pa.array([], pa.string()) for name in ("customer_id", *columns)})
        rows = rows.sort_by("customer_id").combine_chunks()
        ids = rows["customer_id"].cast(pa.binary()).to_numpy(zero_copy_only=False)
        self._ids = np.array(ids, dtype=np.bytes_) if len(ids) else np.array([], dtype="S1")
        self._rows = rows.select(list(columns))
        self._names = columns

    def __call__(self, customer_id: str) -> list[tuple[Any, ...]]:
        """Return the customer's rows."""
        key = customer_id.encode()
        begin = int(np.searchsorted(self._ids, key, "left"))
        end = int(np.searchsorted(self._ids, key, "right"))
        if begin == end:
            return []
        few = self._rows.slice(begin, end - begin)
        return list(zip(*(few[name].to_pylist() for name in self._names), strict=True))


_PLANNED = ("customer_id", "campaign_id", "offer_id", "channel", "step")


class CustomerFacts:
    """What is known of single customers beside their tags, as of a date.

    Parameters
    ----------
    view, as_of
        Where and when to read.
    contacts
        ``customer_id, channel, day`` of the contacts that count; None: none.
    lots
        Who is held out, and what is planned already; None: nothing of the kind.
    detected
        ``customer_id, moment_id``: who is at which key moment; None: nobody.
    opt_out_at
        Date of the opt-outs; None: ``as_of``.
    """

    def __init__(
        self,
        view: LakeView,
        as_of: date,
        *,
        contacts: pa.Table | None = None,
        lots: Lots | None = None,
        detected: pa.Table | None = None,
        opt_out_at: date | None = None,
    ) -> None:
        self._planned = ByCustomer(
            lots.planned if lots else None, ("campaign_id", "offer_id", "channel", "step")
        )
        self._moment = ByCustomer(detected, ("moment_id",))
        self._held = ByCustomer(held_products(view, as_of), ("product_id",))
        self._opt_out = ByCustomer(opt_outs(view, opt_out_at or as_of), ("kind", "channel"))
        self._contact = ByCustomer(contacts, ("channel", "day"))
        customers = view.find("customer", as_of)
        units = None if customers is None else customers.read(["customer_id", "org_unit_id"])
        self._unit = ByCustomer(units, ("org_unit_id",))
        parts = [
            pa.table({"customer_id": ids.cast(pa.string()), "campaign": [name] * len(ids)})
            for name, ids in (lots.held_out if lots else {}).items()
        ]
        self._control = ByCustomer(pa.concat_tables(parts) if parts else None, ("campaign",))

    def case(self, customer_id: str) -> Case:
        """Return what is known of a customer; nothing of somebody unknown."""
        closed = {
            "all" if kind == "no_profiling" else channel
            for kind, channel in self._opt_out(customer_id)
        }
        unit = self._unit(customer_id)
        return Case(
            customer_id=customer_id,
            held=frozenset(product for (product,) in self._held(customer_id)),
            closed=frozenset(closed),
            contacts=tuple(self._contact(customer_id)),
            org_unit_id=unit[0][0] if unit else None,
            held_out=frozenset(campaign for (campaign,) in self._control(customer_id)),
            moments=frozenset(moment for (moment,) in self._moment(customer_id)),
            planned=tuple(
                (campaign, Candidate(offer, channel, step))
                for campaign, offer, channel, step in self._planned(customer_id)
            ),
        )


def decided_at(view: LakeView, campaign_id: str, as_of: date) -> date | None:
    """Return the newest date up to ``as_of`` on whose data a campaign was decided, or None."""
    for day in sorted(view.dates("decision"), reverse=True):
        snapshot = view.get("decision", day)
        if day <= as_of and campaign_id in snapshot.lineage["campaigns"]:
            return day
    return None


def read_lots(view: LakeView, decided: Mapping[str, date]) -> Lots:
    """Read the lots of campaigns.

    Parameters
    ----------
    view
        The lake.
    decided
        Date on whose data each campaign was decided.
    """
    held_out, planned = {}, []
    for campaign_id, day in decided.items():
        rows = view.get("decision", day).read([*_PLANNED, "arm"])
        rows = rows.filter(pc.equal(rows["campaign_id"], campaign_id))
        control = rows.filter(pc.equal(rows["arm"], "control"))
        held_out[campaign_id] = control["customer_id"].combine_chunks()
        planned.append(rows.filter(pc.equal(rows["arm"], "treatment")).select(list(_PLANNED)))
    types = [(name, pa.string() if name != "step" else pa.int64()) for name in _PLANNED]
    schema = pa.schema(types)
    parts = [schema.empty_table(), *(part.cast(schema) for part in planned)]
    return Lots(held_out, pa.concat_tables(parts))
