"""Freezes decided rows into assignments: ids, ranks, and the Parquet parts of one lake table.

A part holds rows of one channel and of consecutive org units, in order of rank, so whoever works
for one unit and channel opens one part. Parts are ranked, encoded, written and flushed by all
cores at once.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bihuan.delivery.reading import Labels, Treated, text_buffers
from bihuan.delivery.siphash import key_of, key_words, siphash128
from bihuan.kernel import core_count
from bihuan.kernel.crash import crash_point

ID_DIGITS = 20
PART_ROWS = 262_144
"""Units are gathered into one part until it has so many rows."""
MOST_ROWS = 1_048_576
"""A longer list of one unit and channel goes on in the next part."""
GROUP_ROWS = 122_880

_LABEL = pa.dictionary(pa.int32(), pa.string())
_COLUMNS: Mapping[str, pa.DataType] = {
    "assignment_id": pa.string(),
    "deployment_id": _LABEL,
    "campaign_id": _LABEL,
    "customer_id": pa.large_string(),
    "step": pa.int64(),
    "generation": pa.int64(),
    "offer_id": _LABEL,
    "channel": _LABEL,
    "org_unit_id": _LABEL,
    "script_id": _LABEL,
    "priority": pa.int64(),
    "expected_value": pa.float64(),
    "valid_from": pa.date32(),
    "valid_until": pa.date32(),
}
_SCHEMA = pa.schema(list(_COLUMNS.items()))
_BY_NUMBER = [name for name, kind in _COLUMNS.items() if kind == _LABEL] + [
    "step",
    "generation",
    "valid_from",
    "valid_until",
]


class Terms(Protocol):
    """What all assignments of a deployment have in common."""

    @property
    def deployment_id(self) -> str:
        """The deployment."""
        ...

    @property
    def campaign_id(self) -> str:
        """The campaign."""
        ...

    @property
    def generation(self) -> int:
        """0 for the first deployment of the campaign."""
        ...

    @property
    def valid_from(self) -> date:
        """First day, included."""
        ...

    @property
    def valid_until(self) -> date:
        """Last day, included."""
        ...


@dataclass(frozen=True, slots=True)
class Ranked:
    """Treated rows in the order of their assignments.

    Parameters
    ----------
    treated
        The rows.
    rows
        Row numbers in order of channel, org unit (missing first) and rank, shape ``(n,)``.
    ends
        Where each list of one channel and unit ends in that order, shape ``(n_lists,)``.
    """

    treated: Treated
    rows: NDArray[np.int64]
    ends: NDArray[np.int64]


def assignment_key(deployment_id: str, generation: int) -> bytes:
    """Return the key under which a deployment hashes customers into assignment ids."""
    return key_of("assignment", deployment_id, generation)


def assignment_id(deployment_id: str, customer_id: str, step: int, generation: int) -> str:
    """Return the id of one assignment, the same that :func:`deploy` gives to its row.

    Parameters
    ----------
    deployment_id
        The deployment.
    customer_id
        The customer.
    step
        Step of the campaign, 1 = first.
    generation
        The deployment's generation.

    Returns
    -------
    str
        20 hexadecimal digits: the head of SipHash-2-4-128, keyed by deployment and generation,
        of the step (eight bytes, little-endian) and the customer's id in UTF-8.

    Examples
    --------
    >>> assignment_id("5d0c", "c-1", 1, 0)
    '31ae59e3e679e3bec269'
    """
    message = struct.pack("<q", step) + customer_id.encode()
    return siphash128(assignment_key(deployment_id, generation), message).hex()[:ID_DIGITS]


def id_digests(terms: Terms, customers: pa.Array, steps: NDArray[np.int32]) -> NDArray[np.uint64]:
    """Hash customers and steps into the digests of their assignment ids, shape ``(2, n)``."""
    from bihuan.delivery.row_kernel import hash_texts

    key = key_words(assignment_key(terms.deployment_id, terms.generation))
    lead = steps.astype(np.int64).view(np.uint64)
    return hash_texts(*text_buffers(customers), key, lead=lead)[0][:, :-1]


def rank(treated: Treated, terms: Terms) -> Ranked:
    """Order rows by channel, org unit and value; ties by assignment id, which favours nobody."""
    units, channels = _places(treated.unit), _places(treated.channel)
    lists = channels * np.int32(len(treated.unit.names) + 1) + units + np.int32(1)
    # a list's number above, the row's below: sorted, rows of a list stand together
    keys = lists.astype(np.uint64)
    keys <<= np.uint64(32)
    keys += np.arange(len(lists), dtype=np.uint32)
    keys.sort()
    ends = np.cumsum(np.bincount(lists))
    ends = np.unique(ends[ends > 0])
    keys &= np.uint64(2**32 - 1)
    rows = keys.view(np.int64)
    with ThreadPoolExecutor(core_count(), thread_name_prefix="bihuan-ranks") as pool:
        spans = pairwise([0, *ends.tolist()])
        for _ in pool.map(lambda span: _rank_list(treated, terms, rows[slice(*span)]), spans):
            pass
    return Ranked(treated, rows, ends)


def _rank_list(treated: Treated, terms: Terms, rows: NDArray[np.int64]) -> None:
    """Put the rows of one list in order, in place."""
    values = _value_order(treated.value[rows])
    at = np.argsort(values)
    values = values[at]
    again = values[1:] == values[:-1]
    if again.any():
        run = np.concatenate([[0], np.cumsum(~again)])
        ties = np.concatenate([[False], again]) | np.concatenate([again, [False]])
        among = rows[at[ties]]
        digests = id_digests(terms, treated.customers.take(pa.array(among)), treated.step[among])
        # the words lie lowest byte first, ids are read from the first digit on
        second, first = digests[1].byteswap(), digests[0].byteswap()
        at[ties] = at[ties][np.lexsort((second, first, run[ties]))]
    rows[:] = rows[at]


def write_parts(
    ranked: Ranked, terms: Terms, scripts: Mapping[tuple[str, str], str], folder: Path
) -> int:
    """Write assignments as flushed Parquet parts into a folder; return their number.

    Parameters
    ----------
    ranked
        The rows.
    terms
        What they have in common.
    scripts
        Script id by offer id and channel.
    folder
        Empty.
    """
    spans = part_spans(ranked)
    pages = _Pages(ranked, terms, scripts)

    def write(at: int) -> int:
        return _write_part(pages, spans[at], folder / f"part-{at:05d}.parquet")

    with ThreadPoolExecutor(core_count(), thread_name_prefix="bihuan-parts") as pool:
        return sum(pool.map(write, range(len(spans))))


def part_spans(ranked: Ranked) -> list[tuple[int, int]]:
    """Cut the order into parts: one channel each, whole lists where they are not too long."""
    channels = ranked.treated.channel.codes
    spans: list[tuple[int, int]] = []
    start = 0
    for begin, end in pairwise([0, *ranked.ends.tolist()]):
        apart = channels[ranked.rows[begin]] != channels[ranked.rows[start]]
        if begin > start and (apart or begin - start >= PART_ROWS or end - start > MOST_ROWS):
            spans.append((start, begin))
            start = begin
        while end - start > MOST_ROWS:
            spans.append((start, start + MOST_ROWS))
            start += MOST_ROWS
    spans.append((start, len(ranked.rows)))
    return spans


def _places(labels: Labels) -> NDArray[np.int32]:
    """Return by row the place of its name in order of the alphabet, -1 for missing."""
    names = labels.names
    place = np.full(len(names) + 1, -1, np.int32)
    place[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return place[labels.codes]


def _value_order(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Turn values into words that sort from the greatest to the least, the missing last."""
    bits, sign = (values + 0.0).view(np.uint64), np.uint64(1 << 63)  # one zero, not two
    order = np.where(bits & sign, bits, ~(bits | sign))
    order[np.isnan(values)] = np.uint64(2**64 - 1)
    return order


class _Pages:
    """Makes the columns of any stretch of the order."""

    def __init__(
        self, ranked: Ranked, terms: Terms, scripts: Mapping[tuple[str, str], str]
    ) -> None:
        self._ranked, self._terms = ranked, terms
        self._starts = np.concatenate([[0], ranked.ends])
        offers, channels = ranked.treated.offer.names, ranked.treated.channel.names
        names = sorted(set(scripts.values()))
        at = {name: place for place, name in enumerate(names)}
        self._scripts = Labels(names, np.empty(0, np.int32))
        self._script_of = np.array(
            [[at.get(scripts.get((o, c), ""), -1) for c in channels] for o in offers], np.int32
        ).reshape(len(offers), len(channels))

    def rows(self, start: int, end: int) -> pa.Table:
        """Return the assignments from ``start`` to ``end`` of the order."""
        rows, terms, treated = self._ranked.rows[start:end], self._terms, self._ranked.treated
        n = len(rows)
        customers = treated.customers.take(pa.array(rows))
        steps, values = treated.step[rows], treated.value[rows]
        offers, channels = treated.offer.codes[rows], treated.channel.codes[rows]
        columns = {
            "assignment_id": _ids(id_digests(terms, customers, steps)),
            "deployment_id": _same(terms.deployment_id, n),
            "campaign_id": _same(terms.campaign_id, n),
            "customer_id": customers,
            "step": pa.array(steps).cast(pa.int64()),
            "generation": pa.array(np.full(n, terms.generation, np.int64)),
            "offer_id": _labelled(treated.offer, offers),
            "channel": _labelled(treated.channel, channels),
            "org_unit_id": _labelled(treated.unit, treated.unit.codes[rows]),
            "script_id": _labelled(self._scripts, self._script_of[offers, channels]),
            "priority": pa.array(self._ranks(start, end)),
            "expected_value": pa.array(values, from_pandas=True),
            "valid_from": _days(terms.valid_from, n),
            "valid_until": _days(terms.valid_until, n),
        }
        return pa.table([columns[name] for name in _COLUMNS], schema=_SCHEMA)

    def _ranks(self, start: int, end: int) -> NDArray[np.int64]:
        places = np.arange(start, end)
        lists = np.searchsorted(self._starts, places, side="right") - 1
        ranks: NDArray[np.int64] = places - self._starts[lists] + 1
        return ranks


def _labelled(labels: Labels, codes: NDArray[np.int32]) -> pa.DictionaryArray:
    at = pa.array(codes, pa.int32(), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(at, pa.array(labels.names, pa.string()))


def _ids(digests: NDArray[np.uint64]) -> pa.Array:
    from bihuan.delivery.row_kernel import hex_digits

    letters = hex_digits(digests, ID_DIGITS)
    ends = np.arange(0, len(letters) + 1, ID_DIGITS, dtype=np.int32)
    return pa.StringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(letters))


def _same(name: str, n: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([name]))


def _days(day: date, n: int) -> pa.Array:
    number = (day - date(1970, 1, 1)).days
    return pa.array(np.full(n, number, np.int32)).cast(pa.date32())


def _write_part(pages: _Pages, span: tuple[int, int], path: Path) -> int:
    crash_point("freeze.part.before_open")
    start, end = span
    writer = pq.ParquetWriter(
        path,
        _SCHEMA,
        compression="zstd",
        compression_level=1,
        use_dictionary=_BY_NUMBER,
        store_schema=False,  # readers get plain texts, not our numbers for them
    )
    with writer:
        for first in range(start, end, GROUP_ROWS):
            rows = pages.rows(first, min(first + GROUP_ROWS, end))
            writer.write_table(rows, row_group_size=GROUP_ROWS)
            crash_point("freeze.part.group_written")
        crash_point("freeze.part.before_close")
    crash_point("freeze.part.before_sync")
    with path.open("rb") as file:
        os.fsync(file.fileno())
    crash_point("freeze.part.after_sync")
    return end - start
