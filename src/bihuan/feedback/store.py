"""Where outcomes stay: one lake table per deployment, ``outcome__<deployment_id>``, appended to.

A snapshot of the lake is immutable, and most files from the front line are small. Appending makes
a new snapshot of the day that *links* the Parquet parts of the one before and adds one part, so a
small file costs a small write, however many outcomes there are. When the parts of a day become
many, the small ones are written together. Publication is the lake's: whole or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import sqlglot
from sqlglot import exp

from bihuan.data import Lake, LakeView, Snapshot, Source, load_contract
from bihuan.kernel import Clock, DefectError, file_lock

CONTRACTS = Path(__file__).parent / "contracts"
"""Folder of the contract ``outcome``."""

OUTCOME = load_contract(CONTRACTS / "outcome.yaml")
STAGES = tuple(OUTCOME["stage"].codes or {})

MOST_PARTS = 32
SMALL_PART_ROWS = 200_000


def outcome_table(deployment_id: str) -> str:
    """Return the name of the lake table that holds a deployment's outcomes."""
    return f"outcome__{deployment_id}"


def outcome_snapshots(view: LakeView, deployment_id: str) -> tuple[Snapshot, ...]:
    """Return the snapshots that together hold a deployment's outcomes; empty if there are none."""
    return view.upto(outcome_table(deployment_id), date.max)


def read_outcomes(view: LakeView, deployment_id: str) -> pa.Table:
    """Read all outcomes of a deployment, in the ``outcome`` contract; no row if there are none."""
    parts = [snapshot.read() for snapshot in outcome_snapshots(view, deployment_id)]
    return pa.concat_tables([OUTCOME.schema.empty_table(), *parts])


def some_outcomes(outcomes: Source) -> Source:
    """Return outcomes as a source that a query can read even where there are none yet."""
    if isinstance(outcomes, (pa.Table, Snapshot)):
        return outcomes
    return tuple(outcomes) or OUTCOME.schema.empty_table()


@contextmanager
def sole_writer(lake: Lake, deployment_id: str) -> Iterator[None]:
    """Let one process at a time read, judge and append the outcomes of a deployment."""
    with file_lock(lake.root / f".{outcome_table(deployment_id)}.lock"):
        yield


def append_outcomes(
    lake: Lake, deployment_id: str, rows: pa.Table, *, day: date, source: str, clock: Clock
) -> None:
    """Add outcomes to a deployment; the caller is the sole writer and has removed repeats.

    Parameters
    ----------
    lake
        Where they go.
    deployment_id
        Whose they are.
    rows
        In the schema of the ``outcome`` contract.
    day
        The day of receipt, which is the snapshot's date.
    source
        Name of the file or system, for the lineage.
    clock
        Stamps the publication.
    """
    table = outcome_table(deployment_id)
    today = lake.view().find(table, day)
    kept = [] if today is None else list(today.files)
    if len(kept) >= MOST_PARTS:
        sizes = {path: pq.read_metadata(path).num_rows for path in kept}
        small = [path for path in kept if sizes[path] < SMALL_PART_ROWS]
        kept = [path for path in kept if sizes[path] >= SMALL_PART_ROWS]
        rows = pa.concat_tables([*(pq.read_table(path) for path in small), rows])
    lineage = {"source": source, "appended_to": None if today is None else today.id}
    with (
        lake.publication(clock) as publication,
        publication.folder(table, day, lineage=lineage) as folder,
    ):
        for index, path in enumerate(kept):
            _link(path, folder / f"part-{index:05d}.parquet")
        pq.write_table(
            rows,
            folder / f"part-{len(kept):05d}.parquet",
            compression="zstd",
            compression_level=1,
        )


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def statement(text: str, **values: str | int | exp.Expr) -> exp.Select:
    """Read a SELECT written in this room and fill its ``:name`` places.

    Parameters
    ----------
    text
        A constant of this room in the DuckDB dialect.
    **values
        What stands in each place: a tree, or a plain value, which becomes a literal and can
        never become code.
    """
    tree = exp.replace_placeholders(_parsed(text), **values)
    if not isinstance(tree, exp.Select):
        raise DefectError(f"Not a SELECT: {text}")
    return tree


@cache
def _parsed(text: str) -> exp.Expr:
    return sqlglot.parse_one(text, dialect="duckdb")
