"""What a user does by hand: open a workspace, write a definition, deliver a file, read a table."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xlsxwriter

import bihuan as bh
from bihuan.data import DuckDBEngine
from bihuan.kernel import FixedClock
from bihuan.tag import LIBRARY_FOLDER

AUGUST, SEPTEMBER, OCTOBER = date(2026, 8, 31), date(2026, 9, 30), date(2026, 10, 31)
NOW = datetime(2026, 11, 2, 6, tzinfo=UTC)  # 14:00 in the market: customers may be called

Rows = list[dict[str, Any]]


def open_at(folder: Path, now: datetime = NOW) -> bh.Workspace:
    """Open a workspace under a clock that stands still."""
    return bh.open_workspace(folder, clock=FixedClock(now), engine=DuckDBEngine(threads=1))


def define(ws: bh.Workspace, kind: str, name: str, text: str) -> Path:
    """Write a definition file as a planner does: into the folder of its kind."""
    path = ws.layout.root / kind / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def with_library(ws: bh.Workspace) -> None:
    """Copy the sample tags into the workspace, to be changed and added to."""
    for file in LIBRARY_FOLDER.glob("*.yaml"):
        shutil.copy(file, ws.layout.root / "tags" / file.name)


def extract(ws: bh.Workspace, rows: pa.Table, table: str, as_of: date) -> None:
    """Deliver a month's extract of one table as a Parquet file whose columns fit the contract."""
    file = ws.layout.root / "extracts" / f"{table}-{as_of}.parquet"
    file.parent.mkdir(exist_ok=True)
    pq.write_table(rows, file)
    columns = "\n".join(f"      {name}: {name}" for name in rows.column_names)
    define(ws, "mappings", f"extract_{table}", f"tables:\n  {table}:\n    columns:\n{columns}\n")
    report = ws.ingest(file, f"extract_{table}", as_of)
    assert report.rows_quarantined == 0, report


def read(ws: bh.Workspace, table: str, as_of: date | None = None) -> Rows:
    """Read the rows of one snapshot as plain Python values."""
    return ws.view.get(table, as_of).read().to_pylist()


def write_csv(path: Path, rows: Iterable[Sequence[object]], encoding: str, sign: str = ",") -> Path:
    """Write rows, the header first, as another system exports them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=sign).writerows(rows)
    return path


def write_xlsx(path: Path, rows: Iterable[Sequence[object]]) -> Path:
    """Write rows into the first sheet of a workbook, as a person does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    book = xlsxwriter.Workbook(str(path))
    sheet = book.add_worksheet("清单")
    for number, row in enumerate(rows):
        sheet.write_row(number, 0, row)
    book.close()
    return path
