"""Replay: the rows of a quarantine batch go once more through the mapping, mended meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from bihuan.data.block import BLOCK_ROWS, Block, SourceFacts, Trace, Unreadable, as_text
from bihuan.data.contract import TableContract
from bihuan.data.convert import Plan
from bihuan.data.encoding import readable
from bihuan.data.engine import DuckDBEngine, Engine
from bihuan.data.ingest_report import IngestReport
from bihuan.data.lake import Lake, Snapshot
from bihuan.data.loading import Only, TableLoad, fill
from bihuan.data.mapping import SourceFormat, SourceMapping, check_columns, check_contracts
from bihuan.data.personal import (
    DataCipher,
    Protector,
    guard_of,
    open_cells,
    open_raw,
    sealed_name,
)
from bihuan.data.publish import (
    NothingStored,
    Publisher,
    TablePlan,
    counts_of,
    locked,
    parts_of,
    table_report,
)
from bihuan.data.quarantine import Batch, BatchWriter, Quarantine
from bihuan.data.reasons import Reason
from bihuan.data.records import Dialect, split_fields
from bihuan.kernel import Clock, Progress, UserError, hash_id


class ReplayError(UserError):
    """A batch cannot be replayed into the lake as it is."""


def replay(  # noqa: PLR0913 - like ingest, whose keywords it shares
    lake: Lake,
    quarantine: Quarantine,
    batch_id: str,
    mapping: SourceMapping,
    *,
    contracts: Mapping[str, TableContract],
    clock: Clock,
    progress: Progress,
    engine: Engine | None = None,
    protector: Protector | None = None,
) -> IngestReport:
    """Read the rows of a batch through a mended mapping and add those that are good now.

    Rows that are still bad make a new batch, whose parent is this one. A batch that was replayed
    is not replayed again: a second call reports what the first one did.

    Parameters
    ----------
    lake, quarantine
        Where the good rows go, and where the batch is.
    batch_id
        The batch.
    mapping
        The mended mapping; it must fill the tables that the batch's rows were meant for.
    contracts, clock, progress, engine, protector
        As for :func:`~bihuan.data.ingest.ingest`.

    Returns
    -------
    IngestReport
        Rows read are those of the batch; ``quarantine_id`` is the new batch, if there is one.

    Raises
    ------
    BatchNotFoundError
        If there is no such batch.
    ReplayError
        If the lake does not hold the good rows of the batch's ingest: it refused to publish, or
        was replaced since. Then the file must be ingested again.
    MappingError
        If the mapping does not fit.
    """
    started = time.perf_counter()
    batch = quarantine.get(batch_id)
    check_contracts(mapping, contracts)
    unknown = check_columns(mapping, batch.columns)
    tables = _tables(batch, mapping)
    with locked(lake, tables):
        batch = quarantine.get(batch_id)
        is_done = batch.state == "replayed"
        if not is_done:
            view = lake.view()
            held = {table: view.find(table, batch.date) for table in tables}
            outcome = _published_outcome(batch, held)
            is_done = outcome is not None
            if outcome is None:
                _require_ingest(batch, held)
                origin = {"kind": "replay", "fingerprint": _mark(batch), "batch": batch.id}
                publisher = Publisher(
                    lake, batch.date, clock, engine or DuckDBEngine(threads=1), origin, protector
                )
                guard = guard_of(protector, mapping, contracts)
                with quarantine.writing(_child(batch, mapping, clock), guard) as writer:
                    run = _Replay(quarantine, batch, mapping, publisher, writer)
                    used = {table: contracts[table] for table in tables}
                    sealed = {t: view.find(sealed_name(t), batch.date) for t in tables}
                    outcome = run.run(used, held, sealed, progress)
            is_left = any(counts["rows_quarantined"] for counts in outcome.values())
            batch = quarantine.mark_replayed(batch, _child_id(batch) if is_left else None, outcome)
        view = lake.view()
    return IngestReport(
        source=batch.source,
        as_of=batch.date,
        tables=tuple(
            table_report(table, batch.outcome[table], view.find(table, batch.date))
            for table in tables
        ),
        quarantine_id=batch.replayed_into,
        unchanged=is_done,
        unknown_columns=unknown,
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, slots=True)
class _Replay:
    quarantine: Quarantine
    batch: Batch
    mapping: SourceMapping
    publisher: Publisher
    writer: BatchWriter

    def run(
        self,
        contracts: Mapping[str, TableContract],
        held: Mapping[str, Snapshot | None],
        sealed: Mapping[str, Snapshot | None],
        progress: Progress,
    ) -> dict[str, dict[str, Any]]:
        """Convert the rows of every table and publish them; return the counts by table."""
        plans, sources = [], {}
        for table, contract in contracts.items():
            iso_dates = self.batch.source_format != "csv"
            plan = Plan(self.mapping, contract, self.batch.date, iso_dates=iso_dates)
            rows = self.quarantine.rows(self.batch.id, table)
            protector = self.publisher.protector
            cipher = protector.cipher if protector else None
            sources[table] = BatchSource(self.batch, rows, self.mapping.source, cipher)
            plans.append(TablePlan(plan, held[table], _only(plan, rows), sealed[table]))
        outcome: dict[str, dict[str, Any]] = {}

        def work(loads: Sequence[TableLoad]) -> None:
            for load in loads:
                source = sources[load.name]
                fill(source, [load], self.writer, progress)
                load.skipped = max(0, source.rows.num_rows - load.read)
                outcome[load.name] = counts_of(load, self.writer)
            if not any(load.stored for load in loads):
                raise NothingStored

        with suppress(NothingStored):  # every row is in the new batch; the lake stays as it is
            self.publisher.publish(plans, work, self.writer)
        return outcome


class BatchSource:
    """The rows of a quarantine batch for one table as a source; cells are text.

    Parameters
    ----------
    batch, rows
        The batch and its rows for the table.
    form
        How the mended mapping reads the source; a record that could not be cut into cells or
        decoded is tried once more by it.
    cipher
        Opens what quarantine sealed; None where the workspace has no keys.
    """

    def __init__(
        self, batch: Batch, rows: pa.Table, form: SourceFormat, cipher: DataCipher | None = None
    ) -> None:
        self.facts = SourceFacts(
            name=batch.source,
            format="quarantine",
            sha256=batch.source_sha256,
            columns=batch.columns,
            total=float(rows.num_rows),
        )
        self.rows = rows
        self._cipher = cipher
        self._encoding = form.encoding or batch.encoding
        delimiter = form.delimiter or batch.delimiter
        self._dialect = Dialect(delimiter.encode(), form.quote.encode())

    def blocks(self, columns: Collection[str]) -> Iterator[Block]:
        """Yield the records in order, each once, with the text of ``columns``."""
        wanted = [name for name in self.facts.columns if name in columns]
        wanted = wanted or [self.facts.columns[0]]
        keep = ["record", "line", "raw", "raw_bytes", "reason_code"]
        ordered = self.rows.select(keep).sort_by("record")
        records = ordered.column("record").to_numpy()
        first = np.flatnonzero(np.diff(records, prepend=-1))
        for start in range(0, first.size, BLOCK_ROWS):
            part = ordered.take(pa.array(first[start : start + BLOCK_ROWS]))
            yield self._block(part.to_pylist(), wanted)

    def close(self) -> None:
        """Nothing is held open."""

    def _block(self, rows: Sequence[dict[str, Any]], wanted: Sequence[str]) -> Block:
        traces: list[Trace] = []
        unreadable: list[Unreadable] = []
        for row in rows:
            given, raw = json.loads(row["raw"]), row["raw_bytes"]
            if self._cipher is not None:
                given, raw = open_cells(given, self._cipher), open_raw(raw, self._cipher)
            cells = given or self._cut(raw)
            trace = Trace(row["record"], row["line"], cells, None if cells else raw)
            if cells:
                traces.append(trace)
            else:
                unreadable.append(self._still_unreadable(trace, Reason(row["reason_code"])))
        table = pa.table(
            {
                name: pa.array([as_text(trace.cells.get(name)) for trace in traces], pa.string())
                for name in wanted
            }
        )
        records = np.array([trace.record for trace in traces], dtype=np.int64)
        return Block(table, records, len(rows), partial(_pick, traces), tuple(unreadable))

    def _still_unreadable(self, trace: Trace, reason: Reason) -> Unreadable:
        raw = trace.raw or b""
        number = len(split_fields(raw, self._dialect))
        detail = f"{number} ≠ {len(self.facts.columns)}" if reason is Reason.RAGGED_ROW else ""
        return Unreadable(trace, reason, readable(raw), detail)

    def _cut(self, raw: bytes | None) -> dict[str, Any]:
        """Cut an unreadable record as the mended mapping reads it; empty if it still is."""
        try:
            text = (raw or b"").decode(self._encoding).encode()
        except UnicodeDecodeError:
            return {}
        cells = split_fields(text, self._dialect)
        if b"\0" in text or len(cells) != len(self.facts.columns):
            return {}
        names = self.facts.columns
        return {name: cell.decode() for name, cell in zip(names, cells, strict=True)}


def _pick(traces: Sequence[Trace], places: Sequence[int]) -> list[Trace]:
    return [traces[place] for place in places]


def _only(plan: Plan, rows: pa.Table) -> Only:
    """Return which rows a replay may touch: not the other parts of a melted record."""
    places = {name: place for place, name in enumerate(plan.parts)}
    pairs = [
        (record, -1 if part is None or not places else places[part])
        for record, part in zip(
            rows.column("record").to_pylist(), rows.column("part").to_pylist(), strict=True
        )
        if part is None or not places or part in places
    ]
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Only(table[:, 0], table[:, 1])


def _tables(batch: Batch, mapping: SourceMapping) -> tuple[str, ...]:
    lacking = sorted(set(batch.counts) - set(mapping.tables))
    if lacking:
        raise ReplayError(
            f"Mapping '{mapping.name}' does not fill {', '.join(lacking)}, for which batch "
            f"{batch.id} has rows.",
            remedy=f"Replay with the mended mapping '{batch.mapping}'.",
            zh=f"映射“{mapping.name}”不填充批次 {batch.id} 中的表 {'、'.join(lacking)}。",
        )
    return tuple(table for table in mapping.tables if table in batch.counts)


def _require_ingest(batch: Batch, held: Mapping[str, Snapshot | None]) -> None:
    """Refuse to add rows to a snapshot that lacks the good rows of the same source."""
    for table, snapshot in held.items():
        if not any(part["fingerprint"] == batch.ingest for part in parts_of(snapshot)):
            raise ReplayError(
                f"The lake does not hold the good rows of '{batch.source}' for table '{table}' at "
                f"{batch.as_of}: that ingest was refused, or replaced since.",
                remedy="Ingest the file again with the mended mapping.",
                zh=f"湖中 {batch.as_of} 的表 {table} 不含“{batch.source}”的合格行(该次导入被拒绝或"
                "已被替换),请用修正后的映射重新导入该文件。",
            )


def _published_outcome(
    batch: Batch, held: Mapping[str, Snapshot | None]
) -> dict[str, dict[str, Any]] | None:
    """Return what a replay that was killed after it published had done, or None."""
    found = {
        table: part
        for table, snapshot in held.items()
        for part in parts_of(snapshot)
        if part["fingerprint"] == _mark(batch)
    }
    return found if len(found) == len(held) else None


def _mark(batch: Batch) -> str:
    return hash_id("replay", batch.id)


def _child_id(batch: Batch) -> str:
    return hash_id("quarantine", _mark(batch))


def _child(batch: Batch, mapping: SourceMapping, clock: Clock) -> Batch:
    return Batch(
        id=_child_id(batch),
        source=batch.source,
        source_sha256=batch.source_sha256,
        source_format=batch.source_format,
        encoding=batch.encoding,
        delimiter=batch.delimiter,
        columns=batch.columns,
        mapping=mapping.name,
        mapping_fingerprint=mapping.fingerprint,
        as_of=batch.as_of,
        ingest=batch.ingest,
        created_at=clock.now().isoformat(),
        parent=batch.id,
    )
