"""Months of the simulated worlds: their ends, and moments within them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.data import Publication, TableContract
from bihuan.twin.organisation import in_contract

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Columns: TypeAlias = dict[str, Any]
"""Arrays or lists of one length, by column name."""


def month_ends(as_of: date, months: int) -> list[date]:
    """Return ``months`` month ends up to ``as_of``, oldest first.

    Examples
    --------
    >>> [day.isoformat() for day in month_ends(date(2026, 3, 31), 2)]
    ['2026-02-28', '2026-03-31']
    """
    ends = [as_of]
    while len(ends) < months:
        ends.append(ends[-1].replace(day=1) - timedelta(days=1))
    return ends[::-1]


def moments(rng: np.random.Generator, as_of: date, count: int) -> Ints:
    """Draw moments of the month up to ``as_of``, 8 to 24 o'clock in China, as UTC microseconds."""
    first = datetime(as_of.year, as_of.month, 1, tzinfo=UTC)
    seconds = rng.integers(0, as_of.day, count) * 86_400 + rng.integers(0, 16 * 3_600, count)
    return np.asarray((int(first.timestamp()) + seconds) * 1_000_000, dtype=np.int64)


def as_timestamps(micros: Ints) -> pa.Array:
    """Turn UTC microseconds into the lake's timestamps."""
    return pa.array(micros, pa.int64()).cast(pa.timestamp("us", tz="UTC"))


def days_before(as_of: date, days: Ints) -> pa.Array:
    """Return the dates that lie ``days`` before ``as_of``; after it where negative."""
    epoch = (as_of - date(1970, 1, 1)).days
    return pa.array((epoch - days).astype(np.int32)).cast(pa.date32())


def numbered(prefix: str, count: int) -> pa.Array:
    """Return ids ``<prefix>00000000``, ``<prefix>00000001``, ... in their sort order.

    Examples
    --------
    >>> numbered("e", 2).to_pylist()
    ['e00000000', 'e00000001']
    """
    digits = pc.utf8_lpad(pa.array(np.arange(count)).cast(pa.string()), 8, "0")
    return pc.binary_join_element_wise(prefix, digits, "")


def choose(rng: np.random.Generator, codes: tuple[str, ...], count: int, *, p: Floats) -> pa.Array:
    """Draw codes by their weights, one row of ``p`` per draw or the same for all.

    Parameters
    ----------
    rng
        Chance.
    codes
        k codes.
    count
        How many to draw.
    p
        Weights, shape (k,) or (count, k), not negative; they need not sum to 1.
    """
    edges = np.cumsum(np.broadcast_to(p, (count, len(codes))), axis=1)
    drawn = (rng.random(count) * edges[:, -1])[:, None] >= edges
    return pa.array(codes).take(pa.array(drawn.sum(axis=1)))


def add_tables(
    publication: Publication,
    tables: Mapping[str, Columns],
    as_of: date,
    contracts: Mapping[str, TableContract],
    rows: dict[str, int],
    lineage: Mapping[str, object],
) -> None:
    """Publish columns as contracted tables of one date and add up their rows in ``rows``."""
    for name, columns in tables.items():
        table = in_contract(contracts[name], columns)
        publication.add(name, as_of, table, lineage=lineage)
        rows[name] = rows.get(name, 0) + table.num_rows
