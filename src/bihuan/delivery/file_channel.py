"""The file channel: one target list per channel and org unit, in a folder that others read.

Layout::

    <folder>/<deployment_id>/<batch_id>/
      outbound__grid-07.csv         for people: guarded cells, titles, byte order mark
      outbound__grid-07.parquet     for machines: typed columns
      outbound__grid-07.xlsx        on request
      manifest.json                 every file with rows and SHA-256

A batch is named by the set of its assignments. It is built out of sight and shown by one rename,
so whoever reads sees whole lists or none. An assignment stands in one batch only: sending it
again, alone or among others, gives back the receipt of the first time and no second list.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bihuan.data import DuckDBEngine, Engine
from bihuan.delivery.channel import (
    CHANNEL_KINDS,
    RECEIPT_SCHEMA,
    Stage,
    UnknownChannelError,
    receipt_rows,
    require_columns,
)
from bihuan.delivery.logged import sorted_hash, text_bytes
from bihuan.delivery.sql import statement
from bihuan.delivery.target_list import (
    BOM,
    LIST_TITLES,
    ListLayout,
    ListLayoutError,
    csv_line,
    xlsx_bytes,
)
from bihuan.kernel import (
    Clock,
    DefectError,
    Progress,
    SilentProgress,
    UserError,
    canonical_json,
    file_lock,
    hash_id,
    write_atomically,
)
from bihuan.kernel.files import sync_folder

CHUNK_ROWS = 1_000_000  # rows formatted at a time; bounds the memory at about 1 GB
_PLAIN_UNIT = re.compile(r"[0-9a-z\u4e00-\u9fff][0-9a-z_\-\u4e00-\u9fff]{0,39}")
_COLUMNS = (*(name for name in LIST_TITLES if name != "script"), "deployment_id")


class DamagedListError(UserError):
    """An earlier list is damaged; sending on could list somebody twice."""


@dataclass(frozen=True, slots=True)
class _Group:
    """One list: the assignments of one channel and one org unit."""

    channel: str
    org_unit_id: str | None
    rows: int


class FileChannel:
    """Writes target lists; a channel of every kind, because every kind can be worked from a list.

    Parameters
    ----------
    folder
        Where the deployments' folders stand.
    clock
        Stamps the first listing of a batch.
    layout
        What stands on the lists besides the assignment.
    with_xlsx
        Write an XLSX workbook beside each CSV.
    engine
        Where rows are joined, sorted and written as text; DuckDB by default.
    progress
        Where the lists are reported.

    Notes
    -----
    A list that was handed over is not a customer who was reached. The receipts therefore say
    ``unknown`` with reason ``listed`` until the front line reports what happened.
    """

    source = "file"
    takes_key = True

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock,
        layout: ListLayout | None = None,
        with_xlsx: bool = False,
        engine: Engine | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.folder = folder
        self.clock = clock
        self.layout = layout or ListLayout()
        self.with_xlsx = with_xlsx
        self.engine = engine or DuckDBEngine()
        self.progress = progress or SilentProgress()

    def send(self, assignments: pa.Table) -> pa.Table:
        """Put assignments of one deployment on lists; see :class:`Channel`.

        Sending the same set again writes the same bytes again: a damaged folder is mended, and a
        changed layout takes effect.

        Raises
        ------
        ListLayoutError
            If the details have two rows for a customer, or XLSX cannot hold a list. Nothing of
            the batch is shown then.
        UnknownChannelError
            If a channel is not in the register.
        DamagedListError
            If an earlier batch of the deployment cannot be read.
        """
        require_columns(assignments, _COLUMNS, "Assignments")
        if not assignments.num_rows:
            return RECEIPT_SCHEMA.empty_table()
        deployment_ids = pc.unique(assignments["deployment_id"]).to_pylist()
        if len(deployment_ids) > 1:
            raise DefectError(f"One send is of one deployment, not of {deployment_ids[:5]}.")
        home = self.folder / safe_name(deployment_ids[0])
        with file_lock(home / ".lock"):
            _recover(home)
            batch_id = self._batch_id(assignments)
            listed = self._listed_before(assignments, home, batch_id)
            fresh = self._without(assignments, [rows for rows, _ in listed])
            if listed and fresh.num_rows:
                batch_id = self._batch_id(fresh)
            if fresh.num_rows:
                listed.append((fresh, self._publish(fresh, home, batch_id)))
        receipts = [self._receipts(rows, moment) for rows, moment in listed]
        return pa.concat_tables(receipts)

    def _listed_before(
        self, assignments: pa.Table, home: Path, own: str
    ) -> list[tuple[pa.Table, datetime]]:
        """Return the rows that stand in other batches, with the moment of their listing."""
        found = []
        for path in sorted(home.glob("*/manifest.json")):
            manifest = json.loads(path.read_bytes())
            if manifest["batch_id"] == own:
                continue
            known = _listed_ids(path.parent, manifest)
            query = statement(
                "SELECT assignment.* FROM assignment"
                " WHERE assignment_id IN (SELECT assignment_id FROM known)"
            )
            rows = self.engine.query(query, {"assignment": assignments, "known": known})
            if rows.num_rows:
                found.append((rows, datetime.fromisoformat(manifest["listed_at"])))
        return found

    def _without(self, assignments: pa.Table, listed: list[pa.Table]) -> pa.Table:
        if not listed:
            return assignments
        known = pa.concat_tables([rows.select(["assignment_id"]) for rows in listed])
        query = statement(
            "SELECT assignment.* FROM assignment"
            " LEFT JOIN known ON assignment.assignment_id = known.assignment_id"
            " WHERE known.assignment_id IS NULL"
        )
        return self.engine.query(query, {"assignment": assignments, "known": known})

    def _batch_id(self, assignments: pa.Table) -> str:
        query = statement("SELECT assignment_id FROM assignment ORDER BY assignment_id")
        ids = self.engine.query(query, {"assignment": assignments})["assignment_id"]
        return hash_id("batch", sorted_hash(ids))

    def _publish(self, rows: pa.Table, home: Path, batch_id: str) -> datetime:
        """Build the batch out of sight, show it by a rename, and return its listing moment."""
        target, staging, old = home / batch_id, home / ".staging", home / f".old-{batch_id}"
        listed_at = self.clock.now()
        if target.exists():
            standing = json.loads((target / "manifest.json").read_bytes())
            listed_at = datetime.fromisoformat(standing["listed_at"])
        staging.mkdir()
        try:
            files = list(self._write_lists(rows, staging, listed_at))
            manifest = {
                "batch_id": batch_id,
                "deployment_id": rows["deployment_id"][0].as_py(),
                "listed_at": listed_at.isoformat(),
                "columns": list(self.layout.columns),
                "rows": rows.num_rows,
                "files": files,
            }
            write_atomically(staging / "manifest.json", canonical_json(manifest).encode())
            if target.exists():
                target.rename(old)
            staging.rename(target)
            sync_folder(home)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
        return listed_at

    def _write_lists(
        self, rows: pa.Table, staging: Path, listed_at: datetime
    ) -> Iterator[dict[str, Any]]:
        groups = self._groups(rows)
        header = BOM + csv_line(self.layout.header)
        with self.progress.task("lists", total=rows.num_rows, unit="rows") as task:
            for chunk in _chunks(groups):
                lists = self._format(rows, chunk)
                start = 0
                for group in chunk:
                    part = lists.slice(start, group.rows)
                    start += group.rows
                    yield from self._write_list(part, group, staging, header, listed_at)
                    task.advance(group.rows)

    def _write_list(
        self, part: pa.Table, group: _Group, staging: Path, header: bytes, listed_at: datetime
    ) -> Iterator[dict[str, Any]]:
        _check_slice(part, group)
        name = list_name(group.channel, group.org_unit_id)
        typed = part.drop_columns("line")
        lines = [text_bytes(chunk) for chunk in part["line"].chunks]
        contents: dict[str, list[bytes | memoryview]] = {
            "csv": [header, *lines],
            "parquet": [_parquet_bytes(typed)],
        }
        if self.with_xlsx:
            contents["xlsx"] = [xlsx_bytes(typed, self.layout.header, listed_at)]
        for format_, content in contents.items():
            size, digest = _write_whole(staging / f"{name}.{format_}", content)
            yield {
                "name": f"{name}.{format_}",
                "format": format_,
                "channel": group.channel,
                "org_unit_id": group.org_unit_id,
                "rows": group.rows,
                "bytes": size,
                "sha256": digest,
            }

    def _groups(self, rows: pa.Table) -> list[_Group]:
        query = statement(
            "SELECT channel, org_unit_id, COUNT(*) AS amount FROM assignment"
            " GROUP BY channel, org_unit_id ORDER BY channel, org_unit_id NULLS FIRST"
        )
        found = self.engine.query(query, {"assignment": rows}).to_pylist()
        for row in found:
            if row["channel"] not in CHANNEL_KINDS:
                raise UnknownChannelError.of(row["channel"])
        return [_Group(row["channel"], row["org_unit_id"], row["amount"]) for row in found]

    def _format(self, rows: pa.Table, chunk: list[_Group]) -> pa.Table:
        """Return the lists of a chunk one after the other, in the order of its groups."""
        details = self.layout.details
        types = {field.name: field.type for field in rows.schema} | {"script": pa.string()}
        if details is not None:
            types |= {name: details.schema.field(name).type for name in self.layout.detail_names}
        keys = pa.table(
            {
                "channel": pa.array([group.channel for group in chunk], pa.string()),
                "org_unit_id": pa.array([group.org_unit_id for group in chunk], pa.string()),
            }
        )
        sources = {"assignment": rows, "chunk": keys, **self.layout.sources()}
        lists = self.engine.query(self.layout.query(types), sources)
        wanted = sum(group.rows for group in chunk)
        if lists.num_rows > wanted:
            raise ListLayoutError(
                f"The details have several rows for one customer: {wanted} assignments became "
                f"{lists.num_rows} rows.",
                remedy="Give one row of details per customer.",
                zh=f"附加信息中同一客户有多行({lists.num_rows} 行)。请每客户保留一行。",
            )
        line = lists["line"].cast(pa.large_string())  # more than 2 GiB of text must fit
        return lists.set_column(lists.num_columns - 1, "line", line)

    def _receipts(self, rows: pa.Table, moment: datetime) -> pa.Table:
        return receipt_rows(
            rows,
            stage=Stage.UNKNOWN.value,
            reason="listed",
            occurred_at=moment,
            source=self.source,
            engine=self.engine,
        )


def _listed_ids(batch: Path, manifest: dict[str, Any]) -> pa.Table:
    names = [entry["name"] for entry in manifest["files"] if entry["format"] == "parquet"]
    try:
        tables = [pq.read_table(batch / name, columns=["assignment_id"]) for name in names]
    except (OSError, pa.ArrowException) as error:
        raise DamagedListError(
            f"A list of batch {batch.name} is unreadable, so nobody can say who is on it: {error}.",
            remedy="Restore the batch's folder from its backup, then send again.",
            zh=f"批次 {batch.name} 的清单无法读取,不能判断谁已在清单上。请从备份恢复后再发送。",
        ) from error
    return pa.concat_tables(tables)


def list_name(channel: str, org_unit_id: str | None) -> str:
    """Return the file name of a list without its ending; safe whatever the unit's id is.

    Ids of lower-case letters, digits, ``_``, ``-`` and Chinese characters stay as they are.
    Every other id keeps its harmless characters and gets a hash, so that no two units share a
    name, on any file system, and none leaves the folder.

    Examples
    --------
    >>> list_name("sms", "grid-07"), list_name("sms", None)
    ('sms__grid-07', 'sms___unassigned')
    >>> list_name("sms", "../../etc/passwd")
    'sms__etcpasswd-9739f481'
    """
    return f"{channel}__{'_unassigned' if org_unit_id is None else safe_name(org_unit_id)}"


def safe_name(text: str) -> str:
    """Return a name for ``text`` that is safe in any folder; see :func:`list_name`."""
    if _PLAIN_UNIT.fullmatch(text):
        return text
    kept = re.sub(r"[^0-9a-z_\-\u4e00-\u9fff]", "", text.lower()).strip("_-")[:40]
    return f"{kept}-{hash_id('name', text, length=8)}"


def _chunks(groups: list[_Group]) -> Iterator[list[_Group]]:
    chunk: list[_Group] = []
    for group in groups:
        if chunk and sum(g.rows for g in chunk) + group.rows > CHUNK_ROWS:
            yield chunk
            chunk = []
        chunk.append(group)
    if chunk:
        yield chunk


def _check_slice(part: pa.Table, group: _Group) -> None:
    ends = {(part["channel"][at].as_py(), part["org_unit_id"][at].as_py()) for at in (0, -1)}
    if part.num_rows != group.rows or ends != {(group.channel, group.org_unit_id)}:
        raise DefectError(f"{group} was cut out of order: {part.num_rows} rows of {ends}.")


def _parquet_bytes(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", compression_level=1)
    return bytes(sink.getvalue().to_pybytes())


def _write_whole(path: Path, content: list[bytes | memoryview]) -> tuple[int, str]:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in content:
            file.write(piece)
            digest.update(piece)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    return size, digest.hexdigest()


def _recover(home: Path) -> None:
    """Undo what a killed process left: half-built batches, and a swap that stopped half-way."""
    shutil.rmtree(home / ".staging", ignore_errors=True)
    for old in home.glob(".old-*"):
        target = home / old.name.removeprefix(".old-")
        if target.exists():
            shutil.rmtree(old)
        else:
            old.rename(target)
