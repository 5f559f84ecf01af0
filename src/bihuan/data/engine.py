"""Where queries run. A room builds a sqlglot tree; the engine renders and runs it.

No room writes SQL text from user input: the tree is the only way in, so a value can never become
code. DuckDB is the embedded engine; Spark takes the same trees and the same file lists.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

import duckdb
import pyarrow as pa
from sqlglot import exp

from bihuan.data.lake import ROW_GROUP_ROWS, Snapshot
from bihuan.kernel import DefectError

Source: TypeAlias = Snapshot | Iterable[Snapshot] | pa.Table
"""What a table name in a query may stand for: snapshots (a union of them) or rows in memory."""


class Engine(Protocol):
    """Runs one query over named sources."""

    def query(self, query: exp.Query, sources: Mapping[str, Source]) -> pa.Table:
        """Run ``query`` and return its rows.

        Parameters
        ----------
        query
            A sqlglot tree in the DuckDB dialect; its table names are keys of ``sources``.
        sources
            What each table name stands for. A snapshot shows one more column, ``as_of``, its
            snapshot date.
        """
        ...

    def write(self, query: exp.Query, sources: Mapping[str, Source], folder: Path) -> int:
        """Run ``query``, write its rows as Parquet into ``folder`` and return their number."""
        ...


class DuckDBEngine:
    """DuckDB inside this process; each call has its own connection and leaves nothing behind.

    Parameters
    ----------
    threads
        Worker threads; None lets DuckDB take every core.
    memory_limit
        For example ``"4GB"``; None lets DuckDB take its default of 80 % of the memory.
    """

    def __init__(self, *, threads: int | None = None, memory_limit: str | None = None) -> None:
        self._config: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            # by default it would spill into a folder .tmp wherever the process was started
            "temp_directory": str(Path(tempfile.gettempdir()) / f"bihuan-{os.getpid()}"),
        }
        if threads is not None:
            self._config["threads"] = threads
        if memory_limit is not None:
            self._config["memory_limit"] = memory_limit

    def query(self, query: exp.Query, sources: Mapping[str, Source]) -> pa.Table:
        """Run ``query`` and return its rows; see :class:`Engine`."""
        with self._connect(sources) as connection:
            return connection.execute(query.sql("duckdb")).to_arrow_table()

    def write(self, query: exp.Query, sources: Mapping[str, Source], folder: Path) -> int:
        """Run ``query`` into ``folder/part-00000.parquet``; see :class:`Engine`."""
        target = exp.Literal.string(str(folder / "part-00000.parquet")).sql("duckdb")
        statement = (
            f"COPY ({query.sql('duckdb')}) TO {target} "
            f"(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, "
            f"ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
        )
        with self._connect(sources, folder) as connection:
            row = connection.execute(statement).fetchone()
        if row is None:
            raise DefectError("DuckDB's COPY did not say how many rows it wrote.")
        return int(row[0])

    def _connect(
        self, sources: Mapping[str, Source], folder: Path | None = None
    ) -> duckdb.DuckDBPyConnection:
        """Open a connection that can read the sources, write into ``folder``, and nothing else."""
        connection = duckdb.connect(":memory:", config=self._config)
        try:
            connection.execute("SET TimeZone = 'UTC'")
            # it would be drawn on standard output, which belongs to the caller
            connection.execute("SET enable_progress_bar = false")
            held = {name: _held(source) for name, source in sources.items()}
            paths = [
                str(path)
                for source in held.values()
                if not isinstance(source, pa.Table)
                for snapshot in source
                for path in snapshot.files
            ]
            if folder is not None:
                paths.append(str(folder / "part-00000.parquet"))
            connection.execute("SET allowed_paths = $1", [paths])
            connection.execute("SET enable_external_access = false")
            for name, source in held.items():
                _show(connection, name, source)
            connection.execute("SET lock_configuration = true")
        except BaseException:
            connection.close()
            raise
        return connection


def _held(source: Source) -> pa.Table | tuple[Snapshot, ...]:
    if isinstance(source, pa.Table):
        return source
    return (source,) if isinstance(source, Snapshot) else tuple(source)


def _show(
    connection: duckdb.DuckDBPyConnection, name: str, source: pa.Table | tuple[Snapshot, ...]
) -> None:
    if isinstance(source, pa.Table):
        connection.register(name, source)
        return
    if not source:
        raise DefectError(f"Query source '{name}' has no snapshot.")
    body: exp.Query = _scan(source[0])
    for snapshot in source[1:]:  # by name, because a column may have been added since
        body = exp.Union(this=body, expression=_scan(snapshot), distinct=False, by_name=True)
    view = exp.Create(this=exp.to_table(name, quoted=True), kind="VIEW", expression=body)
    connection.execute(view.sql("duckdb"))


def _scan(snapshot: Snapshot) -> exp.Select:
    files = exp.Array(expressions=[exp.Literal.string(str(path)) for path in snapshot.files])
    day = exp.cast(exp.Literal.string(snapshot.as_of.isoformat()), "DATE")
    # a folder named like key=value above the lake must not become a column
    plain = exp.PropertyEQ(this=exp.to_identifier("hive_partitioning"), expression=exp.false())
    return exp.select("*", day.as_("as_of")).from_(exp.func("read_parquet", files, plain))
