"""Erasure of one customer from the lake: affected files are written again, and verified.

Snapshots are immutable, so a table that names the customer is published anew at the same date:
files that do not name the customer are linked, the others written without the rows. Every step can
be repeated: a run that was killed is run again and finds only what is left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bihuan.data.contract import TableContract
from bihuan.data.lake import ROW_GROUP_ROWS, Lake, LakeView, Snapshot
from bihuan.data.part_file import link_file
from bihuan.data.personal.cipher import DataCipher
from bihuan.data.personal.guard import open_cells, open_raw
from bihuan.data.quarantine import Quarantine
from bihuan.kernel import Clock, file_lock

_PIECE = 8 << 20
_PLAIN_FILES = frozenset((".parquet",))


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom to forget: the customer and what is only the customer's.

    Parameters
    ----------
    customer_id
        The customer.
    accounts, subscriptions
        Their ids in any snapshot.
    """

    customer_id: str
    accounts: frozenset[str] = frozenset()
    subscriptions: frozenset[str] = frozenset()

    @property
    def ids(self) -> frozenset[str]:
        """Every id that leads to the customer."""
        return self.accounts | self.subscriptions | {self.customer_id}


@dataclass(frozen=True, slots=True)
class Erased:
    """What one snapshot lost: whole rows, and single cells of other people's rows."""

    table: str
    as_of: date
    rows: int
    cells: int


@dataclass(frozen=True, slots=True)
class Found:
    """A place where an id still stands."""

    place: str
    times: int


def subject_of(view: LakeView, customer_id: str) -> Subject:
    """Collect the ids of a customer's accounts and subscriptions over all snapshots."""

    def own(table: str, column: str) -> frozenset[str]:
        found: set[str] = set()
        for day in view.dates(table):
            for path in view.get(table, day).files:
                rows = pq.read_table(
                    path,
                    columns=[column],
                    filters=[("customer_id", "=", customer_id)],
                    partitioning=None,
                )
                found.update(text for text in rows.column(column).to_pylist() if text)
        return frozenset(found)

    return Subject(
        customer_id, own("account", "account_id"), own("subscription", "subscription_id")
    )


def erase_subject(
    lake: Lake, subject: Subject, contracts: Mapping[str, TableContract], clock: Clock
) -> tuple[Erased, ...]:
    """Take a customer out of every snapshot of the lake, and remove the files that had the rows.

    Parameters
    ----------
    lake
        Rewritten table by table, each in one publication.
    subject
        From :func:`subject_of`, collected before the first run: a second run cannot find accounts
        whose rows are gone.
    contracts
        Tell which columns may be missing.
    clock
        Stamps the publications.

    Returns
    -------
    tuple of Erased
        What this run took away. A row goes if its customer is the subject, or, in tables without
        customers, its subscription or account; elsewhere the id alone is taken out, and the row
        stays, since it is somebody else's.

    Notes
    -----
    Not to be called while others read older views: replaced files are removed at the end.
    """
    done = []
    for table in lake.view().tables:
        with file_lock(lake.root / ".locks" / f"{table}.lock"):
            view = lake.view()
            for day in view.dates(table):
                snapshot = view.get(table, day)
                touched = [path for path in snapshot.files if _names(path, subject.ids)]
                if touched:
                    done.append(_rewrite(lake, snapshot, touched, subject, contracts, clock))
    lake.sweep()
    return tuple(done)


def _rewrite(
    lake: Lake,
    snapshot: Snapshot,
    touched: list[Path],
    subject: Subject,
    contracts: Mapping[str, TableContract],
    clock: Clock,
) -> Erased:
    rows = cells = 0
    lineage = {**snapshot.lineage, "erased": int(snapshot.lineage.get("erased", 0)) + 1}
    with (
        lake.publication(clock) as publication,
        publication.folder(snapshot.table, snapshot.as_of, lineage=lineage) as folder,
    ):
        for number, path in enumerate(snapshot.files):
            target = folder / f"part-{number:05d}.parquet"
            if path not in touched:
                link_file(path, target)
                continue
            # not a PartFile: derived tables have columns of any type
            with (
                pq.ParquetFile(path) as file,
                pq.ParquetWriter(target, file.schema_arrow, compression="zstd") as writer,
            ):
                for group in range(file.num_row_groups):
                    kept, lost, emptied = _without(
                        file.read_row_group(group), subject, contracts.get(snapshot.table)
                    )
                    rows, cells = rows + lost, cells + emptied
                    writer.write_table(kept, row_group_size=ROW_GROUP_ROWS)
    return Erased(snapshot.table, snapshot.as_of, rows, cells)


def _without(
    rows: pa.Table, subject: Subject, contract: TableContract | None
) -> tuple[pa.Table, int, int]:
    """Return the rows without the subject, how many rows went, and how many cells."""
    gone = _own_rows(rows, subject)
    must = () if contract is None else [c.name for c in contract.columns if not c.nullable]
    for name in must:  # a row that cannot do without the id goes whole
        if name in rows.column_names and name != "customer_id" and _is_text(rows.schema, name):
            gone = pc.or_(gone, _is_one(rows.column(name), subject.ids))
    kept, cells = rows.filter(pc.invert(gone)), 0
    for at, name in enumerate(kept.column_names):
        column = kept.column(name)
        if _is_text(kept.schema, name):
            hit = _is_one(column, subject.ids)
            count = pc.sum(hit).as_py() or 0
            if count:
                cells += count
                empty = pc.if_else(hit, pa.scalar(None, column.type), column)
                kept = kept.set_column(at, kept.schema.field(at), empty)
    return kept, rows.num_rows - kept.num_rows, cells


def _own_rows(rows: pa.Table, subject: Subject) -> Any:
    """Tell which rows are the subject's: by customer, else by subscription, else by account."""
    names = rows.column_names
    if "customer_id" in names:
        return _is_one(rows.column("customer_id"), frozenset((subject.customer_id,)))
    nobody = pa.array([False] * rows.num_rows)
    lines = rows.column("subscription_id") if "subscription_id" in names else None
    by_line = nobody if lines is None else _is_one(lines, subject.subscriptions)
    if "account_id" not in names:
        return by_line
    by_account = _is_one(rows.column("account_id"), subject.accounts)
    if lines is not None:  # who pays for somebody else's line does not own its rows
        by_account = pc.and_(by_account, pc.is_null(lines))
    return pc.or_(by_line, by_account)


def erase_from_quarantine(quarantine: Quarantine, subject: Subject, cipher: DataCipher) -> int:
    """Take a customer's rows out of every batch that was set aside; return how many.

    A row goes if one of its cells, opened, is one of the ids, or if it could not be cut into cells
    and its text has one. A batch without rows is removed.
    """
    alone = re.compile(
        rf"(?<![\w-])(?:{'|'.join(re.escape(text) for text in sorted(subject.ids))})(?![\w-])"
    )
    gone = 0
    for batch in quarantine.list_batches():
        rows = quarantine.rows(batch.id)
        keep = [
            not _tells(row, subject, alone, cipher)
            for row in rows.select(["raw", "raw_bytes"]).to_pylist()
        ]
        lost = keep.count(False)
        if lost:
            quarantine.keep_rows(batch, rows.filter(pa.array(keep)))
            gone += lost
    return gone


def _tells(
    row: Mapping[str, Any], subject: Subject, alone: re.Pattern[str], cipher: DataCipher
) -> bool:
    cells = open_cells(json.loads(row["raw"]), cipher)
    raw = open_raw(row["raw_bytes"], cipher)
    if any(str(value) in subject.ids for value in cells.values()):
        return True
    return raw is not None and alone.search(raw.decode("utf-8", "replace")) is not None


def find_left(root: Path, ids: frozenset[str], *, skip: frozenset[Path] = frozenset()) -> list[
    Found
]:  # fmt: skip
    """Search every file below a folder for ids.

    Parameters
    ----------
    root
        A workspace's folder.
    ids
        Ids that should be gone.
    skip
        Folders that are not searched.

    Returns
    -------
    list of Found
        Cells of Parquet files that are one of the ids, and occurrences in the bytes of any other
        file, where an id stands by itself.
    """
    found = []
    alone = b"|".join(re.escape(text.encode()) for text in sorted(ids))
    pattern = re.compile(rb"(?<![\w-])(?:" + alone + rb")(?![\w-])")
    for path in sorted(root.rglob("*")):
        if not path.is_file() or any(folder in path.parents for folder in skip):
            continue
        with suppress(FileNotFoundError):  # a lock or a temporary file of somebody else
            times = (
                _count_cells(path, ids) if path.suffix in _PLAIN_FILES else _count(path, pattern)
            )
            if times:
                found.append(Found(str(path.relative_to(root)), times))
    return found


def _names(path: Path, ids: frozenset[str]) -> bool:
    return _count_cells(path, ids) > 0


def _count_cells(path: Path, ids: frozenset[str]) -> int:
    times = 0
    with pq.ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if _is_text(file.schema_arrow, name)]
        if not names:
            return 0
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=names)
            for name in names:
                times += pc.sum(_is_one(rows.column(name), ids)).as_py() or 0
    return times


def _count(path: Path, pattern: re.Pattern[bytes]) -> int:
    times, tail = 0, b""
    for piece in _pieces(path):
        # what straddles two pieces is found in the second, which begins with the first one's end
        times += len(pattern.findall(tail + piece)) - len(pattern.findall(tail))
        tail = piece[-256:]
    return times


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _is_text(schema: pa.Schema, name: str) -> bool:
    kind = schema.field(name).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_one(column: pa.ChunkedArray, ids: frozenset[str]) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    return pc.is_in(column, value_set=pa.array(sorted(ids), kind))
