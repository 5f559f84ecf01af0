"""Ingest with validation beside plain DuckDB and plain Arrow, which check nothing.

One month of usage (8 columns) is made from a seed and written as CSV and as Parquet; a third file
has one bad row in a hundred. In turn, so that a busy machine slows all alike: our ingest of each
file (encoding and hash of the whole file, types, ranges, codes, duplicate keys, quarantine, one
atomic publication) and what a user would type instead: DuckDB's ``read_csv`` copied to Parquet,
DuckDB from Parquet to Parquet, Arrow's CSV reader and Parquet writer. All with zstd, level 1.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from bihuan.data import Lake, ingest, load_contracts, load_mapping
from bihuan.kernel import FixedClock, SilentProgress, random_stream

ROWS = 1_000_000
ROUNDS = 5
BAD_EVERY = 100
AS_OF = date(2026, 10, 31)
COLUMNS = (
    "subscription_id",
    "customer_id",
    "voice_minutes",
    "data_mb",
    "g5_data_mb",
    "sms_count",
    "mms_count",
    "active_days",
)
OURS = "bihuan"


def run(size: int | None, instance: Path | None, out: Path | None) -> dict[str, Any]:
    """Run the benchmark; see the module's text. ``out`` keeps the files."""
    del instance
    with tempfile.TemporaryDirectory() as temporary:
        folder = out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        n = size or ROWS
        _make_files(folder, n)
        contenders = _contenders(folder)
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(ROUNDS):
            for name, contender in contenders.items():
                work = folder / f"{number}-{name.replace(' ', '-')}"
                work.mkdir(exist_ok=True)
                started = time.perf_counter()
                contender(work)
                seconds[name].append(time.perf_counter() - started)
    return _result(n, {name: statistics.median(times) for name, times in seconds.items()})


def _result(n: int, seconds: dict[str, float]) -> dict[str, Any]:
    speed = {name: n / taken for name, taken in seconds.items()}
    plain = {"csv": "duckdb csv", "csv, 1 % bad": "duckdb csv", "parquet": "duckdb parquet"}
    return {
        "rows": n,
        "cores": len(os.sched_getaffinity(0)),
        "rows_per_second_csv": speed[f"{OURS} csv"],
        "rows_per_second_csv_dirty": speed[f"{OURS} csv, 1 % bad"],
        "rows_per_second_parquet": speed[f"{OURS} parquet"],
        "ratio_to_duckdb_csv": speed[f"{OURS} csv"] / speed["duckdb csv"],
        "ratio_to_duckdb_parquet": speed[f"{OURS} parquet"] / speed["duckdb parquet"],
        "ratio_to_arrow_csv": speed[f"{OURS} csv"] / speed["arrow csv"],
        "target_csv": 100_000,
        "target_parquet": 300_000,
        "table": [
            {
                "what": name,
                "seconds": taken,
                "rows/s": speed[name],
                "of plain duckdb": speed[name] / speed[plain.get(_kind(name), "duckdb csv")],
            }
            for name, taken in seconds.items()
        ],
    }


def _kind(name: str) -> str:
    return name.split(" ", 1)[1]


def _make_files(folder: Path, n: int) -> None:
    stream = random_stream(20261031, "bench", "ingest")
    data_mb = np.round(stream.gamma(2, 6000, n), 2)
    table = pa.table(
        {
            "subscription_id": pa.array([f"S{number:09d}" for number in range(n)]),
            "customer_id": pa.array([f"C{number:09d}" for number in stream.integers(0, n, n)]),
            "voice_minutes": np.round(stream.gamma(2, 60, n), 1),
            "data_mb": data_mb,
            "g5_data_mb": np.round(data_mb * stream.beta(2, 2, n), 2),
            "sms_count": stream.poisson(9, n),
            "mms_count": stream.poisson(1, n),
            "active_days": stream.integers(0, 32, n),
        }
    )
    pq.write_table(table, folder / "usage.parquet")
    options = arrow_csv.WriteOptions(quoting_style="none", quoting_header="none")
    arrow_csv.write_csv(table, folder / "usage.csv", options)
    days = np.where(np.arange(n) % BAD_EVERY == 0, 99, table["active_days"].to_numpy())
    dirty = table.set_column(7, "active_days", pa.array(days))
    arrow_csv.write_csv(dirty, folder / "dirty.csv", options)
    lines = "".join(f"      {name}: {name}\n" for name in COLUMNS)
    (folder / "usage.yaml").write_text(f"tables:\n  usage:\n    columns:\n{lines}")


def _contenders(folder: Path) -> dict[str, Callable[[Path], None]]:
    mapping, contracts = load_mapping(folder / "usage.yaml"), load_contracts()
    clock = FixedClock(datetime(2026, 11, 3, tzinfo=UTC))

    def ours(name: str) -> Callable[[Path], None]:
        def read(work: Path) -> None:
            ingest(
                Lake(work / "lake"),
                mapping,
                folder / name,
                AS_OF,
                contracts=contracts,
                clock=clock,
                progress=SilentProgress(),
            )

        return read

    types = {name: contracts["usage"][name].type.sql for name in COLUMNS}

    def by_duckdb(reader: str, name: str, more: dict[str, Any]) -> Callable[[Path], None]:
        def read(work: Path) -> None:
            with duckdb.connect() as connection:
                connection.execute("SET enable_progress_bar = false")
                rows = getattr(connection, reader)(str(folder / name), **more)
                rows.write_parquet(str(work / "out.parquet"), compression="zstd")

        return read

    def by_arrow(work: Path) -> None:
        arrow = {name: contracts["usage"][name].type.arrow for name in COLUMNS}
        table = arrow_csv.read_csv(
            folder / "usage.csv", convert_options=arrow_csv.ConvertOptions(column_types=arrow)
        )
        pq.write_table(table, work / "out.parquet", compression="zstd", compression_level=1)

    return {
        f"{OURS} csv": ours("usage.csv"),
        "duckdb csv": by_duckdb("read_csv", "usage.csv", {"dtype": types}),
        "arrow csv": by_arrow,
        f"{OURS} csv, 1 % bad": ours("dirty.csv"),
        f"{OURS} parquet": ours("usage.parquet"),
        "duckdb parquet": by_duckdb("read_parquet", "usage.parquet", {}),
    }
