"""What a decision must know of customers beside their tags: products, opt-outs, contacts, unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.audience import read_flags
from bihuan.data import LakeView, as_doubles
from bihuan.decision import Cases, StrategyBoard
from bihuan.offer import read_facts
from bihuan.step.rooms import Rooms
from bihuan.tag import TagTable

_HELD = pa.schema([("customer_id", pa.string()), ("product_id", pa.string())])


@dataclass(frozen=True, slots=True, eq=False)
class Lots:
    """What the lots of the last batches said.

    Parameters
    ----------
    held_out
        Control group by campaign id.
    planned
        ``customer_id, campaign_id, offer_id, channel, step`` of who is to be contacted.
    """

    held_out: Mapping[str, pa.Array]
    planned: pa.Table


def gather_cases(
    rooms: Rooms,
    board: StrategyBoard,
    tags: TagTable,
    customer_id: pa.Array,
    *,
    lots: Lots | None = None,
    opt_out_at: date | None = None,
) -> Cases:
    """Read what a board asks of many customers.

    Parameters
    ----------
    rooms
        The operator.
    board
        Whose conditions are to be asked.
    tags
        The tags; facts are read at their date.
    customer_id
        Customers, each once, shape ``(n,)``.
    lots
        Who is held out, and what is planned already; None: nothing of the kind.
    opt_out_at
        Date of the opt-outs; None: that of the tags.
    """
    view, as_of = rooms.lake.view(), tags.as_of
    ids, flags = read_flags(board.rules, tags, engine=rooms.engine)
    at = pc.index_in(customer_id, value_set=ids).to_numpy()
    return Cases(
        customer_id=customer_id,
        rules=flags[at],
        numbers=read_numbers(rooms, tags, board.number_tags, customer_id),
        held=held_products(view, as_of),
        opt_out=opt_outs(view, opt_out_at or as_of),
        contact=contacts_before(view, board.day, longest_window(board)),
        org_unit_id=units_of(view, customer_id, as_of),
        held_out=lots.held_out if lots else {},
        planned=lots.planned if lots else None,
        suits=read_suits(rooms, board, tags, customer_id),
    )


def read_suits(
    rooms: Rooms, board: StrategyBoard, tags: TagTable, customer_id: pa.Array
) -> dict[str, NDArray[np.bool_]]:
    """Return which offers suit customers by the principles that campaigns ask for, by name."""
    found = {}
    for name, suit in board.suits.items():
        facts = read_facts(suit.needs, tags, engine=rooms.engine)
        at = pc.index_in(customer_id, value_set=facts.ids).to_numpy()
        found[name] = suit.of_facts(facts)[at]
    return found


def held_products(view: LakeView, as_of: date) -> pa.Table | None:
    """Return ``customer_id, product_id`` of what is held: active holdings and main plans."""
    parts = []
    for table, gone in (("holding", "ended"), ("subscription", "disconnected")):
        snapshot = view.find(table, as_of)
        if snapshot is None:
            continue
        rows = snapshot.read(["customer_id", "product_id", "status"])
        is_held = pc.fill_null(pc.not_equal(rows["status"], gone), table == "subscription")
        rows = rows.filter(pc.and_(is_held, pc.is_valid(rows["product_id"])))
        parts.append(rows.select(["customer_id", "product_id"]).cast(_HELD))
    return pa.concat_tables(parts) if parts else None


def newest(view: LakeView, table: str, day: date) -> date | None:
    """Return the date of a table's newest snapshot up to ``day``, or None."""
    return max((on for on in view.dates(table) if on <= day), default=None)


def opt_outs(view: LakeView, as_of: date) -> pa.Table | None:
    """Return ``customer_id, kind, channel`` of the opt-outs in force; None without the table."""
    snapshot = view.find("opt_out", as_of)
    return None if snapshot is None else snapshot.read(["customer_id", "kind", "channel"])


def contacts_before(view: LakeView, day: date, days: int) -> pa.Table | None:
    """Return ``customer_id, channel, day`` of the contacts in the days that end with ``day``."""
    if days < 1:
        return None
    first = day - timedelta(days=days)
    parts = []
    for month in view.dates("contact"):
        if month <= first:
            continue  # a month's snapshot holds what happened up to its date
        rows = view.get("contact", month).read(["customer_id", "channel", "contacted_at"])
        on = pc.cast(rows["contacted_at"], pa.date32())
        rows = rows.drop_columns(["contacted_at"]).append_column("day", on)
        inside = pc.and_(pc.greater(on, pa.scalar(first)), pc.less_equal(on, pa.scalar(day)))
        parts.append(rows.filter(inside))
    return pa.concat_tables(parts) if parts else None


def longest_window(board: StrategyBoard) -> int:
    """Return the days that the contact rules look back; 0 without rules."""
    return max((rule.days for rule in board.settings.contacts), default=0)


def units_of(view: LakeView, customer_id: pa.Array, as_of: date) -> pa.Array:
    """Return the org unit in charge of each customer, missing where unknown."""
    customers = view.get("customer", as_of).read(["customer_id", "org_unit_id"])
    at = pc.index_in(customer_id, value_set=customers["customer_id"])
    return customers["org_unit_id"].take(at).combine_chunks()


def read_numbers(
    rooms: Rooms, tags: TagTable, names: Iterable[str | None], ids: pa.Array | pa.ChunkedArray
) -> dict[str, NDArray[np.float64]]:
    """Return numeric tags of the given subjects by name, NaN = missing, in the order of ``ids``."""
    wanted = sorted({name for name in names if name})
    rows = tags.read(rooms.engine, wanted)
    at = pc.index_in(ids, value_set=rows[tags.id_column])
    return {name: as_doubles(rows[name].take(at)) for name in wanted}
