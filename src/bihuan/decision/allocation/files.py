"""Customers who do not fit into memory: pairs in Parquet parts, choices written part by part.

A part holds one row per customer: ``group`` (integer), ``candidate`` (list of integers) and
``value`` (list of floats), and a list of floats per measure; further columns (``customer_id``) are
carried over to the choices. Parts are read one row group after another, the next one while the
present one is worked on.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bihuan.decision.allocation.allocate import Allocation, allocate_source
from bihuan.decision.allocation.limit import AllocationError, Limit
from bihuan.decision.allocation.pairs import Indices, Pairs, narrow, typical_worth
from bihuan.decision.allocation.rules import ContactRules
from bihuan.decision.allocation.source import Arrays, Checkpoint
from bihuan.kernel import Progress, hash_id, write_atomically

ROWS = 1_000_000  # customers of one row group: some 40 MB
_ARRAYS = ("start", "candidate", "value", "group", "measures")


@dataclass(frozen=True, slots=True, eq=False)
class PairFiles:
    """Customers in Parquet parts.

    Parameters
    ----------
    parts
        In order.
    n_candidates, n_groups
        As of :class:`~bihuan.decision.Pairs`.
    measure_names
        Columns that are measures.
    """

    parts: tuple[Path, ...]
    n_candidates: int
    n_groups: int = 1
    measure_names: tuple[str, ...] = ()

    @property
    def n_customers(self) -> int:
        """How many there are in all."""
        return sum(pq.read_metadata(part).num_rows for part in self.parts)

    def greatest(self) -> float:
        """Return the greatest value of a pair, from the parts' statistics."""
        most = 0.0
        for part in self.parts:
            metadata = pq.read_metadata(part)
            for i in range(metadata.num_row_groups):
                group = metadata.row_group(i)
                columns = [group.column(c) for c in range(group.num_columns)]
                value = next(c for c in columns if c.path_in_schema.split(".")[0] == "value")
                if value.statistics is not None and value.statistics.has_min_max:
                    most = max(most, float(value.statistics.max))
        return most

    def typical(self) -> float:
        """Return about what the best pair of a customer of the first row group is worth."""
        places = self.places()
        return typical_worth(self._read(*places[0])) if places else 1.0

    def blocks(self) -> Iterator[Pairs]:
        """Yield all customers, a row group at a time; the next one is read meanwhile."""
        with ThreadPoolExecutor(1) as reader:
            upcoming: Future[Pairs] | None = None
            for place in self.places():
                present, upcoming = upcoming, reader.submit(self._read, *place)
                if present is not None:
                    yield present.result()
            if upcoming is not None:
                yield upcoming.result()

    def places(self) -> list[tuple[Path, int]]:
        """Return part and number of every row group, in order."""
        return [
            (part, i) for part in self.parts for i in range(pq.read_metadata(part).num_row_groups)
        ]

    def empty(self) -> Pairs:
        """Return a block without customers: the shape of all others."""
        return self._pairs(_schema(self, ()).empty_table())

    def _read(self, part: Path, row_group: int) -> Pairs:
        names = ["group", "candidate", "value", *self.measure_names]
        table = pq.ParquetFile(part).read_row_group(row_group, columns=names, use_threads=False)
        return self._pairs(table)

    def _pairs(self, table: pa.Table) -> Pairs:
        table = table.combine_chunks()
        lists = {name: _flat(table[name]) for name in ("candidate", "value", *self.measure_names)}
        start = lists["value"][0]
        if any(not np.array_equal(start, own) for own, _ in lists.values()):
            raise AllocationError(
                "Lists of candidates, values and measures differ in length.",
                remedy="Give each customer lists of one length.",
                zh="同一客户的候选、价值与度量列表长度不一致。",
            )
        measures = [lists[name][1] for name in self.measure_names]
        return Pairs(
            start=start,
            candidate=lists["candidate"][1].astype(narrow(self.n_candidates), copy=False),
            value=lists["value"][1],
            n_candidates=self.n_candidates,
            group=table["group"].to_numpy().astype(narrow(self.n_groups), copy=False),
            n_groups=self.n_groups,
            measures=np.stack(measures) if measures else np.empty((0, 0), dtype=np.float32),
            measure_names=self.measure_names,
        )


def write_pairs(path: Path, pairs: Pairs, *, customer_id: pa.Array | None = None) -> None:
    """Write customers as one Parquet part.

    Parameters
    ----------
    path
        To be replaced.
    pairs
        The customers.
    customer_id
        Their ids, carried over to the choices; None: only their order tells them apart.
    """
    with pq.ParquetWriter(path, _schema(pairs, ("customer_id",) if customer_id else ()),
                          compression="lz4") as writer:  # fmt: skip
        for at in range(0, max(pairs.n_customers, 1), ROWS):
            rows = slice(at, min(at + ROWS, pairs.n_customers))
            first, last = int(pairs.start[rows.start]), int(pairs.start[rows.stop])
            starts = pa.array((pairs.start[rows.start : rows.stop + 1] - first).astype(np.int32))
            columns = [pa.array(pairs.group[rows])]
            columns += [
                pa.ListArray.from_arrays(starts, pa.array(values[first:last]))
                for values in (pairs.candidate, pairs.value, *pairs.measures)
            ]
            if customer_id is not None:
                columns.append(customer_id[rows.start : rows.stop])
            writer.write_table(pa.Table.from_arrays(columns, schema=writer.schema), ROWS)


def allocate_files(  # noqa: PLR0913 - the choices of allocate, and where from and to
    files: PairFiles,
    limits: Sequence[Limit],
    out: Path,
    *,
    rules: ContactRules | None = None,
    tolerance: float = 1e-3,
    progress: Progress | None = None,
    unit: str = "currency",
) -> Allocation:
    """Allocate customers in Parquet parts and write their contacts, in bounded memory.

    Parameters
    ----------
    files
        The customers.
    limits
        ``members`` have one entry per group, weights one per candidate.
    out
        Folder that receives a part of choices for each part of customers: the columns that were
        carried over, and ``contacts`` (list of candidates). It stands there whole or not at all.
    rules, tolerance, progress, unit
        See :func:`bihuan.decision.allocate`.

    Returns
    -------
    Allocation
        Without contacts: they are in ``out``.

    Notes
    -----
    What was found so far is kept beside ``out``; a run that was stopped goes on from there if
    files, limits and rules are the same. Memory: two blocks of a million customers, two samples of
    up to a million, and up to 40 million undecided pairs. Blocks are unpacked once, to a scratch
    folder beside ``out`` (5 bytes a pair, 10 a customer), and mapped from there in later passes.
    """
    rules = rules or ContactRules(files.n_candidates)
    key = hash_id(
        [[part.name, part.stat().st_size, part.stat().st_mtime_ns] for part in files.parts],
        [tolerance],
        [[limit.name, limit.kind, limit.bound, limit.measure, str(limit.penalty),
          limit.weight.tolist(),
          None if limit.members is None else limit.members.tolist()] for limit in limits],
        [part.tolist() if isinstance(part, np.ndarray) else part for part in rules.compiled()],
    )  # fmt: skip
    memory = _Folder(out.with_name(f".{out.name}.unfinished"), key)
    unpacked = _Unpacked(files, memory.folder / "blocks")
    writer = _Writer(files, out.with_name(f".{out.name}.writing"))
    allocation = allocate_source(
        unpacked, limits, files.empty(), keep=writer.keep, rules=rules, tolerance=tolerance,
        progress=progress, unit=unit, checkpoint=memory,
    )  # fmt: skip
    writer.finish(out)
    memory.forget()
    return allocation


class _Unpacked:
    """The blocks of files: unpacked at the first reading, mapped from scratch at later ones.

    Scratch of an earlier process is not trusted; it was never flushed.
    """

    def __init__(self, files: PairFiles, folder: Path) -> None:
        self._files, self._folder, self._is_whole = files, folder, False
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    @property
    def n_customers(self) -> int:
        return self._files.n_customers

    def greatest(self) -> float:
        return self._files.greatest()

    def typical(self) -> float:
        return self._files.typical()

    def blocks(self) -> Iterator[Pairs]:
        fresh = None if self._is_whole else self._files.blocks()
        first_key = 0
        for i in range(len(self._files.places())):
            if fresh is not None:
                unpacked = next(fresh)
                for name in _ARRAYS:
                    np.save(self._folder / f"{i}-{name}.npy", getattr(unpacked, name))
            block = self._mapped(i, first_key)
            first_key += block.n_customers
            yield block
        self._is_whole = True

    def _mapped(self, i: int, first_key: int) -> Pairs:
        """Map a block; privately writable, because compiled loops are made for such arrays."""
        arrays: dict[str, Any] = {
            name: np.asarray(np.load(self._folder / f"{i}-{name}.npy", mmap_mode="c"))
            for name in _ARRAYS
        }
        return replace(self._files.empty(), **arrays, first_key=first_key)


@dataclass(frozen=True, slots=True)
class _Folder(Checkpoint):
    """Arrays found on the way, kept in a folder under the key of what they were found for."""

    folder: Path
    key: str

    def load(self, name: str) -> Arrays | None:
        path = self.folder / f"{self.key}-{name}.npz"
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            return {field: arrays[field] for field in arrays.files}

    def save(self, name: str, **arrays: NDArray[Any]) -> None:
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        write_atomically(self.folder / f"{self.key}-{name}.npz", content.getvalue())

    def forget(self) -> None:
        """Remove everything that was kept."""
        shutil.rmtree(self.folder, ignore_errors=True)


class _Writer:
    """Writes the choices of one block after another into parts like those that were read."""

    def __init__(self, files: PairFiles, folder: Path) -> None:
        self._folder = folder
        self._blocks = iter(files.places())
        self._known = {"group", "candidate", "value", *files.measure_names}
        self._open: tuple[Path, pq.ParquetWriter] | None = None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def keep(self, contacts: NDArray[np.int16]) -> None:
        part, row_group = next(self._blocks)
        file = pq.ParquetFile(part)
        carried = [name for name in file.schema_arrow.names if name not in self._known]
        table = file.read_row_group(row_group, columns=carried)
        sizes = (contacts >= 0).sum(axis=1)
        starts = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
        chosen = pa.ListArray.from_arrays(starts, pa.array(contacts[contacts >= 0]))
        fields = [file.schema_arrow.field(name) for name in carried]
        schema = pa.schema([*fields, pa.field("contacts", chosen.type)])
        columns = [*(table[name] for name in carried), chosen]
        if self._open is None or self._open[0] != part:
            self.close()
            self._open = part, pq.ParquetWriter(self._folder / part.name, schema)
        self._open[1].write_table(pa.Table.from_arrays(columns, schema=schema))

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def finish(self, out: Path) -> None:
        self.close()
        shutil.rmtree(out, ignore_errors=True)
        self._folder.rename(out)


def _flat(column: pa.ChunkedArray) -> tuple[Indices, NDArray[Any]]:
    """Return where each list begins, and all entries."""
    lists = column.combine_chunks()
    lists = lists if isinstance(lists, pa.ListArray) else lists.chunk(0)
    starts = lists.offsets.to_numpy().astype(np.int64)
    return starts - starts[0], lists.flatten().to_numpy(zero_copy_only=False)


def _schema(shape: PairFiles | Pairs, carried: Sequence[str]) -> pa.Schema:
    value = pa.float32()
    fields = [
        pa.field("group", pa.from_numpy_dtype(narrow(shape.n_groups))),
        pa.field("candidate", pa.list_(pa.from_numpy_dtype(narrow(shape.n_candidates)))),
        pa.field("value", pa.list_(value)),
        *(pa.field(name, pa.list_(value)) for name in shape.measure_names),
        *(pa.field(name, pa.string()) for name in carried),
    ]
    return pa.schema(fields)
