"""Reads logged decisions block by block: what is deployed, and the content hash of everything.

A deployment may have twenty million decisions, so no step holds them as one table of texts. A
block is a row group of a snapshot, or as many rows of a table; the cores share the blocks. Of a
block stay the treated rows, with their few columns, and 8 bytes per row to find repeats by.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bihuan.data import Snapshot
from bihuan.delivery.siphash import key_of, key_words
from bihuan.kernel import ProgressTask, core_count, hash_id
from bihuan.kernel.crash import crash_point

Decisions: TypeAlias = pa.Table | Snapshot
"""Rows of the ``decision`` contract: in memory, or a snapshot of the lake."""

TEXTS = (
    "decision_id",
    "campaign_id",
    "customer_id",
    "arm",
    "stratum",
    "offer_id",
    "channel",
    "org_unit_id",
)
NUMBERS = ("step", "treatment_probability", "expected_value")
DECISION_COLUMNS = (*TEXTS, *NUMBERS, "decided_at")

CONTENT_KEY = key_of("decision content", 2)
LABELS = ("offer_id", "channel", "org_unit_id")
"""Columns of few values that every assignment keeps."""
_ALIKE = ("campaign_id", "arm", "stratum", *LABELS)
_BLOCK_ROWS = 122_880
_SLICE_ROWS = 16_384  # the state of so many rows stays in the cache
_NO_NUMBER = -(2**63)
_ODD = np.uint64(0x9E3779B97F4A7C15)  # spreads steps over the words that tell rows apart
_LABEL = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True, slots=True)
class Labels:
    """A column of few values: names, and by row the place of its name, -1 for missing."""

    names: list[str]
    codes: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Treated:
    """Rows that become assignments, in no order; arrays of shape ``(n,)`` but for the letters.

    Parameters
    ----------
    letters
        UTF-8 of all customer ids, one after another, shape ``(n_bytes,)``.
    begins
        Where each id begins and the last ends, shape ``(n + 1,)``.
    step
        Steps.
    value
        Expected values; not a number where there is none.
    offer, channel, unit
        Labels.
    """

    letters: NDArray[np.uint8]
    begins: NDArray[np.int64]
    step: NDArray[np.int32]
    value: NDArray[np.float64]
    offer: Labels
    channel: Labels
    unit: Labels

    def __len__(self) -> int:
        return len(self.step)

    def pairs(self) -> list[tuple[str, str]]:
        """Return every pair of offer and channel that is there, sorted."""
        width = len(self.channel.names)
        found = np.unique(self.offer.codes * np.int64(width) + self.channel.codes)
        offers, channels = self.offer.names, self.channel.names
        return sorted((offers[at // width], channels[at % width]) for at in found.tolist())

    @property
    def customers(self) -> pa.Array:
        """Customer ids, not copied."""
        buffers = [None, pa.py_buffer(self.begins), pa.py_buffer(self.letters)]
        return pa.Array.from_buffers(pa.large_string(), len(self), buffers)


@dataclass(frozen=True, slots=True)
class Logged:
    """What was read.

    Parameters
    ----------
    treated
        Rows to deploy.
    content_hash
        Of all rows; see :func:`decision_content_hash`.
    repeated
        Whether a customer may have two decisions for one step. False is certain; True may be a
        chance of 1 in 100,000 among 20 million rows.
    spoilt
        Rows of the experiment with a control character in a text, and one of their customers.
    """

    treated: Treated
    content_hash: str
    repeated: bool
    spoilt: tuple[int, str | None]


def read_decisions(
    decisions: Decisions, *, campaign_id: str | None = None, task: ProgressTask | None = None
) -> Logged:
    """Read decisions once and keep what a deployment needs of them.

    Parameters
    ----------
    decisions
        Rows of the ``decision`` contract, all arms.
    campaign_id
        Rows of other campaigns are passed over; None: every row counts.
    task
        Advanced by the rows read; may stop the work.
    """
    gathered = _Gathered(_row_count(decisions))
    pool = ThreadPoolExecutor(core_count(), thread_name_prefix="bihuan-decisions")
    try:
        for block in pool.map(partial(_judged, campaign_id), _readers(decisions)):
            gathered.add(block)
            if task is not None:
                task.advance(block.rows)
            crash_point("freeze.block_read")
    finally:
        pool.shutdown(cancel_futures=True)
    return gathered.whole()


def decision_content_hash(decisions: Decisions) -> str:
    """Return the hash of all decision rows, the same for every order of the rows.

    A row's digest is the SipHash-2-4-128, under :data:`CONTENT_KEY`, of its cells one after
    another: of each text the SipHash-2-4-128 of its UTF-8 under the same key (missing: 16 zero
    bytes), of ``step`` eight bytes (missing: the lowest number), of probability and value the
    eight bytes of the double (missing: the plain not-a-number), of the moment its microseconds
    since 1970; all little-endian, in the order of :data:`DECISION_COLUMNS`. The digests, read as
    little-endian numbers, are added modulo 2 ** 128; the content is ``hash_id`` of the number of
    rows and that sum in hexadecimal.

    Returns
    -------
    str
        64 hexadecimal digits. Two sets of rows that differ by accident have the same one with a
        chance of 2 ** -128; it is no signature against somebody who may write the lake.
    """
    return read_decisions(decisions).content_hash


def text_buffers(texts: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the bytes of texts, shape ``(n_bytes,)``, and where each begins, ``(n + 1,)``."""
    texts = texts.cast(pa.large_string())
    _, offsets, data = texts.buffers()
    begins = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data if data is not None else b"", np.uint8), begins


def _readers(decisions: Decisions) -> list[Callable[[], pa.Table]]:
    if isinstance(decisions, pa.Table):
        columns = decisions.select(DECISION_COLUMNS)
        return [
            partial(columns.slice, start, _BLOCK_ROWS)
            for start in range(0, columns.num_rows, _BLOCK_ROWS)
        ]
    found: list[Callable[[], pa.Table]] = []
    for path in decisions.files:
        metadata = pq.read_metadata(path)
        groups = range(metadata.num_row_groups)
        found += [partial(_read_group, path, metadata, group) for group in groups]
    return found


def _read_group(path: Path, metadata: pq.FileMetaData, group: int) -> pa.Table:
    with pq.ParquetFile(path, metadata=metadata, read_dictionary=list(_ALIKE)) as file:
        return file.read_row_group(group, columns=list(DECISION_COLUMNS), use_threads=False)


@dataclass(frozen=True, slots=True)
class _Block:
    rows: int
    total: int
    keys: NDArray[np.uint64]
    spoilt: int
    example: str | None
    treated: pa.Table


class _Gathered:
    """Puts blocks together where they are to stay: fresh memory costs more than hashing."""

    def __init__(self, rows: int) -> None:
        self._keys = np.empty(rows, np.uint64)
        self._letters = np.empty(0, np.uint8)
        self._begins = np.zeros(rows + 1, np.int64)
        self._step = np.empty(rows, np.int32)
        self._value = np.empty(rows, np.float64)
        self._codes = {name: np.empty(rows, np.int32) for name in LABELS}
        self._places: dict[str, dict[str, int]] = {name: {} for name in LABELS}
        self._rows = self._inside = self._n = self._total = self._spoilt = 0
        self._example: str | None = None

    def add(self, block: _Block) -> None:
        """Take in a block."""
        self._rows += block.rows
        self._total = (self._total + block.total) % 2**128
        self._keys[self._inside : self._inside + len(block.keys)] = block.keys
        self._inside += len(block.keys)
        self._spoilt += block.spoilt
        self._example = self._example or block.example
        treated = block.treated
        at = slice(self._n, self._n + treated.num_rows)
        letters, begins = text_buffers(_one(treated, "customer_id"))
        end = int(self._begins[self._n])
        size = int(begins[-1] - begins[0])
        if end + size > len(self._letters):  # in place where the system can; not touched, not held
            self._letters.resize(max(2 * len(self._letters), end + size), refcheck=False)
        self._letters[end : end + size] = letters[begins[0] : begins[-1]]
        self._begins[at.start + 1 : at.stop + 1] = begins[1:] + (end - begins[0])
        self._step[at] = _one(treated, "step").to_numpy()
        self._value[at] = _one(treated, "expected_value").to_numpy()
        for name in LABELS:
            self._codes[name][at] = self._placed(name, _one(treated, name))
        self._n = at.stop

    def whole(self) -> Logged:
        """Return everything that was taken in."""
        n = self._n
        keys = self._keys[: self._inside]
        keys.sort()
        repeated = bool((keys[1:] == keys[:-1]).any())
        offer, channel, unit = (
            Labels(list(self._places[name]), self._codes[name][:n]) for name in LABELS
        )
        treated = Treated(
            letters=self._letters[: int(self._begins[n])],
            begins=self._begins[: n + 1],
            step=self._step[:n],
            value=self._value[:n],
            offer=offer,
            channel=channel,
            unit=unit,
        )
        content = hash_id("decision content", self._rows, f"{self._total:032x}", length=64)
        return Logged(treated, content, repeated, (self._spoilt, self._example))

    def _placed(self, name: str, labels: pa.DictionaryArray) -> NDArray[np.int32]:
        places = self._places[name]
        names = labels.dictionary.to_pylist()
        # one more at the end, where -1 for missing points to
        here = np.array([*(places.setdefault(n, len(places)) for n in names), -1], np.int32)
        return here[_codes_of(labels)]


def _row_count(decisions: Decisions) -> int:
    return decisions.num_rows if isinstance(decisions, pa.Table) else decisions.rows


def _judged(campaign_id: str | None, reader: Callable[[], pa.Table]) -> _Block:
    rows = reader()
    if campaign_id is not None:
        own = pc.equal(rows["campaign_id"].cast(pa.string()), campaign_id)
        rows = rows if pc.all(pc.fill_null(own, False)).as_py() else rows.filter(own)
    rows = rows.combine_chunks()
    n = rows.num_rows
    keys, control, total = np.empty(n, np.uint64), np.zeros(n, np.bool_), 0
    for start in range(0, n, _SLICE_ROWS):
        at = slice(start, start + _SLICE_ROWS)
        total += _hash_slice(rows.slice(start, _SLICE_ROWS), keys[at], control[at])
    arm = _one(rows, "arm").cast(pa.string())
    treated = pc.fill_null(pc.equal(arm, "treatment"), False)
    others = pc.fill_null(pc.equal(arm, "control"), False)
    inside = pc.or_(treated, others).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(control & inside)
    example = _one(rows, "customer_id")[int(bad[0])].as_py() if len(bad) else None
    kept = pa.table(
        {
            "customer_id": _one(rows, "customer_id"),
            "step": pc.fill_null(_one(rows, "step"), 0),
            "expected_value": pc.fill_null(
                _one(rows, "expected_value").cast(pa.float64()), float("nan")
            ),
            **{name: _label(_one(rows, name)) for name in LABELS},
        }
    )
    return _Block(n, total, keys[inside], len(bad), example, kept.filter(treated))


def _hash_slice(rows: pa.Table, keys: NDArray[np.uint64], control: NDArray[np.bool_]) -> int:
    """Return the sum of the rows' digests; fill what tells customer and step apart."""
    from bihuan.delivery.row_kernel import RowHash

    key = key_words(CONTENT_KEY)
    hashes = RowHash(rows.num_rows, key)
    for name in TEXTS:
        column = _one(rows, name)
        codes, pairs, spoilt = _text_cells(column, key)
        hashes.take_pairs(codes, pairs)
        control |= spoilt[codes]
        if name == "customer_id":
            keys[:] = pairs[0][codes]
    steps = _number_cells(_one(rows, "step"))
    hashes.take_words(steps)
    keys += steps * _ODD
    for name in NUMBERS[1:]:
        hashes.take_words(_number_cells(_one(rows, name)))
    moments = _one(rows, "decided_at").cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    hashes.take_words(_number_cells(moments))
    return hashes.total()


def _label(column: pa.Array) -> pa.DictionaryArray:
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    return column.cast(_LABEL)


def _one(rows: pa.Table, name: str) -> pa.Array:
    column = rows[name]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _text_cells(
    column: pa.Array, key: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.uint64], NDArray[np.bool_]]:
    """Return by row the place of its digest (missing: -1), the digests, and which are spoilt.

    A digest and a mark more than there are texts, so that -1 points somewhere.
    """
    from bihuan.delivery.row_kernel import hash_texts

    if pa.types.is_dictionary(column.type):
        codes, texts = _codes_of(column), column.dictionary
    else:
        codes, texts = np.arange(len(column), dtype=np.int32), column
        if column.null_count:
            codes[column.is_null().to_numpy(zero_copy_only=False)] = -1
    pairs, spoilt = hash_texts(*text_buffers(texts), key)
    return codes, pairs, spoilt


def _codes_of(labels: pa.DictionaryArray) -> NDArray[np.int32]:
    codes: NDArray[np.int32] = pc.fill_null(labels.indices.cast(pa.int32()), -1).to_numpy(
        zero_copy_only=False
    )
    return codes


def _number_cells(column: pa.Array) -> NDArray[np.uint64]:
    if pa.types.is_integer(column.type):
        whole: NDArray[np.int64] = pc.fill_null(column.cast(pa.int64()), _NO_NUMBER).to_numpy(
            zero_copy_only=False
        )
        return whole.view(np.uint64)
    numbers = pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy(zero_copy_only=False)
    return np.where(np.isnan(numbers), np.nan, numbers).view(np.uint64)
