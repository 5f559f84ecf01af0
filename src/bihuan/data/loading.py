"""Fills tables from a source: converts its blocks, writes good rows, sets the others aside.

Everything is done block by block, so memory does not grow with the source, except for 18 bytes per
stored row: its key's hash and its place, by which duplicates are found. Only rows whose hashes meet
are compared by their keys.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bihuan.data.block import Block, RowSource, Trace, Unreadable, as_text, prefetch
from bihuan.data.contract import Column
from bihuan.data.convert import Plan
from bihuan.data.duplicates import find_suspects, judge
from bihuan.data.encoding import EmptySourceError
from bihuan.data.engine import Engine
from bihuan.data.lake import Snapshot
from bihuan.data.part_file import PartFile, link_file, rewrite_without
from bihuan.data.personal import SealedFile
from bihuan.data.quarantine import BadRow, BatchWriter
from bihuan.data.reasons import Reason
from bihuan.kernel import DefectError, Progress

_PARTS = 1 << 16


@dataclass(frozen=True, slots=True)
class Only:
    """The rows that a replay may touch, by record and number of the melted column.

    Parameters
    ----------
    record, part
        Pairs, shape ``(n,)``; part -1 stands for every part of the record.
    """

    record: NDArray[np.int64]
    part: NDArray[np.int64]

    def holds(self, record: NDArray[np.int64], part: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which of the pairs are meant."""
        whole = np.isin(record, self.record[self.part < 0])
        code = self.record * _PARTS + self.part
        return whole | np.isin(record * _PARTS + part, code[self.part >= 0])


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A row whose key was taken by the record ``first``; 0: by a row that was stored before."""

    record: int
    part: int
    first: int
    key: str


class TableLoad:
    """One table being filled.

    Parameters
    ----------
    plan
        How blocks become rows.
    folder
        Where the Parquet files go; the files of ``previous`` are linked into it.
    engine
        Runs the conversion.
    previous
        Snapshot whose rows stay; None starts an empty table.
    only
        Restricts a replay to the rows of its batch.
    sealed
        Takes the personal columns out of the rows before they are written; None keeps them.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        engine: Engine,
        *,
        previous: Snapshot | None = None,
        only: Only | None = None,
        sealed: SealedFile | None = None,
    ) -> None:
        self.plan = plan
        self.name = plan.contract.name
        self.read = self.stored = self.skipped = 0
        self.seconds = 0.0
        self._engine = engine
        self._previous = previous
        self._only = only
        self._sealed = sealed
        carried = previous.files if previous is not None else ()
        for number, path in enumerate(carried):
            link_file(path, folder / f"part-{number:05d}.parquet")
        self._path = folder / f"part-{len(carried):05d}.parquet"
        self._writer = PartFile(self._path, plan.contract.schema)
        self._records: list[NDArray[np.int64]] = []
        self._parts: list[NDArray[np.int16]] = []
        self._hashes: list[NDArray[np.uint64]] = []

    def add(self, block: Block, batch: BatchWriter) -> None:
        """Convert one block, write its good rows, and quarantine the others."""
        started = time.perf_counter()
        done = self.plan.convert(block, self._engine)
        rows, bad = done.rows, done.bad
        index, part, key = done.index, done.part, done.hash
        if self._only is not None:
            meant = self._only.holds(block.records[index], part)
            rows, index, part, key = rows.filter(meant), index[meant], part[meant], key[meant]
            bad = bad[self._only.holds(block.records[bad[:, 0]], bad[:, 1])]
        self.read += rows.num_rows + len(bad) + len(block.unreadable)
        if not self.plan.parts:
            self.skipped += block.rows.num_rows - rows.num_rows - len(bad)
        self._records.append(block.records[index])
        self._parts.append(part.astype(np.int16))
        self._hashes.append(key)
        self._writer.write(rows if self._sealed is None else self._sealed.take(rows))
        for record in block.unreadable:
            batch.add(_unreadable(self.name, record, batch))
        if len(bad):
            self._quarantine(block, bad, batch)
        self.seconds += time.perf_counter() - started

    def finish(self) -> list[Duplicate]:
        """Close the file, take duplicates out of it, and return those that go to quarantine."""
        started = time.perf_counter()
        self._writer.close()
        if self._sealed is not None:
            self._sealed.close()
        records = np.concatenate([np.zeros(0, np.int64), *self._records])
        parts = np.concatenate([np.zeros(0, np.int16), *self._parts])
        hashes = np.concatenate([np.zeros(0, np.uint64), *self._hashes])
        contract, previous = self.plan.contract, self._previous
        suspects = find_suspects(hashes, contract, previous, self._engine)
        found: list[Duplicate] = []
        if suspects.size:
            distinct = self.plan.mapping.distinct
            judged = judge(
                self._path, suspects, contract, previous, self._engine, distinct=distinct
            )
            gone = np.zeros(records.size, dtype=np.bool_)
            gone[judged.position] = True
            rewrite_without(self._path, gone)
            if self._sealed is not None:
                self._sealed.drop(gone)
            first = np.where(judged.first < 0, 0, records[judged.first])
            found = [
                Duplicate(int(records[at]), int(parts[at]), int(first[number]), judged.key[number])
                for number, at in enumerate(judged.position.tolist())
                if not judged.is_same[number]
            ]
            self.skipped += judged.position.size - len(found)
            self.read -= judged.position.size - len(found)
            self.stored = records.size - judged.position.size
        else:
            self.stored = records.size
        if not self.stored and self._previous is not None:
            self._path.unlink()
            if self._sealed is not None:
                self._sealed.leave_out()
        self.seconds += time.perf_counter() - started
        return found

    def abandon(self) -> None:
        """Stop; what was written is of no use."""
        self._writer.abandon()
        if self._sealed is not None:
            self._sealed.abandon()

    def _quarantine(self, block: Block, bad: NDArray[np.int64], batch: BatchWriter) -> None:
        places = bad[:, 0]
        traces = dict(zip(places.tolist(), block.trace(places.tolist()), strict=True))
        for place, part, error in bad.tolist():
            target, reason = self.plan.read_error(error)
            source = self.plan.source_of(target, part)
            trace = traces[place]
            value = batch.shown(source, as_text(trace.cells.get(source)) or "")
            column = self.plan.contract[target]
            detail = _range(column) if reason is Reason.OUT_OF_RANGE else ""
            batch.add(
                BadRow(
                    table=self.name,
                    trace=trace,
                    reason=reason,
                    text=reason.text(value, target, detail),
                    column=source,
                    target_column=target,
                    part=self.plan.parts[part] if self.plan.parts else None,
                )
            )


def fill(
    source: RowSource,
    loads: Sequence[TableLoad],
    batch: BatchWriter,
    progress: Progress,
    *,
    may_be_empty: bool = False,
) -> None:
    """Read a source once and fill all tables from it.

    Raises
    ------
    EmptySourceError
        If the source has no rows and must have some.
    DefectError
        If a table's stored and quarantined rows are not its rows read.
    """
    facts = source.facts
    columns = {name for load in loads for name in load.plan.mapping.sources}
    with progress.task(f"ingest {facts.name}", total=facts.total, unit=facts.unit) as task:
        # without rows there is nothing to add; all the rest goes on as ever
        empty = suppress(EmptySourceError) if may_be_empty else nullcontext()
        with empty, closing(prefetch(source.blocks(columns))) as blocks:
            for block in blocks:
                for load in loads:
                    load.add(block, batch)
                task.advance(block.size)
        duplicates = {load.name: load.finish() for load in loads}
        task.advance(0)
    if any(duplicates.values()):
        _quarantine_duplicates(source, loads, duplicates, batch)
    for load in loads:
        quarantined = sum(batch.counts(load.name).values())
        if load.stored + quarantined != load.read:
            raise DefectError(
                f"{load.name}: {load.stored} stored and {quarantined} quarantined rows "
                f"are not the {load.read} rows read."
            )


def _quarantine_duplicates(
    source: RowSource,
    loads: Sequence[TableLoad],
    duplicates: dict[str, list[Duplicate]],
    batch: BatchWriter,
) -> None:
    """Read the source once more for the rows whose key was taken, and set them aside."""
    every = [double for found in duplicates.values() for double in found]
    traces = _traces(source, {d.record for d in every} | {d.first for d in every if d.first})
    for load in loads:
        parts = load.plan.parts
        for double in duplicates[load.name]:
            first = traces[double.first].line if double.first else 0
            detail = f"→ {first}" if first else f"→ {load.plan.as_of}"
            key = ", ".join(load.plan.contract.key)
            column = load.plan.source_of(load.plan.contract.key[0], double.part)
            value = batch.shown(column, double.key)
            batch.add(
                BadRow(
                    table=load.name,
                    trace=traces[double.record],
                    reason=Reason.DUPLICATE_KEY,
                    text=Reason.DUPLICATE_KEY.text(value, key, detail),
                    column=column,
                    target_column=load.plan.contract.key[0],
                    part=parts[double.part] if parts else None,
                )
            )


def _traces(source: RowSource, records: Collection[int]) -> dict[int, Trace]:
    wanted = np.array(sorted(records), dtype=np.int64)
    found: dict[int, Trace] = {}
    for block in source.blocks(()):
        places = np.flatnonzero(np.isin(block.records, wanted)).tolist()
        if places:
            found.update((trace.record, trace) for trace in block.trace(places))
    return found


def _unreadable(table: str, record: Unreadable, batch: BatchWriter) -> BadRow:
    text = record.reason.text(batch.shown(None, record.text), "", record.detail)
    return BadRow(table=table, trace=record.trace, reason=record.reason, text=text)


def _range(column: Column) -> str:
    low = "" if column.minimum is None else column.minimum
    high = "" if column.maximum is None else column.maximum
    return f" [{low}, {high}]" if f"{low}{high}" else f" ({column.type.value})"
