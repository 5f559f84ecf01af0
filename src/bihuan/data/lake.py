"""The lake: immutable Parquet snapshots, made visible by replacing one small file.

Layout::

    lake/
      HEAD.json                                  {"version": 7, "tables": {table: {as_of: id}}}
      <table>/<as_of>/<id>/part-00000.parquet ...
      <table>/<as_of>/<id>/snapshot.json         files, rows, bytes, lineage

A publication writes new folders first and replaces ``HEAD.json`` last, so it shows all of its
tables at once or none. Whoever reads holds a :class:`LakeView`, an old HEAD with explicit file
lists, and is not disturbed by publications that come later.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bihuan.kernel import (
    Clock,
    DefectError,
    UserError,
    canonical_json,
    file_lock,
    hash_id,
    write_atomically,
)
from bihuan.kernel.crash import crash_point
from bihuan.kernel.files import sync_folder

_NAME = re.compile(r"\w[\w-]*")
ROW_GROUP_ROWS = 122_880  # DuckDB's vector group; smaller groups cost scans, larger cost memory


class SnapshotNotFoundError(UserError):
    """The lake has no such table or no snapshot of it at that date."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One table at one date, immutable.

    Parameters
    ----------
    table
        Name of the table.
    as_of
        Snapshot date.
    id
        Changes whenever the content or its lineage changes.
    files
        Parquet files, in row order.
    rows
        Rows over all files.
    bytes
        Size on disk over all files.
    lineage
        What it was made from: sources, mapping, upstream snapshot ids. Free of secrets.
    published_at
        ISO moment of publication, UTC.
    """

    table: str
    as_of: date
    id: str
    files: tuple[Path, ...]
    rows: int
    bytes: int
    lineage: Mapping[str, Any]
    published_at: str

    def read(self, columns: Iterable[str] | None = None) -> pa.Table:
        """Read the snapshot, or some of its columns, into memory."""
        names = None if columns is None else list(columns)
        return pa.concat_tables(
            [pq.read_table(path, columns=names, partitioning=None) for path in self.files]
        )


@dataclass(frozen=True)
class LakeView:
    """What the lake held at one moment; never changes under its reader."""

    root: Path
    version: int
    heads: Mapping[str, Mapping[str, str]]

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables that have at least one snapshot, sorted."""
        return tuple(sorted(self.heads))

    def dates(self, table: str) -> tuple[date, ...]:
        """Return the snapshot dates of ``table``, oldest first; empty if it has none."""
        return tuple(sorted(date.fromisoformat(text) for text in self.heads.get(table, {})))

    def find(self, table: str, as_of: date | None = None) -> Snapshot | None:
        """Return the snapshot at exactly ``as_of`` (None: the newest), or None if absent."""
        dates = self.dates(table)
        wanted = (dates[-1] if dates else None) if as_of is None else as_of
        if wanted is None or wanted not in dates:
            return None
        return _read_snapshot(self.root, table, wanted, self.heads[table][wanted.isoformat()])

    def get(self, table: str, as_of: date | None = None) -> Snapshot:
        """Return the snapshot at exactly ``as_of`` (None: the newest).

        Raises
        ------
        SnapshotNotFoundError
            If there is none; the message lists the dates that there are.
        """
        snapshot = self.find(table, as_of)
        if snapshot is None:
            have = ", ".join(day.isoformat() for day in self.dates(table)) or "none"
            raise SnapshotNotFoundError(
                f"The lake has no snapshot of '{table}' at {as_of or 'any date'} (has: {have}).",
                remedy="Ingest it first, or choose one of the dates named.",
            )
        return snapshot

    def upto(self, table: str, as_of: date, *, months: int | None = None) -> tuple[Snapshot, ...]:
        """Return the snapshots dated within the last ``months`` up to ``as_of``, oldest first.

        Parameters
        ----------
        table
            Name of the table.
        as_of
            Last date included.
        months
            Window length; 1 is the month of ``as_of`` alone. None: everything up to ``as_of``.
        """
        first = date.min if months is None else _month_start(as_of, months - 1)
        return tuple(self.get(table, day) for day in self.dates(table) if first <= day <= as_of)


@dataclass
class Publication:
    """New snapshots being written; nothing of it is visible until it is committed."""

    lake: Lake
    clock: Clock
    _pending: list[tuple[str, date, Path, Mapping[str, Any]]] = field(default_factory=list)

    @contextmanager
    def folder(
        self, table: str, as_of: date, *, lineage: Mapping[str, Any] | None = None
    ) -> Iterator[Path]:
        """Give an empty folder in which the caller writes ``part-*.parquet``.

        Parameters
        ----------
        table, as_of
            Which snapshot the files become; an earlier one of that date is replaced in the view.
        lineage
            What it is made from; goes into the snapshot's id.
        """
        if not _NAME.fullmatch(table):
            raise DefectError(f"'{table}' cannot name a lake table: it would not stay one folder.")
        parent = self.lake.root / ".staging"
        parent.mkdir(exist_ok=True)
        # the process id tells a sweep whose folder it is
        crash_point("lake.folder.before_make")
        staging = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
        try:
            crash_point("lake.folder.after_make")
            yield staging
            crash_point("lake.folder.filled")
            if not any(staging.glob("*.parquet")):
                raise DefectError(f"Nothing was written for '{table}' at {as_of.isoformat()}.")
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        self._pending.append((table, as_of, staging, dict(lineage or {})))

    def add(
        self, table: str, as_of: date, rows: pa.Table, *, lineage: Mapping[str, Any] | None = None
    ) -> None:
        """Write ``rows`` as the new snapshot of ``table`` at ``as_of``."""
        with self.folder(table, as_of, lineage=lineage) as staging:
            pq.write_table(
                rows,
                staging / "part-00000.parquet",
                compression="zstd",
                compression_level=1,
                row_group_size=ROW_GROUP_ROWS,
            )


class Lake:
    """A folder of snapshots.

    Parameters
    ----------
    root
        The lake's folder; made if absent.

    Examples
    --------
    >>> import tempfile, pyarrow as pa
    >>> from bihuan.kernel import SystemClock
    >>> lake = Lake(Path(tempfile.mkdtemp()))
    >>> with lake.publication(SystemClock()) as publication:
    ...     publication.add("staff", date(2026, 10, 31), pa.table({"staff_id": ["a", "b"]}))
    >>> lake.view().get("staff").rows
    2
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def view(self) -> LakeView:
        """Return what the lake holds now."""
        head = self._head()
        return LakeView(self.root, head["version"], head["tables"])

    @contextmanager
    def publication(self, clock: Clock) -> Iterator[Publication]:
        """Collect new snapshots and publish all of them together at the end of the block.

        An exception inside the block publishes nothing and removes what was written. A killed
        process leaves files that no HEAD names; :meth:`sweep` removes them.

        Parameters
        ----------
        clock
            Stamps the moment of publication.
        """
        publication = Publication(self, clock)
        try:
            yield publication
            self._commit(publication)
        finally:
            for _, _, staging, _ in publication._pending:
                shutil.rmtree(staging, ignore_errors=True)

    def sweep(self) -> int:
        """Remove the folders that a killed process left and replaced snapshots; return how many.

        Publications under way are not disturbed. Only call it when no process reads an older view.
        """
        with file_lock(self.root / ".lock"):
            tables = self._head()["tables"]
            live = {
                self.root / table / as_of / snapshot
                for table, dates in tables.items()
                for as_of, snapshot in dates.items()
            }
            dead = [path for path in self.root.glob("*/????-??-??/*") if path not in live]
            dead += [path for path in (self.root / ".staging").glob("*") if not _is_in_use(path)]
            for path in dead:
                shutil.rmtree(path, ignore_errors=True)
            return len(dead)

    def retire(self, snapshots: Iterable[Snapshot]) -> int:
        """Take snapshots out of the lake for good, all at once; return how many.

        The HEAD is replaced first and the files are removed after, so a killed process leaves
        files that no HEAD names. A snapshot that was replaced meanwhile is left alone. Whoever
        still reads an older view loses the files.
        """
        with file_lock(self.root / ".lock"):
            head = self._head()
            gone = []
            for snapshot in snapshots:
                dates = head["tables"].get(snapshot.table, {})
                if dates.get(snapshot.as_of.isoformat()) == snapshot.id:
                    del dates[snapshot.as_of.isoformat()]
                    gone.append(snapshot)
            if not gone:
                return 0
            head["tables"] = {table: dates for table, dates in head["tables"].items() if dates}
            head["version"] += 1
            write_atomically(self.root / "HEAD.json", canonical_json(head).encode())
            for snapshot in gone:
                shutil.rmtree(snapshot.files[0].parent, ignore_errors=True)
            return len(gone)

    def _head(self) -> dict[str, Any]:
        path = self.root / "HEAD.json"
        if not path.exists():
            return {"version": 0, "tables": {}}
        head: dict[str, Any] = json.loads(path.read_bytes())
        return head

    def _commit(self, publication: Publication) -> None:
        published_at = publication.clock.now().isoformat()
        described = [self._describe(*pending, published_at) for pending in publication._pending]
        crash_point("lake.commit.before_lock")
        with file_lock(
            self.root / ".lock"
        ):  # from the first move on, so that no sweep comes between
            crash_point("lake.commit.locked")
            entries = [
                (table, as_of, self._settle(table, as_of, staging, snapshot_id))
                for (table, as_of, staging, _), snapshot_id in zip(
                    publication._pending, described, strict=True
                )
            ]
            head = self._head()
            for table, as_of, snapshot_id in entries:
                head["tables"].setdefault(table, {})[as_of.isoformat()] = snapshot_id
            head["version"] += 1
            crash_point("lake.head.before_switch")
            write_atomically(self.root / "HEAD.json", canonical_json(head).encode())
            crash_point("lake.head.after_switch")
        crash_point("lake.commit.released")

    def _describe(
        self,
        table: str,
        as_of: date,
        staging: Path,
        lineage: Mapping[str, Any],
        published_at: str,
    ) -> str:
        """Flush a staged folder to disk and describe it; return the snapshot's id."""
        described = []
        for path in sorted(staging.glob("*.parquet")):
            crash_point("lake.describe.before_sync")
            with path.open("rb") as file:
                os.fsync(file.fileno())
                crash_point("lake.describe.after_sync")
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            described.append(
                {
                    "name": path.name,
                    "rows": pq.read_metadata(path).num_rows,
                    "bytes": path.stat().st_size,
                    "sha256": digest,
                }
            )
        content = {
            "files": described,
            "lineage": dict(lineage),
            "published_at": published_at,
        }
        crash_point("lake.describe.before_manifest")
        write_atomically(staging / "snapshot.json", canonical_json(content).encode())
        crash_point("lake.describe.after_manifest")
        return hash_id(table, as_of, described, lineage, published_at)

    def _settle(self, table: str, as_of: date, staging: Path, snapshot_id: str) -> str:
        """Move a staged folder to its place; still invisible without a HEAD."""
        target = self.root / table / as_of.isoformat() / snapshot_id
        if target.exists():  # the same content, lineage and instant: it may be in use, so it stays
            shutil.rmtree(staging)
            return snapshot_id
        target.parent.mkdir(parents=True, exist_ok=True)
        crash_point("lake.settle.before_rename")
        staging.rename(target)
        crash_point("lake.settle.after_rename")
        for folder in (target.parent, target.parent.parent, self.root):
            sync_folder(folder)
        crash_point("lake.settle.after_sync")
        return snapshot_id


def _is_in_use(staging: Path) -> bool:
    """Tell whether the process that made a staging folder still lives."""
    pid = staging.name.partition("-")[0]
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, under another user
        return True
    return True


def _read_snapshot(root: Path, table: str, as_of: date, snapshot_id: str) -> Snapshot:
    folder = root / table / as_of.isoformat() / snapshot_id
    content = json.loads((folder / "snapshot.json").read_bytes())
    files = content["files"]
    return Snapshot(
        table=table,
        as_of=as_of,
        id=snapshot_id,
        files=tuple(folder / file["name"] for file in files),
        rows=sum(file["rows"] for file in files),
        bytes=sum(file["bytes"] for file in files),
        lineage=content["lineage"],
        published_at=content["published_at"],
    )


def _month_start(day: date, months_back: int) -> date:
    months = day.year * 12 + day.month - 1 - months_back
    return date(months // 12, months % 12 + 1, 1)
