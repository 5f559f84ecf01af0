"""Quarantine: the rows that could not be stored, with the place and the reason of each.

A folder beside the lake. Every ingest with bad rows leaves one batch::

    quarantine/<batch id>/rows.parquet     one row per bad row and table, never changed
    quarantine/<batch id>/batch.json       where it came from, counts, state open | replayed
    quarantine/.staging/...                being written, or left by a killed process

A batch is written whole before the lake publishes the good rows, so no row is ever in neither.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bihuan.data.block import Trace
from bihuan.data.mapping import near
from bihuan.data.reasons import Reason
from bihuan.kernel import UserError, canonical_json, write_atomically
from bihuan.kernel.files import sync_folder

FLUSH_ROWS = 50_000
ROW_SCHEMA = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("record", pa.int64(), nullable=False),
        pa.field("part", pa.string()),
        pa.field("column", pa.string()),
        pa.field("target_column", pa.string()),
        pa.field("reason_code", pa.string(), nullable=False),
        pa.field("reason_zh", pa.string(), nullable=False),
        pa.field("reason_en", pa.string(), nullable=False),
        pa.field("raw", pa.string(), nullable=False),
        pa.field("raw_bytes", pa.binary()),
        pa.field("mapping", pa.string(), nullable=False),
    ]
)
"""Columns of a batch's rows.

``line`` is the physical line of a text file, the row of a sheet, else the record's number;
``part`` the melted source column; ``column`` the source column and ``target_column`` the
contract's; ``raw`` the source cells as JSON, empty for a record that could not be cut into
cells, whose bytes are then in ``raw_bytes``; ``mapping`` the fingerprint of the mapping.
"""


class BatchNotFoundError(UserError):
    """The quarantine has no such batch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The bad rows of one ingest.

    Parameters
    ----------
    id
        The same for the same source, mapping and date.
    source, source_sha256, source_format, encoding, delimiter, columns
        Which source, how it was written, and its columns.
    mapping, mapping_fingerprint
        The mapping that it was read with.
    as_of
        Snapshot date, ISO.
    ingest
        Fingerprint of the ingest whose good rows the lake holds.
    counts
        Bad rows by table and reason.
    created_at
        ISO moment, UTC.
    parent
        The batch that was replayed and left these rows, or None.
    state
        ``open`` or ``replayed``.
    replayed_into
        The batch of the rows that were still bad, or None.
    outcome
        What the replay did: row counts by table.
    """

    id: str
    source: str
    source_sha256: str
    source_format: str
    encoding: str
    delimiter: str
    columns: tuple[str, ...]
    mapping: str
    mapping_fingerprint: str
    as_of: str
    ingest: str
    created_at: str
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    parent: str | None = None
    state: str = "open"
    replayed_into: str | None = None
    outcome: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of bad rows over all tables."""
        return sum(number for reasons in self.counts.values() for number in reasons.values())

    @property
    def date(self) -> date:
        """Snapshot date."""
        return date.fromisoformat(self.as_of)


@dataclass(frozen=True, slots=True)
class BadRow:
    """One row for one table that could not be stored."""

    table: str
    trace: Trace
    reason: Reason
    text: Mapping[str, str]
    column: str | None = None
    target_column: str | None = None
    part: str | None = None


class RowGuard(Protocol):
    """Seals what a row that is set aside must not show; see ``bihuan.data.personal``."""

    def cells(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """Return the cells of a record as quarantine may hold them."""
        ...

    def raw(self, raw: bytes | None) -> bytes | None:
        """Return the bytes of a record as quarantine may hold them."""
        ...

    def shown(self, column: str | None, value: str) -> str:
        """Return what a reason may quote of a cell; ``column`` None: of a whole record."""
        ...


class BatchWriter:
    """Collects the bad rows of one ingest; nothing is seen of them until :meth:`commit`.

    Parameters
    ----------
    root, batch
        The quarantine's folder, and whose rows they are.
    guard
        Seals personal cells; None keeps rows as they came.
    """

    def __init__(self, root: Path, batch: Batch, guard: RowGuard | None = None) -> None:
        self._root = root
        self._batch = batch
        self._guard = guard
        self._folder = root / ".staging" / f"{batch.id}-{os.getpid()}"
        self._rows: list[dict[str, Any]] = []
        self._counts: dict[str, Counter[str]] = {}
        self._file: pq.ParquetWriter | None = None
        self.first: dict[str, BadRow] = {}

    def shown(self, column: str | None, value: str) -> str:
        """Return what a reason may quote of a source cell; None: of a whole record."""
        return value if self._guard is None else self._guard.shown(column, value)

    def add(self, row: BadRow) -> None:
        """Add one row."""
        if self._guard is not None:
            trace = row.trace
            row = dataclasses.replace(
                row,
                trace=dataclasses.replace(
                    trace, cells=self._guard.cells(trace.cells), raw=self._guard.raw(trace.raw)
                ),
            )
        self.first.setdefault(row.table, row)
        self._counts.setdefault(row.table, Counter())[row.reason.value] += 1
        self._rows.append(
            {
                "table": row.table,
                "file": self._batch.source,
                "line": row.trace.line,
                "record": row.trace.record,
                "part": row.part,
                "column": row.column,
                "target_column": row.target_column,
                "reason_code": row.reason.value,
                "reason_zh": row.text["zh"],
                "reason_en": row.text["en"],
                "raw": row.trace.json,
                "raw_bytes": row.trace.raw,
                "mapping": self._batch.mapping_fingerprint,
            }
        )
        if len(self._rows) >= FLUSH_ROWS:
            self._flush()

    def counts(self, table: str) -> dict[str, int]:
        """Return the number of rows of ``table`` so far by reason."""
        return dict(self._counts.get(table, {}))

    def commit(self) -> Batch | None:
        """Make the batch durable and visible; None if there was no bad row."""
        if not self._counts:
            return None
        self._flush()
        if self._file is not None:
            self._file.close()
        counts = {table: dict(reasons) for table, reasons in self._counts.items()}
        batch = dataclasses.replace(self._batch, counts=counts)
        target = self._root / batch.id
        if target.exists():  # left by a run that was killed, or replaced in the lake since
            shutil.rmtree(target)
        with (self._folder / "rows.parquet").open("rb") as rows:
            os.fsync(rows.fileno())
        _save(self._folder, batch)
        self._folder.rename(target)
        sync_folder(self._root)
        return batch

    def discard(self) -> None:
        """Remove what was written and not committed."""
        if self._file is not None:
            self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / "rows.parquet"
            self._file = pq.ParquetWriter(path, ROW_SCHEMA, compression="zstd")
        self._file.write_table(pa.Table.from_pylist(self._rows, ROW_SCHEMA))
        self._rows.clear()


class Quarantine:
    """The folder of all batches.

    Parameters
    ----------
    root
        The folder; made when the first batch is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def list_batches(self, state: str | None = None) -> tuple[Batch, ...]:
        """Return the batches, oldest first; only those in ``state`` if it is given."""
        batches = [_load(path.parent) for path in self.root.glob("*/batch.json")]
        wanted = [batch for batch in batches if state in (None, batch.state)]
        return tuple(sorted(wanted, key=lambda batch: (batch.created_at, batch.id)))

    def get(self, batch_id: str) -> Batch:
        """Return one batch.

        Raises
        ------
        BatchNotFoundError
            If there is none of that id.
        """
        batch = self.find(batch_id)
        if batch is None:
            known = [have.id for have in self.list_batches()]
            raise BatchNotFoundError(
                f"The quarantine has no batch '{batch_id}'.",
                remedy=near(batch_id, known) if known else "The quarantine is empty.",
                zh=f"隔离区中没有批次“{batch_id}”。",
            )
        return batch

    def find(self, batch_id: str) -> Batch | None:
        """Return one batch, or None if there is none of that id."""
        if not batch_id.isalnum():  # ids are hashes; "../x" must not lead out of the folder
            return None
        folder = self.root / batch_id
        return _load(folder) if (folder / "batch.json").is_file() else None

    def rows(self, batch_id: str, table: str | None = None) -> pa.Table:
        """Return the rows of a batch; the columns are those of :data:`ROW_SCHEMA`.

        Parameters
        ----------
        batch_id
            The batch.
        table
            Only the rows that were meant for this table.
        """
        batch = self.get(batch_id)
        rows = pq.read_table(self.root / batch.id / "rows.parquet", schema=ROW_SCHEMA)
        return rows if table is None else rows.filter(pc.equal(rows["table"], table))

    @contextmanager
    def writing(self, batch: Batch, guard: RowGuard | None = None) -> Iterator[BatchWriter]:
        """Collect bad rows; what is not committed within the block is removed."""
        writer = BatchWriter(self.root, batch, guard)
        try:
            yield writer
        finally:
            writer.discard()

    def mark_replayed(
        self, batch: Batch, into: str | None, outcome: Mapping[str, Mapping[str, Any]]
    ) -> Batch:
        """Note that a batch was replayed, what that did, and which batch took what is still bad."""
        done = dataclasses.replace(batch, state="replayed", replayed_into=into, outcome=outcome)
        _save(self.root / batch.id, done)
        return done

    def keep_rows(self, batch: Batch, rows: pa.Table) -> None:
        """Replace the rows of a batch by some of them; without any, the batch is removed.

        For the erasure of a customer alone: what was set aside is otherwise never changed.
        """
        folder = self.root / batch.id
        if not rows.num_rows:
            shutil.rmtree(folder, ignore_errors=True)
            return
        counts: dict[str, Counter[str]] = {}
        for row in rows.select(["table", "reason_code"]).to_pylist():
            counts.setdefault(row["table"], Counter())[row["reason_code"]] += 1
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="zstd")
        write_atomically(folder / "rows.parquet", bytes(sink.getvalue()))
        kept = {table: dict(reasons) for table, reasons in counts.items()}
        _save(folder, dataclasses.replace(batch, counts=kept))

    def sweep(self) -> int:
        """Remove what killed processes left unfinished; return how many folders."""
        dead = list((self.root / ".staging").glob("*"))
        for path in dead:
            shutil.rmtree(path, ignore_errors=True)
        return len(dead)


def _save(folder: Path, batch: Batch) -> None:
    write_atomically(folder / "batch.json", canonical_json(dataclasses.asdict(batch)).encode())


def _load(folder: Path) -> Batch:
    content = json.loads((folder / "batch.json").read_bytes())
    return Batch(**{**content, "columns": tuple(content["columns"])})
