"""One tag's column out of the lake, as positions: whole numbers in the order of the values.

The column is read once, row group by row group on all cores, into an array that is used again for
the next tag: at tens of millions of rows, asking for new memory costs more than decoding Parquet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bihuan.data import ColumnType
from bihuan.kernel import DefectError, on_each_part
from bihuan.tag.plane.encoding import Encoding, plan_encoding, positions_of_doubles

MAX_TEXTS = 100_000
"""Most different texts of a tag that is indexed; more are names, not marks."""

Positions = NDArray[np.int64] | NDArray[np.uint8]
Known = NDArray[np.bool_]

_DOUBLE = -1
_STEPPED = tuple(set(ColumnType) - {ColumnType.BOOLEAN, ColumnType.STRING})
_MAX_DECIMALS = 9
_SAFE = (
    2**50
)  # whole numbers up to here, and their quotients by powers of ten, are apart as doubles
_SAMPLE = 4_096


class TooManyTextsError(ValueError):
    """A text tag has nearly as many values as subjects; its planes would be no index."""


@dataclass(frozen=True, slots=True)
class Column:
    """One tag's values by row.

    Parameters
    ----------
    positions
        By row; whatever it says where the value is missing is not read.
    known
        Which rows have a value; None = all.
    encoding
        How the positions become codes.
    ranks
        Of a text tag, which is numbered as its texts were met: the position of each number.
    """

    positions: Positions
    known: Known | None
    encoding: Encoding
    ranks: Positions | None = None


@dataclass
class _Seen:
    """What one part of a column turned out to hold."""

    low: int | None = None
    high: int | None = None
    known: int = 0

    def add(self, positions: Positions, known: Known | None) -> None:
        seen = positions if known is None else positions[known]
        if len(seen):
            self.widen(int(seen.min()), int(seen.max()), len(seen))

    def widen(self, low: int, high: int, known: int) -> None:
        if known:
            self.low = low if self.low is None else min(self.low, low)
            self.high = high if self.high is None else max(self.high, high)
            self.known += known


class ColumnReader:
    """Reads columns of one number of rows, one after the other, into the same memory.

    Parameters
    ----------
    rows
        Rows of every column.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._numbers = np.empty(rows, np.int64)
        self._flags = np.empty(rows, np.uint8)
        self._positions: Positions = self._numbers
        self._known = np.empty(rows, np.bool_)

    def read(self, files: Sequence[Path], tag: str, kind: ColumnType) -> Column:
        """Read one tag of every subject, in the order of the files' rows.

        Parameters
        ----------
        files
            Parquet files of one snapshot, in order.
        tag
            Name of the column.
        kind
            Its type.

        Returns
        -------
        Column
            Its arrays are overwritten by the next call.

        Raises
        ------
        TooManyTextsError
            If a text tag has more than ``MAX_TEXTS`` different values.
        DefectError
            If the files do not have the rows they should have.
        """
        groups = list(row_groups(files))
        if (groups and groups[-1].end != self._rows) or (not groups and self._rows):
            raise DefectError(f"'{tag}' has {groups[-1].end if groups else 0} rows.")
        self._positions = self._flags if kind is ColumnType.BOOLEAN else self._numbers
        decimals = _decimals_of(files, tag) if kind is ColumnType.NUMBER else 0
        while True:
            texts = _Texts()
            convert = _converter(kind, decimals, texts)
            try:
                parts = self._fill_all(groups, tag, convert)
            except _OtherDecimalsError as found:  # a later row has more of them
                decimals = found.decimals
            else:
                return self._column(kind, decimals, texts, parts)

    def _fill_all(self, groups: Sequence[RowGroup], tag: str, convert: _Convert) -> list[_Seen]:
        return on_each_part(lambda s, e: self._fill(groups[s:e], tag, convert), len(groups))

    def _fill(self, groups: Sequence[RowGroup], tag: str, convert: _Convert) -> _Seen:
        seen = _Seen()
        opened: dict[Path, pq.ParquetFile] = {}
        for group in groups:
            if group.path not in opened:
                opened[group.path] = pq.ParquetFile(
                    group.path, read_dictionary=[tag] if convert.as_dictionary else None
                )
            table = opened[group.path].read_row_group(
                group.number, columns=[tag], use_threads=False
            )
            values = table.column(tag).combine_chunks()
            if isinstance(values, pa.ChunkedArray):
                values = pa.concat_arrays(values.chunks)
            rows = slice(group.start, group.end)
            if convert.power:
                self._scale(values, convert.power, rows, seen)
                continue
            positions, known = convert.positions(values)
            self._positions[rows] = positions
            self._known[rows] = True if known is None else known
            seen.add(positions, known)
        return seen

    def _scale(self, values: pa.Array, power: int, rows: slice, seen: _Seen) -> None:
        """Write doubles as multiples of ``1 / power``, in one pass."""
        from bihuan.tag.plane.pack import scale_numbers  # compiled; loading it takes half a second

        doubles = _doubles(values)
        fits, low, high, known = scale_numbers(
            doubles, float(power), float(_SAFE), self._positions[rows], self._known[rows]
        )
        if not fits:
            raise _OtherDecimalsError(_decimals(doubles[~np.isnan(doubles)], len(str(power))))
        seen.widen(low, high, known)

    def _column(
        self, kind: ColumnType, decimals: int, texts: _Texts, parts: Sequence[_Seen]
    ) -> Column:
        count = sum(part.known for part in parts)
        known = None if count == self._rows else self._known
        ranks, ordered = texts.ranks()
        low = min((part.low for part in parts if part.low is not None), default=0)
        high = max((part.high for part in parts if part.high is not None), default=0)
        if kind is ColumnType.BOOLEAN:
            low, high = 0, 1
        elif kind is ColumnType.STRING:
            low, high = 0, max(len(ordered) - 1, 0)
        encoding = plan_encoding(
            kind,
            low,
            high,
            step=_common_step(self._positions, known, low) if kind in _STEPPED else 1,
            known=count,
            rows=self._rows,
            decimals=decimals,
            texts=ordered,
        )
        return Column(self._positions, known, encoding, ranks)


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group of a Parquet file and the rows it holds, numbered through all files."""

    path: Path
    number: int
    start: int
    end: int


def row_groups(files: Sequence[Path]) -> Iterator[RowGroup]:
    """Yield the row groups of files that follow each other."""
    row = 0
    for path in files:
        metadata = pq.read_metadata(path)
        for number in range(metadata.num_row_groups):
            rows = metadata.row_group(number).num_rows
            yield RowGroup(path, number, row, row + rows)
            row += rows


# ------------------------------------------------------------------------------- values by type


class _OtherDecimalsError(Exception):
    """A number has more decimals than those before."""

    def __init__(self, decimals: int) -> None:
        super().__init__(decimals)
        self.decimals = decimals


@dataclass(frozen=True, slots=True)
class _Convert:
    """How the values of one row group become positions and a mask of the known, None = all.

    Doubles that are short decimals have a ``power`` of ten instead, by which they are whole.
    """

    positions: Callable[[pa.Array], tuple[Positions, Known | None]]
    as_dictionary: bool = False
    power: int = 0


@dataclass
class _Texts:
    """The texts met so far, numbered as they were met; threads share them."""

    numbers: dict[str, int] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def number(self, found: list[str]) -> Positions:
        with self.guard:
            for text in found:
                self.numbers.setdefault(text, len(self.numbers))
            if len(self.numbers) > MAX_TEXTS:
                raise TooManyTextsError(f"more than {MAX_TEXTS:,} different texts")
            return np.array([self.numbers[text] for text in found], np.int64)

    def ranks(self) -> tuple[Positions | None, list[str]]:
        """Return the rank of each number, and the texts in order.

        Code points and UTF-8 bytes have one order, which is Python's too.
        """
        if not self.numbers:
            return None, []
        ordered = sorted(self.numbers)
        ranks = np.empty(len(ordered), np.int64)
        ranks[[self.numbers[text] for text in ordered]] = np.arange(len(ordered))
        return ranks, ordered


def _converter(kind: ColumnType, decimals: int, texts: _Texts) -> _Convert:
    match kind:
        case ColumnType.STRING:
            return _Convert(lambda values: _texts(values, texts), as_dictionary=True)
        case ColumnType.NUMBER:
            return _Convert(_ordered_bits, power=0 if decimals == _DOUBLE else 10**decimals)
    return _Convert(_WHOLE[kind])


def _texts(values: pa.Array, texts: _Texts) -> tuple[Positions, Known | None]:
    coded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    known = _known(coded)
    codes = _plain(coded.indices.fill_null(0))
    used = np.zeros(max(len(coded.dictionary), 1), bool)
    used[codes if known is None else codes[known]] = True
    found = np.flatnonzero(used)
    numbers = np.zeros(len(used), np.int64)
    if len(coded.dictionary):
        numbers[found] = texts.number(coded.dictionary.take(pa.array(found)).to_pylist())
    return numbers[codes], known


def _ordered_bits(values: pa.Array) -> tuple[Positions, Known | None]:
    doubles = _doubles(values)
    known = ~np.isnan(doubles)
    return positions_of_doubles(np.where(known, doubles, 0.0)), known


def _doubles(values: pa.Array) -> NDArray[np.float64]:
    """Return doubles with NaN where a value is missing."""
    return _plain(values.fill_null(np.nan)).astype(np.float64, copy=False)


def _boolean(values: pa.Array) -> tuple[Positions, Known | None]:
    return _plain(pc.cast(values.fill_null(False), pa.uint8())), _known(values)


def _integer(values: pa.Array) -> tuple[Positions, Known | None]:
    return _plain(values.fill_null(0)), _known(values)


def _money(values: pa.Array) -> tuple[Positions, Known | None]:
    """Read decimals of 18 digits as cents: the low half of their 128 bits, in two's complement."""
    halves = np.frombuffer(values.buffers()[1], np.int64)
    cents = halves[2 * values.offset : 2 * (values.offset + len(values)) : 2]
    known = _known(values)
    return cents if known is None else np.where(known, cents, 0), known


def _date(values: pa.Array) -> tuple[Positions, Known | None]:
    return _plain(pc.cast(values, pa.int32()).fill_null(0)), _known(values)


def _timestamp(values: pa.Array) -> tuple[Positions, Known | None]:
    ticks = pc.cast(pc.cast(values, pa.timestamp("us", "UTC")), pa.int64())
    return _plain(ticks.fill_null(0)), _known(values)


_WHOLE: Mapping[ColumnType, Callable[[pa.Array], tuple[Positions, Known | None]]] = {
    ColumnType.BOOLEAN: _boolean,
    ColumnType.INTEGER: _integer,
    ColumnType.MONEY: _money,
    ColumnType.DATE: _date,
    ColumnType.TIMESTAMP: _timestamp,
}


def _plain(values: pa.Array) -> NDArray:  # type: ignore[type-arg]
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _known(values: pa.Array) -> Known | None:
    if values.null_count == 0:
        return None
    return np.asarray(values.is_valid().to_numpy(zero_copy_only=False), np.bool_)


# ------------------------------------------------------------------------------ decimals and steps


def _decimals_of(files: Sequence[Path], tag: str) -> int:
    """Guess a number's decimals from its first rows; reading the others may raise them."""
    for path in files:
        for batch in pq.ParquetFile(path).iter_batches(_SAMPLE, columns=[tag]):
            doubles = _doubles(batch.column(0))
            return _decimals(doubles[~np.isnan(doubles)], 0)
    return 0


def _decimals(values: NDArray[np.float64], start: int) -> int:
    """Return the fewest decimals, from ``start`` on, that give every double back, or -1."""
    for decimals in range(start, _MAX_DECIMALS + 1):
        with np.errstate(over="ignore"):
            scaled = np.rint(values * 10**decimals)
        if _fits(values, scaled, decimals):
            return decimals
    return _DOUBLE


def _fits(values: NDArray[np.float64], scaled: NDArray[np.float64], decimals: int) -> bool:
    with np.errstate(invalid="ignore"):
        is_small = bool((np.abs(scaled) < _SAFE).all())
        return is_small and bool((scaled / 10**decimals == values).all())


def _common_step(positions: Positions, known: Known | None, low: int) -> int:
    """Return the largest divisor of all distances from ``low``: whole yuan need no plane of cents.

    A sample nearly always shows that there is none but 1, which spares the pass over all.
    """
    for stride in (max(len(positions) // _SAMPLE, 1), 1):
        part = positions[::stride]
        seen = part if known is None else part[known[::stride]]
        step = int(np.gcd.reduce(seen.view(np.uint64) - np.uint64(low % 2**64), initial=0))
        if step == 1:
            return 1
    return max(step, 1)
