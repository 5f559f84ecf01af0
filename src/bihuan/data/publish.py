"""Publishes what an ingest or a replay filled: all tables at once, the quarantine batch first.

The order of writing is the order of safety: Parquet files into staging, then the batch of bad
rows, then the lake's HEAD. A process killed at any moment leaves the old HEAD or the new; what it
left lying is named by no HEAD and is written again by the next run.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from bihuan.data.convert import Plan
from bihuan.data.engine import Engine
from bihuan.data.ingest_report import TableReport
from bihuan.data.lake import Lake, Publication, Snapshot
from bihuan.data.loading import Only, TableLoad
from bihuan.data.personal import Protector, SealedFile, sealed_name
from bihuan.data.quarantine import BatchWriter, Quarantine
from bihuan.kernel import Clock, UserError, file_lock


class NothingStored(Exception):
    """No row is good: the batch of bad rows is kept, and nothing is published."""


class TooManyBadRowsError(UserError):
    """So many rows are bad that the mapping or the file must be wrong; nothing was published."""


@dataclass(frozen=True, slots=True)
class TablePlan:
    """One table of a publication.

    Parameters
    ----------
    plan
        How blocks become its rows.
    previous
        Snapshot whose rows stay; None starts an empty table.
    only
        Restricts a replay to the rows of its batch.
    previous_sealed
        The sealed rows of ``previous``; None where it has none.
    """

    plan: Plan
    previous: Snapshot | None = None
    only: Only | None = None
    previous_sealed: Snapshot | None = None


class UnprotectedError(UserError):
    """Rows would join a snapshot in which personal columns lie in clear."""


@dataclass(frozen=True, slots=True)
class Publisher:
    """Where the rows of one run go.

    Parameters
    ----------
    lake, as_of, clock, engine
        The lake, the snapshot date, the time, and what converts.
    origin
        What the rows are made from; goes into the lineage of every table, free of secrets.
    protector
        Seals personal columns; None where the workspace has no keys.
    """

    lake: Lake
    as_of: date
    clock: Clock
    engine: Engine
    origin: Mapping[str, Any] = field(default_factory=dict)
    protector: Protector | None = None

    def publish(
        self,
        tables: Sequence[TablePlan],
        work: Callable[[Sequence[TableLoad]], None],
        writer: BatchWriter,
    ) -> tuple[TableReport, ...]:
        """Fill tables and publish them together.

        Parameters
        ----------
        tables
            What is filled.
        work
            Fills the loads; an error of it publishes nothing.
        writer
            Takes the bad rows; it is committed even if ``work`` finds that they are too many.
        """
        lineage: dict[str, dict[str, Any]] = {table.plan.contract.name: {} for table in tables}
        loads: list[TableLoad] = []
        with self.lake.publication(self.clock) as publication, ExitStack() as stack:
            for table in tables:
                name = table.plan.contract.name
                # the lineage is taken when the folder is closed, when the counts are known
                staging = publication.folder(name, self.as_of, lineage=lineage[name])
                folder = stack.enter_context(staging)
                stack.enter_context(_removed_on_error(folder))
                load = TableLoad(
                    table.plan,
                    folder,
                    self.engine,
                    previous=table.previous,
                    only=table.only,
                    sealed=self._sealed(table, publication, stack),
                )
                stack.callback(load.abandon)
                loads.append(load)
            try:
                work(loads)
            except (NothingStored, TooManyBadRowsError):
                writer.commit()
                raise
            writer.commit()
            for load, table in zip(loads, tables, strict=True):
                part = {**self.origin, **counts_of(load, writer)}
                parts = [*parts_of(table.previous), part]
                lineage[load.name].update(kind="ingest", parts=parts)
        view = self.lake.view()
        return tuple(
            table_report(
                load.name,
                lineage[load.name]["parts"][-1],
                view.get(load.name, self.as_of),
                load.seconds,
            )
            for load in loads
        )

    def _sealed(
        self, table: TablePlan, publication: Publication, stack: ExitStack
    ) -> SealedFile | None:
        """Open what takes the personal columns of a table; None where there is nothing to take."""
        contract, protector = table.plan.contract, self.protector
        if protector is None or not protector.applies_to(contract):
            return None
        if table.previous is not None and table.previous_sealed is None:
            raise UnprotectedError(
                f"'{contract.name}' at {self.as_of} was stored before there were keys.",
                remedy="Protect the lake first, then add the rows.",
                zh=f"表 {contract.name}（{self.as_of}）在启用密钥前入库，请先加密数据湖再追加。",
            )
        lineage = {"kind": "sealed", "keys": protector.fingerprint}
        staging = publication.folder(sealed_name(contract.name), self.as_of, lineage=lineage)
        folder = stack.enter_context(staging)
        stack.enter_context(_removed_on_error(folder))
        return SealedFile(contract, protector, folder, table.previous_sealed)


def counts_of(load: TableLoad, writer: BatchWriter) -> dict[str, Any]:
    """Return the row counts of a table as its lineage keeps them."""
    reasons = writer.counts(load.name)
    return {
        "rows_read": load.read,
        "rows_stored": load.stored,
        "rows_quarantined": sum(reasons.values()),
        "rows_skipped": load.skipped,
        "reasons": reasons,
    }


def table_report(
    table: str, counts: Mapping[str, Any], snapshot: Snapshot | None, seconds: float = 0.0
) -> TableReport:
    """Make the report of one table from its counts; see :func:`counts_of`."""
    return TableReport(
        table=table,
        rows_read=counts["rows_read"],
        rows_stored=counts["rows_stored"],
        rows_quarantined=counts["rows_quarantined"],
        rows_skipped=counts["rows_skipped"],
        reasons=counts["reasons"],
        seconds=seconds,
        snapshot_id=snapshot.id if snapshot is not None else "",
    )


def parts_of(snapshot: Snapshot | None) -> list[dict[str, Any]]:
    """Return what a snapshot was ingested from, oldest first.

    A snapshot that was not made by an ingest counts as one part of its own.
    """
    if snapshot is None:
        return []
    if snapshot.lineage.get("kind") == "ingest":
        return list(snapshot.lineage["parts"])
    return [{"kind": "snapshot", "fingerprint": snapshot.id, "lineage": dict(snapshot.lineage)}]


def quarantine_of(lake: Lake) -> Quarantine:
    """Return the quarantine that belongs to a lake: the folder ``quarantine`` beside it."""
    return Quarantine(lake.root.parent / "quarantine")


@contextmanager
def locked(lake: Lake, tables: Iterable[str]) -> Iterator[None]:
    """Let one process at a time read, merge and publish these tables."""
    with ExitStack() as stack:
        for table in sorted(tables):
            stack.enter_context(file_lock(lake.root / ".locks" / f"{table}.lock"))
        yield


@contextmanager
def _removed_on_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
