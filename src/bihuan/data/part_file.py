"""Parquet files as the lake keeps them, written beside the work that makes their rows."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bihuan.data.lake import ROW_GROUP_ROWS

_ALIKE_SHARE = 0.5  # a column with fewer distinct cells than rows is stored by number


class PartFile:
    """Writes one Parquet file in a thread of its own, in row groups of the lake's size."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._schema = schema
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._file: pq.ParquetWriter | None = None
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._pending: Future[None] | None = None

    def write(self, rows: pa.Table) -> None:
        """Take rows; they are written while the next are made."""
        if rows.num_rows:
            self._waiting.append(rows)
            self._rows += rows.num_rows
        whole = self._rows // ROW_GROUP_ROWS * ROW_GROUP_ROWS
        if whole:
            self._send(whole)

    def abandon(self) -> None:
        """Stop writing; the file is of no use."""
        self._thread.shutdown(cancel_futures=True)
        if self._file is not None:
            self._file.close()

    def close(self) -> None:
        """Write what waits and close the file."""
        if self._rows or self._file is None:
            self._send(self._rows)
        self._settle()
        self._thread.shutdown()
        if self._file is not None:
            self._file.close()

    def _send(self, count: int) -> None:
        table = pa.concat_tables([self._schema.empty_table(), *self._waiting])
        self._waiting = [table.slice(count)]
        self._rows -= count
        self._settle()
        if self._file is None:
            self._file = _open(self._path, table)
        self._pending = self._thread.submit(
            self._file.write_table, table.slice(0, count), row_group_size=ROW_GROUP_ROWS
        )

    def _settle(self) -> None:
        if self._pending is not None:
            self._pending.result()


def _open(path: Path, sample: pa.Table) -> pq.ParquetWriter:
    """Open a Parquet file as the lake keeps them; columns of few distinct cells by number."""
    head = sample.slice(0, 10_000)
    alike = [
        field.name
        for field in sample.schema
        if pc.count_distinct(head.column(field.name)).as_py() < _ALIKE_SHARE * head.num_rows
        and not pa.types.is_boolean(field.type)
    ]
    return pq.ParquetWriter(
        path, sample.schema, compression="zstd", compression_level=1, use_dictionary=alike
    )


def rewrite_without(path: Path, gone: NDArray[np.bool_]) -> None:
    """Replace a file by one without the rows that are ``gone``."""
    fresh = path.with_suffix(".fresh")
    start = 0
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        writer = PartFile(fresh, schema)
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group)
            writer.write(rows.filter(pa.array(~gone[start : start + rows.num_rows])))
            start += rows.num_rows
        writer.close()
    fresh.replace(path)


def link_file(path: Path, target: Path) -> None:
    """Give a stored file a second name; copy it where the file system cannot."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
